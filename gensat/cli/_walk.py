"""Options of a walk, and where they lead: the cameras of ``gensat ground``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gensat.errors import InputError

if TYPE_CHECKING:
    from gensat.cli._camera import Lens
    from gensat.render.cameras import AnyCamera
    from gensat.render.paths import Track
    from gensat.render.scene import Scene
    from gensat.types import Place

_WALK = "Walk"


@dataclass(frozen=True)
class Walk:
    """Which way one walks, for commands made with :func:`gensat.cli._options.spread`."""

    track: Annotated[
        Path | None,
        typer.Option(help="Way to walk: GeoJSON line, GPX, csv, nerfstudio camera path.", rich_help_panel=_WALK),
    ] = None
    drawn_on: Annotated[
        tuple[int, int] | None,
        typer.Option(
            help="Size of the picture on which a --track in pixels (w,h,angle) was drawn; the image's own if not given.",
            metavar="WIDTH HEIGHT",
            rich_help_panel=_WALK,
        ),
    ] = None
    to: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Walk from --at to here, over open ground and around buildings; views without --heading look this way.",
            metavar="LON LAT",
            rich_help_panel=_WALK,
        ),
    ] = None
    speed: Annotated[
        float | None,
        typer.Option(help="Metres a second along the track; 1.4 where it says no time.", rich_help_panel=_WALK),
    ] = None
    fps: Annotated[float, typer.Option(help="Frames a second.", rich_help_panel=_WALK)] = 12.0
    frames: Annotated[
        bool, typer.Option("--frames", help="Keep each picture of the walk and its buffers.", rich_help_panel=_WALK)
    ] = False

    def check(self, at: tuple[float, float] | None) -> None:
        """Raise InputError for options that do not go together, or not with where one stands."""
        if at is None and self.track is None:
            raise InputError("give --at LON LAT for one view, or --track FILE for a walk")
        if self.to is not None and (at is None or self.track is not None):
            raise InputError("--to is where the walk from --at leads; give --at with it, and no --track")
        if self.drawn_on is not None and (self.track is None or min(self.drawn_on) < 1):
            raise InputError("--drawn-on is the width and height in pixels of the picture that a --track was drawn on")

    @property
    def asked(self) -> bool:
        """Whether anybody walks."""
        return self.track is not None or self.to is not None

    def way(self, scene: Scene, start: Place | Sequence[float] | None) -> Track | None:
        """Where to walk: a file's track, or around buildings from the start; None where nobody walks."""
        if self.track is not None:
            from gensat.render.track_files import read_track

            return read_track(self.track, scene.frame, scene.grid, drawn_on=self.drawn_on)
        if start is None or self.to is None:
            return None
        from gensat.render.ways import find_way

        return find_way(scene, start, place_in(scene, self.to))


def place_in(scene: Scene, where: tuple[float, float]) -> Place | tuple[float, float]:
    """What the two numbers of a place mean: degrees, or metres from the centre of an image without a georeference."""
    from gensat.types import Place

    return where if scene.frame.crs is None else Place(*where)


@dataclass(frozen=True, eq=False)
class Tour:
    """Where the cameras of a request are.

    Args:
        position: local x, y, z of single views; None: where the walk begins.
        heading: of single views, degrees clockwise from true north; None: along the walk, else 0.
        way: that is walked, or None.
        cameras: along it, one a frame.
    """

    position: Sequence[float] | None
    heading: float | None
    way: Track | None
    cameras: list[AnyCamera]

    @classmethod
    def of(cls, scene: Scene, lens: Lens, at: tuple[float, float] | None, heading: float | None, walk: Walk) -> Tour:
        """Raises InputError for a place where nobody can stand, or a way that nobody can walk."""
        start = None if at is None else place_in(scene, at)
        position = None if start is None else scene.stand(start, lens.eye)
        way = walk.way(scene, start)
        return cls(position, heading, way, [] if way is None else lens.along(scene, way, walk.speed, walk.fps))

    @property
    def standing(self) -> tuple[Sequence[float], float]:
        """Local x, y, z and heading of single views."""
        heading = self.heading
        if heading is None and self.way is not None:
            along = self.way.resampled(spacing=1.0).heading
            assert along is not None
            heading = float(along[0])
        return tuple(self.cameras[0].position) if self.position is None else self.position, heading or 0.0
