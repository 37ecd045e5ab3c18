"""Rotations and poses of cameras: x right, y down, z forward, world to camera, float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError


def rotation(azimuth: float | int, pitch: float | int, roll: float | int) -> Float[np.ndarray, "3 3"]:
    """Rows right, down, ahead of a camera, in the scene frame.

    Args:
        azimuth: degrees clockwise from the y axis.
        pitch: degrees up, -90 to 90.
        roll: degrees clockwise about the viewing direction.

    Raises:
        InputError: a pitch out of range, or anything that is not finite.
    """
    if not (math.isfinite(azimuth) and math.isfinite(roll)):
        raise InputError("heading or roll is not a finite number; give degrees")
    if not -90 <= pitch <= 90:
        raise InputError(f"pitch {pitch:g} is outside -90 to 90; give degrees up")
    a, p, r = (math.radians(v) for v in (azimuth, pitch, roll))
    ahead = np.array([math.sin(a) * math.cos(p), math.cos(a) * math.cos(p), math.sin(p)])
    right = np.array([math.cos(a), -math.sin(a), 0.0])
    down = np.cross(ahead, right)
    right, down = math.cos(r) * right + math.sin(r) * down, math.cos(r) * down - math.sin(r) * right
    return np.stack([right, down, ahead])


def pose_of(turn: np.ndarray, position: np.ndarray) -> Float[np.ndarray, "4 4"]:
    """World to camera, from the rows of :func:`rotation` and the place of the eye."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, -turn @ position
    return pose


def centre_of(pose: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, " 3"]:
    """The place of the eye of a pose."""
    return -pose[:3, :3].T @ pose[:3, 3]


def checked_pose(pose: Any) -> Float[np.ndarray, "4 4"]:
    """A pose as float64; InputError if it is no rigid motion."""
    pose = np.asarray(pose, dtype=np.float64)
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise InputError(f"pose has shape {pose.shape}; give 4 x 4 finite numbers, world to camera")
    turn = pose[:3, :3]
    rigid = np.allclose(turn @ turn.T, np.eye(3), atol=1e-5) and np.linalg.det(turn) > 0
    if not rigid or not np.allclose(pose[3], (0, 0, 0, 1)):
        raise InputError("pose is no rigid motion; give rotation and translation, world to camera, x right y down")
    return pose


def to_camera(pose: Float[np.ndarray, "4 4"], points: Float[Tensor, "*shape 3"]) -> Float[Tensor, "*shape 3"]:
    """Points of the scene frame in camera axes; the difference to the eye is taken in float64."""
    turn, centre = (points.new_tensor(v, dtype=torch.float64) for v in (pose[:3, :3], centre_of(pose)))
    return ((points.double() - centre) @ turn.T).to(points.dtype)
