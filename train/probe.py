"""Fit a linear probe of the evaluation: ``python -m gensat.train.probe target=class|place|gsd key=value ...``.

The features are frozen, so that fitting is convex: multinomial logistic regression for classes and places, ridge
regression for log2 of the ground sampling distance. The penalty is chosen by cross-validation inside the training
split; the held-out split is looked at once, at the end.
"""

import json
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor

from ..errors import InputError
from ..metrics.consistency import class_consistency, gsd_response
from ..models.features import EfficientNetLite0, over_images
from ..models.probe import SceneProbe
from .card import Outcome
from .data import load_samples
from .logs import say
from .mosaics import stitch
from .recipe import program, start
from .sources import Sample

Fit = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]
SCALES = (1.0, 2**0.5, 2.0, 2**1.5, 4.0)


def logistic(x: Float[Tensor, "n f"], y: Int[Tensor, " n"], penalty: float) -> tuple[Tensor, Tensor]:
    """Multinomial logistic regression: weight (classes, f) and bias minimising mean cross-entropy + penalty |W|^2."""
    classes = int(y.max()) + 1
    weight, bias = torch.zeros(classes, x.shape[1], requires_grad=True), torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=60, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(F.linear(x, weight, bias), y) + penalty * weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()


def ridge(
    x: Float[Tensor, "n f"], y: Float[Tensor, " n"], penalty: float, *, weights: Float[Tensor, " n"] | None = None
) -> tuple[Tensor, Tensor]:
    """Weighted ridge regression in closed form, float64: weight (1, f) and bias; ``penalty`` is per unit of weight."""
    w = torch.ones(len(y), dtype=torch.float64) if weights is None else weights.double()
    w = w / w.sum()
    x, y = x.double(), y.double()
    mean_x, mean_y = w @ x, w @ y
    x = x - mean_x
    gram = x.T @ (w[:, None] * x)
    gram.diagonal().add_(penalty)
    weight = torch.linalg.solve(gram, x.T @ (w * (y - mean_y)))
    return weight[None].float(), (mean_y - weight @ mean_x)[None].float()


