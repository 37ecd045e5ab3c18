"""One evaluation: what is measured, against which real images, through which networks, and where the results go.

The parts (``gensat.train.evaluation.parts``) are functions of an ``Evaluation``; what several of them need is made once
and kept here.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import InputError
from ...geo.canvas import Canvas
from ...geo.display import contact_sheet
from ...metrics.base import FeatureSet, extract
from ...types import Acquisition, Place
from ..latents import resized
from ..sources import Sample
from .networks import LeftOut, Networks
from .pictures import Lazy, Picture, paired
from .report import Report

CONFIDENCE = 0.95


@dataclass
class Sides:
    """Real images and the generated ones that stand against them, with what was asked of the generated ones."""

    real: Sequence[np.ndarray]
    fake: Sequence[np.ndarray]
    captions: list[str]
    places: list[Place | None]
    real_places: list[Place | None]
    classes: list[str | None] = field(default_factory=list)
    pairs: list[tuple[Picture, Picture]] = field(default_factory=list)

    @classmethod
    def of_folders(cls, real: Sequence[Picture], fake: Sequence[Picture], *, count: int | None = None) -> Sides:
        """Two folders; where names agree, places and captions of the real side stand in for missing ones.

        ``count`` draws that many of each, evenly spaced.
        """
        if count is not None:
            real, fake = evenly(real, min(count, len(real))), evenly(fake, min(count, len(fake)))
        pairs = paired(real, fake)
        known = {p.key: p for p, _ in pairs}
        return cls(
            Lazy(real),
            Lazy(fake),
            [p.caption or (known[p.key].caption if p.key in known else "") for p in fake],
            [p.place or (known[p.key].place if p.key in known else None) for p in fake],
            [p.place for p in real],
            [p.klass or (known[p.key].klass if p.key in known else None) for p in fake],
            pairs,
        )


class Evaluation:
    """One model, or one folder of images, under measurement; ``out`` receives pictures, figures and the page.

    Args:
        out: folder of the report; made if missing.
        pipe: the model, or None where two folders are compared.
        heldout: real images that the model never saw, in the sides it makes (``bucketed``).
        train: the images that it was trained on, or None.
        sides: two folders; a model makes its own side.
        networks: what is looked through.
        region: the name of a place's region.
        project: whether ``heldout`` is the project's own, whose places and layouts are known.
        call: further arguments of the pipeline.
    """

    def __init__(
        self,
        out: Path,
        *,
        pipe: Any = None,
        name: str = "",
        heldout: Sequence[Sample] = (),
        train: Sequence[Sample] | None = None,
        sides: Sides | None = None,
        networks: Networks | None = None,
        region: Callable[[Place], str | None] | None = None,
        project: bool = False,
        count: int = 320,
        seed: int = 0,
        batch: int = 4,
        about: dict[str, Any] | None = None,
        say: Callable[[str], None] = print,
        **call: Any,
    ):
        self.out, self.pipe, self.count, self.seed, self.batch, self.say, self.call = (
            out,
            pipe,
            count,
            seed,
            batch,
            say,
            call,
        )
        self.heldout, self.train, self.networks, self.project = heldout, train, networks or Networks(), project
        self.region = region
        if sides is not None:
            self.sides = sides
        model = {"name": name or (pipe.spec.name if pipe is not None else out.name)}
        if pipe is not None:
            model["licence"] = pipe.spec.licence
        self.report = Report({**model, "seed": seed, **call}, about=dict(about or {}))

    @torch.no_grad()
    def run(self, parts: Sequence[str]) -> Report:
        """Measure the named parts in order; figures found so far are on disk after each."""
        from .parts import PARTS, check_parts

        check_parts(parts)
        if self.pipe is not None and {"distribution", "text", "regions"} & set(parts):
            asked_from(self.heldout, self.count)  # that there are enough, before any of it takes long
        self.out.mkdir(parents=True, exist_ok=True)
        for part in parts:
            started = time.time()
            try:
                self.report.figures[part] = PARTS[part](self)
            except LeftOut as reason:
                self.leave_out(part, str(reason))
            self.say(f"{part}: {time.time() - started:.0f} s")
            self.report.save(self.out)
        return self.report

    def leave_out(self, name: str, why: str) -> None:
        """Remember that something was not measured, and what to give."""
        self.report.left_out[name] = why

    # -- what several parts look at -----------------------------------------------------------------------------------

    @cached_property
    def sides(self) -> Sides:
        """The two sides; with a model, one image made for each held-out sample, with all that is known of it."""
        asked = asked_from(self.heldout, self.count)
        places = [s.place for s in asked]
        made = self.like(asked)
        self.picture("asked", evenly([s.image for s in asked], 48), 12)
        self.picture("made", evenly(made, 48), 12)
        return Sides(
            [s.image for s in asked],
            made,
            [s.caption for s in asked],
            places,
            places,
            [s.klass for s in asked],
        )

    @cached_property
    def real_features(self) -> FeatureSet:
        """Of the real side."""
        return self.extract(self.sides.real)

    @cached_property
    def fake_features(self) -> FeatureSet:
        """Of the generated side."""
        return self.extract(self.sides.fake)

    @cached_property
    def train_features(self) -> FeatureSet | None:
        """Of the training images, where they were given."""
        return None if self.train is None else self.extract(s.image for s in self.train)

    def extract(self, images: Iterable[np.ndarray]) -> FeatureSet:
        """Features by the chosen extractor."""
        return extract(self.networks.features, images, device=self.networks.device)

    # -- making images ------------------------------------------------------------------------------------------------

    def like(self, asked: Sequence[Sample], *, layouts: bool = False) -> list[np.ndarray]:
        """One image for each sample, from its caption, place and acquisition (and its layout)."""
        made = []
        for i, s in enumerate(asked):
            layout = s.layout if layouts else None
            out = self.pipe(layout=layout, seed=self.seed + i, **self.told(s), **self.call)
            made.append(out.scenes[0].array)
            if i % 40 == 39:
                self.say(f"  {i + 1} of {len(asked)}")
        return made

    def told(self, sample: Sample) -> dict[str, Any]:
        """What of a sample the model can be asked for; what it cannot take is left out, and that is said once."""
        spec, a, side = self.pipe.spec, sample.acquisition, sample.image.shape[0]
        about: dict[str, Any] = {"date": a.date, "cloud_cover": a.cloud_cover, "sensor": a.sensor}
        encoder = getattr(self.pipe, "acquisition_encoder", None)
        if "acquisition" not in spec.signals:
            if any(v is not None for v in about.values()):
                self.leave_out("asked / date, clouds, sensor", "the model does not take them; asked for without")
            about = {}
        elif a.sensor and encoder is not None and a.sensor not in encoder.config["sensors"]:
            self.leave_out(f"asked / sensor {a.sensor}", "the model does not know it; asked for without")
            about["sensor"] = None
        gsd, (low, high) = a.gsd, spec.gsd_range
        if gsd is not None and not low <= gsd <= high:
            self.leave_out(
                "asked / gsd", f"images outside {low:g} to {high:g} m, the model's range, were asked for without"
            )
            gsd = None
        if sample.place is not None and gsd is not None:
            about["canvas"] = Canvas.around(sample.place, gsd, side, side)
        else:
            about |= {"width": side, "height": side, "gsd": gsd}
        return {"prompt": sample.caption if "prompt" in spec.signals else "", **about}

    def at(self, place: Place | None, gsd: float | None, count: int, size: int) -> list[np.ndarray]:
        """``count`` images of a place and gsd (each None = unknown), nothing else known."""
        made = []
        for start in range(0, count, self.batch):
            n = min(self.batch, count - start)
            seeds = [self.seed + start + j for j in range(n)]
            canvas = (
                Canvas.local(size, size, gsd)
                if place is None
                else Canvas.around(place, gsd or self.pipe.spec.defaults.gsd, size, size)
            )
            unknown = {"withhold": ("gsd",)} if gsd is None else {}
            out = self.pipe([""] * n, canvas=canvas, seed=seeds, **unknown, **self.call)
            made += [scene.array for scene in out.scenes]
        return made

    def of(self, prompts: Sequence[str], size: int) -> list[np.ndarray]:
        """One image for each prompt, nothing else known."""
        made = []
        for start in range(0, len(prompts), self.batch):
            part = list(prompts[start : start + self.batch])
            seeds = [self.seed + start + j for j in range(len(part))]
            out = self.pipe(part, width=size, height=size, seed=seeds, **self.call)
            made += [scene.array for scene in out.scenes]
        return made

    def picture(self, title: str, images: Sequence[np.ndarray], columns: int) -> None:
        """Save a contact sheet and remember it for the page."""
        name = "".join(c if c.isalnum() else "-" for c in title.lower()).strip("-")[:40] + ".jpg"
        self.out.mkdir(parents=True, exist_ok=True)
        contact_sheet(list(images), columns).save(self.out / name, quality=90)
        self.report.pictures[title] = name


def evenly(items: Sequence[Any], count: int) -> list[Any]:
    """``count`` of the items, evenly spaced, or all where there are fewer."""
    picks = np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int))
    return [items[int(i)] for i in picks]


def asked_from(samples: Sequence[Sample], count: int) -> list[Sample]:
    """``count`` held-out samples. Of the project's: all of land use, layouts and small sources, the rest of Houston and the rasters, evenly spaced; of others: evenly."""
    first = [s for s in samples if s.source in ("ucmerced", "poland", "uganda", "sentinel2", "landsat")]
    rest = [s for s in samples if s.source not in ("ucmerced", "poland", "uganda", "sentinel2", "landsat")]
    if len(samples) < count:
        raise InputError(
            f"{count} images were asked for, the held-out split has {len(samples)}; give --count {len(samples)} or less"
        )
    return (first + (evenly(rest, count - len(first)) if count > len(first) else []))[:count]


