"""Is a model understood in other words than those it was trained on: synonyms of the classes that the probe knows, and two things at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ...metrics.consistency import ClassMeasurement, class_consistency
from ...models.features import over_images
from ..captions import CLASSES
from .networks import LeftOut
from .session import CONFIDENCE, Evaluation

UNHEARD: dict[str, tuple[str, ...]] = {
    "agricultural": ("ploughed land", "a plantation in straight furrows", "cultivated ground"),
    "airplane": ("an airliner", "a jumbo jet at its gate", "jets in front of a terminal"),
    "baseballdiamond": ("a ballpark", "a softball infield", "home plate and three bases"),
    "beach": ("the seashore", "a strand where breakers come in", "an ocean shoreline"),
    "buildings": ("skyscrapers", "tower blocks", "warehouses and factories"),
    "harbor": ("a yacht basin", "ships along a wharf", "vessels at their moorings"),
    "intersection": ("a traffic junction", "two roads that meet at right angles", "a corner with traffic lights"),
    "mediumresidential": ("suburban homes", "a housing estate", "family homes along a quiet road"),
    "mobilehomepark": ("caravans side by side", "a caravan site", "trailers in rows"),
    "overpass": ("a flyover", "a viaduct across a motorway", "a motorway interchange"),
    "parkinglot": ("automobiles side by side", "a yard full of vehicles", "where shoppers leave their automobiles"),
    "river": ("a creek", "a winding waterway", "a brook among bushes"),
    "runway": ("an airstrip", "where planes take off", "the paved strip of an airfield"),
    "sparseresidential": ("a lone farmhouse", "a cottage in the woods", "a villa on a wide plot"),
    "storagetanks": ("fuel silos", "petroleum reservoirs", "gas holders at a refinery"),
    "tenniscourt": ("a tennis club", "a court with a net", "a hard court for racket sports"),
}
"""Words for each class of UC Merced that no caption of the training data has (a test looks)."""

TOGETHER = (
    "a soccer pitch next to a road",
    "a marina beside a beach",
    "houses around a lake",
    "large buildings behind a parking lot",
    "a river through fields",
    "a runway beside the sea",
    "an island with trees",
    "a swimming pool behind a house",
)
"""What no training image was called; whether the pictures show it is for people to say."""

EACH = 2  # images a wording


def wording(run: Evaluation) -> dict:
    """Class consistency in words that the model heard and in words that it did not, nothing else known; and a sheet of things together."""
    if run.pipe is None or "prompt" not in run.pipe.spec.signals:
        raise LeftOut("needs a model that takes words")
    together = run.of([f"an aerial image of {said}" for said in TOGETHER for _ in range(6)], _side(run))
    run.picture("things together", together, 6)
    sets = {"heard": CLASSES, "unheard": UNHEARD}
    return {name: _recognised(run, words, f"words {name}").to_dict() for name, words in sets.items()}


def _recognised(run: Evaluation, words: Mapping[str, Sequence[str]], title: str) -> ClassMeasurement:
    probe = run.networks.class_probe
    asked = [(klass, said) for klass in probe.outputs for said in words[klass][:3] for _ in range(EACH)]
    images = run.of([f"an aerial image of {said}" for _, said in asked], _side(run))
    seen = over_images(lambda x: probe.classify(x, backbone=run.networks.backbone), images, device=run.networks.device)
    wanted = torch.tensor([probe.outputs.index(klass) for klass, _ in asked])
    run.picture(title, images, 3 * EACH)
    return class_consistency(
        seen, wanted, classes=probe.outputs, extractor=probe.name, confidence=CONFIDENCE, seed=run.seed
    )


def _side(run: Evaluation) -> int:
    low, high = run.pipe.spec.size_limits
    return max(low, min(128, high))