def octave_weights(y: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Weights under which every octave that occurs (rounded ``y``) counts the same."""
    _, inverse, counts = torch.unique(y.round(), return_inverse=True, return_counts=True)
    return 1.0 / counts[inverse].float()


def blocks(count: int, folds: int) -> Int[Tensor, " n"]:
    """Fold of each of ``count`` samples in their order: contiguous blocks, because neighbours may show one scene."""
    return torch.arange(count) * folds // count


def choose_penalty(
    fit: Fit, score: Callable[[Tensor, Tensor], float], x: Tensor, y: Tensor, fold: Tensor, penalties: Sequence[float]
) -> tuple[float, dict[float, float]]:
    """The penalty with the best mean score over folds, and the scores of all."""
    scores = {}
    for penalty in penalties:
        each = []
        for k in range(int(fold.max()) + 1):
            weight, bias = fit(x[fold != k], y[fold != k], penalty)
            each.append(score(F.linear(x[fold == k], weight, bias), y[fold == k]))
        scores[float(penalty)] = float(np.mean(each))
    return max(scores, key=lambda p: scores[p]), scores


def symmetries(image: UInt8[np.ndarray, "h w 3"], count: int) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """The first ``count`` of the square's eight symmetries of an image."""
    turned = [np.rot90(image, k) for k in range(4)]
    return [np.ascontiguousarray(v) for v in [*turned, *(v[:, ::-1] for v in turned)][:count]]


def windows(sample: Sample, rng: np.random.Generator, *, side: int) -> list[tuple[UInt8[np.ndarray, "s s 3"], float]]:
    """One random window of a sample at every scale that leaves room for it, with log2 of its ground sampling
    distance.
    """
    out = []
    for scale in SCALES:
        size = (int(sample.image.shape[1] / scale), int(sample.image.shape[0] / scale))
        if min(size) < side:
            break
        image = sample.image
        if scale > 1:
            image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
        row, col = (int(rng.integers(0, n - side + 1)) for n in image.shape[:2])
        window = symmetries(image[row : row + side, col : col + side], 8)[int(rng.integers(8))]
        out.append((window, float(np.log2((sample.acquisition.gsd or 1.0) * scale))))
    return out


def place_name(sample: Sample) -> str | None:
    """The place that a sample belongs to, or None where it has no coordinates; each raster is a place of its own."""
    if sample.place is None:
        return None
    if sample.source != "rasters":
        return sample.source
    first, *rest = sample.key.split("/")
    return f"{first}-{rest[0]}" if first == "sites" else first.split("_")[0] if not rest else first


def draw(names: Sequence[str | None], count: int, *, seed: int) -> list[int]:
    """Indices of at most ``count`` samples of each name, in their order; nameless ones (None) are left out."""
    rng, chosen = np.random.default_rng(seed), []
    for name in sorted({n for n in names if n is not None}):
        index = np.flatnonzero([n == name for n in names])
        chosen += rng.permutation(index)[:count].tolist()
    return sorted(chosen)


class ProbeTraining:
    """One fit: describes images, standardises, chooses the penalty, fits, and saves."""

    def __init__(self, recipe: DictConfig):
        self.recipe = recipe
        self.folder = Path(recipe.save or f"assets/evaluation/probe-{recipe.target}")
        self.backbone = EfficientNetLite0.from_installed(size=None)
        if torch.cuda.is_available():
            self.backbone.cuda()
        self.device = next(self.backbone.parameters()).device

    def describe(self, probe: SceneProbe, images: Sequence[np.ndarray], *, exact: bool = False) -> Float[Tensor, "n f"]:
        """Features of images; in the recipe's precision unless ``exact``."""
        low = self.recipe.precision == "bf16" and not exact
        with torch.autocast(self.device.type, torch.bfloat16, enabled=low):
            return over_images(
                lambda x: probe.describe(x, backbone=self.backbone).float(),
                images,
                batch_size=self.recipe.batch,
                device=self.device,
            )

    def fit(self, probe: SceneProbe, x: Tensor, y: Tensor, fold: Tensor) -> dict:
        """Fit ``probe`` in place; returns what cross-validation said."""
        mean, scale = x.mean(0), 1 / x.std(0).clamp_min(1e-3)
        z = (x - mean) * scale
        if y.dtype == torch.long:
            fit: Fit = logistic
            score = lambda s, t: float((s.argmax(1) == t).float().mean())  # noqa: E731
        else:
            fit = lambda a, b, p: ridge(a, b, p, weights=octave_weights(b))  # noqa: E731
            score = lambda s, t: -float((octave_weights(t) * (s[:, 0] - t) ** 2).sum() / octave_weights(t).sum())  # noqa: E731
        penalty, scores = choose_penalty(fit, score, z, y, fold, self.recipe.penalties[self.recipe.target])
        weight, bias = fit(z, y, penalty)
        probe.set_linear(weight, bias, mean=mean, scale=scale)
        return {"penalty": penalty, "cross_validation": scores}

    def save(self, probe: SceneProbe, figures: dict) -> None:
        """Save the probe in fp16 with its figures beside it."""
        probe.half().save_pretrained(self.folder)
        (self.folder / "report.json").write_text(json.dumps(figures, indent=1) + "\n")
        say(json.dumps(figures, indent=1))


def fit_names(
    training: ProbeTraining, train: list[Sample], heldout: list[Sample], names: Callable, *, views: int
) -> None:
    """A probe that tells names (classes or places) from whole images."""
    outputs = sorted({names(s) for s in train})
    probe = SceneProbe(outputs, sizes=list(training.recipe.sizes))
    images = [v for s in train for v in symmetries(s.image, views)]
    y = torch.tensor([outputs.index(names(s)) for s in train for _ in range(views)])
    # neighbouring numbers of one class stay in one fold, and so do all views of an image
    fold = torch.zeros(len(train), dtype=torch.long)
    labels = y[::views]
    for k in range(len(outputs)):
        fold[labels == k] = blocks(int((labels == k).sum()), training.recipe.folds)
    figures = training.fit(probe, training.describe(probe, images), y, fold.repeat_interleave(views))
    heldout = [s for s in heldout if names(s) in outputs]
    with torch.inference_mode():
        probe.half().float()  # as it will be read back
        scores = probe(training.describe(probe, [s.image for s in heldout], exact=True))
    asked = torch.tensor([outputs.index(names(s)) for s in heldout])
    result = class_consistency(scores.argmax(1), asked, classes=outputs, extractor=probe.name, confidence=0.95)
    training.save(probe, {**figures, "training_images": len(train), "heldout": result.to_dict()})


def fit_gsd(training: ProbeTraining, train: list[Sample], heldout: list[Sample]) -> None:
    """A probe that reads log2 of the ground sampling distance from windows at native pixel size."""
    recipe = training.recipe
    probe = SceneProbe(["log2_gsd"], sizes=[], window=recipe.window)
    rng = np.random.default_rng(recipe.seed)
    groups = [windows(s, rng, side=recipe.window) for s in train]
    y = torch.tensor([g for group in groups for _, g in group])
    order = blocks(len(train), 50) % recipe.folds  # many blocks of neighbours, so that every fold sees every source
    fold = torch.cat([order[i].repeat(len(group)) for i, group in enumerate(groups)])
    features = training.describe(probe, [w for group in groups for w, _ in group])
    figures = training.fit(probe, features, y, fold)
    with torch.inference_mode():
        probe.half().float()
        read = torch.exp2(probe(training.describe(probe, [s.image for s in heldout], exact=True))[:, 0])
    asked = torch.tensor([s.acquisition.gsd for s in heldout], dtype=torch.float32)
    result = gsd_response(asked, read, extractor=probe.name, confidence=0.95)
    each = {}
    for source in sorted({s.source for s in heldout}):
        rows = torch.tensor([s.source == source for s in heldout])
        each[source] = {"n": int(rows.sum()), "median_ratio": float((read[rows] / asked[rows]).quantile(0.5))}
    training.save(probe, {**figures, "training_windows": len(y), "heldout": {**result.to_dict(), "per_source": each}})


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.probe [RECIPE] key=value ...``."""
    start(train, "probe", arguments)


def train(recipe: DictConfig) -> Outcome:
    """Fit the probe that the recipe names and report it on the held-out split."""
    began = time.time()
    folder = _fit(recipe)
    return Outcome(folder, folder, 0, round(time.time() - began, 1), {})


def _fit(recipe: DictConfig) -> Path:
    training = ProbeTraining(recipe)
    root, count = recipe.data.root, recipe.per_group
    if recipe.target == "class":
        train, heldout = (load_samples(root, split, sources=["ucmerced"]) for split in ("train", "heldout"))
        fit_names(training, train, heldout, lambda s: s.klass, views=recipe.views)
    elif recipe.target == "place":
        train, heldout = (load_samples(root, split) for split in ("train", "heldout"))
        train = [train[i] for i in draw([place_name(s) for s in train], count, seed=recipe.seed)]
        heldout = [heldout[i] for i in draw([place_name(s) for s in heldout], count, seed=recipe.seed)]
        fit_names(training, train, heldout, place_name, views=1)
    elif recipe.target == "gsd":
        train, heldout = (
            [s for s in load_samples(root, split) if s.acquisition.gsd is not None] for split in ("train", "heldout")
        )
        tiles = [s for s in train if s.key.endswith("pre")]  # Houston before: the stitched 256 px leave room for 1.9 m
        train += islice(stitch(tiles), count // 2)
        heldout = [s for s in heldout if min(s.image.shape[:2]) >= recipe.window]
        # mosaics leave room for coarser scales, so they are a group of their own
        group = [f"{s.source} {s.image.shape[0]}" for s in train]
        train = [train[i] for i in draw(group, count, seed=recipe.seed)]
        heldout = [heldout[i] for i in draw([s.source for s in heldout], count, seed=recipe.seed)]
        fit_gsd(training, train, heldout)
    else:
        raise InputError(f"there is no probe target {recipe.target!r}; give class, place or gsd")
    return training.folder


if __name__ == "__main__":
    program(main)
