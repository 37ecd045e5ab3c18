"""Calibrate ELPD, the offline perceptual distance: ``gensat train perceptual key=value ...``.

There are no human judgements offline, but three kinds of question have a known answer. Severity: of two strengths of
one distortion the stronger is farther from the original. Composition: a distorted image that is distorted once more, in
another way, is farther. Equal error: at the same mean squared error, blur, noise and JPEG look worse than a change of
brightness or contrast or a shift by one pixel (Wang et al. 2004). Non-negative channel weights are fitted so that the
logistic loss of log d(worse) / d(better), every kind counting the same, is least; how far channels may leave their
layer's weight is chosen by distortions left out of the fit. They are scaled so that two unrelated
images are 1 apart in the median. The report is over held-out images, and over distortions that the fit never saw.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from omegaconf import DictConfig
from safetensors.torch import save
from torch import Tensor

from ..files import write_bytes
from ..metrics.consistency import spearman
from ..metrics.reconstruction import psnr_each, ssim_each
from ..models.features import EfficientNetLite0
from ..models.perceptual import channel_differences
from .card import Outcome
from .data import load_samples
from .distortions import (
    CALIBRATION,
    DAMAGING,
    HELD_OUT,
    Distortion,
    at_error,
    brighten,
    flatten,
    mse,
    rounded,
    shifted,
)
from .probe import draw
from .recipe import program, start

KINDS = ("severity", "composition", "equal error")


@dataclass
class Trial:
    """One original with a list of distorted versions and the questions about them.

    ``questions`` holds (kind, better, worse, distortions involved) with indices into ``versions`` and into the names of
    the distortions (-1: none of them); ``strengths`` (type, strength, version).
    """

    original: np.ndarray
    versions: list[np.ndarray]
    questions: list[tuple[str, int, int, int, int]]
    strengths: list[tuple[str, float, int]]


@dataclass
class Measured:
    """Trials seen through the network: channel differences of every version, and, where asked for, PSNR and SSIM."""

    channels: Float[Tensor, "n c"]
    psnr: Float[Tensor, " m"]
    ssim: Float[Tensor, " m"]
    questions: dict[str, Tensor]  # kind -> (k, 4): rows of better and worse, the distortions of the question
    strengths: list[tuple[str, float, int, int]]  # type, strength, row, trial


def references(recipe: DictConfig, split: str, count: int) -> list[np.ndarray]:
    """Crops of ``side`` pixels from the middle of images of the split, float32 in [0, 1], evenly over the sources."""
    samples = load_samples(recipe.data.root, split, sources=list(recipe.sources))
    samples = [s for s in samples if min(s.image.shape[:2]) >= recipe.side or s.source == "landsat"]
    chosen = draw([s.source for s in samples], -(-count // len(recipe.sources)), seed=recipe.seed)
    out = []
    for i in chosen:
        image = samples[i].image
        side = min(recipe.side, *image.shape[:2])
        top, left = (n // 2 - side // 2 for n in image.shape[:2])
        out.append(image[top : top + side, left : left + side].astype(np.float32) / 255)
    return out


def make_trial(original: np.ndarray, distortions: Mapping[str, Distortion], *, levels: int, seed: int) -> Trial:
    """All distortions of one original at all strengths, one composition for each, and equal-error questions."""
    rng = np.random.default_rng(seed)
    trial = Trial(original, [], [], [])
    names = list(distortions)
    for name in names:
        rows = []
        for level in range(1, levels + 1):
            strength = level / levels
            trial.strengths.append((name, strength, len(trial.versions)))
            rows.append(len(trial.versions))
            trial.versions.append(rounded(distortions[name](original, strength, rng)))
        i = names.index(name)
        trial.questions += [("severity", a, b, i, i) for k, a in enumerate(rows) for b in rows[k + 1 :]]
        other = names[int(rng.integers(len(names)))]
        if other != name:  # some distortions undo others of their own kind
            first = rows[int(rng.integers(levels))]
            again = distortions[other](trial.versions[first], float(rng.uniform(0.3, 1)), rng)
            trial.questions.append(("composition", first, len(trial.versions), i, names.index(other)))
            trial.versions.append(rounded(again))
    tolerated = (
        brighten(original, float(rng.uniform(0.15, 0.7)), rng),
        flatten(original, float(rng.uniform(0.3, 1)), rng),
    )
    for better in (*tolerated, shifted(original, 1 / 8, rng)):
        better = rounded(better)
        error = mse(better, original)
        row, trial.versions = len(trial.versions), [*trial.versions, better]
        for k, name in enumerate(DAMAGING):
            worse = at_error(CALIBRATION[name], original, error, seed=seed + k) if error > 0 else None
            if worse is not None:
                trial.questions.append(("equal error", row, len(trial.versions), -1, -1))
                trial.versions.append(worse)
    return trial


def tensors(images: list[np.ndarray]) -> Float[Tensor, "b 3 h w"]:
    """A batch of (H, W, 3) float32 images."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()


