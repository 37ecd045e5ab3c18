"""Several trainings of one recipe side by side, measured alike: ``gensat train compare_autoencoder``, ``compare_latents`` and ``compare_denoiser``.

Each variant is the ``base`` recipe with the ``common`` changes and its own. What it costs is counted in seconds of processor (on a GPU, of the clock), so that other
work on the machine does not decide; ``table.md`` has a row for each. Started again, it goes on.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from ..errors import InputError
from . import judging
from .card import Outcome
from .logs import say
from .readings import write_json
from .recipe import load_recipe

MEASURES: dict[str, Callable[[Path, DictConfig, DictConfig], dict[str, float | int]]] = {
    "autoencoder": judging.rebuilt,
    "denoiser": judging.made,
}


def changes_of(recipe: DictConfig, name: str) -> list[str]:
    """The ``key=value`` changes of one variant: the common ones, its own, and its folder."""
    return [*recipe.common, *recipe.variants[name], f"out={Path(recipe.out) / name}"]


def train(recipe: DictConfig) -> Outcome:
    """Train and measure every variant that is not measured yet.

    Raises InputError, before any of them begins, for a base that cannot be compared or changes that its recipe does not take.
    """
    if recipe.base not in MEASURES:
        raise InputError(f"base is {recipe.base!r}; what can be compared is {' and '.join(MEASURES)}")
    if not recipe.variants:
        raise InputError(
            "there are no variants; name some, each with its changes, as the recipe compare_autoencoder does"
        )
    recipes = {str(name): load_recipe(recipe.base, changes_of(recipe, name)) for name in recipe.variants}
    out = Path(recipe.out)
    out.mkdir(parents=True, exist_ok=True)
    path, began = out / "rows.json", time.time()
    rows: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name, one in recipes.items():
        settings = OmegaConf.to_container(one, resolve=True)
        row = rows.get(name, {})
        if row.get("settings") != settings:
            row = {"settings": settings, "cost": _trained(recipe.base, one)}
            rows[name] = row
            write_json(path, rows)
        if row.get("measured") != OmegaConf.to_container(recipe.measure):
            row["figures"] = MEASURES[recipe.base](Path(one.out) / "ema", recipe.measure, one)
            row["measured"] = OmegaConf.to_container(recipe.measure)
            write_json(path, rows)
        (out / "table.md").write_text("\n".join(table({k: rows[k] for k in recipes if k in rows})) + "\n")
        say(f"{name}: {json.dumps({**row['cost'], **row['figures']})}")
    steps = sum(int(row["cost"]["steps"]) for row in rows.values())
    return Outcome(out, out / "table.md", steps, time.time() - began, {})


def _trained(base: str, recipe: DictConfig) -> dict[str, float | int]:
    """Train a variant; its steps, and milliseconds of processor a step since it was (re)started."""
    clock = time.time if torch.cuda.is_available() else time.process_time
    left = Path(recipe.out) / "log.jsonl"
    before = judging.last_step(left)
    torch.compiler.reset()  # a network compiled for the variant before would be taken again, without the hooks of this one
    began = clock()
    outcome = import_module(f"gensat.train.{base}").train(recipe)
    spent, done = clock() - began, outcome.steps - before
    return {"steps": outcome.steps, "ms a step, with reading and saving": round(1000 * spent / max(1, done), 1)}


def table(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Markdown: a row for each variant, costs before figures."""
    found = {name: {**row["cost"], **row.get("figures", {})} for name, row in rows.items()}
    columns: Sequence[str] = list(dict.fromkeys(key for row in found.values() for key in row))
    lines = [f"| variant | {' | '.join(columns)} |", "| --- " * (1 + len(columns)) + "|"]
    return [
        *lines,
        *(
            f"| {name} | {' | '.join(f'{row[c]:g}' if c in row else '' for c in columns)} |"
            for name, row in found.items()
        ),
    ]
