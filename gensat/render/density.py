"""A box of densities in the scene frame, seen along rays; from heights to densities and back.

The grid has its level 0 at the bottom and its row 0 in the north; values belong to cell centres, are interpolated between
them and fall to zero within half a cell outside the box (``align_corners=False`` with zeros in ``grid_sample``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError
from gensat.render.volume import Integral, integrate, piece_weights

if TYPE_CHECKING:
    from gensat.render.scene import Scene

NEGLIGIBLE = 1e-6
"""Share of a ray below which a sample's colour is not looked up: 100 of them change a colour by 1e-4 at most, far less in practice."""
_BLACK = 16.0  # optical thickness beyond which 1e-7 of a ray is left
_RAYS, _STEPS = 65536, 10  # looked up together: a few megabytes of points, and few enough calls


@dataclass(frozen=True)
class DensityVolume:
    """Densities in a box.

    Args:
        density: (levels, rows, columns), 0 or more, per metre.
        bounds: (west, south, bottom, east, north, top) of the box in metres of the scene frame.
        colours: (channels, rows, columns) what is gathered at every level, such as the image from above; None for none.

    Raises:
        InputError: an empty box, or colours on another grid.
    """

    density: Float[Tensor, "levels rows cols"]
    bounds: tuple[float | int, float | int, float | int, float | int, float | int, float | int]
    colours: Float[Tensor, "channels h w"] | None = None

    def __post_init__(self) -> None:
        low, high = self.bounds[:3], self.bounds[3:]
        if not all(a < b for a, b in zip(low, high, strict=True)):
            raise InputError(f"the box {self.bounds} is empty; give (west, south, bottom, east, north, top) in metres")
        if self.colours is not None and self.colours.shape[1:] != self.density.shape[1:]:
            raise InputError(
                f"colours of {tuple(self.colours.shape[1:])} cells for densities of {tuple(self.density.shape[1:])}; "
                "resample one onto the other"
            )

    @property
    def level_height(self) -> float:
        """Metres of one level."""
        return (self.bounds[5] - self.bounds[2]) / self.density.shape[0]

    def _scale(self, like: Tensor) -> Tensor:
        """Metres east, north and up to coordinates of ``grid_sample``: -1 to 1 over the box, y to the south."""
        west, south, bottom, east, north, top = self.bounds
        return like.new_tensor([2 / (east - west), -2 / (north - south), 2 / (top - bottom)])

    def _normalised(self, points: Tensor) -> Tensor:
        west, south, bottom, east, north, top = self.bounds
        middle = points.new_tensor([(west + east) / 2, (south + north) / 2, (bottom + top) / 2])
        return (points - middle) * self._scale(points)

    def sample(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n"]:
        """Densities at points of the scene frame."""
        return self._look_up(self._normalised(points).to(self.density))

    def sample_colours(self, points: Float[Tensor, "*n 3"]) -> Float[Tensor, "*n c"]:
        """Colours at points: those of the cell column, fading to black where the box ends.

        Raises:
            InputError: the volume has none.
        """
        if self.colours is None:
            raise InputError("the volume has no colours; give some")
        return self._look_up_colours(self._normalised(points).to(self.colours))

    def _look_up(self, unit: Tensor) -> Tensor:
        at = unit.reshape(1, 1, 1, -1, 3)
        return F.grid_sample(self.density[None, None], at, align_corners=False).reshape(unit.shape[:-1])

    def _look_up_colours(self, unit: Tensor) -> Tensor:
        """What ``grid_sample`` gives for colours repeated over all levels, from one of them."""
        assert self.colours is not None
        levels, flat = self.density.shape[0], unit.reshape(-1, 3)
        colours = F.grid_sample(self.colours[None], flat[None, None, :, :2], align_corners=False)[0, :, 0].T
        inside = (levels / 2 * (1 - flat[:, 2].abs()) + 0.5).clamp(0, 1)
        return (colours * inside[:, None]).reshape(*unit.shape[:-1], self.colours.shape[0])

    def gather(
        self,
        origins: Float[Tensor, "*#rays 3"],
        directions: Float[Tensor, "*rays 3"],
        far: float,
        samples: int,
    ) -> Integral:
        """Integrate over samples at far / samples, 2 far / samples, ..., far, by the endpoint rule.

        A ray meets the box in one stretch: only samples inside are looked up, only until the ray is spent, and colours
        only where at least ``NEGLIGIBLE`` of it is gathered; :func:`gather_plain` looks up all of them. Differentiable in
        densities, colours and rays. ``weights`` are not kept.

        Args:
            origins: of the rays in metres, broadcastable with the directions.
            directions: unit vectors.
            far: metres to the last sample.
            samples: along a ray.
        """
        shape, step = directions.shape[:-1], far / samples
        start = self._normalised(origins.expand(*shape, 3).reshape(-1, 3)).to(self.density)
        along = (directions.reshape(-1, 3) * step * self._scale(directions)).to(self.density)
        first, last = self._stretch(start, along, samples)
        blocks = zip(*(x.split(_RAYS) for x in (start, along, first, last)), strict=True)
        parts = [self._gather_block(s, a, enter, leave, step, samples) for s, a, enter, leave in blocks]
        opacity, distance, values = (torch.cat(part) for part in zip(*parts, strict=True))
        seen = None if self.colours is None else values.reshape(*shape, values.shape[-1])
        return Integral(opacity.reshape(shape), distance.reshape(shape), None, seen)

    def _stretch(self, start: Tensor, along: Tensor, samples: int) -> tuple[Tensor, Tensor]:
        """Numbers (1 to ``samples``) of the first and the last sample of each ray inside the box and the half cell around it.

        Both in coordinates of the box, -1 to 1; a ray that misses it has its last sample before its first.
        """
        half = torch.tensor(self.density.shape[::-1], dtype=torch.float64, device=start.device)
        edge = 1 + 1 / half
        way = along.detach().double()
        way = torch.where(way.abs() < 1e-12, torch.full_like(way, 1e-12), way)
        ends = torch.stack([(b - start.detach().double()) / way for b in (-edge, edge)])
        enter, leave = ends.amin(0).amax(-1), ends.amax(0).amin(-1)
        return torch.ceil(enter).clamp(1, samples + 1).long(), torch.floor(leave).clamp(0, samples).long()

    def _gather_block(
        self, start: Tensor, along: Tensor, first: Tensor, last: Tensor, step: float, samples: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Opacity, distance and colours of some rays, in pieces of ``_STEPS`` samples from near to far."""
        spent, opacity, distance = (start.new_zeros(len(start)) for _ in range(3))
        values = start.new_zeros(len(start), 0 if self.colours is None else self.colours.shape[0])
        for k in range(1, samples + 1, _STEPS):
            steps = torch.arange(k, min(k + _STEPS, samples + 1), device=start.device, dtype=start.dtype)
            now = ((first < k + _STEPS) & (last >= k) & (spent.detach() < _BLACK)).nonzero()[:, 0]
            if not len(now):
                continue
            points = torch.addcmul(start[now, None], along[now, None], steps[:, None])
            thickness = self._look_up(points) * step
            weights = piece_weights(thickness) * torch.exp(-spent[now, None])
            spent = spent.index_add(0, now, thickness.sum(-1))
            opacity = opacity.index_add(0, now, weights.sum(-1))
            distance = distance.index_add(0, now, weights @ (steps * step))
            if self.colours is not None:
                ray, at = (weights.detach() > NEGLIGIBLE).nonzero(as_tuple=True)
                seen = self._look_up_colours(points[ray, at]) * weights[ray, at, None]
                values = values.index_add(0, now[ray], seen)
        return opacity, distance, values


def gather_plain(
    volume: DensityVolume,
    origins: Float[Tensor, "*#rays 3"],
    directions: Float[Tensor, "*rays 3"],
    far: float,
    samples: int,
) -> Integral:
    """What :meth:`DensityVolume.gather` computes, by looking up every sample: the slow reference."""
    steps = (torch.arange(samples, device=directions.device, dtype=directions.dtype) + 1) * (far / samples)
    points = origins[..., None, :] + directions[..., None, :] * steps[:, None]
    colours = None if volume.colours is None else volume.sample_colours(points)
    return integrate(volume.sample(points), steps, colours, step=far / samples)


def density_from_heights(
    heights: Float[Tensor, "rows cols"],
    levels: int,
    bottom: float,
    top: float,
    *,
    solid: float = 50.0,
    softness: float = 0.0,
) -> Float[Tensor, "{levels} rows cols"]:
    """Solid ground up to a height in every cell, as densities per metre.

    Args:
        heights: metres, in the frame of ``bottom`` and ``top``.
        levels: of the volume between them.
        bottom: of the lowest level, metres.
        top: of the highest, metres.
        solid: density inside, per metre; 50 lets 7e-3 of a ray through 10 cm.
        softness: metres over which the density falls off at the surface (a logistic's scale), so that heights get
            gradients; 0 fills the cut level in proportion.

    Raises:
        InputError: no levels, or heights that are not finite.
    """
    if levels < 1 or not bottom < top:
        raise InputError(f"{levels} levels from {bottom:g} to {top:g} m; give 1 or more, and a top above the bottom")
    if not bool(torch.isfinite(heights).all()):
        raise InputError("heights have holes (not finite); fill them first")
    size = (top - bottom) / levels
    low = bottom + size * torch.arange(levels, device=heights.device, dtype=heights.dtype)[:, None, None]
    if softness > 0:
        return solid * torch.sigmoid((heights - low - size / 2) / softness)
    return solid * ((heights - low) / size).clamp(0, 1)


def scene_volume(
    scene: Scene, level_height: float = 0.5, *, solid: float = 50.0, softness: float = 0.0
) -> DensityVolume:
    """The density field of a scene: solid up to its surface on the image's grid, with the image as colours.

    Overhangs and what stands under crowns are filled; a cell whose centre lies under a roof is a column up to it. There is
    one more level below the lowest surface, so that no ray slips through the floor.

    Args:
        scene: any.
        level_height: metres of one level.
        solid: density inside, per metre.
        softness: see :func:`density_from_heights`.

    Raises:
        InputError: a level height that is not above 0.
    """
    if not level_height > 0:
        raise InputError(f"level_height is {level_height:g} m; give more than 0")
    x, y = scene.grid.centres(scene.image.device)
    heights = scene.surface_at(x.to(scene.image.dtype), y.to(scene.image.dtype))
    bottom = float(heights.min()) - level_height
    levels = math.ceil((float(heights.max()) - bottom) / level_height + 1e-6)
    top = bottom + levels * level_height
    west, south, east, north = scene.grid.bounds
    density = density_from_heights(heights, levels, bottom, top, solid=solid, softness=softness)
    return DensityVolume(density, (west, south, bottom, east, north, top), scene.image.movedim(-1, 0))


def heights_from_density(
    density: Float[Tensor, "levels rows cols"], bottom: float, top: float, *, opaque: float = math.log(2.0)
) -> Float[Tensor, "rows cols"]:
    """The surface seen from straight above: where the optical thickness from the top first reaches ``opaque``.

    With the default half of the light from above ends higher and half lower (the median, which blurs no edges, unlike the
    expected height). Cells that are clear all the way down get ``bottom``. Inside the level that crosses it the height is
    interpolated, so it has gradients.

    Args:
        density: per metre, level 0 lowest.
        bottom: of the lowest level, metres.
        top: of the highest, metres.
        opaque: optical thickness at the surface.
    """
    levels = density.shape[0]
    size = (top - bottom) / levels
    own = density.flip(0) * size
    through = own.cumsum(0)
    crossed = through >= opaque
    index = crossed.to(torch.uint8).argmax(0)
    part = own.gather(0, index[None])[0]
    before = through.gather(0, index[None])[0] - part
    depth = (index + ((opaque - before) / part.clamp_min(1e-12)).clamp(0, 1)) * size
    return torch.where(crossed.any(0), top - depth, torch.full_like(depth, bottom))
