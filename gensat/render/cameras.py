"""Cameras in the scene frame: perspective, orthographic, and equirectangular panoramas.

Camera axes are those of OpenCV: x right, y down, z forward. Pixel coordinates are (column, row), continuous; the centre
of pixel (r, c) is (c + 0.5, r + 0.5). Headings are degrees clockwise from true north, azimuths from the y axis of the
frame (grid north); pitch is up. Poses are float64 and become the dtype of the rays only after the origin was taken off.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gensat.errors import InputError, require_number
from gensat.render.frame import SceneFrame
from gensat.render.poses import centre_of, checked_pose, pose_of, rotation, to_camera
from gensat.render.rays import Rays
from gensat.types import Place

EYE = 1.7
"""Metres of the eye above ground."""

Number: TypeAlias = float | int
Point: TypeAlias = Sequence[float | int] | Float[np.ndarray, " 3"]

Projected: TypeAlias = tuple[Float[Tensor, "*shape 2"], Float[Tensor, "*shape"], Bool[Tensor, "*shape"]]
"""(column, row), metres from the camera along the ray, and whether the point falls into the picture in front of it."""


class _Pixels(ABC):
    """What is the same for all cameras."""

    width: int
    height: int

    def rays(self, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32) -> Rays:
        """Rays (h, w) through the centres of the pixels."""
        return self.rays_at(*pixel_centres(self.width, self.height, device), dtype=dtype)

    @abstractmethod
    def rays_at(self, u: Tensor, v: Tensor, *, dtype: torch.dtype = torch.float32) -> Rays:
        """Rays through columns ``u`` and rows ``v`` (float64, one shape)."""


@dataclass(frozen=True, eq=False)
class Camera(_Pixels):
    """A perspective camera.

    Args:
        width: columns.
        height: rows.
        fx: focal length in pixels along a row.
        fy: focal length in pixels along a column.
        cx: column of the principal point, as a continuous pixel coordinate.
        cy: row of it.
        pose: 4 x 4 float64, world (scene frame, metres) to camera.

    Raises:
        InputError: no pixels, a focal length that is not above 0, or a pose that is no rigid motion.
    """

    width: int
    height: int
    fx: Number
    fy: Number
    cx: Number
    cy: Number
    pose: Float[np.ndarray, "4 4"]

    def __post_init__(self) -> None:
        _require_size(self.width, self.height)
        if not (self.fx > 0 and self.fy > 0 and np.isfinite([self.fx, self.fy, self.cx, self.cy]).all()):
            raise InputError(f"focal lengths {self.fx}, {self.fy} are not above 0; give them in pixels")
        object.__setattr__(self, "pose", checked_pose(self.pose))

    @classmethod
    def looking(
        cls,
        frame: SceneFrame,
        where: Place | Point,
        *,
        heading: Number = 0.0,
        pitch: Number = 0.0,
        roll: Number = 0.0,
        fov: Number = 90.0,
        width: int = 512,
        height: int = 512,
        eye: Number = EYE,
        ground: Number = 0.0,
    ) -> Camera:
        """Camera at a place, looking along a heading.

        Args:
            frame: of the scene.
            where: a Place, whose z becomes ``ground + eye``, or local (x, y, z) in metres, taken as it is.
            heading: degrees clockwise from true north.
            pitch: degrees up, -90 to 90.
            roll: degrees clockwise about the viewing direction, as the photographer tilts the camera.
            fov: horizontal field of view in degrees, above 0 and below 180.
            width: columns.
            height: rows.
            eye: metres above the ground.
            ground: local z of the ground there, as ``scene.height_at`` gives it.

        Raises:
            InputError: a value is out of its range.
        """
        if not 0 < require_number(fov, "fov") < 180:
            raise InputError(f"field of view {fov:g} is not between 0 and 180 degrees; use --panorama for all around")
        position = _position(frame, where, ground, eye)
        turn = rotation(frame.azimuth(heading, position[0], position[1]), pitch, roll)
        focal = width / 2 / math.tan(math.radians(fov) / 2)
        return cls(width, height, focal, focal, width / 2, height / 2, pose_of(turn, position))

    @property
    def position(self) -> Float[np.ndarray, " 3"]:
        """Local (x, y, z) of the eye."""
        return centre_of(self.pose)

    @property
    def intrinsics(self) -> Float[np.ndarray, "3 3"]:
        """K of OpenCV, with the centre of the first pixel at 0.5."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    def rays_at(self, u: Tensor, v: Tensor, *, dtype: torch.dtype = torch.float32) -> Rays:
        """Rays through columns ``u`` and rows ``v`` (float64, one shape)."""
        looking = torch.stack([(u - self.cx) / self.fx, (v - self.cy) / self.fy, torch.ones_like(u)], dim=-1)
        world = torch.nn.functional.normalize(looking @ u.new_tensor(self.pose[:3, :3]), dim=-1)
        return Rays(u.new_tensor(self.position).expand_as(world).to(dtype), world.to(dtype))

    def forward(self, rays: Rays) -> Float[Tensor, "*shape"]:
        """Metres of depth (camera z) per metre along each ray."""
        return rays.directions @ rays.directions.new_tensor(self.pose[2, :3])

    def project(self, points: Float[Tensor, "*shape 3"]) -> Projected:
        """Points of the scene frame to pixels."""
        seen = to_camera(self.pose, points)
        z = seen[..., 2]
        safe = torch.where(z > 1e-9, z, torch.ones_like(z))
        u, v = seen[..., 0] / safe * self.fx + self.cx, seen[..., 1] / safe * self.fy + self.cy
        inside = (z > 1e-9) & (u >= 0) & (u < self.width) & (v >= 0) & (v < self.height)
        return torch.stack([u, v], dim=-1), torch.linalg.vector_norm(seen, dim=-1), inside


