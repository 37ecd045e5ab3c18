"""What a training really draws: ``python -m gensat.train.balance [RECIPE] [key=value ...]`` prints a table of a recipe's sources.

Of each source its images, its share in the recipe, and the part of all drawn images that is of it, large and small batches together. With
``-v`` the same for what the images are called within a source.
"""

from collections import Counter

import numpy as np

from .captions import all_captions
from .feed import check_data, samples
from .latents import Bank, Entry, TextBank, variants
from .recipe import load_recipe, program


def hollow_bank(recipe) -> Bank:
    """The bank of a recipe without its latents, pictures and text states: enough to say what is drawn."""
    entries = []
    for i, sample in enumerate(samples(recipe.data, mosaics=True)):
        for made in variants(sample, np.random.default_rng([recipe.data.seed, i]), clouds=0.0):
            cells = made.image.shape[0] // 8
            latent = np.empty((0, cells, cells), np.float16)
            captions = all_captions(made)[:1]
            entries.append(
                Entry(
                    made.source, latent, captions, made.place, made.acquisition, made.image[:0].copy(), None, made.key
                )
            )
    return Bank(entries, dict(recipe.shares), TextBank([], *_nothing()))


def _nothing():
    import torch

    return torch.zeros(0, 1, 1), torch.zeros(0, 1, dtype=torch.bool)


def table(bank: Bank, recipe) -> list[str]:
    """Lines of a Markdown table."""
    drawn = bank.drawn(small=3 * recipe.batch, large=recipe.batch, share=recipe.large, crops=recipe.crops)
    counts = Counter(e.source for e in {e.key: e for e in bank.entries}.values())
    counts.update(f"{e.source}: {e.captions[0]}" for e in {e.key: e for e in bank.entries}.values())
    total = sum(bank.shares.values()) or 1.0
    lines = ["| source | images | recipe | drawn |", "| --- | --- | --- | --- |"]
    for name, part in drawn.items():
        source, _, caption = name.partition(": ")
        share = "" if caption else f"{bank.shares[source] / total:.1%}"
        lines.append(f"| {name} | {counts[name]} | {share} | {part:.2%} |")
    return lines


def main(arguments: list[str]) -> None:
    """Print the table."""
    every = "-v" in arguments
    given = [a for a in arguments if a != "-v"]
    name = given.pop(0) if given and "=" not in given[0] else "denoiser"
    recipe = load_recipe(name, given)
    check_data(recipe.data)
    lines = table(hollow_bank(recipe), recipe)
    print("\n".join(line for line in lines if every or ": " not in line.split("|")[1]))


if __name__ == "__main__":
    program(main)
