"""What a renderer returns: a picture with its buffers, and which of its pixels were seen from above."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gensat.errors import InputError
from gensat.files import atomic_write, write_bytes
from gensat.geo.picture import encode_picture
from gensat.render.cameras import AnyCamera, Camera, OrthographicCamera, Panorama
from gensat.render.frame import SceneFrame
from gensat.types import GeoImage


@dataclass(frozen=True, eq=False)
class View:
    """One picture of a scene, with everything that is known of its pixels.

    The buffers are those of the ray through the centre of each pixel, never mixtures; only ``rgb`` and ``opacity`` are
    averaged when a picture is supersampled.

    Args:
        rgb: display values in [0, 1].
        distance: metres along the ray, infinite for sky.
        depth: metres along the viewing axis (camera z) for perspective and orthographic cameras; ``distance`` for
            panoramas.
        normals: unit normals in the scene frame, 0 for sky.
        opacity: share of the pixel that is not sky, 0 to 1.
        sky: whether there is nothing but sky.
        classes: layout classes 0 to 10 (:mod:`gensat.geo.classes`), 0 for sky.
        kind: 0 sky, 1 terrain, 2 roof, 3 wall, 4 object, 5 mesh.
        index: number of the building or object, -1 for none.
        seen: whether the colour was seen from above, in the image; else it is invented.
        camera: that took it.
        frame: of the scene.
        provenance: how it came to be, JSON-like values under lower-case keys.
    """

    rgb: Float[Tensor, "h w 3"]
    distance: Float[Tensor, "h w"]
    depth: Float[Tensor, "h w"]
    normals: Float[Tensor, "h w 3"]
    opacity: Float[Tensor, "h w"]
    sky: Bool[Tensor, "h w"]
    classes: Int[Tensor, "h w"]
    kind: Int[Tensor, "h w"]
    index: Int[Tensor, "h w"]
    seen: Bool[Tensor, "h w"]
    camera: AnyCamera
    frame: SceneFrame
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def buffers(self) -> dict[str, np.ndarray]:
        """All tensors by name, as numpy arrays."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: v.detach().cpu().numpy() for name, v in values.items() if isinstance(v, torch.Tensor)}

    def image(self) -> GeoImage:
        """The picture as uint8, without a place on a map but with its provenance and camera."""
        rgb = (self.rgb.detach().float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        return GeoImage(rgb, provenance={"synthetic": True, **self.provenance, **self.where()})

    def where(self) -> dict[str, Any]:
        """The camera in true coordinates, as JSON-like values; only what is known on no place."""
        x, y, z = (float(v) for v in self.camera.position)
        found: dict[str, Any] = {"camera": type(self.camera).__name__.lower(), "camera_xyz": [x, y, z]}
        if self.frame.crs is not None:
            place = self.frame.place(x, y)
            found |= {"camera_lon": place.lon, "camera_lat": place.lat, "camera_z": z + self.frame.origin[2]}
        if isinstance(self.camera, Panorama):
            found["heading"] = self.frame.heading(self.camera.azimuth, x, y)
            found["elevations"] = [self.camera.elevation_min, self.camera.elevation_max]
        else:
            ahead = self.camera.pose[2, :3]
            found["heading"] = self.frame.heading(float(np.degrees(np.arctan2(ahead[0], ahead[1]))), x, y)
            found["pitch"] = float(np.degrees(np.arcsin(np.clip(ahead[2], -1, 1))))
        if isinstance(self.camera, Camera):
            found["intrinsics"] = [self.camera.fx, self.camera.fy, self.camera.cx, self.camera.cy]
        elif isinstance(self.camera, OrthographicCamera):
            found["camera_gsd"] = self.camera.gsd
        return found

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Writes the picture (``.png``, ``.jpg``) with its provenance, or all buffers (``.npz``).

        Raises:
            InputError: another extension, or as :func:`gensat.files.check_output`.
            OutputError: the disk is full or the folder not writable.
        """
        suffix = os.path.splitext(os.fspath(path))[1].lower()
        if suffix == ".npz":
            buffers: dict[str, Any] = self.buffers()
            buffers["where"] = json.dumps(self.where())
            with atomic_write(path, overwrite) as part:
                np.savez_compressed(part, **buffers)
        elif suffix in (".png", ".jpg", ".jpeg"):
            write_bytes(path, encode_picture(self.image(), suffix), overwrite)
        else:
            raise InputError(
                f"{os.fspath(path)} is no name for a view; end it with .png, .jpg or, for all buffers, .npz"
            )
