"""Options of a camera on the ground, the same for every command that has one, and what they make: cameras at a place and along a way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gensat.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from gensat.render.cameras import AnyCamera
    from gensat.render.paths import Track
    from gensat.render.scene import Scene

CAMERA = "Camera"
WIDTH = 1024  # pixels of a picture where nothing else is said
LARGEST = 2**26  # pixels: their buffers are 7 GB
PACE = 1.4  # metres a second, an unhurried walk


@dataclass(frozen=True)
class Viewing:
    """How one looks from where one stands, for commands made with :func:`gensat.cli._options.spread`."""

    heading: Annotated[
        float | None,
        typer.Option(
            help="Degrees clockwise from true north; 0 when not given.", rich_help_panel=CAMERA, show_default=False
        ),
    ] = None
    pitch: Annotated[float, typer.Option(help="Degrees up.", rich_help_panel=CAMERA)] = 0.0
    fov: Annotated[float, typer.Option(help="Horizontal field of view, degrees.", rich_help_panel=CAMERA)] = 90.0
    panorama: Annotated[
        bool,
        typer.Option("--panorama", help="All around (equirectangular), heading in the middle.", rich_help_panel=CAMERA),
    ] = False
    eye: Annotated[float, typer.Option(help="Metres above the ground; not above water.", rich_help_panel=CAMERA)] = 1.7
    width: Annotated[
        int | None, typer.Option(help="Pixels; 1024 when not given.", rich_help_panel=CAMERA, show_default=False)
    ] = None
    height: Annotated[
        int | None,
        typer.Option(
            help="Pixels; 3/4 of the width when not given, half of it of a panorama.",
            rich_help_panel=CAMERA,
            show_default=False,
        ),
    ] = None
    samples: Annotated[int, typer.Option(help="n x n rays a pixel.", rich_help_panel=CAMERA)] = 2

    def lens(self, width: int = WIDTH, *, square: bool = False) -> Lens:
        """How pictures are taken.

        Args:
            width: columns where none are asked for.
            square: whether there are as many rows as columns where none are asked for.

        Raises:
            InputError: options that do not go together, or as :class:`Lens`.
        """
        if not 1 <= self.samples <= 8:
            raise InputError(f"--samples is {self.samples}; give 1 to 8")
        if self.panorama and self.pitch:
            raise InputError("a panorama looks everywhere at once, so it has no --pitch; leave it out")
        wide = width if self.width is None else self.width
        high = wide if self.height is None and square else self.height
        return Lens(wide, high, self.fov, self.pitch, self.eye, self.panorama)


@dataclass(frozen=True)
class Lens:
    """How a camera takes its pictures.

    Args:
        width: columns.
        height: rows of a perspective picture; of a panorama where only that is asked for. None: the usual ones.
        fov: degrees across.
        pitch: degrees up.
        eye: metres above the ground.
        panorama: whether it looks all around.

    Raises:
        InputError: no pixels, or more than fit into memory; an angle that cannot be.
    """

    width: int = WIDTH
    height: int | None = None
    fov: float = 90.0
    pitch: float = 0.0
    eye: float = 1.7
    panorama: bool = False

    def __post_init__(self) -> None:
        width, height = self.size.values()
        if width < 1 or height < 1:
            raise InputError(f"a picture of {width} x {height} pixels is empty; give --width and --height of 1 or more")
        if width * height > LARGEST:
            raise InputError(
                f"a picture of {width} x {height} pixels is larger than {LARGEST:,} in all; make it smaller"
            )
        if not 0 < self.fov < 180:
            raise InputError(f"--fov {self.fov:g} is not between 0 and 180 degrees; use --panorama for all around")
        if not -90 <= self.pitch <= 90:
            raise InputError(f"--pitch {self.pitch:g} is not between -90 and 90 degrees")

    @property
    def size(self) -> dict[str, int]:
        """Width and height."""
        high = self.width * (2 if self.panorama else 3) // 4 if self.height is None else self.height
        return {"width": self.width, "height": high}

    def at(self, scene: Scene, position: Sequence[float], heading: float) -> AnyCamera:
        """A single camera at a local point."""
        from gensat.render.cameras import Camera, Panorama

        if self.panorama:
            return Panorama.looking(scene.frame, position, heading=heading, **self.size)
        return Camera.looking(scene.frame, position, heading=heading, pitch=self.pitch, fov=self.fov, **self.size)

    def along(self, scene: Scene, track: Track, speed: float | None, fps: float) -> list[AnyCamera]:
        """A camera a frame; every point of the track is on open ground inside the image."""
        import torch

        pace = speed if speed is not None or track.time is not None else PACE
        way = track.resampled(fps=fps, speed=pace).require_inside(scene.grid)
        if way.z is None:
            for x, y in zip(way.x, way.y, strict=True):
                scene.stand((float(x), float(y)), self.eye)

        def floor(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            return scene.height_at(torch.from_numpy(x), torch.from_numpy(y)).double().numpy()

        how: dict[str, Any] = {"eye": self.eye, "fov": self.fov, "pitch": self.pitch, **self.size}
        return list(way.cameras(ground=floor, panorama=self.panorama, **how))
