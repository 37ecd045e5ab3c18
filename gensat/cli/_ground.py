"""The files of a request to ``gensat ground``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gensat.cli._console import Screen
from gensat.cli._output import check_folder, make_folder
from gensat.errors import InputError
from gensat.files import check_output

if TYPE_CHECKING:
    import numpy as np

    from gensat.cli._camera import Lens
    from gensat.cli._walk import Tour
    from gensat.render.cameras import AnyCamera
    from gensat.render.scene import Scene
    from gensat.render.streets.look import StreetLight
    from gensat.render.view import View

PICTURES, BUFFERS, VIDEOS = (".png", ".jpg", ".jpeg"), (".npz",), (".mp4", ".gif")


@dataclass(frozen=True)
class Output:
    """Where the results of a request go, checked before anything is read.

    Args:
        path: a file, or a folder.
        folder: whether it is one.
        walks: whether there is a way to walk.
        frames: whether each picture of the walk is kept in the folder.
        overwrite: whether files that exist are replaced.
        space: files of a folder that hold the place itself.
    """

    path: Path
    folder: bool
    walks: bool
    frames: bool
    overwrite: bool
    space: tuple[str, ...] = ("scene.glb",)

    @classmethod
    def check(
        cls, out: str, *, one: bool, walks: bool, frames: bool, overwrite: bool, space: tuple[str, ...] = ("scene.glb",)
    ) -> Output:
        """Raises InputError for a name that cannot hold what was asked for, or that may not be written."""
        path = Path(out)
        if not out.strip():
            raise InputError("the output has no name; give a file such as street.png, or a folder")
        folder = path.is_dir() or out.endswith("/") or not path.suffix
        output = cls(path, folder, walks, frames, overwrite, space)
        if folder:
            check_folder(path, output.names, overwrite=overwrite)
            kept = path / "frames"
            if frames and kept.exists() and not (overwrite and kept.is_dir()):
                raise InputError(f"output {kept} exists; choose another name or overwrite it with --overwrite")
            return output
        if frames:
            raise InputError("frames are for a folder; end the output with /, or leave --frames out")
        if one and walks:
            raise InputError("one file holds a view or a walk; give --at or --track, or a folder (-o NAME/) for both")
        if path.suffix.lower() not in (VIDEOS if walks else (*PICTURES, *BUFFERS)):
            what, ends = ("a walk", VIDEOS) if walks else ("one view", (*PICTURES, *BUFFERS))
            raise InputError(f"{path.name} cannot hold {what}; end it with {', '.join(ends)}, or give a folder")
        check_output(path, overwrite)
        return output

    @property
    def names(self) -> list[str]:
        """Files of a folder, in the order in which they are written."""
        standing = ["view.png", "view.npz", "panorama.png", "panorama.npz"]
        return [*standing, *(["track.geojson", "walk.mp4"] if self.walks else []), *self.space, "run.json"]

    def save_one(self, view: View) -> list[Path]:
        """One view as a file."""
        view.save(self.path, overwrite=self.overwrite)
        return [self.path]

    def save_standing(self, views: Mapping[str, View], screen: Screen) -> list[Path]:
        """Views of a folder by name, each as a picture and with all buffers; the folder is made."""
        make_folder(self.path)
        files = []
        for name, view in views.items():
            for suffix in (".png", ".npz"):
                files.append(self.path / f"{name}{suffix}")
                view.save(files[-1], overwrite=self.overwrite)
            screen.note(f"{files[-2]}")
        return files

    def save_walk(
        self, views: Iterable[View], count: int, fps: float, screen: Screen, path: Path | None = None
    ) -> list[Path]:
        """A video; with ``frames`` also each picture and its buffers, in a folder beside it."""
        from gensat.render.video import save_video

        path = path or self.path
        files = [path]

        def frames() -> Iterator[np.ndarray]:
            for number, view in enumerate(views):
                if self.frames:
                    for suffix in (".png", ".npz"):
                        files.append(path.parent / "frames" / f"frame-{number:05d}{suffix}")
                        view.save(files[-1], overwrite=self.overwrite)
                yield view.image().array

        if self.frames:
            make_folder(path.parent / "frames")
        save_video(frames(), path, fps=fps, total=count, progress=not screen.quiet, overwrite=self.overwrite)
        return files

    def save_all(
        self,
        scene: Scene,
        look: Callable[[AnyCamera], View],
        lens: Lens,
        tour: Tour,
        fps: float,
        screen: Screen,
        facades: StreetLight | None = None,
    ) -> list[Path]:
        """A folder: a view and a panorama from where one stands, the walk, and the scene as glTF, its walls as ``facades`` has them.

        A panorama beside a view is twice as wide, as it shows four times as much.
        """
        from gensat.render.export.scene import save_scene
        from gensat.render.track_files import save_track

        one = replace(lens, panorama=False, height=None) if lens.panorama else lens
        around = lens if lens.panorama else replace(lens, panorama=True, width=2 * lens.width, height=None)
        standing = tour.standing
        views = {"view": look(one.at(scene, *standing)), "panorama": look(around.at(scene, *standing))}
        files = self.save_standing(views, screen)
        if tour.way is not None:
            if scene.frame.crs is not None:
                files.append(self.path / "track.geojson")
                save_track(tour.way, files[-1], overwrite=self.overwrite)
            files += self.save_walk(map(look, tour.cameras), len(tour.cameras), fps, screen, self.path / "walk.mp4")
            screen.note(f"{self.path / 'walk.mp4'}")
        files.append(self.path / "scene.glb")
        save_scene(scene.to("cpu"), files[-1], facades=facades, overwrite=self.overwrite)
        return files
