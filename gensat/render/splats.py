"""Gaussian splats that know where they lie, what they are, and whether their colour was seen or invented."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gensat.errors import InputError
from gensat.geo.classes import CLASSES
from gensat.render.cameras import AnyCamera, Camera, OrthographicCamera, Panorama, pixel_centres
from gensat.render.frame import SceneFrame
from gensat.render.mesh import Points
from gensat.render.rays import MESH, SKY
from gensat.render.scene import Scene
from gensat.render.splat_raster import rasterize, rotation_matrices, spherical_harmonics
from gensat.render.triangles import scene_points
from gensat.render.view import View

C0 = 0.28209479177387814
"""The spherical harmonic of degree 0: a colour is 0.5 + C0 * its first coefficient."""

_WIDE, _THIN = 0.6, 0.05  # standard deviations of a splat on a surface, across and through it, of the spacing
_FACE = 94.0  # degrees across a face of the cube that panoramas are made of: some pixels more than a quarter turn
_EDGE_ON = 0.1  # cosine between ray and normal below which a splat's plane is not followed any further
_SKY = 0.5  # opacity below which a pixel is called sky


@dataclass(eq=False)
class Splats:
    """Gaussians in the scene frame, with gsplat's meaning of each.

    Args:
        means: local metres.
        quats: rotations, w first.
        scales: standard deviations along the axes, metres.
        opacities: 0 to 1.
        sh: coefficients of spherical harmonics, k = 1, 4, 9 or 16; see :attr:`colors`.
        frame: where they lie.
        classes: layout class 0 to 10 of each; None: unknown.
        seen: whether the colour is the image's, not invented; None: nothing is known, all count as invented.
        provenance: how they came to be.
    """

    means: Float[Tensor, "n 3"]
    quats: Float[Tensor, "n 4"]
    scales: Float[Tensor, "n 3"]
    opacities: Float[Tensor, " n"]
    sh: Float[Tensor, "n k 3"]
    frame: SceneFrame
    classes: Int[Tensor, " n"] | None = None
    seen: Bool[Tensor, " n"] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.means)

    def __repr__(self) -> str:
        return f"Splats({len(self)}, degree {self.degree}; {self.frame})"

    @classmethod
    def from_points(
        cls, points: Points, spacing: float | int, *, opacity: float | int = 0.9, degree: int = 0
    ) -> Splats:
        """A flat disc on each point, across its normal, as wide as the points are apart.

        Args:
            points: on surfaces.
            spacing: metres between neighbours; the standard deviation is 0.6 of it, which leaves no holes.
            opacity: of each, at its centre.
            degree: 0 to 3 of the harmonics; those above 0 begin at 0.

        Raises:
            InputError: no points, or a spacing that is not above 0.
        """
        if not len(points) or not spacing > 0:
            raise InputError("splats need at least one point and a spacing above 0 metres; give a scene with a surface")
        count = len(points)
        sh = torch.zeros(count, (degree + 1) ** 2, 3)
        sh[:, 0] = (torch.from_numpy(points.colors).float() - 0.5) / C0
        return cls(
            torch.from_numpy(points.positions).float(),
            quats_towards(torch.from_numpy(points.normals).float()),
            torch.tensor([_WIDE * spacing, _WIDE * spacing, _THIN * spacing]).repeat(count, 1),
            torch.full((count,), float(opacity)),
            sh,
            points.frame,
            torch.from_numpy(points.classes).long(),
            torch.from_numpy(points.seen),
        )

    @classmethod
    def from_scene(
        cls, scene: Scene, spacing: float | None = None, *, opacity: float | int = 0.9, degree: int = 0
    ) -> Splats:
        """Discs over the surfaces of a scene: the image's colours where it shows them, plain walls elsewhere.

        ``spacing`` is the image's ground sampling distance if not given.
        """
        spacing = scene.grid.step if spacing is None else spacing
        made = cls.from_points(scene_points(scene, spacing), spacing, opacity=opacity, degree=degree)
        return replace(made, provenance={**scene.provenance, "splats": f"discs every {spacing:g} m"})

    @property
    def degree(self) -> int:
        """Degree of the spherical harmonics, 0 to 3."""
        return math.isqrt(self.sh.shape[1]) - 1

    @property
    def colors(self) -> Float[Tensor, "n 3"]:
        """Display colours of degree 0, not clamped."""
        return 0.5 + C0 * self.sh[:, 0]

    @property
    def normals(self) -> Float[Tensor, "n 3"]:
        """Unit direction of the thinnest axis of each; its sign means nothing."""
        thin = self.scales.argmin(dim=1)
        return rotation_matrices(self.quats).transpose(1, 2)[torch.arange(len(self), device=thin.device), thin]

    def to(self, device: torch.device | str) -> Splats:
        """The same on another device."""
        return self._each(lambda value: value.to(device))

    def detach(self) -> Splats:
        """The same without gradients."""
        return self._each(lambda value: value.detach())

    def part(self, chosen: Tensor) -> Splats:
        """Some of them, by a bool mask or by numbers."""
        return self._each(lambda value: value[chosen])

    def render(
        self,
        camera: AnyCamera,
        *,
        background: Float[Tensor, " rgb"] | None = None,
        antialiased: bool = False,
        depth: str = "centre",
        backend: str = "auto",
    ) -> View:
        """A view of the splats: colour, expected depth, normals, opacity, classes and what was seen, all in one pass.

        ``view.depth`` is the expected depth; a pixel with less than half opacity is sky. Colours are differentiable, as are depth,
        opacity and normals. Panoramas are put together from six pinhole views, so that splats are sorted by depth within each and not by
        distance: at the edges between faces the order of overlapping splats may change.

        Args:
            camera: perspective, orthographic or panorama.
            background: display colour where nothing is (black if not given).
            antialiased: gsplat's ``rasterize_mode="antialiased"``.
            depth: of a splat at a pixel: that of its centre, as gsplat's ED has it; or ``"plane"``, where the ray through the pixel meets
                its flattest plane (2D Gaussian Splatting, Huang et al. 2024, section 4.2), which is right for discs on surfaces. Then the
                expected value is of 1 / depth, which is linear in the pixel: no splat's depth is ever evaluated twice.
            backend: as of :func:`gensat.render.splat_raster.rasterize`.

        Raises:
            InputError: another word for ``depth``.
        """
        if depth not in ("centre", "plane"):
            raise InputError(f"depth is {depth!r}; use 'centre' or 'plane'")
        modes: dict[str, Any] = {"rasterize_mode": "antialiased" if antialiased else "classic", "backend": backend}
        if isinstance(camera, Panorama):
            buffers, alpha = self._around(camera, modes, depth == "plane")
        else:
            buffers, alpha = self._buffers(camera, modes, depth == "plane")
        behind = torch.zeros_like(alpha[..., None]) if background is None else background.to(alpha)
        rgb = buffers[..., :3] + (1 - alpha[..., None]) * behind
        sky = alpha < _SKY
        far = torch.where(sky, torch.inf, buffers[..., -1])
        ahead = camera.forward(camera.rays(alpha.device, alpha.dtype)).clamp(min=1e-6)
        normals = torch.nn.functional.normalize(buffers[..., 3:6], dim=-1)
        score = buffers[..., 6:-2]
        return View(
            rgb=rgb,
            distance=far if isinstance(camera, Panorama) else far / ahead,
            depth=far,
            normals=torch.where(sky[..., None], 0.0, normals),
            opacity=alpha,
            sky=sky,
            classes=torch.where(sky, 0, score.argmax(dim=-1)),
            kind=torch.where(sky, SKY, MESH),
            index=torch.full_like(sky, -1, dtype=torch.int64),
            seen=~sky & (buffers[..., -2] > 0.5 * alpha),
            camera=camera,
            frame=self.frame,
            provenance={**self.provenance, "renderer": "splats"},
        )

    def picture(
        self, camera: Camera | OrthographicCamera, *, antialiased: bool = False, backend: str = "auto"
    ) -> tuple[Float[Tensor, "h w 3"], Float[Tensor, "h w"]]:
        """Colour over black and opacity alone, several times cheaper than :meth:`render`: what fitting needs."""
        mode = "antialiased" if antialiased else "classic"
        pose, intrinsics, model = pinhole_of(camera)
        view, K = self.means.new_tensor(pose), self.means.new_tensor(intrinsics)
        rgb, alpha, _ = rasterize(
            self.means, self.quats, self.scales, self.opacities, self._seen_from(view, model)[0], view[None], K[None],
            camera.width, camera.height, rasterize_mode=mode, camera_model=model, backend=backend,
        )  # fmt: skip
        return rgb[0], alpha[0, ..., 0]

    def _seen_from(self, view: Tensor, model: str) -> tuple[Tensor, Tensor]:
        """(n, 3) colours, and (n, 3) unit directions from the camera."""
        if model == "ortho":
            towards = view[2, :3].expand_as(self.means)
        else:
            towards = torch.nn.functional.normalize(self.means + view[:3, :3].T @ view[:3, 3], dim=-1)
        basis = spherical_harmonics(self.degree, towards)
        return (torch.einsum("nk,nkd->nd", basis, self.sh) + 0.5).clamp(min=0), towards

    def _buffers(
        self, camera: Camera | OrthographicCamera, modes: dict[str, Any], planes: bool
    ) -> tuple[Tensor, Tensor]:
        """(h, w, 3 + 3 + 11 + 1 + 1) blended colour, normal, class shares, share seen, expected depth; and (h, w) opacity."""
        like = self.means
        pose, intrinsics, model = pinhole_of(camera)
        view, K = like.new_tensor(pose), like.new_tensor(intrinsics)
        color, towards = self._seen_from(view, model)
        normals = self.normals
        normals = torch.where(((normals * towards).sum(-1) > 0)[:, None], -normals, normals)
        codes = torch.zeros(len(self), dtype=torch.int64, device=like.device) if self.classes is None else self.classes
        shares = torch.nn.functional.one_hot(codes, len(CLASSES)).to(like)
        seen = torch.zeros_like(self.opacities) if self.seen is None else self.seen.to(like)
        channels = torch.cat([color, normals, shares, seen[:, None]], dim=-1)
        if planes:
            channels = torch.cat([channels, self._planes(view, K, model, normals)], dim=-1)
        picture, alpha, _ = rasterize(
            self.means, self.quats, self.scales, self.opacities, channels, view[None], K[None], camera.width, camera.height,
            render_mode="RGB" if planes else "RGB+ED", camera_model=model, **modes,
        )  # fmt: skip
        if not planes:
            return picture[0], alpha[0, ..., 0]
        u, v = (p.to(like) for p in pixel_centres(camera.width, camera.height, like.device))
        buffers, (middle, across, down) = picture[0, ..., :-3], picture[0, ..., -3:].unbind(-1)
        total = middle + across * (u - K[0, 2]) + down * (v - K[1, 2])
        mean = total / alpha[0, ..., 0].clamp(min=1e-10)
        depth = mean if model == "ortho" else 1 / mean.clamp(min=1e-10)
        return torch.cat([buffers, depth[..., None]], dim=-1), alpha[0, ..., 0]

    def _planes(
        self, view: Float[Tensor, "4 4"], K: Float[Tensor, "3 3"], model: str, normals: Float[Tensor, "n 3"]
    ) -> Float[Tensor, "n 3"]:
        """What is linear in the pixel on the plane of each splat, 1 / depth (depth of ``ortho``): at the principal point, and its
        change per column and per row. Planes seen edge-on are taken to lean less."""
        centre = self.means @ view[:3, :3].T + view[:3, 3]
        normal = normals @ view[:3, :3].T
        x, y, z = centre.unbind(-1)
        (fx, fy), (cx, cy) = (K[0, 0], K[1, 1]), (K[0, 2], K[1, 2])
        lean = normal[:, 2] if model == "ortho" else (normal * centre).sum(-1) / centre.norm(dim=-1)
        lean = torch.where(lean < 0, -1.0, 1.0) * lean.abs().clamp(min=_EDGE_ON)
        if model == "ortho":
            value, column, row, scale = z, fx * x + cx, fy * y + cy, -1 / lean
        else:
            value, column, row, scale = 1 / z, fx * x / z + cx, fy * y / z + cy, 1 / (lean * centre.norm(dim=-1))
        across, down = normal[:, 0] / fx * scale, normal[:, 1] / fy * scale
        middle = value - across * (column - cx) - down * (row - cy)
        return torch.stack([middle, across, down], dim=-1)

    def _around(self, panorama: Panorama, modes: dict[str, Any], planes: bool) -> tuple[Tensor, Tensor]:
        """The same for a panorama; the last channel is the distance along the ray."""
        size = max(16, 4 * math.ceil(panorama.width / 2.4 / 4))
        directions = panorama.rays(self.means.device).directions
        total: Tensor | None = None
        for azimuth, pitch in ((0, 0), (90, 0), (180, 0), (270, 0), (0, 90), (0, -90)):
            face = Camera.looking(
                SceneFrame(None), panorama.position, heading=panorama.azimuth + azimuth, pitch=pitch,
                fov=_FACE, width=size, height=size,
            )  # fmt: skip
            x, y, z = (directions.double() @ directions.new_tensor(face.pose[:3, :3], dtype=torch.float64).T).unbind(-1)
            # each ray belongs to one face: sides before top and bottom, ties to the right
            here = (
                (z > 0) & (x <= z) & (-x < z) & (y.abs() <= z)
                if pitch == 0
                else (z > 0) & (x.abs() < z) & (y.abs() < z)
            )
            if not bool(here.any()):
                continue
            buffers, alpha = self._buffers(face, modes, planes)
            depth = torch.where(alpha[..., None] > 1e-6, buffers[..., -1:], 0.0)
            values = torch.cat([buffers[..., :-1], depth * alpha[..., None], alpha[..., None]], dim=-1)
            places = torch.stack([x, y], dim=-1) / z.clamp(min=1e-9)[..., None] / math.tan(math.radians(_FACE / 2))
            sampled = torch.nn.functional.grid_sample(
                values.permute(2, 0, 1)[None], places.to(values.dtype)[None], mode="bilinear", align_corners=False
            )[0].permute(1, 2, 0)
            far = (
                sampled[..., -2:-1] / sampled[..., -1:].clamp(min=1e-6) / z.clamp(min=1e-9)[..., None].to(values.dtype)
            )
            one = torch.cat([sampled[..., :-2], far, sampled[..., -1:]], dim=-1)
            total = torch.where(here[..., None], one, 0.0 if total is None else total)
        assert total is not None
        return total[..., :-1], total[..., -1]

    def _each(self, change: Any) -> Splats:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: change(v) for name, v in values.items() if isinstance(v, Tensor)})


def pinhole_of(camera: Camera | OrthographicCamera) -> tuple[np.ndarray, np.ndarray, str]:
    """World-to-camera (4, 4), intrinsics (3, 3) and camera model as gsplat takes them."""
    if isinstance(camera, Camera):
        return camera.pose, camera.intrinsics, "pinhole"
    scale = 1 / camera.gsd
    return camera.pose, np.array([[scale, 0, camera.width / 2], [0, scale, camera.height / 2], [0, 0, 1.0]]), "ortho"


def quats_towards(normals: Float[Tensor, "n 3"]) -> Float[Tensor, "n 4"]:
    """Rotations, w first, that turn the z axis to unit vectors by the shortest way; downward is half a turn about x."""
    x, y, z = normals.unbind(-1)
    quats = torch.stack([1 + z, -y, x, torch.zeros_like(z)], dim=-1)
    down = z < -0.999999
    quats = torch.where(down[:, None], torch.tensor([0.0, 1.0, 0.0, 0.0], dtype=z.dtype, device=z.device), quats)
    return torch.nn.functional.normalize(quats, dim=-1)
