"""A published ground-view model at one place: an image in true coordinates, a light, and as many views of one tile as are wanted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ..errors import InputError, ModelError
from ..geo.canvas import Canvas
from ..geo.warp import on_metric_grid
from ..render.frame import SceneFrame
from ..render.grid import Grid
from ..render.paths import Track
from ..render.view import View
from ..types import Acquisition, GeoImage, Place
from .density import DensityGroundPipeline, GroundOutput
from .density_light import light_histogram, open_reference
from .density_tile import DensityTile
from .parts import describe

UNCHECKED = "metres are those of the tile that the model was published for; nobody has checked its scale against measured heights"
_TOGETHER = 16  # views whose light is made once


@dataclass(frozen=True, eq=False)
class DensityPlace:
    """A model, the image it looks into and its light; make one with :meth:`open`.

    Args:
        pipe: the model.
        image: on a metric grid, or a picture on no place.
        frame: local metres around the centre of the image; on no place y is its top.
        grid: the pixels of the image in it.
        histogram: 270 numbers of the sky of the light.
        seed: None: the mean of the model's codes, see :class:`gensat.pipelines.density.DensityGroundPipeline`.
        notes: what was assumed.
        about: what the tags of views say besides what the pipeline says.
    """

    pipe: DensityGroundPipeline
    image: GeoImage
    frame: SceneFrame
    grid: Grid
    histogram: Float[np.ndarray, " 270"]
    seed: int | None
    notes: tuple[str, ...]
    about: dict[str, Any]

    @classmethod
    def open(
        cls,
        pipe: Any,
        image: GeoImage | str | os.PathLike[str],
        *,
        gsd: float | int | None = None,
        light: Any = None,
        sky: Any = None,
        histogram: Float[np.ndarray, " n"] | str | os.PathLike[str] | None = None,
        seed: int | None = None,
    ) -> DensityPlace:
        """Bring an image and a light to a model.

        Args:
            pipe: what ``gensat.load`` made of a converted folder.
            image: from above; in degrees, feet or oblong pixels it is warped. A square picture of unknown scale is the tile itself.
            gsd: metres per pixel of an image without a georeference.
            light: street panorama whose sky lights the tile: a file, or as the pipeline takes it.
            sky: its mask, likewise; looked for when not given.
            histogram: instead of both: the 270 numbers, or a file of them (:func:`read_histogram`).
            seed: of what the model draws.

        Raises:
            ModelError: ``pipe`` is no published ground-view model.
            InputError: no light or two, an image with a gsd of its own and another ``gsd``, or files that cannot be read.
        """
        if not isinstance(pipe, DensityGroundPipeline):
            raise ModelError(
                f"model {pipe.spec.name} is no published ground-view model; give a folder that gensat models convert made "
                "(a refiner of gensat train refiner goes to --refine)"
            )
        named = {"image": describe(image), "light": None if light is None else describe(light)}
        picture, note = on_metric_grid(image if isinstance(image, GeoImage) else GeoImage.open(image))
        picture = _scaled(picture, gsd)
        if isinstance(light, (str, os.PathLike)):
            light, sky = open_reference(light, sky)
        elif light is not None and sky is None:
            sky = "find"
        if isinstance(histogram, (str, os.PathLike)):
            histogram = read_histogram(histogram)
        counts, notes = light_histogram(pipe.ground, light, sky, histogram)
        frame = SceneFrame.around(picture)
        if picture.transform is not None and picture.crs is not None:
            step = picture.transform.a * frame.metre
        else:
            step = picture.gsd or pipe.ground.tile_metres / picture.width
        grid = Grid.centred(picture.height, picture.width, step)
        said = (*([note] if note else []), *notes, UNCHECKED)
        return cls(pipe, picture, frame, grid, counts.cpu().numpy(), seed, said, named)

    def local(self, at: Place | Sequence[float | int]) -> tuple[float, float]:
        """Metres from the centre of the image of a Place, or of metres (x, y) from its centre.

        Raises:
            InputError: it lies outside the image.
        """
        x, y = self.frame.local(at.lon, at.lat) if isinstance(at, Place) else at
        left, bottom, right, top = self.grid.bounds
        if not (left <= x <= right and bottom <= y <= top):
            named = f"lon={at.lon:.6f} lat={at.lat:.6f}" if isinstance(at, Place) else f"x={x:.2f} y={y:.2f} m"
            raise InputError(f"{named} lies outside the image; give a point in it")
        return float(x), float(y)

    def tile(self, x: Sequence[float], y: Sequence[float]) -> DensityTile:
        """The model's tile around points (local metres), cut and read.

        Raises:
            InputError: they lie further apart than the tile is wide, or the image is smaller than the tile.
        """
        metres = self.pipe.ground.tile_metres
        wide = max(max(x) - min(x), max(y) - min(y))
        if wide >= metres:
            raise InputError(
                f"the way is {wide:.0f} m across, and {self.pipe.spec.name} knows one tile of {metres:g} m; give a shorter one"
            )
        centre = (max(x) + min(x)) / 2, (max(y) + min(y)) / 2
        if self.frame.crs is not None:
            return self.pipe.read(self.image, self.frame.place(*centre), seed=self.seed)
        _, bottom, right, _ = self.grid.bounds
        room = (max(right - metres / 2, 0.0), max(-bottom - metres / 2, 0.0))
        east, north = (float(np.clip(v, -far, far)) for v, far in zip(centre, room, strict=True))
        tile = self.pipe.read(self.image, seed=self.seed, offset=(east, north))
        return replace(tile, frame=SceneFrame(None, (east, north, 0.0)))

    def make(
        self, tile: DensityTile, x: Sequence[float], y: Sequence[float], heading: Sequence[float], **how: Any
    ) -> GroundOutput:
        """What the pipeline makes at points (local metres) along headings; ``how`` goes to its call (fov, pitch, size, above).

        Raises:
            InputError: as the pipeline.
        """
        spots = [self._spot(tile, a, b) for a, b in zip(x, y, strict=True)]
        made = self.pipe(tile, spots, heading=list(heading), histogram=self.histogram, seed=self.seed, **how)
        assert isinstance(made, GroundOutput)  # not the tuple that return_dict=False gives
        made.views = [replace(view, provenance={**view.provenance, **self.about}) for view in made.views]
        return made

    def along(self, track: Track, **how: Any) -> Iterator[View]:
        """Views at the points of a track (with headings) in the image's frame, as they are made; all of one tile."""
        assert track.heading is not None
        x, y, heading = (values.tolist() for values in (track.x, track.y, track.heading))
        tile = self.tile(x, y)
        for start in range(0, len(x), _TOGETHER):
            part = slice(start, start + _TOGETHER)
            yield from self.make(tile, x[part], y[part], heading[part], **how).views

    def _spot(self, tile: DensityTile, x: float, y: float) -> Place | tuple[float, float]:
        if self.frame.crs is not None:
            return self.frame.place(x, y)
        rows, columns = tile.pixels.shape[1:]
        east, north, _ = tile.frame.origin
        return (0.5 - (y - north) / tile.metres) * rows, ((x - east) / tile.metres + 0.5) * columns


