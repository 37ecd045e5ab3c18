"""Generated images against real ones, as sets: distances, coverage, copies of the training images, classes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from ...metrics.base import FeatureSet, extract
from ...metrics.consistency import class_consistency
from ...metrics.frechet import MIN_COUNT, PrincipalBasis, frechet, frechet_64
from ...metrics.kernel import kernel_distance
from ...metrics.memorisation import memorisation
from ...metrics.mmd import gaussian_mmd
from ...metrics.precision_recall import precision_recall
from ...models.features import over_images
from .networks import LeftOut
from .session import CONFIDENCE, Evaluation

_DIMS = 64


def distribution(run: Evaluation) -> dict:
    """Frechet-64, kernel distance, MMD, precision and recall, memorisation and class consistency of the two sides."""
    real, fake, train = run.real_features, run.fake_features, run.train_features
    if min(len(real), len(fake)) < 5:
        raise LeftOut(f"{len(real)} real and {len(fake)} generated images say nothing about a distribution; give 5")
    figures = distances(run, real, fake, train)
    figures["mmd"] = gaussian_mmd(real, fake, confidence=CONFIDENCE).to_dict()
    figures |= cmmd(run)
    if train is not None and run.train is not None:
        copies = memorisation(fake, train, heldout=real, confidence=CONFIDENCE)
        figures["memorisation"] = copies.to_dict()
        shown = [x for i, j, _ in copies.closest for x in (run.sides.fake[i], run.train[j].image)]
        run.picture("closest (made, nearest training image)", shown, 10)
    else:
        run.leave_out("memorisation", "needs the images that the model was trained on; give --train PATH")
    return figures | classes(run)


def second(run: Evaluation) -> dict:
    """Frechet-64, kernel distance, precision and recall through a network that no training of gensat looks through.

    A model that learned with the help of one network may please that one more than it ought to.
    """
    if min(len(run.sides.real), len(run.sides.fake)) < 5:
        raise LeftOut("needs 5 images a side")
    network, device = run.networks.second, run.networks.device
    real, fake = (extract(network, images, device=device) for images in (run.sides.real, run.sides.fake))
    train = None if run.train is None else extract(network, (s.image for s in run.train), device=device)
    return distances(run, real, fake, train)


def distances(run: Evaluation, real: FeatureSet, fake: FeatureSet, train: FeatureSet | None) -> dict[str, Any]:
    """Frechet-64, kernel distance, precision and recall, each with what real images have."""
    figures: dict[str, Any] = frechets(run, real, fake, train)
    figures["kernel"] = kernel_distance(real, fake, confidence=CONFIDENCE).to_dict()
    if (other := another(run, real, train)) is not None:
        figures["kernel_floor"] = kernel_distance(*other, confidence=CONFIDENCE).to_dict()
        figures["precision_recall_real"] = precision_recall(*other, confidence=CONFIDENCE).to_dict()
    figures["precision_recall"] = precision_recall(real, fake, confidence=CONFIDENCE).to_dict()
    return figures


def frechets(run: Evaluation, real: FeatureSet, fake: FeatureSet, train: FeatureSet | None) -> dict:
    """Frechet-64 in the components of the training images; without them in those of the real side, and named so."""
    n = min(len(real), len(fake))
    a, b = (s if len(s) == n else s.sample(n, seed=run.seed) for s in (real, fake))
    reference = real if train is None else train
    figures: dict[str, Any] = {}
    if min(len(reference), n) > _DIMS and real.values.shape[1] >= _DIMS:
        basis = PrincipalBasis.fit(reference, dims=_DIMS)
        one = frechet_64(
            a, b, basis=basis, train=train, force=n < MIN_COUNT, confidence=CONFIDENCE, seed=run.seed
        )  # the floor needs as many training images as the sides have
        figures["frechet_64"] = (
            one if train is not None else replace(one, metric=f"{one.metric} (basis: real)")
        ).to_dict()
        if train is None and len(real) >= 2 * n:
            rest = real.take(torch.randperm(len(real), generator=torch.Generator().manual_seed(run.seed))[n : 2 * n])
            figures["frechet_64"]["floor"] = frechet_64(a, rest, basis=basis, force=True).value
    else:
        run.leave_out("frechet_64", f"needs more than {_DIMS} images a side and {_DIMS} features, here {n}; give more")
    if real.extractor.startswith("inception") or n > real.values.shape[1]:
        figures["frechet"] = frechet(a, b).to_dict()
    return figures


def another(run: Evaluation, real: FeatureSet, train: FeatureSet | None) -> tuple[FeatureSet, FeatureSet] | None:
    """Two real sets that never met: the real side and training images, or two halves of the real side."""
    if train is not None and len(train) >= len(real):
        return real, train.sample(len(real), seed=run.seed)
    if len(real) < 8:  # half of them have to be more than the three neighbours of a manifold
        return None
    order = torch.randperm(len(real), generator=torch.Generator().manual_seed(run.seed))
    return real.take(order[: len(real) // 2]), real.take(order[len(real) // 2 :])


def cmmd(run: Evaluation) -> dict:
    """CMMD as published, where a CLIP was given besides the extractor."""
    if run.networks.features.name.startswith("clip"):
        return {}  # the figure "mmd" is it
    try:
        clip = run.networks.clip
    except LeftOut as reason:
        run.leave_out("cmmd", str(reason))
        return {}
    sides = (extract(clip, images, device=run.networks.device) for images in (run.sides.real, run.sides.fake))
    return {"cmmd": gaussian_mmd(*sides, confidence=CONFIDENCE).to_dict()}


def classes(run: Evaluation) -> dict:
    """Whether a probe trained on real images recognises the class asked for, beside what it makes of real ones."""
    probe = run.networks.class_probe
    sides = run.sides
    chosen = [i for i, k in enumerate(sides.classes) if k in probe.outputs]
    if not chosen:
        run.leave_out("class_consistency", "no image has a class that the probe knows (UC Merced's)")
        return {}
    wanted = torch.tensor([probe.outputs.index(str(sides.classes[i])) for i in chosen])
    figures = {}
    groups = [("class_consistency", sides.fake)]
    if len(sides.real) == len(sides.fake) and not sides.pairs:  # made for the real ones, one by one
        groups.append(("class_consistency_real", sides.real))
    for name, images in groups:
        seen = over_images(
            lambda x: probe.classify(x, backbone=run.networks.backbone),
            (images[i] for i in chosen),
            device=run.networks.device,
        )
        figures[name] = class_consistency(
            seen, wanted, classes=probe.outputs, extractor=probe.name, confidence=CONFIDENCE
        ).to_dict()
    by_class = sorted(chosen, key=lambda i: str(sides.classes[i]))
    run.picture("classes", [sides.fake[i] for i in by_class], max(1, len(by_class) // 16))
    return figures
