"""What ``gensat flood view`` makes: pictures of a flood before one camera, and the files they go to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gensat.cli._ground import BUFFERS, PICTURES, VIDEOS
from gensat.cli._output import check_folder, make_folder
from gensat.errors import InputError
from gensat.files import check_output

if TYPE_CHECKING:
    import numpy as np

    from gensat.render.cameras import AnyCamera
    from gensat.render.flood_request import Course
    from gensat.render.flood_scene import Staff
    from gensat.render.scene import Scene
    from gensat.render.view import View
    from gensat.render.water import WaterLight
    from gensat.types import GeoImage

NAMES = ("before.png", "view.png", "view.npz", "beside.png", "rising.mp4", "run.json")


@dataclass(frozen=True)
class Output:
    """Where the pictures go, checked before anything is read.

    Args:
        path: a file, or a folder.
        folder: whether it is one.
        overwrite: whether files that exist are replaced.
    """

    path: Path
    folder: bool
    overwrite: bool

    @classmethod
    def check(cls, out: str, *, overwrite: bool) -> Output:
        """Raises InputError for a name that can hold no view, or that may not be written."""
        path = Path(out)
        made = cls(path, path.is_dir() or out.endswith("/") or not path.suffix, overwrite)
        if made.folder:
            check_folder(path, NAMES, overwrite=overwrite)
        elif path.suffix.lower() not in (*PICTURES, *BUFFERS, *VIDEOS):
            raise InputError(
                f"{path.name} is no name for a view; end it with .png, .jpg, .npz, .mp4 or .gif, or give a folder"
            )
        else:
            check_output(path, overwrite)
        return made

    @property
    def films(self) -> bool:
        """Whether water is shown that moves."""
        return self.folder or self.path.suffix.lower() in VIDEOS


@dataclass(frozen=True, eq=False)
class Street:
    """A flood before one camera.

    Args:
        course: of the water.
        scene: what a still shows, staff included, on its device.
        camera: above the water.
        light: of that scene.
        staff: to read the depth on, or None.
        samples: n x n rays a pixel.
    """

    course: Course
    scene: Scene
    camera: AnyCamera
    light: WaterLight
    staff: Staff | None
    samples: int

    def save(self, output: Output, *, frames: int, fps: float, progress: bool) -> list[Path]:
        """All files of a request but the record."""
        path, replace = output.path, output.overwrite

        def film(file: Path) -> None:
            from gensat.render.video import save_video

            save_video(self.film(frames, fps), file, fps=fps, total=frames, progress=progress, overwrite=replace)

        if not output.folder and output.films:
            film(path)
            return [path]
        seen = self.still()
        if not output.folder:
            made: Any = seen if path.suffix.lower() in BUFFERS else self.shown(seen)
            made.save(path, overwrite=replace)
            return [path]
        from gensat.render.flood_view import before_and_after
        from gensat.render.gbuffers import render
        from gensat.types import GeoImage

        make_folder(path)
        dry = self.course.dry.to(self.scene.image.device)
        first = render(dry, self.camera, light=self.light.base, samples=self.samples).image()
        shown = self.shown(seen)
        beside = GeoImage(before_and_after(first.array, shown.array), provenance=shown.provenance)
        for name, made in zip(NAMES, (first, shown, seen, beside), strict=False):
            made.save(path / name, overwrite=replace)
        film(path / "rising.mp4")
        return [path / name for name in NAMES[:-1]]

    def still(self) -> View:
        """What the camera sees."""
        from gensat.render.gbuffers import render

        return render(self.scene, self.camera, light=self.light, shader=self.light.shader, samples=self.samples)

    def shown(self, view: View) -> GeoImage:
        """Its picture, with the depth and the time written in, and both in its tags."""
        from gensat.types import GeoImage

        facts = {"gauge_depth": self.gauge(self.scene), "flood_seconds": self.course.seconds}
        told = {name: value for name, value in facts.items() if value is not None}
        if not told:
            return view.image()
        picture = self._picture(view, self.scene, self.course.seconds)
        return GeoImage(picture, provenance={**view.image().provenance, **told})

    def film(self, frames: int, fps: float) -> Iterator[np.ndarray]:
        """Pictures of the water as it comes."""
        from gensat.render.flood_view import filmed

        times: list[float | None] = []

        def scenes() -> Iterator[Scene]:
            for one, seconds in self.course.scenes(self.scene, frames, self.staff):
                times.append(seconds)
                yield one

        for view, now in filmed(scenes(), self.camera, self.light, fps=fps, samples=self.samples):
            yield self._picture(view, now, times[-1])

    def gauge(self, scene: Scene) -> float | None:
        """Metres of water at the staff."""
        from gensat.render.flood_scene import depth_at

        return None if self.staff is None else depth_at(scene, self.staff.x, self.staff.y)

    def _picture(self, view: View, scene: Scene, seconds: float | None) -> np.ndarray:
        from gensat.render.flood_view import read_staff, write_time

        picture = view.image().array if self.staff is None else read_staff(view, scene, self.staff)
        return picture if seconds is None else write_time(picture, seconds)
