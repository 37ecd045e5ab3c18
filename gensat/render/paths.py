"""Tracks: where a camera goes, in true coordinates, and the cameras along it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from gensat.errors import InputError, require_number
from gensat.render.cameras import EYE, Camera, Panorama
from gensat.render.frame import SceneFrame
from gensat.render.grid import Grid

_MANY = 100_000  # frames: an hour at 25 a second


@dataclass(frozen=True, eq=False)
class Track:
    """Points that a camera passes, in order; what is not known of all of them is None.

    Args:
        frame: of the scene.
        x: local metres east.
        y: local metres north.
        height: metres of the eye above the ground.
        z: local metres of the eye, which then counts instead of ``height``.
        heading: degrees clockwise from true north; None: along the way.
        pitch: degrees up.
        roll: degrees clockwise about the viewing direction.
        fov: horizontal field of view in degrees.
        time: seconds since the first point, not falling.

    Raises:
        InputError: fewer than two points, arrays of different lengths, values that are not finite, or time that runs backward.
    """

    frame: SceneFrame
    x: Float[np.ndarray, " n"]
    y: Float[np.ndarray, " n"]
    height: Float[np.ndarray, " n"] | None = None
    z: Float[np.ndarray, " n"] | None = None
    heading: Float[np.ndarray, " n"] | None = None
    pitch: Float[np.ndarray, " n"] | None = None
    roll: Float[np.ndarray, " n"] | None = None
    fov: Float[np.ndarray, " n"] | None = None
    time: Float[np.ndarray, " n"] | None = None

    def __post_init__(self) -> None:
        if len(self.x) < 2:
            raise InputError(f"the track has {len(self.x)} points; give at least two")
        for name, values in self._known().items():
            if len(values) != len(self.x):
                raise InputError(
                    f"the track has {len(self.x)} points but {len(values)} values of {name}; give one for each"
                )
            bad = np.flatnonzero(~np.isfinite(values))
            if len(bad):
                raise InputError(
                    f"point {bad[0] + 1} of the track has {name} {values[bad[0]]}; give a finite number, or leave the point out"
                )
        if self.time is not None and (np.diff(self.time) < 0).any():
            at = int(np.flatnonzero(np.diff(self.time) < 0)[0]) + 2
            raise InputError(f"time runs backward at point {at} of the track; sort its points by time")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def along(self) -> Float[np.ndarray, " n"]:
        """Metres walked up to each point, on the map."""
        return np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(self.x), np.diff(self.y)))])

    @property
    def length(self) -> float:
        """Metres from the first to the last point."""
        return float(self.along[-1])

    def require_inside(self, grid: Grid, margin: float | int = 0.0) -> Track:
        """The same track, if all of it lies on a grid.

        Raises:
            InputError: a point outside, by number and place.
        """
        left, bottom, right, top = grid.bounds
        inside = (self.x >= left + margin) & (self.x <= right - margin)
        inside &= (self.y >= bottom + margin) & (self.y <= top - margin)
        if not inside.all():
            first = int(np.flatnonzero(~inside)[0])
            where = f"x={self.x[first]:.1f} y={self.y[first]:.1f} m of the scene"
            if self.frame.crs is not None:
                lon, lat = self.frame.lonlat(self.x[first], self.y[first])
                where = f"lon={float(lon):.6f} lat={float(lat):.6f}"
            raise InputError(
                f"point {first + 1} of the track at {where} is outside the image ({int((~inside).sum())} of {len(self)} are); "
                "give a track inside of it, or a larger image"
            )
        return self

    def resampled(
        self,
        *,
        spacing: float | int | None = None,
        fps: float | int | None = None,
        speed: float | int | None = None,
        smooth: float | int = 4.0,
    ) -> Track:
        """The same way in even steps, by distance or by time; corners of the way stay, turns of the camera are smoothed.

        Args:
            spacing: metres between frames; or instead
            fps: frames per second, by the track's own time, or at
            speed: metres per second where it has none or another is wanted.
            smooth: metres (by time: the way of as many metres at mean speed) over which the heading is taken: it looks from the
                point half of it behind to the point half of it ahead, and given headings are averaged over it; 0: not smoothed.

        Raises:
            InputError: neither or both of spacing and fps, fps without a time or speed, or more than 100,000 frames.
        """
        if (spacing is None) == (fps is None):
            raise InputError("a track is resampled by spacing (metres) or by fps (frames per second); give one of them")
        for name, given in (("spacing", spacing), ("fps", fps), ("speed", speed)):
            if given is not None and not require_number(given, name) > 0:
                raise InputError(f"{name} is {given:g}; give a number above 0")
        along, total = self.along, self.length
        if total == 0 and self.time is None:
            raise InputError("all points of the track are the same place; give a track that leads somewhere")
        seconds = self.time
        if speed is not None or (fps is not None and seconds is None):
            if speed is None:
                raise InputError(
                    "the track says no time, so frames per second need a speed; give speed in metres per second"
                )
            seconds = along / float(speed)
        if spacing is not None:
            ticks, step, reach = along, float(spacing), float(smooth)
        else:
            assert seconds is not None and fps is not None
            ticks, step = seconds, 1 / float(fps)
            reach = float(smooth) * (seconds[-1] / total if total else 0.0)
        if (count := int(ticks[-1] / step)) >= _MANY:
            raise InputError(f"the track becomes {count:,} frames; give a larger spacing or fewer frames per second")
        at = np.arange(0, ticks[-1] + 1e-9, step) if count else np.array([0.0, ticks[-1]])

        def value(of: np.ndarray, where: np.ndarray) -> np.ndarray:
            return _interpolate(where, ticks, of)

        made: dict[str, Any] = {
            name: value(values, at) for name, values in self._known().items() if name not in ("heading", "roll", "time")
        }
        if self.heading is None:
            made["heading"] = self._looking(value, at, ticks, reach, made["x"], made["y"])
        else:
            made["heading"] = _turning(self.heading, ticks, at, reach)
        if self.roll is not None:
            made["roll"] = _turning(self.roll, ticks, at, reach, signed=True)
        if seconds is not None:
            made["time"] = value(seconds, at)
        return replace(self, **made)

    def cameras(
        self,
        *,
        width: int,
        height: int,
        ground: Callable[[np.ndarray, np.ndarray], np.ndarray] | float | int = 0.0,
        eye: float | int = EYE,
        fov: float | int | None = None,
        pitch: float | int = 0.0,
        panorama: bool = False,
    ) -> list[Camera] | list[Panorama]:
        """A camera at each point.

        Args:
            width: columns.
            height: rows.
            ground: local z of the ground: a number, or a function of local x and y.
            eye: metres above it where the track says none.
            fov: horizontal, in degrees, where the track says none (90 if not given).
            pitch: where the track says none.
            panorama: equirectangular panoramas instead, whose middle looks along the heading.
        """
        track = self if self.heading is not None else replace(self, heading=self._looking(
            lambda of, where: np.interp(where, np.arange(len(self)), of), np.arange(len(self)), np.arange(len(self)), 2.0, self.x, self.y
        ))  # fmt: skip
        floor = np.asarray(
            ground(self.x, self.y) if callable(ground) else np.full(len(self), float(ground)), np.float64
        )
        if self.z is None and not np.isfinite(floor).all():
            at = int(np.flatnonzero(~np.isfinite(floor))[0]) + 1
            raise InputError(
                f"the ground at point {at} of the track is not known; fill the heights, or give z for the track"
            )
        up = np.full(len(self), float(eye)) if self.height is None else self.height
        z = floor + up if self.z is None else self.z
        assert track.heading is not None
        made: list = []
        for k in range(len(self)):
            where = (float(self.x[k]), float(self.y[k]), float(z[k]))
            heading = float(track.heading[k])
            if panorama:
                made.append(Panorama.looking(self.frame, where, heading=heading, width=width, height=height))
                continue
            made.append(Camera.looking(
                self.frame, where, heading=heading, width=width, height=height,
                pitch=float(pitch if self.pitch is None else self.pitch[k]),
                roll=0.0 if self.roll is None else float(self.roll[k]),
                fov=float((fov or 90.0) if self.fov is None or fov is not None else self.fov[k]),
            ))  # fmt: skip
        return made

    def _known(self) -> dict[str, np.ndarray]:
        names = ("x", "y", "height", "z", "heading", "pitch", "roll", "fov", "time")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _looking(
        self,
        value: Callable[[np.ndarray, np.ndarray], np.ndarray],
        at: np.ndarray,
        ticks: np.ndarray,
        reach: float,
        x: np.ndarray,
        y: np.ndarray,
    ) -> np.ndarray:
        """Headings along the way, from ``reach`` / 2 behind to as far ahead; where it stands still, the last one goes on."""
        half = max(reach / 2, 1e-6 * max(float(ticks[-1]), 1.0))
        behind, ahead = np.clip(at - half, 0, ticks[-1]), np.clip(at + half, 0, ticks[-1])
        dx, dy = (value(of, ahead) - value(of, behind) for of in (self.x, self.y))
        moves = np.hypot(dx, dy) > 1e-9
        if not moves.any():
            return np.zeros(len(at))
        last = np.maximum.accumulate(np.where(moves, np.arange(len(at)), -1))
        last = np.where(last < 0, int(np.argmax(moves)), last)
        azimuth = np.degrees(np.arctan2(dx[last], dy[last]))
        return np.array([self.frame.heading(a, px, py) for a, px, py in zip(azimuth, x, y, strict=True)])


def _interpolate(at: np.ndarray, ticks: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Linear in between; of points at the same tick the last one counts."""
    last = np.append(np.diff(ticks) > 0, True)
    return np.interp(at, ticks[last], values[last])


