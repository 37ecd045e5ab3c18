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
from gensat.render.streets.facade_styles import Walls
from gensat.render.streets.facades import Look
from gensat.render.streets.look import StreetLight
from gensat.render.streets.materials import NAMES, texture, unrepeated
from gensat.render.streets.noise import fractal, speckle
from gensat.render.streets.plan import Building
from gensat.render.streets.styles import STREET_TYPES, StreetType
from gensat.render.streets.weather import Weather

STOREY = 3.1  # metres
_MEAN = 0.17  # albedo of land seen from above, on average
_GAIN = (0.5, 4.0)
_COVERS = {ROAD: (0.0, 0.0), LOW_VEGETATION: (1.0, 0.0), WOODLAND: (1.0, 0.0), BARE: (0.0, 1.0)}  # grass, gravel
_CONTRAST = 0.7
_LEAVES = 0.61  # of the colour of a crown is left, on average, by the gaps that are drawn between its leaves


class DressedLight(StreetLight):
    """Materials, light and weather of a real scene.

    Args:
        scene: with footprints; it is the only one that this light is for.
        light: sun and sky.
        style: one of ``STREET_TYPES``, whose facades are used; None for the one that suits the footprints (:func:`style_of`).
        seed: of what is invented.
        walls: facades that are known, such as those of a generated street; None: invented.
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
        style: str | None = None,
        seed: int = 0,
        walls: Walls | None = None,
        visibility: float | int = 30_000.0,
        **more: Any,
    ) -> None:
        self.style = style = style_of(scene) if style is None else style
        if style not in STREET_TYPES:
            raise InputError(f"there is no style {style!r} of facades; choose one of {', '.join(STREET_TYPES)}")
        roofs = torch.zeros(len(scene.buildings), dtype=torch.int64)
        air = Weather("clear", 3.0, 0.0, visibility)
        self.picture = ImageGround(scene)
        self.provenance = {"facades": f"invented, {style}", "facades_seed": seed}
        super().__init__(light, self.picture, walls or _invented(scene, style, seed), roofs, air, seed=seed, **more)

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
        found = self._at(x).class_at(x, y)
        number = torch.full_like(found, NAMES.index("grass"))
        number[found == WATER] = NAMES.index("water")
        number[found == ROAD] = NAMES.index("asphalt")
        return number

    def albedo(
        self, x: Float[Tensor, " n"], y: Float[Tensor, " n"], footprint: Float[Tensor, " n"]
    ) -> Float[Tensor, "n 3"]:
        """Linear RGB: of the image, with texture under its pixels; ``footprint`` is the size of a pixel there, metres."""
        scene, points = self._at(x), torch.stack([x, y], dim=1)
        # Between two pixels colours do not flow but interlock: each point takes that of a place less than half a pixel away.
        near = (1 - footprint / self.grid.step).clamp(0, 1)[:, None] * self.grid.step
        away = torch.stack([speckle(points, s, footprint, seed) for s, seed in ((0.3, 1), (0.3, 2))], dim=1)
        away = away + torch.stack([speckle(points, s, footprint, seed) for s, seed in ((0.09, 3), (0.09, 4))], dim=1)
        px, py = (points + away * near).unbind(1)
        seen = (untone(sample_image(scene, px, py)) * self.gain).clamp(0.01, 0.85)
        classes = scene.class_at(x, y)
        # Where the layout says nothing, what is green is grass, what is warm gravel, and the rest is paved.
        red, green, blue = seen.unbind(1)
        mean = seen.mean(dim=1)
        grass = (((green - torch.maximum(red, blue)) / mean - 0.02) / 0.04).clamp(0, 1)
        gravel = ((((red - blue) / mean) - 0.15) / 0.1).clamp(0, 1) * (1 - grass)
        for land, (much_grass, much_gravel) in _COVERS.items():
            grass = torch.where(classes == land, much_grass, grass)
            gravel = torch.where(classes == land, much_gravel, gravel)
        detail = torch.ones_like(mean)
        for share, texture_of in ((grass, _grass), (gravel, _gravel), (1 - grass - gravel, _paving)):
            some = torch.nonzero(share > 0.01)[:, 0]
            if len(some):
                more = share[some] * (texture_of(points[some], footprint[some]) - 1)
                detail = detail.index_add(0, some, more.to(detail))
        wet = (classes == WATER)[:, None]
        return torch.where(wet, seen * 0.3, seen * detail.clamp(min=0.1)[:, None])

    def _at(self, x: Tensor) -> Scene:
        if self.scene.image.device != x.device:
            self.scene = self.scene.to(x.device)
        return self.scene


def _grass(points: Tensor, footprint: Tensor) -> Tensor:
    """Blades, tufts and patches, 1 on average."""
    blades = 1 + _CONTRAST * (unrepeated("grass", points, footprint).mean(dim=1) - 1)
    tufts = 0.5 * speckle(points, 0.05, footprint, 5) + 0.5 * speckle(points, 0.22, footprint, 6)
    return blades + tufts + 0.5 * (fractal(points, 2.6, 7) - 0.5)


def _gravel(points: Tensor, footprint: Tensor) -> Tensor:
    """Stones and trodden places, 1 on average."""
    stones = 1 + 0.45 * (unrepeated("gravel", points, footprint).mean(dim=1) - 1)
    grains = 0.4 * speckle(points, 0.025, footprint, 8) + 0.3 * speckle(points, 0.07, footprint, 9)
    return stones + grains + 0.45 * (fractal(points, 1.9, 10) - 0.5)


def _paving(points: Tensor, footprint: Tensor) -> Tensor:
    """The grain of asphalt and concrete, with stains, 1 on average."""
    smooth = 1 + _CONTRAST * (texture("asphalt", points[:, 0], points[:, 1], footprint).mean(dim=1) - 1)
    grains = 0.35 * speckle(points, 0.02, footprint, 11) + 0.2 * speckle(points, 0.06, footprint, 12)
    return smooth + grains + 0.4 * (fractal(points, 2.3, 13) - 0.5)


def style_of(scene: Scene) -> str:
    """The kind of street (of ``STREET_TYPES``) whose facades suit the footprints of a scene, by their size alone.

    Medians over the buildings: 7 floors or more (of 3.1 m) are ``downtown``, 4 or more ``perimeter``; lower ones are ``industrial`` from 1000 m2 on,
    ``strip`` from 350 m2 on, ``terraces`` where more than half touch a neighbour (within 0.5 m), and else ``suburb`` in the Americas and
    Australia, ``village`` elsewhere and where nobody knows.

    Raises:
        InputError: the scene has no footprints.
    """
    prisms = scene.buildings
    if not len(prisms):
        raise InputError("a style of facades is for footprints; give a scene with buildings")
    floors = float(torch.median((prisms.top - prisms.base).detach() / STOREY).round())
    outlines = list(prisms.footprints)
    area = float(np.median(shapely.area(outlines)))
    if floors >= 4:
        return "downtown" if floors >= 7 else "perimeter"
    if area >= 350:
        return "industrial" if area >= 1000 else "strip"
    one, other = shapely.STRtree(outlines).query(outlines, predicate="dwithin", distance=0.5)
    if len(np.unique(one[one != other])) > 0.5 * len(outlines):
        return "terraces"
    lon = None if scene.frame.crs is None else scene.frame.place(0.0, 0.0).lon
    return "suburb" if lon is not None and (lon < -30 or lon > 112) else "village"


def _invented(scene: Scene, style: str, seed: int) -> Walls:
    kind, prisms = STREET_TYPES[style], scene.buildings
    base, top = (v.detach().double().cpu().numpy() for v in (prisms.base, prisms.top))
    buildings = [
        _building(kind, footprint, float(high), seed + number)
        for number, (footprint, high) in enumerate(zip(prisms.footprints, top - base, strict=True))
    ]
    return walls_of(buildings, _roads(scene), prisms, scene.terrain, base)


def _building(kind: StreetType, footprint: shapely.Polygon, height: float, seed: int) -> Building:
    """How a building of this size usually looks in this kind of street."""
    rng = np.random.default_rng(seed)
    floors = max(1, round(height / STOREY))
    shopping, working = kind.filler in ("perimeter", "towers", "strip"), kind.filler in ("sheds", "strip")
    if floors == 1 and footprint.area < 45:
        use = "garage"
    elif floors <= 2 and footprint.area > 1200 and working:
        use = "shed"
    elif floors <= 3 and footprint.area < 350:
        use = "house"
    elif floors <= 6:
        use = "shops" if shopping and rng.random() < 0.4 else "flats"
    else:
        use = "office" if shopping and rng.random() < 0.6 else "flats"
    low = kind.floors[1] <= 3 and floors >= 4  # a tall house among low ones is built as tall ones are
    facade = str(rng.choice(STREET_TYPES["perimeter"].facades if low else kind.facades)) if use != "shed" else "shed"
    return Building(footprint, max(height, 0.5), floors, facade, "flat", 0.0, use, int(rng.integers(1 << 20)), 0.0)


def _roads(scene: Scene) -> list[shapely.Polygon]:
    """Carriageways of the layout, in local metres."""
    grid, mask = scene.grid, (scene.classes == ROAD).cpu().numpy()
    transform = from_origin(grid.left, grid.top, grid.step, grid.step)
    found = shapes(mask.astype(np.uint8), mask=mask, transform=transform)
    return [shapely.geometry.shape(outline) for outline, _ in found]


def _matt(albedo: Tensor) -> Look:
    return Look(albedo, torch.zeros_like(albedo[:, 0]), torch.zeros_like(albedo))
