"""Are two things where the prompt puts them? "a lake left of a forest", "a warehouse north of a road".

After VISOR (Gokhale et al. 2022, https://arxiv.org/abs/2212.10015) as used in Getting it Right (Chatterjee et al. 2024,
https://arxiv.org/abs/2404.01197): both things must be found, and their centres must lie as said. Pictures here are maps:
north is up, so compass words are image axes too.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Integer
from scipy import ndimage
from torch import Tensor

from gensat.errors import InputError
from gensat.geo.classes import BUILDING, ROAD, WATER, WOODLAND
from gensat.metrics.base import Measurement
from gensat.metrics.bootstrap import bootstrap

# (east, south) signs: what the subject's centre minus the object's must have
DIRECTIONS: dict[str, tuple[int, int]] = {
    "left of": (-1, 0),
    "right of": (1, 0),
    "above": (0, -1),
    "below": (0, 1),
    "north of": (0, -1),
    "south of": (0, 1),
    "east of": (1, 0),
    "west of": (-1, 0),
    "northeast of": (1, -1),
    "northwest of": (-1, -1),
    "southeast of": (1, 1),
    "southwest of": (-1, 1),
}
# words of things that the layout segmenter can find
THINGS: dict[int, tuple[str, ...]] = {
    BUILDING: ("building", "buildings", "house", "houses", "warehouse", "warehouses", "village", "town"),
    ROAD: ("road", "roads", "street", "streets", "highway", "motorway", "runway"),
    WATER: ("water", "river", "lake", "pond", "sea", "ocean", "canal", "reservoir"),
    WOODLAND: ("forest", "wood", "woods", "woodland", "trees", "grove"),
}
WORDS = {word: code for code, words in THINGS.items() for word in words}

Centre = tuple[float, float]  # (row, column) in pixels
Detector = Callable[[Float[Tensor, "b 3 h w"], Sequence[str]], list[dict[str, Centre]]]
"""Centres of named things in RGB images in [0, 1]; a thing that is not found is not in the dictionary."""

_PHRASE = re.compile(
    r"\b(?:(?:in|to|on) the )?(?P<where>north[- ]?east|north[- ]?west|south[- ]?east|south[- ]?west|north|south|east|west"
    r"|left|right)(?:ern)?(?: side)? of\b|\b(?P<vertical>above|below)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Relation:
    """``subject`` lies ``where`` (a key of ``DIRECTIONS``) ``object``; both are words of the prompt."""

    subject: str
    where: str
    object: str

    def holds(self, subject: Centre, object: Centre) -> bool:
        """Whether two centres lie as said; equal coordinates do not."""
        east, south = DIRECTIONS[self.where]
        right, down = subject[1] - object[1], subject[0] - object[0]
        return (east == 0 or right * east > 0) and (south == 0 or down * south > 0)

    def opposite(self) -> "Relation":
        """The same things with the direction turned round."""
        east, south = DIRECTIONS[self.where]
        family = list(DIRECTIONS)[:4] if self.where in list(DIRECTIONS)[:4] else list(DIRECTIONS)[4:]
        turned = next(name for name in family if DIRECTIONS[name] == (-east, -south))
        return Relation(self.subject, turned, self.object)


@dataclass(frozen=True)
class RelationMeasurement(Measurement):
    """``value`` is the share of images in which both things are found and lie as said (VISOR, unconditional).

    ``found``: both things found; ``conditional``: right where both were found (chance 0.5 for four directions);
    ``opposite``: the share in which the opposite holds, which a model that ignores the words reaches as often;
    ``per_relation``: value of each direction.
    """

    found: float = 0.0
    conditional: float | None = None
    opposite: float = 0.0
    per_relation: dict[str, float] = field(default_factory=dict)


def parse_relations(prompt: str, things: Sequence[str] | Mapping[str, object] = WORDS) -> list[Relation]:
    """The relations that a prompt states between known ``things``: the nearest word before and after each direction.

    A direction without a known thing on either side is passed over.
    """
    found = [(m.start(), m.group().lower()) for m in re.finditer(r"[a-zA-Z]+", prompt) if m.group().lower() in things]
    relations = []
    for match in _PHRASE.finditer(prompt):
        before = [word for at, word in found if at < match.start()]
        after = [word for at, word in found if at >= match.end()]
        if before and after:
            where = match["vertical"] or re.sub(r"[- ]", "", match["where"]) + " of"
            relations.append(Relation(before[-1], where.lower(), after[0]))
    return relations


def spatial_relations(
    asked: Sequence[Relation],
    centres: Sequence[Mapping[str, Centre]],
    *,
    extractor: str | None = None,
    confidence: float | None = None,
    seed: int = 0,
) -> RelationMeasurement:
    """Score one relation per image; ``centres[i]`` are the things that a detector found in image i, by word."""
    if len(asked) != len(centres) or not asked:
        raise InputError(f"{len(asked)} relations do not match {len(centres)} images; give one relation per image")
    both = [r.subject in c and r.object in c for r, c in zip(asked, centres, strict=True)]

    def share(relations: Sequence[Relation]) -> Tensor:
        hits = [
            found and r.holds(c[r.subject], c[r.object]) for r, c, found in zip(relations, centres, both, strict=True)
        ]
        return torch.tensor(hits, dtype=torch.float64)

    right, wrong = share(asked), share([r.opposite() for r in asked])
    found = sum(both)
    names = list(dict.fromkeys(r.where for r in asked))
    return RelationMeasurement(
        "spatial_relations",
        float(right.mean()),
        len(asked),
        extractor,
        None if confidence is None else bootstrap(lambda x: float(x.mean()), right, confidence=confidence, seed=seed),
        confidence,
        found / len(asked),
        float(right.sum()) / found if found else None,
        float(wrong.mean()),
        {name: float(right[[r.where == name for r in asked]].mean()) for name in names},
    )


def centres_of_classes(
    class_map: Integer[Tensor, "h w"], words: Sequence[str], *, least: float = 0.005, codes: Mapping[str, int] = WORDS
) -> dict[str, Centre]:
    """Centre (row, column) of the largest connected patch of each word's class; ``least`` is the share of the image it
    must cover to count as found.
    """
    unknown = [word for word in words if word not in codes]
    if unknown:
        raise InputError(f"{unknown[0]!r} is no thing that a layout has; use one of {', '.join(codes)}")
    out = {}
    for word in words:
        patches, count = ndimage.label((class_map == codes[word]).cpu().numpy())
        if count == 0:
            continue
        sizes = ndimage.sum_labels(patches > 0, patches, range(1, count + 1))
        if sizes.max() < least * class_map.numel():
            continue
        row, column = ndimage.center_of_mass(patches == int(sizes.argmax()) + 1)
        out[word] = (float(row), float(column))
    return out