def _turning(
    degrees: np.ndarray, ticks: np.ndarray, at: np.ndarray, reach: float, *, signed: bool = False
) -> np.ndarray:
    """Angles in between, the short way round, averaged over ``reach``."""
    turned = np.unwrap(np.radians(degrees))
    shifts = np.linspace(-reach / 2, reach / 2, 9) if reach > 0 else np.zeros(1)
    clipped = np.clip(at[:, None] + shifts, 0, ticks[-1])
    mean = np.degrees(_interpolate(clipped.ravel(), ticks, turned).reshape(clipped.shape).mean(axis=1))
    return (mean + 180.0) % 360.0 - 180.0 if signed else mean % 360.0


def angles_of(frame: SceneFrame, pose: Float[np.ndarray, "4 4"]) -> tuple[float, float, float]:
    """(heading, pitch, roll) in degrees of a world-to-camera pose; inverse of ``Camera.looking``.

    Straight up and down the heading is that of the top of the picture (reversed when looking up), and the roll is 0.
    """
    right, _, ahead = pose[:3, :3]
    x, y, _ = -pose[:3, :3].T @ pose[:3, 3]
    pitch = math.degrees(math.asin(float(np.clip(ahead[2], -1, 1))))
    level = math.hypot(ahead[0], ahead[1])
    if level < 1e-9:
        return frame.heading(math.degrees(math.atan2(-right[1], right[0])), x, y), pitch, 0.0
    side = np.array([ahead[1], -ahead[0], 0.0]) / level
    under = np.cross(ahead, side)
    roll = math.degrees(math.atan2(float(right @ under), float(right @ side)))
    return frame.heading(math.degrees(math.atan2(ahead[0], ahead[1])), x, y), pitch, roll