@torch.no_grad()
def measure(trials: Iterator[Trial], backbone: EfficientNetLite0, *, batch: int = 32, others: bool = False) -> Measured:
    """Look at all trials, one in memory at a time; ``others`` measures PSNR and SSIM too, which takes longer."""
    channels, psnr, ssim, strengths = [], [], [], []
    questions: dict[str, list[tuple[int, ...]]] = {kind: [] for kind in KINDS}
    start_row = 0
    for number, trial in enumerate(trials):
        original = tensors([trial.original])
        levels = backbone.pyramid(original)
        for i in range(0, len(trial.versions), batch):
            x = tensors(trial.versions[i : i + batch])
            same = original.expand(len(x), -1, -1, -1)
            channels.append(channel_differences(backbone.pyramid(x), [v.expand(len(x), -1, -1, -1) for v in levels]))
            if others:
                psnr.append(psnr_each(x, same))
                ssim.append(ssim_each(x, same))
        for kind, better, worse, *types in trial.questions:
            questions[kind].append((start_row + better, start_row + worse, *types))
        strengths += [(name, strength, start_row + row, number) for name, strength, row in trial.strengths]
        start_row += len(trial.versions)
    pairs = {kind: torch.tensor(rows).reshape(-1, 4) for kind, rows in questions.items()}
    none = [torch.zeros(0)]
    return Measured(torch.cat(channels), torch.cat(psnr or none), torch.cat(ssim or none), pairs, strengths)


def starting_weights(channels: Float[Tensor, "n c"]) -> Float[Tensor, " c"]:
    """Uniform within a layer, every layer with the same mean contribution: where the fit starts and what it is held to."""
    parts = channels.mean(0).split(EfficientNetLite0.pyramid_channels)
    return torch.cat([torch.full_like(p, 1 / float(p.sum())) for p in parts])


def fit(
    channels: Float[Tensor, "n c"], questions: Mapping[str, Tensor], *, penalty: float, iterations: int
) -> Float[Tensor, " c"]:
    """The non-negative weights of least loss (see the module), by L-BFGS on their logarithms.

    Layers are weighed freely; ``penalty`` is on the squared deviation of a channel's logarithm from its layer.
    """
    base = starting_weights(channels)
    sizes = torch.tensor(EfficientNetLite0.pyramid_channels)
    layers, single = torch.zeros(len(sizes), requires_grad=True), torch.zeros_like(base, requires_grad=True)
    optimizer = torch.optim.LBFGS([layers, single], max_iter=iterations, line_search_fn="strong_wolfe")

    def weights() -> Tensor:
        return base * (layers.repeat_interleave(sizes) + single).exp()

    def closure() -> Tensor:
        optimizer.zero_grad()
        log = (channels @ weights()).clamp_min(1e-9).log()
        kinds = [F.softplus(-4 * (log[q[:, 1]] - log[q[:, 0]])).mean() for q in questions.values() if len(q)]
        loss = torch.stack(kinds).mean() + penalty * single.square().mean() + 1e-3 * layers.square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights().detach()


def choose_penalty(
    measured: Measured, penalties: Sequence[float], *, folds: int, iterations: int
) -> dict[float, float]:
    """Share of questions answered right about distortions that the fit did not see, for each penalty."""
    count = 1 + max(int(q[:, 2:].max()) for q in measured.questions.values() if len(q))
    scores = {}
    for penalty in penalties:
        each = []
        for fold in range(folds):
            out = torch.arange(count) % folds == fold
            seen, other = {}, {}
            for kind, q in measured.questions.items():
                held = (q[:, 2:] >= 0).any(1) & out[q[:, 2:].clamp_min(0)].any(1)
                seen[kind], other[kind] = q[~held], q[held]
            weights = fit(measured.channels, seen, penalty=penalty, iterations=iterations)
            distance = measured.channels @ weights
            each += [float((distance[q[:, 1]] > distance[q[:, 0]]).double().mean()) for q in other.values() if len(q)]
        scores[float(penalty)] = float(np.mean(each))
    return scores