def steps(track: Track, *, fps: float | int, speed: float | int | None, pace: float) -> Track:
    """The points of a track that become frames.

    One that says where the camera looks but not when, as the published programs write them, keeps its points; any other is walked
    at ``speed`` or, where it says no time either, at ``pace`` (metres a second).
    """
    if track.heading is not None and track.time is None and speed is None:
        return track
    return track.resampled(fps=fps, speed=pace if speed is None and track.time is None else speed)


def read_histogram(path: str | os.PathLike[str]) -> Float[np.ndarray, " n"]:
    """Numbers from a ``.npy``, ``.json`` or text file (commas, spaces or lines between them).

    Raises:
        InputError: the file is missing or holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"sky histogram {path} does not exist; give a .npy, .json or .csv of 270 numbers")
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(path, allow_pickle=False)
        elif path.suffix.lower() == ".json":
            values = np.array(json.loads(path.read_text(encoding="utf-8")))
        else:
            values = np.array(path.read_text(encoding="utf-8").replace(",", " ").split())
        return values.astype(np.float64).ravel()
    except (OSError, ValueError, TypeError) as error:
        raise InputError(
            f"sky histogram {path.name} cannot be read; give 270 numbers as .npy, .json or .csv"
        ) from error


def _scaled(picture: GeoImage, gsd: float | int | None) -> GeoImage:
    if gsd is None:
        return picture
    if picture.crs is not None:
        raise InputError(
            f"the image has {Canvas.like(picture).ground_gsd:.4g} m per pixel by its georeference; leave --gsd out"
        )
    a = picture.acquisition
    known = Acquisition(gsd, a.date, a.cloud_cover, a.sensor)
    return GeoImage(picture.array, picture.bands, None, picture.transform, picture.valid, known, picture.provenance)
