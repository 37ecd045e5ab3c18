"""``gensat ground``: views from the ground, panoramas and walks through the place that an image shows from above."""

from __future__ import annotations

import time as clock
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gensat.cli import _options as options
from gensat.cli import _published as networks
from gensat.cli import _scene as scenes
from gensat.cli._camera import CAMERA, Viewing
from gensat.cli._console import Screen
from gensat.cli._walk import Walk

if TYPE_CHECKING:
    from gensat.render.cameras import AnyCamera
    from gensat.render.view import View


@options.spread
def ground(
    image: options.Picture,
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            help=".png, .jpg, .npz (all buffers), .mp4, .gif; or a folder, for views, walk and 3-D scene.",
            rich_help_panel=options.WRITING,
        ),
    ],
    at: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Where to stand, degrees; metres from the centre without a georeference.",
            metavar="LON LAT",
            rich_help_panel=CAMERA,
        ),
    ] = None,
    *,
    viewing: Viewing,
    walk: Walk,
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
    from gensat.cli._ground import Output

    screen, one = Screen(quiet, json), at is not None and walk.to is None
    walk.check(at)
    published.check(given)
    space = ("scene.glb",) if published.model is None else ("above.tif", "heights.tif")
    output = Output.check(out, one=one, walks=walk.asked, frames=walk.frames, overwrite=overwrite, space=space)
    if published.model is not None:
        networks.views_of_model(
            published, image, output, viewing.lens(networks.SIDE, square=True), screen, at=at, heading=viewing.heading, walk=walk,
            light=lighting.light, seed=lighting.seed or None, gsd=geometry.gsd, device=device,
        )  # fmt: skip
        return
    refining.check()
    lens = viewing.lens()
    began = clock.perf_counter()
    from gensat.cli._record import save_record
    from gensat.cli._walk import Tour
    from gensat.diffusion.precision import choose
    from gensat.render.export.place import place_of
    from gensat.render.gbuffers import render
    from gensat.render.streets.dress import DressedLight

    scene = geometry.scene(image)
    light = lighting.on(scene)
    tour = Tour.of(scene, lens, at, viewing.heading, walk)
    for note in scene.provenance["notes"]:
        screen.note(f"note: {note}")
    scene = scene.to(choose(device=device).device)
    dressed = light if isinstance(light, DressedLight) else None
    if dressed is not None and lighting.facades is None:
        screen.note(f"note: walls are invented, as of a {dressed.style}; another style or plain walls: --facades")
    loaded = clock.perf_counter()

    def raw(camera: AnyCamera) -> View:
        return render(scene, camera, light=light, samples=viewing.samples)

    look = refining.on(raw, seed=lighting.seed, device=device)
    if output.folder:
        files = output.save_all(scene, look, lens, tour, walk.fps, screen, dressed)
    elif walk.asked:
        files = output.save_walk(map(look, tour.cameras), len(tour.cameras), walk.fps, screen)
    else:
        files = output.save_one(look(lens.at(scene, *tour.standing)))
    seconds = clock.perf_counter() - loaded
    data: dict[str, Any] = {
        "outputs": [str(file) for file in files],
        "frames": max(len(tour.cameras), 1),
        **lens.size,
        "geometry": scene.provenance["geometry"],
        "notes": scene.provenance["notes"],
        "facades": None if dressed is None else dressed.style,
        "load_seconds": round(loaded - began, 3),
        "seconds": round(seconds, 3),
    }
    if output.folder:
        asked = {"image": image, "at": at}
        for group in (viewing, lens, walk, geometry, lighting, refining):
            asked |= vars(group)
        came = {name: value for name, value in data.items() if name not in ("geometry", "notes")}
        record = {"place": place_of(scene.frame), "scene": scene.provenance, **came}
        files.append(save_record(output.path, asked, record, overwrite=overwrite))
        data["outputs"] = [str(file) for file in files]
    shown = str(files[0]) if len(files) == 1 else f"{output.path}/  {len(files)} files"
    screen.result(data, f"{shown}  {data['frames']} x {data['width']} x {data['height']} in {seconds:.1f} s")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(ground)
