"""What passes between gensat's nodes besides IMAGE: places, layouts, and where the pixels of an IMAGE lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from affine import Affine

from gensat.comfy import host
from gensat.errors import InputError
from gensat.geo.display import to_rgb
from gensat.types import Acquisition, GeoImage, Place

if TYPE_CHECKING:
    from gensat.render.cameras import AnyCamera
    from gensat.render.scene import Scene
    from gensat.render.view import View


@dataclass(frozen=True)
class Site:
    """GENSAT_PLACE: the centre of the canvas, metres per pixel (None: the model's default), and the CRS (None: UTM)."""

    place: Place
    gsd: float | None = None
    crs: str | None = None
    snap: bool = False


@dataclass(frozen=True, eq=False)
class Layout:
    """GENSAT_LAYOUT: a file, or a picture (H, W, 3) uint8 in the colours of the legend; and what its codes mean."""

    source: Path | np.ndarray
    legend: str | None = None


@dataclass(frozen=True, eq=False)
class Geo:
    """GENSAT_GEO: the images as they were generated, one per picture of the IMAGE beside it."""

    scenes: tuple[GeoImage, ...]

    def images(self, pixels: Sequence[np.ndarray]) -> list[GeoImage]:
        """Georeferenced images of a batch of pictures (H, W, 3) uint8 that came from these scenes.

        A picture that other nodes left alone is its scene, with all its bands. One that was changed says so in its
        provenance; one that was scaled as a whole keeps its place, with pixels of another size.

        Raises:
            InputError: another number of pictures, or one whose proportions have changed, so that its place is lost.
        """
        if len(pixels) != len(self.scenes):
            raise InputError(
                f"the IMAGE holds {len(pixels)} pictures and the GENSAT_GEO {len(self.scenes)}; "
                "connect both to the same Generate node"
            )
        return [_placed(scene, picture) for scene, picture in zip(self.scenes, pixels, strict=True)]


def one_image(geo: Geo | None, file: str, needs: str) -> GeoImage | Path:
    """The first image of a batch, or a file; ``needs`` begins the error. Raises InputError for none or both."""
    if (geo is None) == (not file.strip()):
        raise InputError(f"{needs} one image; connect geo, or name a file")
    return geo.scenes[0] if geo is not None else host.input_file(file.strip())


def camera_at(
    scene: Scene,
    *,
    lon: float,
    lat: float,
    eye: float,
    heading: float,
    pitch: float,
    fov: float,
    panorama: bool,
    width: int,
    height: int,
) -> AnyCamera:
    """The camera that the widgets of :func:`gensat.comfy.node.standing` describe. Raises InputError for a place where nobody can stand."""
    from gensat.render.cameras import Camera, Panorama

    position = scene.stand(Place(lon, lat), eye)
    shape: dict[str, Any] = {"heading": heading, "width": width, "height": height}
    if panorama:
        return Panorama.looking(scene.frame, position, **shape)
    return Camera.looking(scene.frame, position, pitch=pitch, fov=fov, **shape)


def as_image(picture: np.ndarray) -> Any:
    """IMAGE (1, H, W, 3) of a picture (H, W, 3) uint8."""
    import torch

    return (torch.from_numpy(picture.copy()).float()[None] / 255).to(host.image_device())


def as_mask(mask: Any) -> Any:
    """MASK (1, H, W) of a boolean array or tensor (H, W)."""
    import torch

    return torch.as_tensor(mask).float()[None].to(host.image_device())


def shown(view: View) -> tuple[Any, Any, Any]:
    """A view as IMAGE, its depth as IMAGE (the nearest 1, the sky 0), and as MASK what the image from above does not show."""
    import torch

    near = torch.where(view.sky, torch.inf, view.depth).min()
    depth = torch.where(view.sky, 0.0, near / view.depth)[..., None].expand(-1, -1, 3)
    rgb, depth, invented = (
        values.float()[None].to(host.image_device()) for values in (view.rgb.clamp(0, 1), depth, ~view.seen & ~view.sky)
    )
    return rgb, depth, invented


def _placed(scene: GeoImage, picture: np.ndarray) -> GeoImage:
    height, width = picture.shape[:2]
    if (height, width) == (scene.height, scene.width):
        if np.array_equal(picture, to_rgb(scene)):
            return scene
        return _edited(scene, picture, "pixels changed after generation", scene.transform, scene.acquisition)
    down, across = scene.height / height, scene.width / width
    if abs(scene.height / down - scene.height / across) > 1:  # in pixels of the picture
        raise InputError(
            f"the IMAGE is {width} x {height} and was generated as {scene.width} x {scene.height}; "
            "its place is lost by cropping or stretching, so scale it as a whole, or save it with SaveImage"
        )
    old = scene.acquisition
    gsd = None if old.gsd is None else old.gsd * across
    transform = None if scene.transform is None else scene.transform * Affine.scale(across, down)
    note = f"scaled from {scene.width} x {scene.height} after generation"
    return _edited(scene, picture, note, transform, Acquisition(gsd, old.date, old.cloud_cover, old.sensor))


def _edited(scene: GeoImage, picture: np.ndarray, note: str, transform: Any, acquisition: Acquisition) -> GeoImage:
    provenance = {**scene.provenance, "edited": note}
    return GeoImage(picture, crs=scene.crs, transform=transform, acquisition=acquisition, provenance=provenance)
