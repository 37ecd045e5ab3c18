"""Options of ``gensat flood simulate``, by what they are about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gensat.cli import _options as options
from gensat.errors import InputError

if TYPE_CHECKING:
    from gensat.hydro.domain import Domain
    from gensat.hydro.ensembles import Ensemble
    from gensat.hydro.scenario import Scenario

_WATER, _METHOD, _GROUND, _ENSEMBLE = "Water", "Method", "Ground", "Ensemble"


class Method(str, Enum):
    """How the water moves."""

    bathtub = "bathtub"
    hand = "hand"
    inertial = "inertial"
    swe = "swe"


class Between(str, Enum):
    """How levels between points are found."""

    idw = "idw"
    nearest = "nearest"
    plane = "plane"


class Precision(str, Enum):
    """Number format of the solvers."""

    float64 = "float64"
    float32 = "float32"


@dataclass(frozen=True)
class Water:
    """Options that say what floods the place."""

    level: Annotated[
        str | None,
        typer.Option(
            help="Metres above the DEM's datum (hand: above the channels), or a raster of levels.",
            rich_help_panel=_WATER,
        ),
    ] = None
    surge: Annotated[
        Path | None,
        typer.Option(
            help="Levels of a storm surge: raster, csv (lon, lat, level) or SLOSH cells.", rich_help_panel=_WATER
        ),
    ] = None
    surge_column: Annotated[
        str | None, typer.Option(help="Attribute that holds the level, such as c3_high.", rich_help_panel=_WATER)
    ] = None
    surge_unit: Annotated[
        str | None, typer.Option(help="Unit of the levels: m, ft, cm ...", rich_help_panel=_WATER)
    ] = None
    surge_method: Annotated[Between, typer.Option(help="Levels between points.", rich_help_panel=_WATER)] = Between.idw
    datum_offset: Annotated[
        float, typer.Option(help="Metres to add to levels to bring them to the DEM's datum.", rich_help_panel=_WATER)
    ] = 0.0
    tide: Annotated[
        Path | None,
        typer.Option(
            help="csv of time and metres that the level changes by; without a level: the level itself.",
            rich_help_panel=_WATER,
        ),
    ] = None
    rise: Annotated[
        float | None,
        typer.Option(
            help="Hours in which the sea rises to its level (inertial, swe); 1, or with a tide none.",
            rich_help_panel=_WATER,
            show_default=False,
        ),
    ] = None
    rain: Annotated[str | None, typer.Option(help="Such as 80mm/h, over --hours.", rich_help_panel=_WATER)] = None
    hyetograph: Annotated[Path | None, typer.Option(help="Instead: csv of time and mm/h.", rich_help_panel=_WATER)] = (
        None
    )
    hours: Annotated[float | None, typer.Option(help="How long to simulate.", rich_help_panel=_WATER)] = None
    rain_hours: Annotated[
        float | None, typer.Option(help="How long it rains; as long as --hours if not given.", rich_help_panel=_WATER)
    ] = None
    curve_number: Annotated[
        float | None, typer.Option(help="SCS curve number, 1 to 100, for infiltration.", rich_help_panel=_WATER)
    ] = None
    inflow: Annotated[
        list[Any],
        typer.Option(
            help="Cubic metres a second that come in at a place; repeatable.",
            metavar="LON LAT Q",
            parser=options.numbers,
            rich_help_panel=_WATER,
        ),
    ] = ()  # type: ignore[assignment]
    inflow_radius: Annotated[
        float, typer.Option(help="Metres of the disc over which each comes in; 0: one cell.", rich_help_panel=_WATER)
    ] = 0.0
    hydrograph: Annotated[
        Path | None, typer.Option(help="csv of time and m3/s, for the inflows.", rich_help_panel=_WATER)
    ] = None
    boundary: Annotated[
        list[str],
        typer.Option(
            help="Edges of the DEM: N=open, S=2.5 (level), E=tide.csv; closed if not given.", rich_help_panel=_WATER
        ),
    ] = ()  # type: ignore[assignment]
    gauges: Annotated[
        Path | None,
        typer.Option(
            help="Points (csv of lon, lat or x, y; or vectors) whose level is kept, at every --every.",
            rich_help_panel=_WATER,
        ),
    ] = None
    source: Annotated[
        list[Any],
        typer.Option(
            "--from",
            help="Where the water of a level comes from; for hand, where rivers begin; repeatable.",
            metavar="LON LAT",
            parser=options.numbers,
            rich_help_panel=_WATER,
        ),
    ] = ()  # type: ignore[assignment]
    sea: Annotated[
        Path | None,
        typer.Option(help="Sea it comes from: polygons, or a mask (anything but 0 is sea).", rich_help_panel=_WATER),
    ] = None


@dataclass(frozen=True)
class Solving:
    """Options of the method."""

    method: Annotated[
        Method | None,
        typer.Option(
            help="bathtub for levels, inertial for rain, inflow and tides, unless given.",
            rich_help_panel=_METHOD,
            show_default=False,
        ),
    ] = None
    neighbours: Annotated[
        int, typer.Option(help="Of a cell, 4 or 8; 8 leaks through walls of one cell.", rich_help_panel=_METHOD)
    ] = 4
    channel: Annotated[
        float | None,
        typer.Option(help="hand: km2 that drain to a channel; 1.", rich_help_panel=_METHOD, show_default=False),
    ] = None
    dtype: Annotated[Precision, typer.Option(help="Of inertial and swe.", rich_help_panel=_METHOD)] = Precision.float64
    device: Annotated[
        str, typer.Option(help="Of inertial and swe: cpu (compiled), or cuda (torch).", rich_help_panel=_METHOD)
    ] = "cpu"
    wet: Annotated[
        float | None,
        typer.Option(
            help="Metres from which a cell is part of the extent; 0, or 0.05 for floods that move.",
            rich_help_panel=_METHOD,
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True)
class Ground:
    """Options of the terrain."""

    buildings: Annotated[
        Path | None, typer.Option(help="Footprints, raised as obstacles.", rich_help_panel=_GROUND)
    ] = None
    building_height: Annotated[
        float, typer.Option(help="Metres of buildings without a height.", rich_help_panel=_GROUND)
    ] = 3.0
    walls: Annotated[
        Path | None,
        typer.Option(help="Lines of levees and flood walls, raised by their height.", rich_help_panel=_GROUND),
    ] = None
    wall_field: Annotated[
        str | None, typer.Option(help="Attribute that holds the height of walls.", rich_help_panel=_GROUND)
    ] = None
    wall_height: Annotated[
        float | None, typer.Option(help="Metres of walls without a height.", rich_help_panel=_GROUND)
    ] = None
    wall_crest: Annotated[
        bool,
        typer.Option(
            "--wall-crest",
            help="Heights of walls are elevations above the DEM's datum, not above the ground.",
            rich_help_panel=_GROUND,
        ),
    ] = False
    roughness: Annotated[
        list[str],
        typer.Option(
            help="Manning's n: a number, a raster of it, land cover, or polygons with n; then AREA=N for n in a polygon (vector file, "
            "or csv of corners); repeatable.",
            rich_help_panel=_GROUND,
        ),
    ] = ()  # type: ignore[assignment]
    legend: Annotated[
        str | None,
        typer.Option(help="Of the land cover: nlcd, worldcover, corine ... or a file.", rich_help_panel=_GROUND),
    ] = None
    extent: Annotated[Path | None, typer.Option(help="Polygon to which the DEM is cut.", rich_help_panel=_GROUND)] = (
        None
    )
    unit: Annotated[str | None, typer.Option(help="Of the heights: m, ft, us-ft, cm ...", rich_help_panel=_GROUND)] = (
        None
    )
    gsd: Annotated[float | None, typer.Option(help="Metres a cell, if not the DEM's.", rich_help_panel=_GROUND)] = None
    crs: Annotated[str | None, typer.Option(help="Projected CRS to work in.", rich_help_panel=_GROUND)] = None
    voids: Annotated[
        float, typer.Option(help="Share of cells without a height that may be filled.", rich_help_panel=_GROUND)
    ] = 0.05
    block: Annotated[
        int | None,
        typer.Option(
            help="bathtub: cells of a side of a block; whole DEMs unless they do not fit into memory.",
            rich_help_panel=_GROUND,
            show_default=False,
        ),
    ] = None

    def domain(self, dem: Path, *, corners: bool) -> Domain:
        """The terrain; ``corners`` of walls as of :func:`gensat.hydro.walls.with_walls`."""
        from gensat.hydro.domain import Domain

        whole = [text for text in self.roughness if "=" not in text]
        areas = [text.rpartition("=") for text in self.roughness if "=" in text]
        if len(whole) > 1:
            raise InputError(
                f"roughness is given as {' and '.join(whole)}; give one for everywhere, and AREA=N for areas"
            )
        parts = [(area, _manning(n, area)) for area, _, n in areas]
        made = Domain.open(
            dem, crs=self.crs, unit=self.unit, gsd=self.gsd, extent=self.extent, buildings=self.buildings,
            building_height=self.building_height, roughness=_number(whole[0]) if whole else None, legend=self.legend,
            void_share=self.voids,
        )  # fmt: skip
        if self.walls is not None:
            from gensat.hydro.walls import with_walls

            made = with_walls(
                made, self.walls, field=self.wall_field, height=self.wall_height, crest=self.wall_crest, corners=corners
            )
        elif self.wall_field is not None or self.wall_height is not None or self.wall_crest:
            raise InputError(
                "--wall-field, --wall-height and --wall-crest are about walls; give --walls FILE with them"
            )
        for area, n in parts:
            made = made.roughened(made.polygon(area), n)
        return made

    def require_plain(self) -> None:
        """Raise InputError for what a DEM in blocks cannot have."""
        for name in ("buildings", "walls", "roughness", "extent", "gsd", "crs"):
            if getattr(self, name) not in (None, [], ()):
                raise InputError(f"--{name} is for DEMs that fit into memory; leave it out, or --block")


@dataclass(frozen=True)
class Uncertainty:
    """Options of an ensemble."""

    ensemble: Annotated[int | None, typer.Option(help="Members; adds probability.tif.", rich_help_panel=_ENSEMBLE)] = (
        None
    )
    dem_error: Annotated[
        float, typer.Option(help="Metres, standard deviation of the heights.", rich_help_panel=_ENSEMBLE)
    ] = 0.0
    correlation: Annotated[
        float, typer.Option(help="Metres over which that error goes together.", rich_help_panel=_ENSEMBLE)
    ] = 0.0
    level_error: Annotated[
        float, typer.Option(help="Metres, standard deviation of the level.", rich_help_panel=_ENSEMBLE)
    ] = 0.0
    seed: Annotated[int, typer.Option(help="Of the draws.", rich_help_panel=_ENSEMBLE)] = 0

    def made(self) -> Ensemble | None:
        """The ensemble, or None."""
        if self.ensemble is None:
            if self.dem_error or self.level_error or self.correlation:
                raise InputError("an error is for an ensemble; give --ensemble with the number of its members")
            return None
        from gensat.hydro.ensembles import Ensemble

        return Ensemble(
            members=self.ensemble, dem_error=self.dem_error, correlation=self.correlation, level_error=self.level_error,
            seed=self.seed,
        )  # fmt: skip


def scenario(water: Water, solving: Solving) -> Scenario:
    """What floods the place, checked."""
    from gensat.hydro.scenario import Scenario

    return Scenario(
        level=_number(water.level), surge=water.surge, surge_column=water.surge_column, surge_unit=water.surge_unit,
        surge_method=water.surge_method.value, datum_offset=water.datum_offset, tide=water.tide, rise=water.rise, rain=water.rain, hyetograph=water.hyetograph,
        hours=water.hours, rain_hours=water.rain_hours, curve_number=water.curve_number, inflows=_tuples(water.inflow), inflow_radius=water.inflow_radius,
        hydrograph=water.hydrograph, boundaries=tuple(water.boundary), gauges=water.gauges,
        method=None if solving.method is None else solving.method.value, sources=_tuples(water.source), sea=water.sea,
        neighbours=solving.neighbours, channel_km2=solving.channel, wet=solving.wet, dtype=solving.dtype.value, device=solving.device,
    )  # fmt: skip


def _manning(text: str, area: str) -> float:
    n = _number(text)
    if not isinstance(n, float):
        raise InputError(
            f"roughness {area}={text} is not understood; give a file and Manning's n, as in roads.geojson=0.02"
        )
    return n


def _number(text: str | None) -> float | str | None:
    """A number where it is one, else the name of a file."""
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _tuples(values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(tuple(value) for value in values)