def orbit(
    at: Sequence[float | int],
    *,
    radius: float | int,
    elevation: float | int,
    count: int,
    fov: float | int = 60.0,
    width: int = 256,
    height: int = 256,
    start: float | int = 0.0,
) -> list[Camera]:
    """Cameras around a point, looking at it from ``elevation`` degrees above the horizon; the first stands at azimuth ``start``.

    Args:
        at: local (x, y, z).
        radius: metres from it.
        elevation: degrees, above -90 to 90; from straight above the top of the picture is away from the camera's side.
        count: of cameras, clockwise.
        fov: horizontal field of view in degrees.
        width: columns.
        height: rows.
        start: degrees clockwise from grid north.
    """
    if count < 1 or not radius > 0 or not -90 < elevation <= 90:
        raise InputError(
            f"an orbit of {count} cameras at radius {radius:g} m and elevation {elevation:g} cannot be; "
            "give 1 or more, above 0, and above -90 to 90 degrees"
        )
    level, up = math.cos(math.radians(elevation)), math.sin(math.radians(elevation))
    made = []
    for k in range(count):
        azimuth = float(start) + 360.0 * k / count
        turn = math.radians(azimuth)
        offset = np.array([math.sin(turn) * level, math.cos(turn) * level, up])
        where = tuple(float(v) for v in np.asarray(at, np.float64) + float(radius) * offset)
        made.append(
            Camera.looking(
                SceneFrame(None), where, heading=azimuth + 180.0, pitch=-elevation, fov=fov, width=width, height=height
            )
        )
    return made
