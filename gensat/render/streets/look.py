"""What a street looks like: every surface of a generated street in a given light and weather.

:class:`StreetLight` is given to :func:`gensat.render.gbuffers.render` as its light. It takes nothing from the scene's image: ground, walls, roofs and
objects have their own materials, so that the image can be made from it too.
"""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gensat.render.gbuffers import Surfels
from gensat.render.grid import Grid
from gensat.render.light import Light, shade, untone
from gensat.render.lighting import SceneLight
from gensat.render.rays import OBJECT, ROOF, TERRAIN, WALL
from gensat.render.scene import Scene
from gensat.render.streets.facade_styles import COLUMNS, Walls
from gensat.render.streets.facades import Look, facade
from gensat.render.streets.masonry import wall_albedo
from gensat.render.streets.materials import MATERIALS, NAMES, texture
from gensat.render.streets.noise import between, fractal, hashed, stripes, value_noise
from gensat.render.streets.things import PARTS, part_of
from gensat.render.streets.weather import Weather

_FLAT_ROOFS = ((0.19, 0.185, 0.175), (0.30, 0.29, 0.27), (0.10, 0.10, 0.102), (0.42, 0.41, 0.39), (0.24, 0.17, 0.13))
_SHEETS = ((0.34, 0.34, 0.34), (0.26, 0.12, 0.07), (0.22, 0.25, 0.27), (0.42, 0.40, 0.36))
_THROUGH = (0.5, 0.65, 0.3)  # light that leaves let through, against what they throw back
_WINDOW_LIGHT = 0.9  # of a lit window, against a white surface at dusk


