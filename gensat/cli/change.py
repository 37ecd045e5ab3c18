"""``gensat change``: fire, melting ice and new forest painted into an image where a mask has them."""

from __future__ import annotations

import time as clock
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from gensat.cli import _options as options
from gensat.cli._console import Screen

Mask = Annotated[
    Path, typer.Option(help="Where: a raster (anything but 0), or polygons in a vector file; any CRS and resolution.")
]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        help="Image: .tif or .png, which keep all else bit for bit, or .jpg.",
        rich_help_panel=options.WRITING,
    ),
]
Edge = Annotated[float, typer.Option(help="Pixels over which it sets in, inside the mask.")]


@dataclass(frozen=True)
class Reading:
    """How the image is read, for commands made with :func:`gensat.cli._options.spread`."""

    gsd: options.PictureGsd = None
    wavelengths: options.Wavelengths = None
    seed: Annotated[int, typer.Option(help="Of what is strewn; tied to the place.")] = 0

    @property
    def nanometres(self) -> list[float] | None:
        """Raises InputError for what is no list of numbers."""
        if self.wavelengths is None:
            return None
        from gensat.render.wavelengths import parse_wavelengths

        return parse_wavelengths(self.wavelengths)


@dataclass(frozen=True)
class Writing:
    """What is said and written over."""

    json: options.Json = False
    overwrite: options.Overwrite = False
    quiet: options.Quiet = False


@options.spread
def burn(
    image: options.Picture,
    mask: Mask,
    out: Out,
    *,
    severity: Annotated[str, typer.Option(help="Burnt share of the ground, 0 to 1; or a raster of it.")] = "0.8",
    ash: Annotated[float, typer.Option(help="Share of white ash in what burnt completely.")] = 0.08,
    patches: Annotated[float, typer.Option(help="How unevenly it burnt, 0 to 1.")] = 0.5,
    edge: Edge = 2.0,
    reading: Reading,
    writing: Writing,
) -> None:
    """Burn the ground: a mixture of what stood there, char and ash, in all bands of reflected light.

    gensat change burn before.tif --mask perimeter.geojson --severity 0.9 -o burnt.tif
    """
    how = {"severity": severity, "ash": ash, "patches": patches, "edge": edge}
    _make("burn", image, mask, out, reading, writing, how)


@options.spread
def melt(
    image: options.Picture,
    mask: Mask,
    out: Out,
    *,
    share: Annotated[float, typer.Option(help="Of the ice that becomes open water, 0 to 1.")] = 0.5,
    floes: Annotated[float, typer.Option(help="Metres of a floe.")] = 40.0,
    water: Annotated[str, typer.Option(help="clear, lake, river, silt, mud, or g/m3 of sediment.")] = "clear",
    edge: Edge = 1.0,
    reading: Reading,
    writing: Writing,
) -> None:
    """Break up sea ice: leads open between floes; the mask is the ice that may melt.

    gensat change melt arctic.tif --mask ice.tif --share 0.4 -o summer.tif
    """
    how = {"share": share, "floes": floes, "water": water, "edge": edge}
    _make("melt", image, mask, out, reading, writing, how)


@options.spread
def reforest(
    image: options.Picture,
    mask: Mask,
    out: Out,
    *,
    cover: Annotated[float, typer.Option(help="Share of the ground under crowns, 0 to 0.9.")] = 0.8,
    spacing: Annotated[float, typer.Option(help="Metres between trees.")] = 6.0,
    height: Annotated[float, typer.Option(help="Metres of the trees.")] = 12.0,
    sun: Annotated[
        tuple[float, float] | None,
        typer.Option(
            help="Degrees from true north, degrees up; 150 50 when not given.", metavar="AZ EL", show_default=False
        ),
    ] = None,
    reading: Reading,
    writing: Writing,
) -> None:
    """Plant a forest: crowns with sunlit and shaded sides, and their shadows.

    gensat change reforest hills.tif --mask parcels.gpkg --cover 0.7 -o forest.tif
    """
    how: dict[str, Any] = {"cover": cover, "spacing": spacing, "height": height}
    if sun is not None:
        from gensat.geo.sun import SunPosition

        how["sun"] = SunPosition(*sun)
    _make("reforest", image, mask, out, reading, writing, how)


def _make(
    kind: str,
    image: Path,
    mask: Path,
    out: Path,
    reading: Reading,
    writing: Writing,
    how: dict[str, Any],
) -> None:
    wavelengths, began = reading.nanometres, clock.perf_counter()
    screen, overwrite = Screen(writing.quiet, writing.json), writing.overwrite
    from gensat.files import check_output
    from gensat.geo.raster import image_suffix
    from gensat.render.change_request import Masked

    image_suffix(out)
    check_output(out, overwrite)
    with screen.listening():
        masked = Masked.open(image, mask, gsd=reading.gsd, wavelengths=wavelengths)
        made = masked.changed(kind, seed=reading.seed, **how)
    for note in masked.notes:
        screen.note(f"note: {note}")
    told = {name: made.provenance[name] for name in sorted(set(made.provenance) - set(masked.image.provenance))}
    made.provenance.update(image=image.name, mask=mask.name)
    made.save(out, overwrite=overwrite)
    share, seconds = float(masked.mask.mean()), clock.perf_counter() - began
    data = {
        "out": str(out),
        "mask_share": round(share, 4),
        **told,
        "notes": list(masked.notes),
        "seconds": round(seconds, 2),
    }
    screen.result(data, f"{out}  {kind} on {share:.0%} of the image in {seconds:.1f} s")


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="Fire, melting ice and new forest, painted into an image.", no_args_is_help=True)
    for command in (burn, melt, reforest):
        group.command()(command)
    app.add_typer(group, name="change")
