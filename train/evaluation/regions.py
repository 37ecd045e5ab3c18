"""The same figures region by region, and which region an image looks like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyogrio
import shapely
import torch

from ...errors import InputError
from ...geo.crs import parse_crs, to_lonlat
from ...metrics.base import Measurement
from ...metrics.bootstrap import bootstrap
from ...metrics.consistency import place_consistency
from ...metrics.frechet import PrincipalBasis
from ...metrics.kernel import kernel_distance
from ...metrics.precision_recall import covered
from ...metrics.regions import FEWEST, by_region, cell_name
from ...types import Place
from .networks import LeftOut
from .session import CONFIDENCE, Evaluation

_NAMES = ("name", "region", "country", "admin", "NAME", "REGION", "COUNTRY", "ADMIN")


def regions(run: Evaluation) -> dict:
    """Kernel distance and precision in each region, and the share of images that look like their own region."""
    sides, name = run.sides, run.region or (lambda place: cell_name(place.lon, place.lat))
    real = [None if p is None else name(p) for p in sides.real_places]
    fake = [None if p is None else name(p) for p in sides.places]
    both = sorted(r for r in set(real) & set(fake) if r is not None and min(real.count(r), fake.count(r)) >= FEWEST)
    if not both:
        raise LeftOut(
            f"no region has {FEWEST} images with a place on both sides; give GeoTIFFs, or lon and lat in NAME.json"
        )
    a, b = run.real_features, run.fake_features
    here = {r: torch.tensor([i for i, x in enumerate(real) if x == r]) for r in both}

    def distance(rows: torch.Tensor) -> Measurement:
        region = str(fake[int(rows[0])])
        return kernel_distance(a.take(here[region]), b.take(rows), confidence=CONFIDENCE)

    within = covered(b.values, a.values).double() if len(a) > 3 else torch.zeros(len(b))

    def precise(rows: torch.Tensor) -> Measurement:
        interval = bootstrap(lambda x: float(x.mean()), within[rows], confidence=CONFIDENCE, seed=run.seed)
        return Measurement("precision", float(within[rows].mean()), len(rows), b.extractor, interval, CONFIDENCE)

    listed = [r if r in both else None for r in fake]
    figures = {
        "kernel": by_region(distance, listed).to_dict(),
        "precision": by_region(precise, listed).to_dict(),
    }
    for one in figures.values():  # what the real side lacks is left out too, and is said
        one["too_few"] = {r: fake.count(r) for r in sorted({x for x in fake if x is not None and x not in both})}
        one["nowhere"] = fake.count(None)
    if len(both) > 1 and len(a) > 8:
        asked = [i for i, r in enumerate(fake) if r in both]
        dims = min(64, len(a) - 1, a.values.shape[1])
        figures["nearest region"] = place_consistency(
            b.take(asked),
            [str(fake[i]) for i in asked],
            real={r: a.take(rows) for r, rows in here.items()},
            basis=PrincipalBasis.fit(a, dims=dims),
            confidence=CONFIDENCE,
            seed=run.seed,
        ).to_dict()
    return figures


def read_regions(path: str | Path) -> Callable[[Place], str | None]:
    """The region of a place by the polygons of a vector file, named by its field name, region, country or admin.

    Raises:
        InputError: a file that cannot be read, or that holds no named polygon.
    """
    try:
        meta, _, shapes, columns = pyogrio.raw.read(path)
        crs = meta["crs"]
    except Exception as error:  # GDAL's own family
        raise InputError(f"regions {path} cannot be read ({str(error)[:80]}); give GeoJSON or GeoPackage") from error
    fields = list(meta["fields"])
    field = next((f for f in _NAMES if f in fields), None)
    if field is None or shapes is None or len(shapes) == 0:
        raise InputError(
            f"regions {path} have no field called {', '.join(_NAMES[:4])}; add one, with each region's name"
        )
    names = [str(v) for v in columns[fields.index(field)]]
    polygons = shapely.from_wkb(shapes)
    if (system := parse_crs(crs)) is not None:
        polygons = shapely.transform(polygons, lambda xy: np.stack(to_lonlat(system, xy[:, 0], xy[:, 1]), axis=1))
    tree = shapely.STRtree(polygons)

    def region(place: Place) -> str | None:
        hits = np.sort(tree.query(shapely.Point(place.lon, place.lat), predicate="intersects"))
        return names[int(hits[0])] if len(hits) else None

    return region
