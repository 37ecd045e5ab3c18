"""From an image from above to heights: by our own network, by shadows, by a published density field, or none at all."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers.utils import BaseOutput
from jaxtyping import Float

from .. import __version__
from ..errors import InputError, ModelError
from ..geo.elevation import HeightMap
from ..geo.shadows import heights_from_shadows
from ..geo.sun import SunPosition
from ..hub.fingerprint import fingerprint
from ..hub.load import load
from ..render.frame import SceneFrame
from ..types import Acquisition, Band, GeoImage
from .height_sources import HeightRequest, density_heights, height_request, resampled
from .one_network import OneNetworkPipeline
from .parts import describe

DEFAULT = "gensat-heights"
"""The height model that ships."""

Method = Literal["model", "shadow", "constant"]
METHODS: tuple[Method, ...] = ("model", "shadow", "constant")
TILE = 512
"""Pixels of the network in one piece, without the margin."""

Terrain = HeightMap | float | int | str | os.PathLike[str]


@dataclass
class HeightEstimate(BaseOutput):
    """What is estimated of an image.

    Args:
        heights: of the uppermost surface: terrain and what stands on it; NaN where the image has no value.
        above: (H, W) metres above the ground.
        spread: (H, W) metres: half of what 68 percent of the probability covers; None where the source says nothing of it.
        image: that was read, on the grid of the heights.
        notes: what was assumed; sentences without a full stop.
        provenance: for tags.
    """

    heights: HeightMap
    above: np.ndarray
    spread: np.ndarray | None
    image: GeoImage
    notes: tuple[str, ...]
    provenance: dict[str, Any]

    def raster(self, which: Literal["height", "spread"] = "height") -> GeoImage:
        """The heights, or their spread, as an image with one band of metres that says what it is.

        Raises:
            InputError: a spread of a source that says nothing of it.
        """
        values = self.heights.heights if which == "height" else self.spread
        if values is None:
            raise InputError(f"method {self.provenance['method']} says nothing of its spread; leave the spread out")
        return GeoImage(
            values.astype(np.float32),
            [Band(which, unit="m")],
            self.image.crs,
            self.image.transform,
            acquisition=self.image.acquisition,
            provenance={**self.provenance, "quantity": "estimated " + which},
        )

    def save(
        self, path: str | os.PathLike[str], which: Literal["height", "spread"] = "height", *, overwrite: bool = False
    ) -> None:
        """Write :meth:`raster` as a GeoTIFF.

        Raises:
            InputError: another extension than .tif, or as :func:`gensat.files.check_output`.
            OutputError: the disk is full or the folder not writable.
        """
        require_tiff(path)
        self.raster(which).save(path, overwrite=overwrite)


class HeightPipeline(OneNetworkPipeline):
    """Heights from one image. Component: ``model``, a :class:`gensat.models.height.HeightModel`."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path = DEFAULT, **kwargs: Any) -> HeightPipeline:
        """Load a model folder, a shipped name, or a hub id that is cached; only safetensors are read.

        Raises:
            ModelError: no such model, or weights that do not fit the network.
        """
        return super().from_pretrained(pretrained_model_name_or_path, **kwargs)

    def __call__(
        self,
        image: GeoImage | str | os.PathLike[str],
        *,
        gsd: float | int | None = None,
        sun: SunPosition | None = None,
        time: Any = None,
        terrain: Terrain | None = None,
        tile: int | None = TILE,
        return_dict: bool = True,
    ) -> HeightEstimate | tuple:
        """Estimate heights; arguments and errors as of :func:`gensat.pipelines.height_sources.height_request`.

        Args:
            image: red, green and blue of 0.1 to 2 m per pixel; it is brought to the model's gsd, and the heights back.
            gsd: metres per pixel of an image without a georeference.
            sun: where it stood; shadows point along it.
            time: or when the image was taken.
            terrain: the bare ground; level at 0 when not given.
            tile: pixels in one piece, which changes nothing but the memory; None for the whole image.
            return_dict: else a tuple (heights, spread).
        """
        made = self.read(height_request(image, gsd=gsd, sun=sun, time=time, terrain=terrain), tile=tile, of=image)
        return made if return_dict else (made.heights, made.spread)

    @torch.inference_mode()
    def read(self, request: HeightRequest, *, tile: int | None = TILE, of: Any = None) -> HeightEstimate:
        """The estimate of a request; ``of`` is what the user gave, for the tags."""
        own = float(self.model.config.gsd)
        height, width = request.rgb.shape[:2]
        size = (max(1, round(height * request.gsd / own)), max(1, round(width * request.gsd / own)))
        picture = resampled(torch.from_numpy(request.rgb).movedim(-1, 0), size)
        self.model.eval()
        found = self.model.predict(picture, request.sun, tile=tile)
        above, spread = (resampled(v, (height, width))[0].numpy() for v in (found.median(), found.spread()))
        about = {
            "model": self.spec.name,
            "model_hash": fingerprint(self),
            "model_licence": self.spec.licence,
            "accuracy": self.spec.description,
        }
        return _estimate(request, above, spread, "model", of, about, f"model {self.spec.name}: {self.spec.description}")