def agreement(measured: Measured, distance: Float[Tensor, " n"]) -> dict:
    """Share of questions answered right by kind, and Spearman's rank correlation of strength and distance by type.

    ``within`` is its mean over single images; ``across`` takes all images together, so that it also asks whether one
    strength means one distance whatever the image shows.
    """
    answers = {
        kind: {"accuracy": float((distance[q[:, 1]] > distance[q[:, 0]]).double().mean()), "n": len(q)}
        for kind, q in measured.questions.items()
        if len(q)
    }
    ranks: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(s[0] for s in measured.strengths):
        rows = [s for s in measured.strengths if s[0] == name]
        strength = torch.tensor([s[1] for s in rows])
        values = distance[torch.tensor([s[2] for s in rows])]
        trial = torch.tensor([s[3] for s in rows])
        within = [spearman(strength[trial == t], values[trial == t]) for t in trial.unique()]
        ranks[name] = {
            "within": float(np.nanmean(within)),
            "across": spearman(strength, values),
            "images": len(within),
        }
    return {"questions": answers, "rank correlation": ranks}


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.perceptual [RECIPE] key=value ...``."""
    start(train, "perceptual", arguments)


def train(recipe: DictConfig) -> Outcome:
    """Fit, scale, report and save."""
    began = time.time()
    backbone = EfficientNetLite0.from_installed(size=None)
    seen_images = references(recipe, "train", recipe.images)
    heldout = references(recipe, "heldout", recipe.heldout_images)

    def trials(images: list[np.ndarray], distortions: Mapping[str, Distortion], first: int) -> Iterator[Trial]:
        for i, image in enumerate(images):
            yield make_trial(image, distortions, levels=recipe.levels, seed=recipe.seed + first + 1000 * i)
            if i % 40 == 39:
                print(f"  {i + 1} of {len(images)}", flush=True)

    seen = measure(trials(seen_images, CALIBRATION, 0), backbone)
    scores = choose_penalty(seen, list(recipe.penalties), folds=recipe.folds, iterations=recipe.iterations)
    print(f"  right about distortions left out, by penalty: {scores}", flush=True)
    penalty = max(scores, key=lambda p: scores[p])
    weights = fit(seen.channels, seen.questions, penalty=penalty, iterations=recipe.iterations)
    uniform = starting_weights(seen.channels)
    same = [x for x in seen_images if x.shape == seen_images[0].shape]
    half = min(64, len(same) // 2)
    with torch.no_grad():
        apart = channel_differences(backbone.pyramid(tensors(same[:half])), backbone.pyramid(tensors(same[-half:])))
    weights = weights / (apart @ weights).quantile(0.5)
    report: dict = {
        "penalty": penalty,
        "by penalty": scores,
        "images": len(seen_images),
        "questions": {k: len(q) for k, q in seen.questions.items()},
        "heldout": {},
    }
    for title, distortions, first in (("same distortions", CALIBRATION, 1), ("other distortions", HELD_OUT, 2)):
        checked = measure(trials(heldout, distortions, first), backbone, others=True)
        if title == "other distortions":
            checked.questions.pop("equal error")  # its distortions are those of the calibration
        report["heldout"][title] = {
            "elpd": agreement(checked, checked.channels @ weights),
            "uniform weights": agreement(checked, checked.channels @ uniform),
            "psnr": agreement(checked, -checked.psnr),
            "ssim": agreement(checked, -checked.ssim),
        }
    folder = Path(recipe.save or str(files("gensat.assets") / "evaluation" / "elpd"))
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "weights.safetensors", save({"weights": weights}), overwrite=True)
    write_bytes(folder / "report.json", (json.dumps(report, indent=1) + "\n").encode(), overwrite=True)
    return Outcome(folder, folder, recipe.iterations, time.time() - began, report)


if __name__ == "__main__":
    program(main)
