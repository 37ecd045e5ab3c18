"""``gensat flood view``: a computed flood from the street, at the right depth."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gensat.cli import _options as options
from gensat.cli import _scene as scenes
from gensat.cli._console import Screen
from gensat.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from gensat.cli._ground import Lens

_CAMERA, _WATER = "Camera", "Water"
_NAMES = ("before.png", "view.png", "view.npz", "beside.png", "rising.mp4", "run.json")


@dataclass(frozen=True)
class Flood:
    """What the water is like, for commands made with :func:`gensat.cli._options.spread`."""

    water: Annotated[
        str, typer.Option(help="clear, lake, river, silt, mud, or g/m3 of sediment.", rich_help_panel=_WATER)
    ] = "silt"
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


@dataclass(frozen=True)
class Viewing:
    """Where one stands and how one looks."""

    heading: Annotated[float, typer.Option(help="Degrees clockwise from true north.", rich_help_panel=_CAMERA)] = 0.0
    pitch: Annotated[float, typer.Option(help="Degrees up.", rich_help_panel=_CAMERA)] = 0.0
    fov: Annotated[float, typer.Option(help="Horizontal field of view, degrees.", rich_help_panel=_CAMERA)] = 90.0
    panorama: Annotated[
        bool, typer.Option("--panorama", help="All around, heading in the middle.", rich_help_panel=_CAMERA)
    ] = False
    eye: Annotated[float, typer.Option(help="Metres above the ground, not the water.", rich_help_panel=_CAMERA)] = 1.7
    width: Annotated[int, typer.Option(help="Pixels.", rich_help_panel=_CAMERA)] = 1024
    height: Annotated[int | None, typer.Option(help="Pixels.", rich_help_panel=_CAMERA, show_default=False)] = None
    samples: Annotated[int, typer.Option(help="n x n rays a pixel.", rich_help_panel=_CAMERA)] = 2

    def lens(self) -> Lens:
        """Checked. Raises InputError for what cannot be."""
        from gensat.cli._ground import Lens

        if not 1 <= self.samples <= 8:
            raise InputError(f"--samples is {self.samples}; give 1 to 8")
        if self.panorama and self.pitch:
            raise InputError("a panorama looks everywhere at once, so it has no --pitch; leave it out")
        return Lens(self.width, self.height, self.fov, self.pitch, self.eye, self.panorama)


@options.spread
def view(
    image: options.Picture,
    at: Annotated[
        tuple[float, float],
        typer.Option(help="Where to stand, degrees; metres from the centre without a georeference.", metavar="LON LAT"),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out",
            "-o",
            help=".png, .jpg, .npz (all buffers); .mp4, .gif: the water rises; or a folder for all.",
            rich_help_panel=options.WRITING,
        ),
    ],
    depth: Annotated[
        Path | None,
        typer.Option(
            help="Depth raster of the flood: metres, 0 is dry, any CRS and resolution.", rich_help_panel=_WATER
        ),
    ] = None,
    level: Annotated[
        float | None,
        typer.Option(
            help="Instead: metres in the heights of the terrain; all that is lower is under water.",
            rich_help_panel=_WATER,
        ),
    ] = None,
    frames: Annotated[int, typer.Option(help="Of the rising water.")] = 48,
    fps: Annotated[float, typer.Option(help="Frames a second.")] = 12.0,
    *,
    viewing: Viewing,
    flood: Flood,
    geometry: scenes.Geometry,
    lighting: scenes.Lighting,
    device: options.Device = "auto",
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """See a computed flood from the street: the waterline where the depth has it, with what the water mirrors and lets through.

    gensat flood view city.tif --depth flood/depth.tif --buildings footprints.geojson --terrain dtm.tif --at -77.04 38.80 -o street.png

    gensat flood view city.tif --depth flood/depth.tif --heights dsm.tif --at -77.04 38.80 --gauge -77.041 38.801 -o street/
    """
    from gensat.cli._ground import BUFFERS, PICTURES, VIDEOS, Output
    from gensat.cli._output import check_folder, make_folder
    from gensat.files import check_output

    screen, lens, path = Screen(quiet, json), viewing.lens(), Path(out)
    folder = path.is_dir() or out.endswith("/") or not path.suffix
    if folder:
        check_folder(path, list(_NAMES), overwrite=overwrite)
    elif path.suffix.lower() not in (*PICTURES, *BUFFERS, *VIDEOS):
        raise InputError(
            f"{path.name} is no name for a view; end it with .png, .jpg, .npz, .mp4 or .gif, or give a folder"
        )
    else:
        check_output(path, overwrite)
    if (depth is None) == (level is None):
        raise InputError("give --depth FILE of a computed flood, or --level METRES of level water")
    if frames < 2 or not 0 < fps <= 120:
        raise InputError(
            f"{frames} frames at {fps:g} a second do not rise; give --frames of 2 or more and --fps up to 120"
        )
    if flood.staff is not None and flood.gauge is None:
        raise InputError("--staff is the height of the --gauge; give it, or leave it out")
    began = clock.perf_counter()
    from gensat.diffusion.precision import choose
    from gensat.geo.raster import open_image
    from gensat.render.export.place import place_of
    from gensat.render.flood_scene import Staff, depth_at, filled, flooded, require_above
    from gensat.render.flood_view import before_and_after, read_staff, rising
    from gensat.render.gbuffers import render
    from gensat.render.video import save_video
    from gensat.render.water import WaterLight
    from gensat.render.water_optics import Water
    from gensat.types import GeoImage, Place

    sediment = Water.named(_number(flood.water))
    dry = geometry.scene(image)
    light = lighting.on(dry)

    def local(where: tuple[float, float]) -> tuple[float, float]:
        return where if dry.frame.crs is None else tuple(float(v) for v in dry.frame.local(*where))  # type: ignore[return-value]

    position = dry.stand(at if dry.frame.crs is None else Place(*at), viewing.eye)
    scene = filled(dry, level) if depth is None else flooded(dry, open_image(depth))  # type: ignore[arg-type]
    staff = None if flood.gauge is None else Staff(*local(flood.gauge), 3.0 if flood.staff is None else flood.staff)
    if staff is not None:
        scene = staff.into(scene)
    camera = lens.at(scene, position, viewing.heading)
    require_above(scene, camera)
    scene = scene.to(choose(device=device).device)
    for note in scene.provenance["notes"]:
        screen.note(f"note: {note}")
    wet = WaterLight(scene, light, water=sediment, wind=flood.wind, seed=lighting.seed)
    here = depth_at(scene, position[0], position[1])
    loaded = clock.perf_counter()

    def grown() -> Iterator[np.ndarray]:
        for one, now in rising(scene, camera, wet, frames=frames, fps=fps, samples=viewing.samples):
            yield one.image().array if staff is None else read_staff(one, now, staff)

    def film(where: Path) -> None:
        save_video(grown(), where, fps=fps, total=frames, progress=not quiet, overwrite=overwrite)

    files, deep = [path], None if staff is None else depth_at(scene, staff.x, staff.y)
    if not folder and path.suffix.lower() in VIDEOS:
        film(path)
    else:
        seen = render(scene, camera, light=wet, shader=wet.shader, samples=viewing.samples)
        shown = seen.image()
        if staff is not None:
            shown = GeoImage(read_staff(seen, scene, staff), provenance={**shown.provenance, "gauge_depth": deep})
        if not folder:
            seen.save(path, overwrite=overwrite) if path.suffix.lower() in BUFFERS else shown.save(
                path, overwrite=overwrite
            )
        else:
            make_folder(path)
            files = [path / name for name in _NAMES[:-1]]
            first = render(dry.to(scene.image.device), camera, light=light, samples=viewing.samples).image()
            beside = GeoImage(before_and_after(first.array, shown.array), provenance=shown.provenance)
            for name, made in (("before.png", first), ("view.png", shown), ("view.npz", seen), ("beside.png", beside)):
                made.save(path / name, overwrite=overwrite)
            film(path / "rising.mp4")
    seconds = clock.perf_counter() - loaded
    data: dict[str, Any] = {
        "outputs": [str(file) for file in files],
        **lens.size,
        "depth_here": round(here, 3),
        "depth_gauge": None if deep is None else round(deep, 3),
        "depth_max": scene.provenance["flood_depth_max"],
        "notes": scene.provenance["notes"],
        "load_seconds": round(loaded - began, 3),
        "seconds": round(seconds, 3),
    }
    if folder:
        asked = {
            "image": image,
            "depth": depth,
            "level": level,
            "at": at,
            "frames": frames,
            "fps": fps,
            **asdict(viewing),
            **asdict(flood),
            **vars(geometry),
            **vars(lighting),
        }
        record = {"place": place_of(scene.frame), "scene": scene.provenance, **data}
        files.append(Output(path, True, False, False, overwrite).save_record(asked, record))
        data["outputs"] = [str(file) for file in files]
    what = str(path) if len(files) == 1 else f"{path}/  {len(files)} files"
    screen.result(data, f"{what}  {here:.2f} m of water where you stand, in {seconds:.1f} s")


def _number(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text