@dataclass(frozen=True, eq=False)
class OrthographicCamera(_Pixels):
    """Parallel rays, as of an image from above.

    Args:
        width: columns.
        height: rows.
        gsd: metres per pixel across the rays.
        pose: 4 x 4 float64, world to camera; the rays begin in its plane z = 0 around the centre of the picture.

    Raises:
        InputError: no pixels, a gsd that is not above 0, or a pose that is no rigid motion.
    """

    width: int
    height: int
    gsd: Number
    pose: Float[np.ndarray, "4 4"]

    def __post_init__(self) -> None:
        _require_size(self.width, self.height)
        if not (self.gsd > 0 and math.isfinite(self.gsd)):
            raise InputError(f"gsd {self.gsd} is not above 0; give metres per pixel")
        object.__setattr__(self, "pose", checked_pose(self.pose))

    @classmethod
    def above(cls, centre: Point, width: int, height: int, gsd: Number) -> OrthographicCamera:
        """Straight down, row 0 in the (grid) north.

        Args:
            centre: local (x, y, z) of the centre of the picture; z must be above everything.
            width: columns.
            height: rows.
            gsd: metres per pixel.
        """
        return cls(width, height, gsd, pose_of(rotation(0.0, -90.0, 0.0), np.asarray(centre, np.float64)))

    @classmethod
    def looking(
        cls,
        frame: SceneFrame,
        at: Point,
        *,
        heading: Number = 0.0,
        pitch: Number = -45.0,
        distance: Number = 1000.0,
        gsd: Number = 1.0,
        width: int = 512,
        height: int = 512,
    ) -> OrthographicCamera:
        """Oblique view whose centre looks at local ``at`` (x, y, z) from ``distance`` metres away."""
        turn = rotation(frame.azimuth(heading, at[0], at[1]), pitch, 0.0)
        return cls(width, height, gsd, pose_of(turn, np.asarray(at, np.float64) - distance * turn[2]))

    @property
    def position(self) -> Float[np.ndarray, " 3"]:
        """Local (x, y, z) of the middle of the plane the rays begin in."""
        return centre_of(self.pose)

    def rays_at(self, u: Tensor, v: Tensor, *, dtype: torch.dtype = torch.float32) -> Rays:
        """Rays through columns ``u`` and rows ``v`` (float64, one shape)."""
        right, down, ahead = u.new_tensor(self.pose[:3, :3])
        across, along = (u - self.width / 2) * self.gsd, (v - self.height / 2) * self.gsd
        origins = u.new_tensor(self.position) + across[..., None] * right + along[..., None] * down
        return Rays(origins.to(dtype), ahead.expand_as(origins).to(dtype))

    def forward(self, rays: Rays) -> Float[Tensor, "*shape"]:
        """Metres of depth (camera z) per metre along each ray: 1."""
        return torch.ones_like(rays.directions[..., 0])

    def project(self, points: Float[Tensor, "*shape 3"]) -> Projected:
        """Points of the scene frame to pixels."""
        seen = to_camera(self.pose, points)
        u, v = seen[..., 0] / self.gsd + self.width / 2, seen[..., 1] / self.gsd + self.height / 2
        inside = (seen[..., 2] >= 0) & (u >= 0) & (u < self.width) & (v >= 0) & (v < self.height)
        return torch.stack([u, v], dim=-1), seen[..., 2], inside