def bucketed(sample: Sample, native: int = 256, smallest: int = 0) -> Sample:
    """The sample as a square of a side that a model makes: ``native`` pixels, or half of it (``smallest`` at least) where
    the image is small; its gsd follows.
    """
    side = min(sample.image.shape[:2])
    size = native if side > 0.625 * native else max(native // 2, smallest)
    a = sample.acquisition
    gsd = None if a.gsd is None else a.gsd * side / size
    layout = None if sample.layout is None else resized(sample.layout[:side, :side], size, nearest=True)
    image = resized(np.ascontiguousarray(sample.image[:side, :side]), size)
    acquisition = Acquisition(gsd, a.date, a.cloud_cover, a.sensor)
    return Sample(
        sample.source, sample.key, image, sample.caption, sample.klass, sample.place, acquisition, layout, sample.number
    )


def by_shape(images: Iterable[np.ndarray], most: int = 8) -> Iterator[list[np.ndarray]]:
    """All the images in groups of at most ``most`` of one shape."""
    groups: dict[tuple[int, ...], list[np.ndarray]] = {}
    for image in images:
        groups.setdefault(image.shape, []).append(image)
    for group in groups.values():
        yield from (group[i : i + most] for i in range(0, len(group), most))


def digest(keys: Iterable[str]) -> str:
    """Twelve hex digits over the names of images: two reports with the same stand on the same images."""
    return hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()[:12]
