"""``gensat ground``: views from the ground, panoramas and walks through the place that an image shows from above."""

from __future__ import annotations

import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gensat.cli import _options as options
from gensat.cli import _published as networks
from gensat.cli import _scene as scenes
from gensat.cli._console import Screen
from gensat.errors import InputError

if TYPE_CHECKING:
    from gensat.render.cameras import AnyCamera
    from gensat.render.view import View

_CAMERA, _WALK, _OUT = "Camera", "Walk", options.WRITING


@options.spread
def ground(
    image: options.Picture,
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            help=".png, .jpg, .npz (all buffers), .mp4, .gif; or a folder, for views, walk and 3-D scene.",
            rich_help_panel=_OUT,
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
    heading: Annotated[
        float | None,
        typer.Option(help="Degrees clockwise from true north; 0, or the way one walks.", rich_help_panel=_CAMERA),
    ] = None,
    pitch: Annotated[float, typer.Option(help="Degrees up.", rich_help_panel=_CAMERA)] = 0.0,
    fov: Annotated[float, typer.Option(help="Horizontal field of view, degrees.", rich_help_panel=_CAMERA)] = 90.0,
    panorama: Annotated[
        bool,
        typer.Option(
            "--panorama", help="All around (equirectangular), heading in the middle.", rich_help_panel=_CAMERA
        ),
    ] = False,
    eye: Annotated[float, typer.Option(help="Metres above the ground.", rich_help_panel=_CAMERA)] = 1.7,
    width: Annotated[
        int | None, typer.Option(help="Pixels; 1024, with --model 256.", rich_help_panel=_CAMERA, show_default=False)
    ] = None,
    height: Annotated[
        int | None,
        typer.Option(
            help="Pixels; half the width, 3/4 of it without --panorama, with --model as much.",
            rich_help_panel=_CAMERA,
            show_default=False,
        ),
    ] = None,
    samples: Annotated[int, typer.Option(help="n x n rays a pixel.", rich_help_panel=_CAMERA)] = 2,
    track: Annotated[
        Path | None,
        typer.Option(help="Way to walk: GeoJSON line, GPX, csv, nerfstudio camera path.", rich_help_panel=_WALK),
    ] = None,
    drawn_on: Annotated[
        tuple[int, int] | None,
        typer.Option(
            help="Size of the picture on which a --track in pixels (w,h,angle) was drawn; the image's own if not given.",
            metavar="WIDTH HEIGHT",
            rich_help_panel=_WALK,
        ),
    ] = None,
    to: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Walk from --at to here, over open ground and around buildings.",
            metavar="LON LAT",
            rich_help_panel=_WALK,
        ),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(help="Metres a second along the track; 1.4 where it says no time.", rich_help_panel=_WALK),
    ] = None,
    fps: Annotated[float, typer.Option(help="Frames a second.", rich_help_panel=_WALK)] = 12.0,
    frames: Annotated[
        bool, typer.Option("--frames", help="Keep each picture of the walk and its buffers.", rich_help_panel=_WALK)
    ] = False,
    *,
    geometry: scenes.Geometry,
    lighting: scenes.Lighting,
    refining: scenes.Refining,
    published: networks.Published,
    given: options.Given,
    device: options.Device = "auto",
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Stand where an image shows a place from above: a view, a panorama, or a walk, in true coordinates.

    gensat ground city.tif --buildings footprints.geojson --terrain dtm.tif --at -77.04 38.80 --heading 45 -o street.png

    gensat ground city.tif --heights dsm.tif --at -77.05 38.81 --to -77.04 38.81 -o walk/
    """
    from gensat.cli._ground import WIDTH, Lens, Output, find_track, first_heading

    screen = Screen(quiet, json)
    if at is None and track is None:
        raise InputError("give --at LON LAT for one view, or --track FILE for a walk")
    if to is not None and (at is None or track is not None):
        raise InputError("--to is where the walk from --at leads; give --at with it, and no --track")
    if not 1 <= samples <= 8:
        raise InputError(f"--samples is {samples}; give 1 to 8")
    if drawn_on is not None and (track is None or min(drawn_on) < 1):
        raise InputError("--drawn-on is the width and height in pixels of the picture that a --track was drawn on")
    published.check(given)
    walks = track is not None or to is not None
    space = ("scene.glb",) if published.model is None else ("above.tif", "heights.tif")
    one = at is not None and to is None
    output = Output.check(out, one=one, walks=walks, frames=frames, overwrite=overwrite, space=space)
    if panorama and pitch:
        raise InputError("a panorama looks everywhere at once, so it has no --pitch; leave it out")
    if published.model is not None:
        wide = networks.SIDE if width is None else width
        lens = Lens(wide, wide if height is None else height, fov, pitch, eye, panorama)
        networks.views_of_model(
            published, image, output, lens, screen,
            at=at, heading=heading, track=track, drawn_on=drawn_on, speed=speed, fps=fps,
            light=lighting.light, seed=lighting.seed or None, gsd=geometry.gsd, device=device,
        )  # fmt: skip
        return
    refining.check()
    lens = Lens(WIDTH if width is None else width, height, fov, pitch, eye, panorama)
    began = clock.perf_counter()
    from gensat.diffusion.precision import choose
    from gensat.render.export.place import place_of
    from gensat.render.gbuffers import render
    from gensat.render.streets.dress import DressedLight
    from gensat.types import Place

    scene = geometry.scene(image)
    light = lighting.on(scene, painted=refining.refine is not None)
    placed = scene.frame.crs is not None
    start, end = (where if where is None or not placed else Place(*where) for where in (at, to))
    position = None if start is None else scene.stand(start, eye)
    way = find_track(scene, start, end, track, drawn_on)
    cameras = [] if way is None else lens.along(scene, way, speed, fps)
    for note in scene.provenance["notes"]:
        screen.note(f"note: {note}")
    scene = scene.to(choose(device=device).device)
    dressed = light if isinstance(light, DressedLight) else None
    if dressed is not None and lighting.facades is None:
        screen.note(f"note: walls are invented, as of a {dressed.style}; another style or plain walls: --facades")
    loaded = clock.perf_counter()

    def raw(camera: AnyCamera) -> View:
        return render(scene, camera, light=light, samples=samples)

    look = refining.on(raw, seed=lighting.seed, device=device)
    if output.folder:
        if position is None:
            position = tuple(cameras[0].position)
        if heading is None and way is not None:
            heading = first_heading(way)
        files = output.save_all(scene, look, lens, (position, heading or 0.0), way, cameras, fps, screen, dressed)
    elif walks:
        files = output.save_walk(map(look, cameras), len(cameras), fps, screen)
    else:
        assert position is not None
        files = output.save_one(look(lens.at(scene, position, heading or 0.0)))
    seconds = clock.perf_counter() - loaded
    data = {
        "outputs": [str(file) for file in files],
        "frames": max(len(cameras), 1),
        **lens.size,
        "geometry": scene.provenance["geometry"],
        "notes": scene.provenance["notes"],
        "facades": None if dressed is None else dressed.style,
        "load_seconds": round(loaded - began, 3),
        "seconds": round(seconds, 3),
    }
    if output.folder:
        asked = {"image": image, "at": at, "to": to, "track": track, "speed": speed, "fps": fps, "samples": samples}
        asked |= {**vars(lens), **vars(geometry), **vars(lighting), **vars(refining)}
        came = {name: value for name, value in data.items() if name not in ("geometry", "notes")}
        record = {"place": place_of(scene.frame), "scene": scene.provenance, **came}
        files.append(output.save_record(asked, record))
        data["outputs"] = [str(file) for file in files]
    shown = str(files[0]) if len(files) == 1 else f"{output.path}/  {len(files)} files"
    screen.result(data, f"{shown}  {data['frames']} x {data['width']} x {data['height']} in {seconds:.1f} s")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(ground)
