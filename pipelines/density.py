"""Published satellite-to-ground models (Sat2Density, Sat2Density++, Sat3DGen) as one pipeline, in true coordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor, nn

from .. import __version__
from ..errors import InputError, require_number
from ..hub.fingerprint import fingerprint
from ..hub.spec import ModelSpec
from ..render.cameras import Camera
from ..render.view import View
from ..types import Acquisition, GeoImage, Place
from .density_light import light_histogram
from .density_models import ground_model
from .density_tile import DensityTile, cut_tile, standing
from .density_views import as_view, cut
from .one_network import OneNetworkPipeline
from .parts import describe

VIEW_SIZE = (256, 256)
"""Pixels of a perspective view where none are given: those of Sat3DGen's training."""


@dataclass
class GroundOutput(BaseOutput):
    """What a call returns.

    Args:
        images: the panoramas or views as PIL images.
        views: the same with distance, opacity, sky and camera; every pixel is painted by a network, so none is ``seen``.
        tile: what the networks made of the image: give it instead of the image for further calls on the same tile.
        gathered: per picture (h, w, 3), the colours along its rays before painting.
        above: the tile as the model sees it from above, on the tile's own grid; None unless asked for.
        heights: metres over the ground on the same grid, an estimate from the density; None unless asked for.
        notes: what was assumed, one sentence each.
    """

    images: list[Image.Image]
    views: list[View]
    tile: DensityTile
    gathered: list[np.ndarray]
    above: GeoImage | None = None
    heights: GeoImage | None = None
    notes: list[str] = field(default_factory=list)


