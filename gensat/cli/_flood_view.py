"""``gensat flood view``: a computed flood from the street, at the right depth."""

from __future__ import annotations

import time as clock
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from gensat.cli import _options as options
from gensat.cli import _scene as scenes
from gensat.cli._camera import CAMERA, Viewing
from gensat.cli._console import Screen
from gensat.errors import InputError

_WATER, _RISING = "Water", "Rising water"


@dataclass(frozen=True)
class Flood:
    """How deep the water is and what it is like, for commands made with :func:`gensat.cli._options.spread`."""

    depth: Annotated[
        Path | None,
        typer.Option(
            help="Depth raster of the flood: metres, 0 is dry, any CRS and resolution; or the folder of a flood simulated with --every, "
            "whose moments are shown.",
            rich_help_panel=_WATER,
        ),
    ] = None
    level: Annotated[
        float | None,
        typer.Option(
            help="Instead: metres in the heights of the terrain; all that is lower is under water.",
            rich_help_panel=_WATER,
        ),
    ] = None
    minute: Annotated[
        float | None,
        typer.Option(
            help="Of a folder's flood, for stills; when not given, that at which it is deepest at the camera.",
            rich_help_panel=_WATER,
            show_default=False,
        ),
    ] = None
    water: Annotated[
        str,
        typer.Option(
            help="clear, lake, river, silt, mud, or g/m3 of sediment; image: as the largest water in the image; or a mask of water in it: "
            "raster or polygons.",
            rich_help_panel=_WATER,
        ),
    ] = "silt"
    wavelengths: options.Wavelengths = None
    wind: Annotated[
        float, typer.Option(help="Metres a second, for ripples; 0 is a mirror.", rich_help_panel=_WATER)
    ] = 1.5
    gauge: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Put a staff with decimetre marks here and write the depth beside it.",
            metavar="LON LAT",
            rich_help_panel=_WATER,
        ),
    ] = None
    staff: Annotated[
        float | None, typer.Option(help="Metres of the staff; 3 when not given.", rich_help_panel=_WATER)
    ] = None
    frames: Annotated[int, typer.Option(help="Of .mp4 and .gif.", rich_help_panel=_RISING)] = 48
    fps: Annotated[float, typer.Option(help="Frames a second.", rich_help_panel=_RISING)] = 12.0

    def check(self, *, film: bool) -> None:
        """Raise InputError for options that do not go together, or not with a file that is a ``film`` and nothing else."""
        if (self.depth is None) == (self.level is None):
            raise InputError("give --depth FILE of a computed flood, or --level METRES of level water")
        from gensat.render.water_seen import is_seen, require_water

        require_water(self.water)
        if self.wavelengths is not None and not is_seen(self.water):
            raise InputError(
                "--wavelengths tell the bands in which --water image is seen; give both, or leave them out"
            )
        if self.frames < 2 or not 0 < self.fps <= 120:
            raise InputError(
                f"{self.frames} frames at {self.fps:g} a second do not rise; give --frames of 2 or more and --fps up to 120"
            )
        if self.staff is not None and self.gauge is None:
            raise InputError("--staff is the height of the --gauge; give it, or leave it out")
        if self.minute is not None and (film or self.depth is None or not self.depth.is_dir()):
            raise InputError("--minute is for a still of a folder's flood (--depth FOLDER/); leave it out")


