"""A real scene dressed as a street: facades on its footprints, fine texture on its ground.

What the image shows keeps the image's colour: roofs and ground are the image times texture that is finer than its pixels. What it does not show is
invented: walls get a style, floors by their height, windows and doors by a seed (``View.seen`` is false there).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely
import torch
from jaxtyping import Float, Int
from rasterio.features import shapes
from rasterio.transform import from_origin
from torch import Tensor

from gensat.errors import InputError
from gensat.geo.classes import BARE, LOW_VEGETATION, ROAD, WATER, WOODLAND
from gensat.render.gbuffers import Surfels, sample_image
from gensat.render.light import Light, untone
from gensat.render.scene import Scene
from gensat.render.streets.build import walls_of
from gensat.render.streets.facades import Look
from gensat.render.streets.look import StreetLight
from gensat.render.streets.materials import NAMES, texture
from gensat.render.streets.plan import Building
from gensat.render.streets.styles import STREET_TYPES, StreetType
from gensat.render.streets.weather import Weather

STOREY = 3.1  # metres
_MEAN = 0.17  # albedo of land seen from above, on average
_GAIN = (0.5, 4.0)
_TEXTURES = {ROAD: "asphalt", LOW_VEGETATION: "grass", WOODLAND: "grass", BARE: "gravel"}
_CONTRAST = 0.7
_LEAVES = 0.61  # of the colour of a crown is left, on average, by the gaps that are drawn between its leaves


class DressedLight(StreetLight):
    """Materials, light and weather of a real scene.

    Args:
        scene: with footprints; it is the only one that this light is for.
        light: sun and sky.
        style: one of ``STREET_TYPES``, whose facades are used.
        seed: of what is invented.
        visibility: metres that one can see.
        more: as :class:`~gensat.render.lighting.SceneLight`.

    Raises:
        InputError: there is no such style.
    """

    def __init__(
        self,
        scene: Scene,
        light: Light,
        *,
        style: str = "perimeter",
        seed: int = 0,
        visibility: float | int = 30_000.0,
        **more: Any,
    ) -> None:
        if style not in STREET_TYPES:
            raise InputError(f"there is no style {style!r} of facades; choose one of {', '.join(STREET_TYPES)}")
        kind = STREET_TYPES[style]
        prisms = scene.buildings
        base, top = (v.detach().double().cpu().numpy() for v in (prisms.base, prisms.top))
        buildings = [
            _building(kind, footprint, float(high), seed + number)
            for number, (footprint, high) in enumerate(zip(prisms.footprints, top - base, strict=True))
        ]
        walls = walls_of(buildings, _roads(scene), prisms, scene.terrain, base)
        roofs = torch.zeros(len(buildings), dtype=torch.int64)
        air = Weather("clear", 3.0, 0.0, visibility)
        self.picture = ImageGround(scene)
        super().__init__(light, self.picture, walls, roofs, air, seed=seed, **more)

    def _roof(self, scene: Scene, surfels: Surfels, blur: Tensor) -> Look:
        x, y = surfels.points[:, 0].contiguous(), surfels.points[:, 1].contiguous()
        return _matt(self.ground.albedo(x, y, blur))

    def _ground(self, scene: Scene, surfels: Surfels, blur: Tensor) -> Look:
        x, y = surfels.points[:, 0].contiguous(), surfels.points[:, 1].contiguous()
        water = self.ground.material(x, y) == NAMES.index("water")
        look = _matt(self.ground.albedo(x, y, blur))
        return Look(look.albedo, water * 0.03, look.glow)

    def pictured(self, surfels: Surfels) -> Float[Tensor, "n 3"]:
        """Albedo of crowns, by the same measure as that of the ground: the image shows their leaves with the gaps between them."""
        return (untone(surfels.rgb) * self.picture.gain / _LEAVES).clamp(0.01, 0.85)


class ImageGround:
    """The image of a scene as the ground of a street, ready to be looked up as :class:`~gensat.render.streets.surface.Surface` is.

    Display values are read as albedo in full light, brightened or darkened alike so that their mean is that of land.
    """

    def __init__(self, scene: Scene) -> None:
        self.scene, self.grid = scene, scene.grid
        mean = float(untone(scene.image.detach()).mean())
        self.gain = float(np.clip(_MEAN / max(mean, 1e-6), *_GAIN))

    def material(self, x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Number of the material: water, carriageway, or grass."""
        found = self.scene.class_at(x, y)
        number = torch.full_like(found, NAMES.index("grass"))
        number[found == WATER] = NAMES.index("water")
        number[found == ROAD] = NAMES.index("asphalt")
        return number

    def albedo(
        self, x: Float[Tensor, " n"], y: Float[Tensor, " n"], footprint: Float[Tensor, " n"]
    ) -> Float[Tensor, "n 3"]:
        """Linear RGB: of the image, with texture under its pixels; ``footprint`` is the size of a pixel there, metres."""
        seen = (untone(sample_image(self.scene, x, y)) * self.gain).clamp(0.01, 0.85)
        classes = self.scene.class_at(x, y)
        # Where the layout says nothing, what is green is grass and the rest is paved.
        green = seen[:, 1] > 1.03 * torch.maximum(seen[:, 0], seen[:, 2])
        detail = torch.where(
            green[:, None], texture("grass", x, y, footprint), texture("asphalt", x, y, footprint)
        ).mean(dim=1, keepdim=True)
        for land, name in _TEXTURES.items():
            some = torch.nonzero(classes == land)[:, 0]
            if len(some):
                own = texture(name, x[some], y[some], footprint[some]).mean(dim=1, keepdim=True)
                detail = detail.index_copy(0, some, own)
        wet = (classes == WATER)[:, None]
        return torch.where(wet, seen * 0.3, seen * (1 + _CONTRAST * (detail - 1)).clamp(min=0.1))


def _building(kind: StreetType, footprint: shapely.Polygon, height: float, seed: int) -> Building:
    """How a building of this size usually looks in this kind of street."""
    rng = np.random.default_rng(seed)
    floors = max(1, round(height / STOREY))
    if floors == 1 and footprint.area < 45:
        use = "garage"
    elif floors <= 2:
        use = "shed" if footprint.area > 1200 else "house" if footprint.area < 350 else "shops"
    elif floors <= 6:
        use = "shops" if rng.random() < 0.4 else "flats"
    else:
        use = "office" if rng.random() < 0.6 else "flats"
    facade = str(rng.choice(kind.facades)) if use != "shed" else "shed"
    return Building(footprint, max(height, 0.5), floors, facade, "flat", 0.0, use, int(rng.integers(1 << 20)), 0.0)


def _roads(scene: Scene) -> list[shapely.Polygon]:
    """Carriageways of the layout, in local metres."""
    grid, mask = scene.grid, (scene.classes == ROAD).cpu().numpy()
    transform = from_origin(grid.left, grid.top, grid.step, grid.step)
    found = shapes(mask.astype(np.uint8), mask=mask, transform=transform)
    return [shapely.geometry.shape(outline) for outline, _ in found]


def _matt(albedo: Tensor) -> Look:
    return Look(albedo, torch.zeros_like(albedo[:, 0]), torch.zeros_like(albedo))