@dataclass(frozen=True, eq=False)
class Panorama(_Pixels):
    """An equirectangular panorama: columns are azimuths, rows are elevations.

    The centre column looks along ``azimuth``, azimuth grows to the right, the top row is ``elevation_max``.

    Args:
        width: columns, all around.
        height: rows.
        position: local (x, y, z) of the eye.
        azimuth: degrees clockwise from the y axis of the frame.
        elevation_max: degrees up of the upper edge.
        elevation_min: degrees up of the lower edge.

    Raises:
        InputError: no pixels, or elevations that are not -90 <= min < max <= 90.
    """

    width: int
    height: int
    position: Float[np.ndarray, " 3"]
    azimuth: Number = 0.0
    elevation_max: Number = 90.0
    elevation_min: Number = -90.0

    def __post_init__(self) -> None:
        _require_size(self.width, self.height)
        if not math.isfinite(self.azimuth):
            raise InputError("heading is not a finite number; give degrees")
        if not -90 <= self.elevation_min < self.elevation_max <= 90:
            raise InputError(
                f"elevations {self.elevation_min:g} to {self.elevation_max:g} are no range; "
                "give -90 <= elevation_min < elevation_max <= 90"
            )
        object.__setattr__(self, "position", _local_point(self.position))

    @classmethod
    def looking(
        cls,
        frame: SceneFrame,
        where: Place | Point,
        *,
        heading: Number = 0.0,
        width: int = 512,
        height: int = 256,
        elevation_max: Number = 90.0,
        elevation_min: Number = -90.0,
        eye: Number = EYE,
        ground: Number = 0.0,
    ) -> Panorama:
        """Panorama at a place, its centre column along a heading; arguments as of :meth:`Camera.looking`."""
        position = _position(frame, where, ground, eye)
        azimuth = frame.azimuth(require_number(heading, "heading"), position[0], position[1])
        return cls(width, height, position, azimuth, elevation_max, elevation_min)

    def rays_at(self, u: Tensor, v: Tensor, *, dtype: torch.dtype = torch.float32) -> Rays:
        """Rays through columns ``u`` and rows ``v`` (float64, one shape)."""
        azimuth = torch.deg2rad(self.azimuth + (u / self.width - 0.5) * 360.0)
        span = self.elevation_max - self.elevation_min
        elevation = torch.deg2rad(self.elevation_max - v / self.height * span)
        level = torch.cos(elevation)
        world = torch.stack([torch.sin(azimuth) * level, torch.cos(azimuth) * level, torch.sin(elevation)], dim=-1)
        return Rays(u.new_tensor(self.position).expand_as(world).to(dtype), world.to(dtype))

    def forward(self, rays: Rays) -> Float[Tensor, "*shape"]:
        """Metres of depth per metre along each ray: 1, as the depth of a panorama is the distance."""
        return torch.ones_like(rays.directions[..., 0])

    def project(self, points: Float[Tensor, "*shape 3"]) -> Projected:
        """Points of the scene frame to pixels; columns wrap around, so they lie in [0, width)."""
        towards = (points.double() - points.new_tensor(self.position, dtype=torch.float64)).to(points.dtype)
        distance = torch.linalg.vector_norm(towards, dim=-1)
        azimuth = torch.rad2deg(torch.atan2(towards[..., 0], towards[..., 1]))
        elevation = torch.rad2deg(torch.atan2(towards[..., 2], torch.linalg.vector_norm(towards[..., :2], dim=-1)))
        u = torch.remainder((azimuth - self.azimuth) / 360.0 + 0.5, 1.0) * self.width
        u = torch.where(u >= self.width, torch.zeros_like(u), u)  # remainder rounds up to 1 just below 0
        v = (self.elevation_max - elevation) / (self.elevation_max - self.elevation_min) * self.height
        return torch.stack([u, v], dim=-1), distance, (distance > 0) & (v >= 0) & (v <= self.height)


AnyCamera: TypeAlias = Camera | OrthographicCamera | Panorama


def pixel_centres(width: int, height: int, device: torch.device | str | None = None) -> tuple[Tensor, Tensor]:
    """Columns and rows (h, w) of the centres of all pixels, float64."""
    v, u = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float64) + 0.5,
        torch.arange(width, device=device, dtype=torch.float64) + 0.5,
        indexing="ij",
    )
    return u, v


def _require_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise InputError(f"a picture of {width} x {height} pixels is empty; give sizes of 1 or more")


def _position(frame: SceneFrame, where: Place | Point, ground: Number, eye: Number) -> np.ndarray:
    if isinstance(where, Place):
        x, y = frame.local(where.lon, where.lat)
        where = (float(x), float(y), require_number(ground, "ground") + require_number(eye, "eye"))
    return _local_point(where)


def _local_point(where: Point) -> np.ndarray:
    """(x, y, z) in float64."""
    position = np.asarray(where, dtype=np.float64)
    if position.shape != (3,) or not np.isfinite(position).all():
        raise InputError(f"{where!r} is no point of the scene; give a Place or finite local (x, y, z) in metres")
    return position