def estimate_heights(
    image: GeoImage | str | os.PathLike[str],
    *,
    method: str = "model",
    model: str | os.PathLike[str] = DEFAULT,
    gsd: float | int | None = None,
    sun: SunPosition | None = None,
    time: Any = None,
    terrain: Terrain | None = None,
    device: str = "auto",
    tile: int | None = TILE,
) -> HeightEstimate:
    """Heights of an image by any source: ``estimate_heights("image.tif").heights`` goes into ``Scene.from_dsm``.

    Args:
        image: red, green and blue, 0.1 to 2 m per pixel.
        method: ``"model"``; ``"shadow"``, which needs the sun and says 0 where nothing casts a shadow; or ``"constant"``, the mean height of
            the streets that the model learned from, which is what any other method has to beat.
        model: of method ``model``: a height model, or a converted Sat2Density or Sat2Density++ folder, whose density is seen from above.
        gsd: metres per pixel of an image without a georeference.
        sun: where it stood, its azimuth from true north.
        time: or when the image was taken.
        terrain: the bare ground; level at 0 when not given.
        device: of the network.
        tile: of the network, see :class:`HeightPipeline`.

    Raises:
        InputError: an unknown method, a method without what it needs, or as
            :func:`gensat.pipelines.height_sources.height_request`.
        ModelError: no such model, or one that says nothing of heights.
    """
    if method not in METHODS:
        raise InputError(f"there is no method {method!r}; use one of {', '.join(METHODS)}")
    if method == "shadow" and sun is None and time is None:
        raise InputError("heights from shadows need the sun; give its azimuth and elevation, or the time")
    request = height_request(image, gsd=gsd, sun=sun, time=time, terrain=terrain)
    if method == "shadow":
        assert request.sun is not None
        found = heights_from_shadows(request.rgb, request.sun, request.gsd)
        note = f"{found.measured} objects cast a shadow that could be measured; all else is taken for ground"
        return _estimate(request, found.heights, None, method, image, {}, note)
    if method == "constant":
        level = np.full(request.rgb.shape[:2], constants()["all"], np.float32)
        return _estimate(
            request, level, None, method, image, {}, "every pixel has the mean height of generated streets"
        )
    pipe = load(model, device=device, dtype="float32")
    if isinstance(pipe, HeightPipeline):
        return pipe.read(request, tile=tile, of=image)
    if hasattr(pipe, "ground"):
        about = {"model": pipe.spec.name, "model_hash": fingerprint(pipe), "model_licence": pipe.spec.licence}
        note = "heights of a published density field, whose scale nobody has checked"
        return _estimate(request, density_heights(pipe, request), None, "density", image, about, note)
    raise ModelError(
        f"model {pipe.spec.name} says nothing of heights; use {DEFAULT}, or a converted Sat2Density folder"
    )


@lru_cache(maxsize=1)
def constants() -> dict[str, float]:
    """Mean heights in metres of the streets that the shipped model learned from: "all", "ground", "building", "tree"."""
    path = Path(str(files("gensat.assets"))) / DEFAULT / "report.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))["constants"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{path} cannot be read; reinstall gensat") from error


def require_tiff(path: str | os.PathLike[str]) -> None:
    """Raise InputError for a file that cannot hold metres."""
    if os.path.splitext(os.fspath(path))[1].lower() not in (".tif", ".tiff"):
        raise InputError(f"{os.path.basename(os.fspath(path))} cannot hold heights; end it with .tif")


def _estimate(
    request: HeightRequest,
    above: Float[np.ndarray, "h w"],
    spread: Float[np.ndarray, "h w"] | None,
    method: str,
    source: Any,
    about: dict[str, Any],
    *notes: str,
) -> HeightEstimate:
    """Heights above the ground onto the ground, with holes where the image has some, and what is to be said of it."""
    hole = np.float32(np.nan)
    above = np.where(request.holes, hole, above.astype(np.float32))
    spread = None if spread is None else np.where(request.holes, hole, spread.astype(np.float32))
    ground = request.ground
    surface = above if ground is None else above + ground.heights
    said = list(request.notes)
    if ground is None:
        said.append(
            "heights are above the ground, which is taken to be level at 0 m; give a terrain model to change that"
        )
    said += notes
    true = 0.0 if request.sun is None else SceneFrame.around(request.image).heading(request.sun.azimuth)
    provenance = {
        "synthetic": True,
        "estimate": True,
        "software": f"gensat {__version__}",
        "image": None if source is None else describe(source),
        "method": method,
        **about,
        "sun": None if request.sun is None else [round(true, 3), round(float(request.sun.elevation), 3)],
        "above_ground": ground is None,
        "notes": said,
    }
    heights = HeightMap(
        surface.astype(np.float32),
        request.canvas.crs,
        request.canvas.transform,
        None if ground is None else ground.datum,
        notes=("the heights are an estimate from the image",),
    )
    image = request.image
    if image.crs is None and image.acquisition.gsd is None:
        a = image.acquisition
        known = Acquisition(request.gsd, a.date, a.cloud_cover, a.sensor)
        image = GeoImage(image.array, image.bands, None, image.transform, image.valid, known, image.provenance)
    return HeightEstimate(heights, above, spread, image, tuple(said), provenance)


__all__ = ["DEFAULT", "METHODS", "HeightEstimate", "HeightPipeline", "constants", "estimate_heights", "require_tiff"]