@options.spread
def view(
    image: options.Picture,
    at: Annotated[
        tuple[float, float],
        typer.Option(
            help="Where to stand, degrees; metres from the centre without a georeference.",
            metavar="LON LAT",
            rich_help_panel=CAMERA,
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            help=".png, .jpg, .npz (all buffers); .mp4, .gif: the water comes; or a folder for all.",
            rich_help_panel=options.WRITING,
        ),
    ],
    *,
    flood: Flood,
    viewing: Viewing,
    geometry: scenes.Geometry,
    lighting: scenes.Lighting,
    device: options.Device = "auto",
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """See a computed flood from the street: the waterline where the depth has it, with what the water mirrors and lets through.

    gensat flood view city.tif --depth flood/depth.tif --buildings footprints.geojson --terrain dtm.tif --at -77.04 38.80 -o street.png

    gensat flood view city.tif --depth flood/ --heights dsm.tif --at -77.04 38.80 --gauge -77.041 38.801 -o street/
    """
    from gensat.cli._flood_street import Output, Street

    screen, lens, output = Screen(quiet, json), viewing.lens(), Output.check(out, overwrite=overwrite)
    flood.check(film=output.films and not output.folder)
    began = clock.perf_counter()
    from gensat.cli._record import save_record
    from gensat.cli._walk import place_in
    from gensat.diffusion.precision import choose
    from gensat.render.export.place import place_of
    from gensat.render.flood_request import open_flood
    from gensat.render.flood_scene import Staff, depth_at, require_above
    from gensat.render.water import WaterLight
    from gensat.render.water_seen import water_of

    water = water_of(flood.water, image, flood.wavelengths)
    dry = geometry.scene(image)
    position = dry.stand(place_in(dry, at), lens.eye)
    points = [position[:2]]
    if flood.gauge is not None:
        where = flood.gauge if dry.frame.crs is None else dry.frame.local(*flood.gauge)
        points.append((float(where[0]), float(where[1])))
    course = open_flood(dry, depth=flood.depth, level=flood.level, minute=flood.minute, points=points)
    if output.films and course.steps is not None and len(course.steps) < 2:
        raise InputError(f"{flood.depth} holds one moment, which does not move; give that raster itself as --depth")
    staff = None if flood.gauge is None else Staff(*points[1], 3.0 if flood.staff is None else flood.staff)
    scene = course.scene if staff is None else staff.into(course.scene)
    camera = lens.at(scene, position, viewing.heading or 0.0)
    require_above(scene, camera)
    if course.steps is not None and output.films:  # now, not when the film comes to it
        require_above(course.steps.scene(dry, course.steps.deepest(dry, *points[:1])), camera)
    scene = scene.to(choose(device=device).device)
    for note in scene.provenance["notes"]:
        screen.note(f"note: {note}")
    light = WaterLight(scene, lighting.on(dry), water=water, wind=flood.wind, seed=lighting.seed)
    street = Street(course, scene, camera, light, staff, viewing.samples)
    loaded = clock.perf_counter()
    files = street.save(output, frames=flood.frames, fps=flood.fps, progress=not quiet)
    seconds, here, deep = clock.perf_counter() - loaded, depth_at(scene, *position[:2]), street.gauge(scene)
    data: dict[str, Any] = {
        "outputs": [str(file) for file in files],
        **lens.size,
        "depth_here": round(here, 3),
        "depth_gauge": None if deep is None else round(deep, 3),
        "depth_max": scene.provenance["flood_depth_max"],
        "flood_seconds": course.seconds,
        "water": {"sediment": float(water.sediment), "dissolved": float(water.dissolved)},
        "moments": None if course.steps is None else len(course.steps),
        "notes": scene.provenance["notes"],
        "load_seconds": round(loaded - began, 3),
        "seconds": round(seconds, 3),
    }
    if output.folder:
        asked = {"image": image, "at": at}
        for group in (viewing, flood, geometry, lighting):
            asked |= vars(group)
        record = {"place": place_of(scene.frame), "scene": scene.provenance, **data}
        files.append(save_record(output.path, asked, record, overwrite=overwrite))
        data["outputs"] = [str(file) for file in files]
    screen.result(data, f"{_said(output.path, files)}  {_depth(here, course.seconds)}, in {seconds:.1f} s")


def _said(path: Path, files: list[Path]) -> str:
    return str(path) if len(files) == 1 else f"{path}/  {len(files)} files"


def _depth(here: float, seconds: float | None) -> str:
    from gensat.render.flood_view import time_text

    return f"{here:.2f} m of water where you stand{'' if seconds is None else ' after ' + time_text(seconds)}"
