"""``gensat ground``: views from the ground, panoramas and walks through the place that an image shows from above."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gensat.cli import _options as options
from gensat.cli import _scene as scenes
from gensat.cli._console import Screen
from gensat.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from gensat.render.cameras import AnyCamera
    from gensat.render.scene import Scene

_CAMERA, _WALK, _OUT = "Camera", "Walk", options.WRITING
PICTURES, BUFFERS, VIDEOS = (".png", ".jpg", ".jpeg"), (".npz",), (".mp4", ".gif")


@options.spread
def ground(
    image: scenes.Picture,
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", help=".png, .jpg, .npz (all buffers), .mp4, .gif, or a folder.", rich_help_panel=_OUT
        ),
    ],
    at: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Where to stand, degrees; metres from the centre without a georeference.",
            metavar="LON LAT",
            rich_help_panel=_CAMERA,
        ),
    ] = None,
    heading: Annotated[float, typer.Option(help="Degrees clockwise from true north.", rich_help_panel=_CAMERA)] = 0.0,
    pitch: Annotated[float, typer.Option(help="Degrees up.", rich_help_panel=_CAMERA)] = 0.0,
    fov: Annotated[float, typer.Option(help="Horizontal field of view, degrees.", rich_help_panel=_CAMERA)] = 90.0,
    panorama: Annotated[
        bool,
        typer.Option(
            "--panorama", help="All around (equirectangular), heading in the middle.", rich_help_panel=_CAMERA
        ),
    ] = False,
    eye: Annotated[float, typer.Option(help="Metres above the ground.", rich_help_panel=_CAMERA)] = 1.7,
    width: Annotated[int | None, typer.Option(help="Pixels; 1024.", rich_help_panel=_CAMERA)] = None,
    height: Annotated[
        int | None, typer.Option(help="Pixels; half the width, 3/4 of it without --panorama.", rich_help_panel=_CAMERA)
    ] = None,
    samples: Annotated[int, typer.Option(help="n x n rays a pixel.", rich_help_panel=_CAMERA)] = 2,
    track: Annotated[
        Path | None,
        typer.Option(help="Way to walk: GeoJSON line, GPX, csv, nerfstudio camera path.", rich_help_panel=_WALK),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(help="Metres a second along the track; 1.4 where it says no time.", rich_help_panel=_WALK),
    ] = None,
    fps: Annotated[float, typer.Option(help="Frames a second.", rich_help_panel=_WALK)] = 12.0,
    *,
    geometry: scenes.Geometry,
    lighting: scenes.Lighting,
    device: options.Device = "auto",
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Stand where an image shows a place from above: a view, a panorama, or a walk, in true coordinates.

    gensat ground city.tif --buildings footprints.geojson --terrain dtm.tif --at -77.04 38.80 --heading 45 -o street.png
    """
    screen = Screen(quiet, json)
    path = Path(out)
    check_request(path, out, at, track, samples, overwrite=overwrite)
    began = clock.perf_counter()
    from gensat.diffusion.precision import choose
    from gensat.render.gbuffers import render
    from gensat.render.view import View
    from gensat.types import Place

    scene = geometry.scene(image)
    light = lighting.on(scene)
    size = (width or 1024, height or (width or 1024) * (2 if panorama else 3) // 4)
    shape: dict[str, Any] = {"width": size[0], "height": size[1]}
    if track is None:
        assert at is not None
        where = Place(*at) if scene.frame.crs is not None else at
        position = scene.stand(where, eye)
        cameras = [one_camera(scene, position, heading, pitch, fov, panorama, shape)]
    else:
        cameras = cameras_along(scene, track, speed, fps, eye, fov, pitch, panorama, shape)
    for note in scene.provenance["notes"]:
        screen.note(f"note: {note}")
    if lighting.facades is None:  # their tables are on the CPU
        scene = scene.to(choose(device=device).device)
    elif device not in ("auto", "cpu"):
        screen.note("note: facades are drawn on the CPU")
    loaded = clock.perf_counter()

    def view(camera: AnyCamera) -> View:
        return render(scene, camera, light=light, samples=samples)

    files = write(path, cameras, view, screen, fps=fps, overwrite=overwrite)
    seconds = clock.perf_counter() - loaded
    data = {
        "outputs": [str(file) for file in files],
        "frames": len(cameras),
        "width": size[0],
        "height": size[1],
        "geometry": scene.provenance["geometry"],
        "notes": scene.provenance["notes"],
        "load_seconds": round(loaded - began, 3),
        "seconds": round(seconds, 3),
    }
    shown = f"{files[0]}" if len(files) == 1 else f"{path}/  {len(files)} files"
    screen.result(data, f"{shown}  {len(cameras)} x {size[0]} x {size[1]} in {seconds:.1f} s")


def check_request(
    path: Path, out: str, at: tuple[float, float] | None, track: Path | None, samples: int, *, overwrite: bool
) -> None:
    """Raise InputError for what can be found wrong before anything is read."""
    from gensat.cli._output import check_folder
    from gensat.files import check_output

    if (at is None) == (track is None):
        raise InputError("give --at LON LAT for one view, or --track FILE for a walk")
    if not 1 <= samples <= 8:
        raise InputError(f"--samples is {samples}; give 1 to 8")
    if not out.strip():
        raise InputError("the output has no name; give a file such as street.png, or a folder")
    suffix = path.suffix.lower()
    if is_folder(path, out):
        check_folder(path, [], overwrite=overwrite)
        return
    allowed = VIDEOS if track is not None else (*PICTURES, *BUFFERS)
    if suffix not in allowed:
        what = "a walk" if track is not None else "one view"
        raise InputError(f"{path.name} cannot hold {what}; end it with {', '.join(allowed)}, or give a folder")
    check_output(path, overwrite)


def is_folder(path: Path, out: str | None = None) -> bool:
    """Whether an output names a folder."""
    return path.is_dir() or (out or "").endswith("/") or not path.suffix


def one_camera(
    scene: Scene,
    position: tuple[float, float, float],
    heading: float,
    pitch: float,
    fov: float,
    panorama: bool,
    shape: dict[str, int],
) -> AnyCamera:
    """The camera of a single view."""
    from gensat.render.cameras import Camera, Panorama

    if panorama:
        if pitch:
            raise InputError("a panorama looks everywhere at once, so it has no --pitch; leave it out")
        return Panorama.looking(scene.frame, position, heading=heading, **shape)
    return Camera.looking(scene.frame, position, heading=heading, pitch=pitch, fov=fov, **shape)


def cameras_along(
    scene: Scene,
    track: Path,
    speed: float | None,
    fps: float,
    eye: float,
    fov: float,
    pitch: float,
    panorama: bool,
    shape: dict[str, int],
) -> list[AnyCamera]:
    """A camera a frame along a track; every point of it on open ground inside the image."""
    import torch

    from gensat.render.track_files import read_track

    read = read_track(track, scene.frame, scene.grid)
    pace = speed if speed is not None or read.time is not None else 1.4  # an unhurried walk, m/s
    way = read.resampled(fps=fps, speed=pace).require_inside(scene.grid)
    if way.z is None:
        for x, y in zip(way.x, way.y, strict=True):
            scene.stand((float(x), float(y)), eye)

    def floor(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return scene.height_at(torch.from_numpy(x), torch.from_numpy(y)).double().numpy()

    return list(way.cameras(ground=floor, eye=eye, fov=fov, pitch=pitch, panorama=panorama, **shape))


def write(
    path: Path, cameras: list[AnyCamera], view: Any, screen: Screen, *, fps: float, overwrite: bool
) -> list[Path]:
    """Render and write, one view after the other; the files that were written."""
    if path.suffix.lower() in VIDEOS:
        from gensat.render.video import save_video

        def frames() -> Iterator[np.ndarray]:
            for camera in cameras:
                yield view(camera).image().array

        save_video(frames(), path, fps=fps, total=len(cameras), progress=not screen.quiet, overwrite=overwrite)
        return [path]
    if path.suffix.lower() in (*PICTURES, *BUFFERS) and not path.is_dir():
        view(cameras[0]).save(path, overwrite=overwrite)
        return [path]
    from gensat.cli._output import make_folder

    make_folder(path)
    files = []
    with screen.progress(len(cameras), "rendering") as step:
        for name, camera in zip(names(len(cameras)), cameras, strict=True):
            one = view(camera)
            for suffix in (".png", ".npz"):
                files.append(path / f"{name}{suffix}")
                one.save(files[-1], overwrite=overwrite)
            step()
    return files


def names(count: int) -> list[str]:
    """Of the views in a folder."""
    return ["view"] if count == 1 else [f"view-{i:05d}" for i in range(count)]


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(ground)
