"""What ``gensat ground`` makes: cameras at a place and along a way, and the files of a request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gensat import __version__
from gensat.cli._console import Screen
from gensat.cli._output import check_folder, make_folder
from gensat.errors import InputError
from gensat.files import check_output, write_bytes

if TYPE_CHECKING:
    import numpy as np

    from gensat.render.cameras import AnyCamera
    from gensat.render.paths import Track
    from gensat.render.scene import Scene
    from gensat.render.streets.look import StreetLight
    from gensat.render.view import View
    from gensat.types import Place

PICTURES, BUFFERS, VIDEOS = (".png", ".jpg", ".jpeg"), (".npz",), (".mp4", ".gif")
PACE = 1.4  # metres a second, an unhurried walk
LARGEST = 2**26  # pixels: their buffers are 7 GB
WIDTH = 1024  # pixels of a picture where nothing else is said


def check_size(width: int, height: int) -> None:
    """Raise InputError for a picture without pixels, or with more than fit into memory."""
    if width < 1 or height < 1:
        raise InputError(f"a picture of {width} x {height} pixels is empty; give --width and --height of 1 or more")
    if width * height > LARGEST:
        raise InputError(f"a picture of {width} x {height} pixels is larger than {LARGEST:,} in all; make it smaller")


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
        check_size(**self.size)
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
        standing: tuple[Sequence[float], float],
        track: Track | None,
        cameras: Sequence[AnyCamera],
        fps: float,
        screen: Screen,
        facades: StreetLight | None = None,
    ) -> list[Path]:
        """A folder: a view and a panorama from ``standing`` (local x, y, z and heading), the walk, and the scene as glTF, its walls as ``facades`` has them.

        A panorama beside a view is twice as wide, as it shows four times as much.
        """
        from gensat.render.export.scene import save_scene
        from gensat.render.track_files import save_track

        one = replace(lens, panorama=False, height=None) if lens.panorama else lens
        around = lens if lens.panorama else replace(lens, panorama=True, width=2 * lens.width, height=None)
        views = {"view": look(one.at(scene, *standing)), "panorama": look(around.at(scene, *standing))}
        files = self.save_standing(views, screen)
        if track is not None:
            if scene.frame.crs is not None:
                files.append(self.path / "track.geojson")
                save_track(track, files[-1], overwrite=self.overwrite)
            files += self.save_walk(map(look, cameras), len(cameras), fps, screen, self.path / "walk.mp4")
            screen.note(f"{self.path / 'walk.mp4'}")
        files.append(self.path / "scene.glb")
        save_scene(scene.to("cpu"), files[-1], facades=facades, overwrite=self.overwrite)
        return files

    def save_record(self, asked: Mapping[str, Any], came: Mapping[str, Any]) -> Path:
        """``run.json`` in a folder: what was asked for (files by name and content), and what came of it."""
        facts = {
            "software": f"gensat {__version__}",
            "synthetic": True,
            "asked": {name: _named(value) for name, value in asked.items() if value is not None},
            "inputs": {name: _fingerprint(value) for name, value in asked.items() if _is_file(value)},
            **came,
            "outputs": [Path(file).relative_to(self.path).as_posix() for file in came["outputs"]],
        }
        path = self.path / "run.json"
        write_bytes(path, json.dumps(facts, indent=2).encode(), self.overwrite)
        return path


def _is_file(value: Any) -> bool:
    return isinstance(value, (str, Path)) and bool(str(value)) and Path(value).is_file()


def _named(value: Any) -> Any:
    """What a record says of an option: a path by its last name, as the tags of images do; folders of this machine are nobody's business."""
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str) or not ("/" in value or "\\" in value):
        return value
    before, colon, after = value.partition(":")
    return before + colon + Path(after).name if colon and "/" not in before else Path(value).name


def _fingerprint(path: str | Path) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with Path(path).open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
            size += len(block)
    return {"file": Path(path).name, "bytes": size, "sha256": digest.hexdigest()}


def first_heading(track: Track) -> float:
    """Degrees clockwise from true north in which a walk begins."""
    heading = track.resampled(spacing=1.0).heading
    assert heading is not None
    return float(heading[0])


def find_track(
    scene: Scene,
    start: Place | Sequence[float] | None,
    end: Place | Sequence[float] | None,
    file: Path | None,
    drawn_on: tuple[int, int] | None = None,
) -> Track | None:
    """The way to walk: of a file, or around buildings from one place to another; None where nobody walks."""
    if file is not None:
        from gensat.render.track_files import read_track

        return read_track(file, scene.frame, scene.grid, drawn_on=drawn_on)
    if start is None or end is None:
        return None
    from gensat.render.ways import find_way

    return find_way(scene, start, end)