class DensityGroundPipeline(OneNetworkPipeline):
    """From a satellite tile, a position and a light to a street panorama or a perspective view.

    Components: ``model``, one of the networks that ``gensat models convert`` makes.
    """

    def __init__(self, model: nn.Module, spec: ModelSpec | None = None):
        super().__init__(model, spec)
        self.ground = ground_model(model)

    @torch.inference_mode()
    def read(
        self,
        image: GeoImage | Image.Image | np.ndarray,
        at: Place | None = None,
        *,
        seed: int | None = None,
        offset: tuple[float, float] = (0.0, 0.0),
    ) -> DensityTile:
        """Cut the model's tile out of an image and run the networks that depend on nothing else; see :func:`cut_tile`.

        Raises:
            InputError: the image is no tile and none can be cut out of it.
        """
        ground = self.ground
        tile = cut_tile(image, ground.tile_metres, ground.tile_size, at, offset=offset, bicubic=ground.bicubic)
        return ground.hold(tile, seed)

    def about(self) -> dict[str, Any]:
        """What the tags of everything that it makes say."""
        return {
            "synthetic": True,
            "software": f"gensat {__version__}",
            "model": self.spec.name,
            "model_hash": fingerprint(self),
            "model_licence": self.spec.licence,
            "tile_metres": self.ground.tile_metres,
        }

    @torch.inference_mode()
    def __call__(
        self,
        image: GeoImage | Image.Image | np.ndarray | DensityTile,
        at: Place | tuple[float | int, float | int] | Sequence[Any] | None = None,
        *,
        heading: float | int | Sequence[float | int] = 0.0,
        light: GeoImage | Image.Image | np.ndarray | None = None,
        sky: Image.Image | np.ndarray | str | None = None,
        histogram: np.ndarray | Tensor | None = None,
        fov: float | int | None = None,
        pitch: float | int = 0.0,
        size: tuple[int, int] | None = None,
        seed: int | None = None,
        above: bool = False,
        corners: bool = False,
        return_dict: bool = True,
    ) -> GroundOutput | tuple:
        """Make panoramas, or perspective views, of one tile.

        Args:
            image: with coordinates: the tile around ``at`` is cut out of it; without: the tile itself (see :func:`cut_tile`);
                or the ``tile`` of an earlier call.
            at: where the camera stands: a Place, or (row, col) in pixels of the model's tile; a list makes one picture each;
                None is the centre of the tile.
            heading: degrees clockwise from true north (from the top where there are no coordinates) that the middle column
                looks at; one, one per place, or for one place several, which make one picture each.
            light: a street panorama whose sky lights the scene, with
            sky: its mask: True, 1 or 255 where there is sky, or "find", which looks for it; or else
            histogram: the 270 numbers themselves.
            fov: horizontal field of view in degrees: perspective views instead of panoramas. Sat3DGen was trained with 120 and
                makes them itself; those of the other models are cut out of their panoramas.
            pitch: degrees up that perspective views look.
            size: (width, height) of perspective views, even; 256 x 256 if not given.
            seed: Sat2Density: the light's code is drawn instead of being its mean. Sat2Density++: of the latent; 0 if not given.
            above: whether the tile is also rendered from above, with heights.
            corners: look along the rays of the published programs: through the upper left corners of pixels, half a pixel
                off (Sat3DGen: from edge to edge of the panorama, whose borders then do not meet).
            return_dict: else a tuple (images, views).

        Raises:
            InputError: anything found wrong before the networks run on it.
        """
        counts, notes = light_histogram(self.ground, light, sky, histogram)
        spots: list[Any] = list(at) if isinstance(at, (list, tuple)) and not _is_pixel(at) else [at]
        if not spots:
            raise InputError("the list of places is empty; give one or more")
        headings = list(heading) if isinstance(heading, Sequence) else [heading] * len(spots)
        if len(spots) == 1 and headings:
            spots = spots * len(headings)
        if len(headings) != len(spots):
            raise InputError(f"{len(headings)} headings for {len(spots)} places; give one, or one per place")
        headings = [require_number(h, "heading") for h in headings]
        for spot in spots:
            if not (spot is None or isinstance(spot, Place) or _is_pixel(spot)):
                raise InputError(f"at is {spot!r}; give gensat.Place(lon=..., lat=...) or (row, col)")
        shape = _view_shape(fov, pitch, size)
        first = spots[0] if isinstance(spots[0], Place) else None
        tile = image if isinstance(image, DensityTile) else self.read(image, first, seed=seed)
        stands = [standing(tile, spot) for spot in spots]
        code = self.ground.light(tile, counts, seed)
        about = {
            **self.about(),
            "image": None if isinstance(image, DensityTile) else describe(image),
            "light": None if light is None else describe(light),
            "seed": seed,
        }
        views, gathered = [], []
        for (east, north), direction in zip(stands, headings, strict=True):
            camera: Any = self.ground.camera(east, north, tile.frame.azimuth(direction, east, north))
            if shape is None:
                seen = self.ground.around(tile, camera, code, corners)
            else:
                where, around = (east, north, self.ground.eye), camera
                camera = Camera.looking(tile.frame, where, heading=direction, **shape)
                if self.ground.perspective:
                    seen = self.ground.around(tile, camera, code, corners)
                else:
                    seen = cut(self.ground.around(tile, around, code, corners), around, camera)
            views.append(as_view(seen, camera, tile, about))
            gathered.append(seen.gathered.float().cpu().numpy())
        down, heights = self._above(tile, about) if above else (None, None)
        notes += [f"a seed decides {self.ground.draws}"] if seed is not None else []
        pictures = [Image.fromarray(view.image().array) for view in views]
        if not return_dict:
            return pictures, views
        return GroundOutput(pictures, views, tile, gathered, down, heights, notes)

    def _above(self, tile: DensityTile, about: Mapping[str, Any]) -> tuple[GeoImage, GeoImage]:
        seen = self.ground.above(tile)
        gsd = Acquisition(gsd=tile.metres / seen.heights.shape[1])
        colours = (seen.rgb.float() * 255).round().to(torch.uint8).cpu().numpy()
        metres = seen.heights.float().cpu().numpy()
        return (
            tile.geo(colours, acquisition=gsd, provenance={**about, "view": "from above"}),
            tile.geo(metres, bands=["height"], acquisition=gsd, provenance={**about, "view": "heights in metres"}),
        )


def _view_shape(fov: Any, pitch: Any, size: Any) -> dict[str, Any] | None:
    """What a perspective camera takes besides its place, checked; None for panoramas."""
    if fov is None:
        if size is not None or pitch != 0:
            raise InputError("size and pitch are of perspective views; give fov too (degrees), or leave them out")
        return None
    width, height = size or VIEW_SIZE
    if min(width, height) < 32 or width % 2 or height % 2:
        raise InputError(f"a view of {width} x {height} pixels cannot be made; give even sides of 32 or more")
    return {
        "fov": require_number(fov, "fov"),
        "pitch": require_number(pitch, "pitch"),
        "width": int(width),
        "height": int(height),
    }


def _is_pixel(at: Any) -> bool:
    return (
        isinstance(at, (tuple, list))
        and len(at) == 2
        and all(isinstance(v, (int, float, np.number)) and not isinstance(v, bool) for v in at)
    )
