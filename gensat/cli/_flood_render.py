"""``gensat flood render``: an image of a place and the depth of its flood to an image of the flood."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from gensat.cli import _options as options
from gensat.cli._console import Screen, hush_libraries
from gensat.errors import InputError

_STANDING, _OPTICS, _PAINT = "What stands in the water", "Style optical", "Styles diffusion and pix2pixhd"


class Style(str, Enum):
    """How water is made."""

    optical = "optical"
    diffusion = "diffusion"
    pix2pixhd = "pix2pixhd"


@dataclass(frozen=True)
class Standing:
    """Options that say what rises above the water."""

    heights: Annotated[
        Path | None, typer.Option(help="Raster of metres above ground (DSM less DTM).", rich_help_panel=_STANDING)
    ] = None
    buildings: Annotated[Path | None, typer.Option(help="Or footprints with heights.", rich_help_panel=_STANDING)] = (
        None
    )
    height_field: Annotated[
        str | None, typer.Option(help="Attribute of their height, metres.", rich_help_panel=_STANDING)
    ] = None
    layout: Annotated[
        Path | None,
        typer.Option(help="Or a class map: houses count as 4 m high, trees as 8 m.", rich_help_panel=_STANDING),
    ] = None
    legend: Annotated[str | None, typer.Option(help="What its codes mean.", rich_help_panel=_STANDING)] = None


@dataclass(frozen=True)
class Optics:
    """Options of the style optical."""

    water: Annotated[
        str,
        typer.Option(
            help="clear, lake, river, silt, mud, or g/m3 of sediment; image: as the largest water in the image; or a mask of water in it: "
            "raster or polygons.",
            rich_help_panel=_OPTICS,
        ),
    ] = "silt"
    wind: Annotated[float, typer.Option(help="Metres per second, for waves and glint.", rich_help_panel=_OPTICS)] = 5.0
    sun: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Degrees from true north, degrees up.", metavar="AZ EL", rich_help_panel=_OPTICS),
    ] = None
    cloud: Annotated[float, typer.Option(help="Cover of the sky, 0 to 1.", rich_help_panel=_OPTICS)] = 0.2
    wavelengths: options.Wavelengths = None

    def of(self, image: Path) -> dict[str, Any]:
        """For ``picture_flood``. Raises InputError for wavelengths that are none."""
        from gensat.render.wavelengths import parse_wavelengths, read_wavelengths

        lengths = read_wavelengths(image) if self.wavelengths is None else parse_wavelengths(self.wavelengths)
        return {**vars(self), "wavelengths": lengths}


@dataclass(frozen=True)
class Painting:
    """Options of the styles that a network paints."""

    model: Annotated[
        str | None,
        typer.Option(help="Flood model; default gensat-flood. pix2pixhd: a converted folder.", rich_help_panel=_PAINT),
    ] = None
    prompt: Annotated[str | None, typer.Option(help="Words.", rich_help_panel=_PAINT)] = None
    negative: Annotated[str, typer.Option(help="What it should not show.", rich_help_panel=_PAINT)] = ""
    date: Annotated[str | None, typer.Option(help="YYYY, YYYY-MM or YYYY-MM-DD.", rich_help_panel=_PAINT)] = None
    steps: Annotated[int | None, typer.Option(help="Denoising steps.", rich_help_panel=_PAINT)] = None
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.", rich_help_panel=_PAINT)] = None
    grain: Annotated[
        float, typer.Option(help="Strength of the water's ripples; 0 for none.", rich_help_panel=_PAINT)
    ] = 1.0


@options.spread
def render(
    image: options.Picture,
    depth: Annotated[Path, typer.Option(help="Metres of water, 0 where dry; any CRS and resolution.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Image: .tif, .png or .jpg.", rich_help_panel=options.WRITING)
    ],
    *,
    style: Annotated[Style, typer.Option(help="optical: no network; diffusion; pix2pixhd.")] = Style.optical,
    gsd: options.PictureGsd = None,
    edge: Annotated[float, typer.Option(help="Pixels over which the water sets in, inside its shore.")] = 2.0,
    standing: Standing,
    optics: Optics,
    painting: Painting,
    seed: options.Seed = None,
    device: options.Device = "auto",
    dtype: options.DtypeOption = options.Dtype.auto,
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    given: options.Given,
) -> None:
    """Paint a computed flood into an image. Dry pixels stay as they are, and the water is exactly where the depth has it.

    gensat flood render city.tif --depth flood/depth.tif --buildings houses.geojson -o flooded.tif

    gensat flood render city.tif --depth flood/depth.tif --water mud --wind 4 -o flooded.tif

    gensat flood render coast.tif --depth flood/depth.tif --water image -o flooded.tif

    gensat flood render city.tif --depth flood/depth.tif --style diffusion --seed 1 -o flooded.tif
    """
    screen = Screen(quiet, json)
    check_request(style, out, optics, painting, given, overwrite=overwrite)
    began = clock.perf_counter()
    import gensat
    from gensat.geo.raster import open_image
    from gensat.hydro.over_image import lay_flood
    from gensat.pipelines.flood_styles import MODEL, picture_flood

    hush_libraries()
    with screen.listening():
        seen = optics.of(image)
        laid = lay_flood(open_image(image), str(depth), gsd=gsd, **vars(standing))
        pipe = None
        if style is not Style.optical:
            pipe = gensat.load(painting.model or MODEL, device=device, dtype=dtype.value)
            pipe.set_progress_bar_config(disable=True)
        steps = 1 if pipe is None else pipe.spec.defaults.steps
        with ExitStack() as stack:
            told = stack.enter_context(_painting(painting, steps, screen)) if style is Style.diffusion else {}
            made = picture_flood(laid, style.value, pipe=pipe, edge=edge, seed=seed, optics=seen, painting=told)
        for note in laid.notes:
            screen.note(f"note: {note}")
    made.provenance.update(image=image.name, depth=depth.name)
    made.save(out, overwrite=overwrite)
    seconds = clock.perf_counter() - began
    share, deepest = float(laid.seen.mean()), float(laid.depth[laid.seen].max())
    data = {
        "out": str(out),
        "style": style.value,
        "water_share": round(share, 4),
        "depth_max": round(deepest, 3),
        "water": made.provenance.get("water"),
        "seed": made.provenance.get("seed"),
        "notes": list(laid.notes),
        "seconds": round(seconds, 2),
    }
    screen.result(data, f"{out}  {share:.0%} under water, {deepest:.2f} m at most, {style.value} in {seconds:.1f} s")


def check_request(
    style: Style, out: Path, optics: Optics, painting: Painting, given: frozenset[str], *, overwrite: bool
) -> None:
    """Raise InputError for what can be found wrong before anything is read."""
    from gensat.files import check_output
    from gensat.geo.raster import image_suffix
    from gensat.render.water_seen import require_water

    image_suffix(out)
    check_output(out, overwrite)
    light, paint = set(Optics.__dataclass_fields__), set(Painting.__dataclass_fields__)
    foreign = {Style.optical: paint, Style.diffusion: light, Style.pix2pixhd: light | (paint - {"model"})}[style]
    if wrong := sorted(foreign & given):
        raise InputError(f"style {style.value} has no option --{wrong[0].replace('_', '-')}; leave it out")
    require_water(optics.water)
    if style is Style.pix2pixhd and painting.model is None:
        raise InputError(
            "no pix2pixHD weights are shipped; convert some (gensat models convert) and give --model FOLDER"
        )


@contextmanager
def _painting(painting: Painting, steps: int, screen: Screen) -> Iterator[dict[str, Any]]:
    """What a diffusion model is told, with a bar that follows its steps."""
    with screen.progress(painting.steps or steps, "painting") as advance:

        def on_step(pipe: Any, i: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
            advance()
            return {}

        told = {"prompt": painting.prompt} if painting.prompt is not None else {}
        yield {
            **told,
            "negative_prompt": painting.negative,
            "date": painting.date,
            "num_inference_steps": painting.steps,
            "guidance_scale": painting.guidance,
            "grain": painting.grain,
            "callback_on_step_end": on_step,
        }