@runtime_checkable
class Ground(Protocol):
    """What a street stands on: a plan's :class:`~gensat.render.streets.surface.Surface`, or the image of a real place."""

    grid: Grid

    def material(self, x: Float[Tensor, " n"], y: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
        """Number of the material at points."""
        ...

    def albedo(
        self, x: Float[Tensor, " n"], y: Float[Tensor, " n"], footprint: Float[Tensor, " n"]
    ) -> Float[Tensor, "n 3"]:
        """Linear RGB; ``footprint`` is the size of a pixel there, metres."""
        ...


class StreetLight(SceneLight):
    """Materials, light and weather of one street.

    Args:
        light: sun and sky.
        surface: the ground.
        walls: tables of its facades.
        roofs: seed of each building's flat roof; negative for sheet metal.
        weather: air, rain and snow.
        seed: of small variation.
        more: as :class:`~gensat.render.lighting.SceneLight`.
    """

    def __init__(
        self,
        light: Light,
        surface: Ground,
        walls: Walls,
        roofs: Tensor,
        weather: Weather,
        *,
        seed: int = 0,
        **more: Any,
    ) -> None:
        super().__init__(light, visibility=weather.visibility, **more)
        self.ground, self.walls, self.roofs, self.weather, self.seed = surface, walls, roofs, weather, seed

    def surface(self, scene: Scene, surfels: Surfels, rgb: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Display values of the street; ``rgb`` is not used."""
        look = self.look(scene, surfels)
        sun, sky = self.seen(scene, surfels)
        leaves = _foliage(scene, surfels)
        normals = self._bumped(surfels, leaves)
        light = shade(look.albedo, normals, self.light, sun_visible=sun, sky_visible=sky)
        if len(leaves):  # leaves are thin: what falls on their backs comes through
            through = look.albedo[leaves] * look.albedo.new_tensor(_THROUGH)
            behind = shade(through, -normals[leaves], self.light, sun_visible=sun[leaves], sky_visible=sky[leaves])
            light = light.index_add(0, leaves, behind)
        shiny = torch.nonzero(look.gloss > 0.002)[:, 0]
        if len(shiny):
            light = light.index_add(0, shiny, self._mirrored(surfels, normals, look.gloss, sky, shiny))
        light = light + look.glow * (_WINDOW_LIGHT * 0.18 / self.exposure)
        return self.develop(light, surfels)

    def look(self, scene: Scene, surfels: Surfels) -> Look:
        """Albedo, gloss and glow of every surfel."""
        if self.walls.owner.device != surfels.index.device:
            self.walls, self.roofs = self.walls.to(surfels.index.device), self.roofs.to(surfels.index.device)
        count = len(surfels.points)
        like = surfels.points
        albedo, glow, gloss = like.new_full((count, 3), 0.3), like.new_zeros(count, 3), like.new_zeros(count)
        slant = (surfels.directions * surfels.normals).sum(1).abs().clamp(min=0.02)
        blur = (surfels.spread / slant.sqrt()).clamp(min=0.004)

        def put(some: Tensor, look: Look) -> None:
            nonlocal albedo, gloss, glow
            albedo, gloss, glow = (
                old.index_copy(0, some, new.to(old))
                for old, new in ((albedo, look.albedo), (gloss, look.gloss), (glow, look.glow))
            )

        for kind, paint in ((TERRAIN, self._ground), (ROOF, self._roof), (WALL, self._wall), (OBJECT, self._object)):
            some = torch.nonzero(surfels.kind == kind)[:, 0]
            if len(some):
                part = Surfels(**{name: value[some] for name, value in surfels.__dict__.items()})
                put(some, paint(scene, part, blur[some]))
        return self._weathered(Look(albedo, gloss, glow), surfels)

    def _ground(self, scene: Scene, surfels: Surfels, blur: Tensor) -> Look:
        x, y = surfels.points[:, 0].contiguous(), surfels.points[:, 1].contiguous()
        albedo = self.ground.albedo(x, y, blur)
        water = self.ground.material(x, y) == NAMES.index("water")
        outside = torch.nonzero(~self.ground.grid.inside(x, y))[:, 0]
        if len(outside):  # woods and fields to the horizon
            far = torch.stack([x, y], dim=1)[outside]
            wood = fractal(far, 90.0, self.seed + 3)
            tone = torch.where(
                (wood > 0.5)[:, None], far.new_tensor((0.05, 0.07, 0.03)), far.new_tensor((0.10, 0.115, 0.055))
            )
            albedo = albedo.index_copy(0, outside, torch.where(water[outside, None], albedo[outside], tone))
        return Look(albedo, water * 0.03, torch.zeros_like(albedo))

    def _wall(self, scene: Scene, surfels: Surfels, blur: Tensor) -> Look:
        sun = self.light.sun_direction or (0.3, 0.3, 0.9)
        right = torch.stack([-surfels.normals[:, 1], surfels.normals[:, 0]], dim=1)  # along u, seen from inside
        from_right = right[:, 0] * sun[0] + right[:, 1] * sun[1]
        return facade(self.walls, surfels.edge, surfels.uv[:, 0], surfels.uv[:, 1], blur, from_right)

    def _roof(self, scene: Scene, surfels: Surfels, blur: Tensor) -> Look:
        seeds = self.roofs[surfels.index]
        x, y = surfels.points[:, 0], surfels.points[:, 1]
        kinds = surfels.points.new_tensor(_FLAT_ROOFS)
        pick = (hashed(seeds.abs(), 1) * len(kinds)).long().clamp(max=len(kinds) - 1)
        detail = texture("gravel", x, y, blur).mean(1, keepdim=True)
        patches = fractal(torch.stack([x, y], dim=1), 5.0, self.seed)
        albedo = kinds[pick] * (0.75 + 0.25 * detail) * (0.7 + 0.6 * patches)[:, None]
        seams = stripes(x * 0.8 + y * 0.6, 2.0, 0.06, blur)
        albedo = albedo * (1 - 0.25 * seams)[:, None]
        sheets = surfels.points.new_tensor(_SHEETS)
        sheet = sheets[(hashed(seeds.abs(), 2) * len(sheets)).long().clamp(max=len(sheets) - 1)]
        rust = fractal(torch.stack([x, y], dim=1), 2.0, 7)
        sheet = torch.lerp(
            sheet, sheet.new_tensor((0.22, 0.10, 0.055)).expand_as(sheet), ((rust - 0.5) * 3).clamp(0, 0.7)[:, None]
        )
        angle = 2 * math.pi * hashed(seeds.abs(), 3)
        sheet = (
            sheet
            * (0.9 + 0.18 * torch.sin((x * angle.cos() + y * angle.sin()) * 2 * math.pi / 0.25) * (blur < 0.2))[:, None]
        )
        albedo = torch.where((seeds < 0)[:, None], sheet, albedo)
        return Look(albedo, torch.zeros_like(x), torch.zeros_like(albedo))

    def _object(self, scene: Scene, surfels: Surfels, blur: Tensor) -> Look:
        things, at = scene.objects, surfels.index
        part, seed = part_of(things.label[at])
        colour = things.colour[at]
        albedo = torch.where(torch.isnan(colour), self.pictured(surfels), untone(colour))
        gloss, glow = torch.zeros_like(blur), torch.zeros_like(albedo)
        yaw = torch.deg2rad(things.yaw[at])
        c, s = yaw.cos(), yaw.sin()
        away = surfels.points - things.centre[at]
        own = torch.stack([c * away[:, 0] - s * away[:, 1], s * away[:, 0] + c * away[:, 1], away[:, 2]], dim=1)
        unit = own / things.half[at]
        n = surfels.normals
        facing = torch.stack([c * n[:, 0] - s * n[:, 1], s * n[:, 0] + c * n[:, 1], n[:, 2]], dim=1)

        def of(*names: str) -> Tensor:
            codes = torch.tensor([PARTS.index(name) for name in names], device=part.device)
            return torch.isin(part, codes)

        leaf = of("leaf", "needle", "hedge")
        some = torch.nonzero(leaf)[:, 0]
        if len(some):
            albedo[some] = self._leaves(
                surfels.points[some], albedo[some], blur[some], seed[some], unit[some], part[some]
            )
        for name, paint in (("car", _car_body), ("cabin", _car_cabin)):
            some = torch.nonzero(of(name))[:, 0]
            if len(some):
                albedo[some], gloss[some] = paint(
                    own[some], unit[some], facing[some], albedo[some], things.half[at[some]], blur[some]
                )
        some = torch.nonzero(of("tile"))[:, 0]
        if len(some):
            albedo[some] = _tiles(own[some], facing[some], albedo[some], blur[some], seed[some])
            gable = some[facing[some, 2].abs() < 0.05]  # the triangle at its end is of the wall below
            row, first = self.walls.building[seed[gable]], COLUMNS.index("red")
            span = torch.full_like(blur[gable], 3.0)
            kind, base = row[:, COLUMNS.index("wall")].long(), row[:, first : first + 3]
            height = surfels.points[gable, 2]
            albedo[gable] = wall_albedo(kind, base, own[gable, 1], height, span, span, blur[gable], seed[gable])
        some = torch.nonzero(of("sheet", "container"))[:, 0]
        if len(some):
            across = torch.where(facing[some, 0].abs() > facing[some, 1].abs(), own[some, 1], own[some, 0])
            ribs = torch.sin(across * 2 * math.pi / 0.3) * (blur[some] < 0.2)
            albedo[some] = albedo[some] * (1 + 0.16 * ribs)[:, None]
        some = torch.nonzero(of("fence"))[:, 0]
        if len(some):
            slats = stripes(own[some, 0] + 9, 0.14, 0.02, blur[some])
            each = hashed(((own[some, 0] + 9) / 0.14).long(), seed[some])
            albedo[some] = albedo[some] * (0.75 + 0.5 * each - 0.5 * slats)[:, None]
        some = torch.nonzero(of("stone", "bark", "wood"))[:, 0]
        if len(some):
            grain = fractal(surfels.points[some] * surfels.points.new_tensor([4.0, 4.0, 1.5]), 1.0, 5)
            albedo[some] = albedo[some] * (0.55 + 0.9 * grain)[:, None]
        some = torch.nonzero(of("sign"))[:, 0]
        if len(some):
            ring = (unit[some, 1:].abs().amax(1) > 0.78) | ((unit[some, 1].abs() < 0.5) & (unit[some, 2].abs() < 0.16))
            albedo[some] = torch.where(ring[:, None], 0.6, albedo[some])
        return Look(albedo, gloss, glow)

    def pictured(self, surfels: Surfels) -> Float[Tensor, "n 3"]:
        """Albedo of what has the colour of the scene's image."""
        return untone(surfels.rgb)

    def _leaves(self, points: Tensor, colour: Tensor, blur: Tensor, seed: Tensor, unit: Tensor, part: Tensor) -> Tensor:
        clumps = value_noise(points, 0.55, 11)
        leaves = value_noise(points, 0.15, 12)
        fine = ((value_noise(points, 0.06, 13) - 0.5) * 3 + 0.5).clamp(0, 1)
        near = (1 - (blur - 0.03) / 0.12).clamp(0, 1)
        across, up = points[:, 0] * 0.8 + points[:, 1] * 0.6, points[:, 2]
        photo = texture("hedge", across, up, blur).mean(1)
        tone = (0.25 + 0.85 * clumps + 0.45 * (leaves - 0.5)) * (0.35 + 0.65 * photo) * (1 + near * 0.9 * (fine - 0.5))
        tone = 1.35 * tone
        gaps = ((0.34 - clumps * 0.6 - leaves * 0.4) * 5).clamp(0, 0.75)  # dark between the leaves
        depth = 0.72 + 0.28 * unit[:, 2].clamp(-1, 1)
        warm = hashed(seed, 3)[:, None] * points.new_tensor([0.35, 0.12, -0.1]) + 0.9
        return (colour * warm * (tone * (1 - gaps) * depth)[:, None]).clamp(min=0.004)

    def _bumped(self, surfels: Surfels, some: Tensor) -> Tensor:
        """Shading normals: crowns are rough, water has ripples."""
        normals = surfels.normals
        if len(some):
            p = surfels.points[some]
            rough = torch.stack(
                [
                    0.7 * value_noise(p, 0.5, 20 + axis) + 0.8 * value_noise(p, 0.16, 30 + axis) - 0.75
                    for axis in range(3)
                ],
                dim=1,
            )
            turned = torch.nn.functional.normalize(normals[some] + 2.4 * rough, dim=1)
            normals = normals.index_copy(0, some, turned)
        wet = torch.nonzero((surfels.kind == TERRAIN) & (surfels.normals[:, 2] > 0.999))[:, 0]
        if len(wet):
            x, y = surfels.points[wet, 0].contiguous(), surfels.points[wet, 1].contiguous()
            wet = wet[self.ground.material(x, y) == NAMES.index("water")]
        if len(wet):
            p = surfels.points[wet, :2]
            calm = 1 / (1 + surfels.distance[wet] / 60)
            wave = torch.stack(
                [
                    value_noise(p, 0.7, 40) - 0.5 + value_noise(p, 2.2, 41) - 0.5,
                    value_noise(p, 0.6, 42) - 0.5 + value_noise(p, 2.6, 43) - 0.5,
                ],
                dim=1,
            )
            tilt = torch.cat([wave * (0.10 + 0.12 * calm)[:, None], torch.ones_like(wave[:, :1])], dim=1)
            normals = normals.index_copy(0, wet, torch.nn.functional.normalize(tilt, dim=1))
        return normals

    def _mirrored(self, surfels: Surfels, normals: Tensor, gloss: Tensor, sky: Tensor, some: Tensor) -> Tensor:
        """Reflected light: the sky where it is seen, else what stands around; Schlick's approximation of Fresnel."""
        d, n = surfels.directions[some], normals[some]
        cosine = -(d * n).sum(1)
        bounced = d + 2 * cosine[:, None] * n
        share = gloss[some] + (1 - gloss[some]) * (1 - cosine.clamp(0, 1)) ** 5 * (gloss[some] > 0)
        up = bounced[:, 2]
        bounced = torch.nn.functional.normalize(
            torch.cat([bounced[:, :2], up.abs()[:, None].clamp(min=0.02)], dim=1), dim=1
        )
        horizon = (1 - sky[some]).clamp(0, 0.95)  # the more sky is hidden, the higher what hides it
        open_sky = ((up - 0.75 * horizon) / 0.25 + 0.5).clamp(0, 1)
        above = self.light.luminance(bounced).clamp(max=12 * float(self.air.mean()) + 1)
        ground = self.light.ambient(d.new_tensor([[0.0, 0.0, 1.0]])) * 0.16 / math.pi
        around = (
            ground
            * (
                0.6
                + 0.8 * hashed((surfels.points[some, 0] * 0.3 + bounced[:, 0] * 9).long(), (bounced[:, 2] * 12).long())
            )[:, None]
        )
        return torch.lerp(around, above, open_sky[:, None]) * share[:, None]

    def _weathered(self, look: Look, surfels: Surfels) -> Look:
        albedo, gloss = look.albedo, look.gloss
        level = surfels.normals[:, 2].clamp(0, 1)
        if self.weather.wet:
            wet = self.weather.wet * level * (surfels.kind != OBJECT)
            pools = ((fractal(surfels.points[:, :2], 3.5, 60) - 0.42) * 5).clamp(0, 1) * (surfels.kind == TERRAIN)
            albedo = albedo * (1 - 0.45 * wet)[:, None]
            gloss = torch.maximum(gloss, wet * (0.012 + 0.035 * pools) * (surfels.kind == TERRAIN))
        if self.weather.snow:
            drift = fractal(surfels.points, 2.5, 61)
            road = self._driven(surfels)
            cover = (
                ((self.weather.snow * 1.5 - 0.5 + drift - 0.45) * 3).clamp(0, 1)
                * ((level - 0.35) * 4).clamp(0, 1)
                * (1 - 0.85 * road)
            )
            tone = albedo.new_tensor((0.78, 0.80, 0.84)) * (0.92 + 0.16 * drift)[:, None]
            albedo = torch.lerp(albedo, tone, cover[:, None])
        return Look(albedo, gloss, look.glow)

    def _driven(self, surfels: Surfels) -> Tensor:
        """1 on carriageways and water, where snow does not stay."""
        result = torch.zeros_like(surfels.distance)
        some = torch.nonzero(surfels.kind == TERRAIN)[:, 0]
        if len(some):
            x, y = surfels.points[some, 0].contiguous(), surfels.points[some, 1].contiguous()
            bare = torch.tensor([MATERIALS[name].land in (3, 4) for name in NAMES], device=x.device)
            result[some] = bare[self.ground.material(x, y)].to(result)
        return result


def _foliage(scene: Scene, surfels: Surfels) -> Tensor:
    """Which surfels are leaves and needles."""
    some = torch.nonzero(surfels.kind == OBJECT)[:, 0]
    part, _ = part_of(scene.objects.label[surfels.index[some]])
    return some[part <= PARTS.index("needle")]


def _car_body(
    own: Tensor, unit: Tensor, facing: Tensor, colour: Tensor, half: Tensor, blur: Tensor
) -> tuple[Tensor, Tensor]:
    """Doors, bumpers and lights on the box of a car; x ahead, y left, z up."""
    albedo = colour.clone()
    side, end = facing[:, 1].abs() > 0.7, facing[:, 0].abs() > 0.7
    door = side & (stripes(own[:, 0] + half[:, 0], 1.05, 0.02, blur) > 0.5)
    albedo = torch.where(door[:, None], albedo * 0.4, albedo)
    low = unit[:, 2] < -0.55
    albedo = torch.where((low & (side | end))[:, None], 0.03, albedo)
    lights = end & (unit[:, 1].abs() > 0.55) & (unit[:, 2] > -0.1) & (unit[:, 2] < 0.55)
    front = facing[:, :1] > 0
    albedo = torch.where(
        lights[:, None],
        torch.where(front, albedo.new_tensor((0.6, 0.6, 0.55)), albedo.new_tensor((0.4, 0.02, 0.015))),
        albedo,
    )
    plate = end & (unit[:, 1].abs() < 0.3) & (unit[:, 2].abs() < 0.22)
    albedo = torch.where(plate[:, None], 0.55, albedo)
    grille = end & (facing[:, 0] > 0) & (unit[:, 1].abs() < 0.5) & (unit[:, 2] > 0.25) & (unit[:, 2] < 0.6)
    albedo = torch.where(grille[:, None], 0.03, albedo)
    return albedo, torch.where(low, 0.0, 0.05).to(blur)


def _car_cabin(
    own: Tensor, unit: Tensor, facing: Tensor, colour: Tensor, half: Tensor, blur: Tensor
) -> tuple[Tensor, Tensor]:
    """Windows all round, pillars and the roof."""
    height = unit[:, 2]
    roof = facing[:, 2] > 0.8
    pillar = ((unit[:, 0].abs() * half[:, 0] - 0.02).abs() < 0.05) & (facing[:, 1].abs() > 0.5)
    corner = (unit[:, 1].abs() > 0.86) & (facing[:, 0].abs() > 0.5)
    glass = ~roof & ~pillar & ~corner & (height > -0.92) & (height < 0.1 + 0.8 * (half[:, 2] > 0.65))
    top = height > (0.12 + 0.8 * (half[:, 2] > 0.65))
    albedo = torch.where((glass & ~top)[:, None], 0.015, colour)
    return albedo, torch.where(glass & ~top, 0.08, 0.05).to(blur)


def _tiles(own: Tensor, facing: Tensor, colour: Tensor, blur: Tensor, seed: Tensor) -> Tensor:
    """Rows of tiles down the slope; gable ends are wall-like."""
    level = torch.hypot(facing[:, 0], facing[:, 1]).clamp(min=0.05)
    along_x = facing[:, 0].abs() > facing[:, 1].abs()
    down = own[:, 2] / level
    across = torch.where(along_x, own[:, 1], own[:, 0])
    row = (down / 0.30).floor()
    each = hashed((across / 0.25).floor().long(), row.long(), seed)
    fine = (1 - (blur - 0.1) / 0.3).clamp(0, 1)
    shadow = between(torch.remainder(down, 0.30), 0.0, 0.045, blur)
    weather = fractal(own, 2.5, 50)
    return colour * ((1 + 0.35 * (each - 0.5) * fine) * (1 - 0.45 * shadow) * (0.75 + 0.5 * weather))[:, None]
