"""Do images of a place look like that place? By real images of the places, and by a geolocator where one is at hand."""

from __future__ import annotations

from typing import Any

import torch

from ...metrics.base import FeatureSet
from ...metrics.consistency import place_consistency
from ...metrics.frechet import PrincipalBasis
from ...metrics.geolocation import geolocation
from ...models.features import over_images
from ...types import Place
from ..latents import resized
from ..sources import Sample
from .networks import LeftOut
from .session import CONFIDENCE, Evaluation

PLACES = {  # name -> (source, box west, south, east, north) of real images; what is asked for is one of its images' places
    "Houston": ("houston", (-96.0, 29.0, -95.0, 30.5)),
    "Uganda": ("uganda", (32.0, 0.0, 33.0, 1.0)),
    "Arizona": ("landsat", (-115.0, 31.0, -109.0, 37.5)),
    "Foz do Iguacu": ("rasters", (-55.2, -26.0, -54.0, -24.9)),
    "North Dakota": ("rasters", (-100.0, 46.0, -97.0, 48.0)),
    "South Africa": ("rasters", (24.0, -34.2, 25.0, -33.2)),
    "Europe (Sentinel-2)": ("sentinel2", (-10.0, 35.0, 32.0, 69.0)),
}


def place(run: Evaluation) -> dict:
    """The project's places by their real images, and great-circle distances by a geolocator."""
    figures: dict[str, Any] = {}
    if run.pipe is not None and run.project:
        figures |= known_places(run)
    elif run.pipe is not None:
        run.leave_out("place / the project's places", "measured on the project's own data; see regions")
    try:
        figures["geolocator"] = geolocated(run)
    except LeftOut as reason:
        if not figures:
            raise
        run.leave_out("place / geolocator", str(reason))
    return figures


def geolocated(run: Evaluation) -> dict:
    """Where a geolocator puts generated images, and real ones, beside where they are from."""
    locator = run.networks.geolocator
    sides = run.sides
    figures = {}
    for name, images, places in (
        ("generated", sides.fake, sides.places),
        ("real images", sides.real, sides.real_places),
    ):
        rows = [i for i, p in enumerate(places) if p is not None]
        if len({(places[i].lon, places[i].lat) for i in rows}) < 2:  # type: ignore[union-attr]
            run.leave_out(f"place / geolocator / {name}", "fewer than two different places are known")
            continue
        asked = torch.tensor([(places[i].lon, places[i].lat) for i in rows], dtype=torch.float64)  # type: ignore[union-attr]
        seen = over_images(locator.locate, (images[i] for i in rows), device=run.networks.device)
        figures[name] = geolocation(
            seen.double(), asked, extractor=locator.name, confidence=CONFIDENCE, seed=run.seed
        ).to_dict()
    if not figures:
        raise LeftOut("no image has a known place; give GeoTIFFs, or lon and lat in NAME.json")
    return figures


def known_places(run: Evaluation, each: int = 24, size: int = 128) -> dict:
    """Empty prompt and unknown date everywhere; with one gsd for all, with gsd unknown, and 500 km from any known place."""
    real: dict[str, FeatureSet] = {}
    heldout: dict[str, FeatureSet] = {}
    centres: dict[str, Place | None] = {}
    train = run.train or []
    for name, (source, box) in PLACES.items():
        first = [s for s in train if s.source == source and inside(s.place, box)]
        other = [s for s in run.heldout if s.source == source and inside(s.place, box)]
        if not first:
            raise LeftOut(f"the training images hold none of {name}; give the project's data folder")
        real[name] = small(run, first, size)
        if other:
            heldout[name] = small(run, other, size)
        centres[name] = first[len(first) // 2].place
    assert run.train_features is not None
    basis = PrincipalBasis.fit(run.train_features)
    figures: dict[str, Any] = {}
    shown = min(12, each)
    for title, gsd in (("gsd 0.5 m for all", 0.5), ("gsd unknown", None)):
        images = [x for name in PLACES for x in run.at(centres[name], gsd, each, size)]
        measured = place_consistency(
            run.extract(images),
            [name for name in PLACES for _ in range(each)],
            real=real,
            basis=basis,
            heldout=heldout,
            confidence=CONFIDENCE,
            seed=run.seed,
        )
        figures[title] = measured.to_dict()
        rows = [images[i * each + j] for i in range(len(PLACES)) for j in range(shown)]
        run.picture(f"places, {title}", rows, shown)
    far = Place(-101.0, 30.0)  # 500 km west of Houston, and farther from every other source
    features = basis.project(run.extract(run.at(far, None, each, size)))
    means = torch.stack([basis.project(s).mean(0) for s in real.values()])
    nearest = torch.cdist(features, means).argmin(1)
    figures["500 km from Houston, gsd unknown"] = {n: int((nearest == i).sum()) for i, n in enumerate(PLACES)}
    return figures


def small(run: Evaluation, samples: list[Sample], size: int) -> FeatureSet:
    """Features of samples at ``size`` pixels, as the generated ones are made."""
    return run.extract(resized(s.image, size) for s in samples)


def inside(place: Place | None, box: tuple[float, float, float, float]) -> bool:
    """Whether a place lies in a box (west, south, east, north)."""
    return place is not None and box[0] <= place.lon <= box[2] and box[1] <= place.lat <= box[3]


def project_region(place: Place) -> str | None:
    """The project's place that a point lies in."""
    return next((name for name, (_, box) in PLACES.items() if inside(place, box)), None)
