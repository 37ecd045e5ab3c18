"""A light on a whole scene, as :func:`gensat.render.gbuffers.render` asks for it: shadows, sky share, air, exposure.

The image of a scene was taken in light of its own, which nobody knows. It is read as if its brightest, open ground stood in full light: display
values go back through the tone curve and count as albedo. Shadows that the image shows stay in it.
"""

from __future__ import annotations

from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from gensat.render.gbuffers import Surfels
from gensat.render.grid import Grid
from gensat.render.light import Light, exposure, shade, through_air, tone_map, untone
from gensat.render.scene import Scene
from gensat.render.visibility import SkyView, sun_visibility

_SKY_CELL = 1.0  # metres of the grid on which the sky's share is worked out


class SceneLight:
    """Sun, sky and air over a scene.

    Args:
        light: what illuminates it (:class:`~gensat.render.light.SkyLight`, :class:`~gensat.render.environment.PanoramaLight`).
        visibility: metres at which haze leaves 2 percent of contrast.
        samples: of the sun's disc; 1 gives hard shadows.
        key: exposure; 1 shows a grey card at 0.18.
        shadows: whether surfaces hide the sun and the sky from each other.
        aloft: metres to which fog reaches up; the sky is seen through that much air.
    """

    def __init__(
        self,
        light: Light,
        *,
        visibility: float | int = 30_000.0,
        samples: int = 1,
        key: float | int = 1.0,
        shadows: bool = True,
        aloft: float | int = 120.0,
    ) -> None:
        self.light, self.visibility, self.samples, self.shadows, self.aloft = light, visibility, samples, shadows, aloft
        self.exposure = exposure(light, key)
        self._views: dict[int, tuple[Scene, SkyView]] = {}

    @cached_property
    def air(self) -> Float[Tensor, " 3"]:
        """Luminance of the horizon, the same all around."""
        turns = torch.arange(16) * (2 * torch.pi / 16)
        around = torch.stack([turns.sin(), turns.cos(), torch.full_like(turns, 0.03)], dim=1)
        return self.light.luminance(torch.nn.functional.normalize(around, dim=1)).median(dim=0).values

    def surface(self, scene: Scene, surfels: Surfels, rgb: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Display values of surfaces of display colour ``rgb`` in this light."""
        return self.develop(self.falling(scene, surfels, untone(rgb)), surfels)

    def falling(self, scene: Scene, surfels: Surfels, albedo: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Luminance of matt surfaces: :func:`gensat.render.light.shade` with what each point sees of sun and sky."""
        sun, sky = self.seen(scene, surfels)
        return shade(albedo, surfels.normals, self.light, sun_visible=sun, sky_visible=sky)

    def seen(self, scene: Scene, surfels: Surfels) -> tuple[Tensor, Tensor]:
        """Shares of the sun's disc and of the sky's light that arrive at points."""
        points, normals = surfels.points.detach(), surfels.normals.detach()
        if not self.shadows:
            return torch.ones_like(points[:, 0]), torch.ones_like(points[:, 0])
        sky = self.sky_view(scene).at(points, normals)
        direction = self.light.sun_direction
        if direction is None:
            return torch.zeros_like(sky), sky
        return sun_visibility(scene, points, normals, direction, samples=self.samples), sky

    def sky_view(self, scene: Scene) -> SkyView:
        """Worked out once a scene, on cells of 1 m or a 256th of the scene."""
        if id(scene) not in self._views:
            left, bottom, right, top = scene.grid.bounds
            cell = max(_SKY_CELL, (right - left) / 256, (top - bottom) / 256)
            grid = Grid(left, top, cell, max(1, round((top - bottom) / cell)), max(1, round((right - left) / cell)))
            x, y = (v.to(scene.image) for v in grid.centres())
            ground = scene.height_at(x, y)
            heights = ground.clone()
            if len(scene.buildings) or len(scene.objects):
                heights = scene.surface_at(x, y)
            ground, heights = (torch.nan_to_num(v.float(), neginf=0.0) for v in (ground, heights))
            self._views = {
                id(scene): (scene, SkyView(heights, ground, grid))
            }  # the scene is kept, so its id stays its own
        return self._views[id(scene)][1]

    def remember(self, scene: Scene, view: SkyView) -> None:
        """Takes the sky's share of a scene whose geometry is known already, such as of the same scene with another image."""
        self._views = {id(scene): (scene, view)}

    def develop(self, luminance: Float[Tensor, "n 3"], surfels: Surfels) -> Float[Tensor, "n 3"]:
        """Through the air to the eye, exposed and shown."""
        there = through_air(luminance, surfels.distance, self.air.to(luminance).expand_as(luminance), self.visibility)
        return tone_map(there * self.exposure)

    def sky(self, directions: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
        """Display values of the sky, behind as much hazy air as the direction crosses."""
        path = self.aloft / directions[:, 2].abs().clamp(min=self.aloft / 20_000)
        seen = self.light.luminance(directions)
        return tone_map(through_air(seen, path, self.air.to(seen).expand_as(seen), self.visibility) * self.exposure)
