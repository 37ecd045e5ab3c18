"""The node that simulates a flood."""

from __future__ import annotations

from typing import Any

from gensat.comfy import host
from gensat.comfy.node import Node, mappings, number, text
from gensat.errors import InputError

_BAR = 100  # steps of the progress bar


class GensatFloodSimulate(Node):
    """Where the water of a scenario stands on a DEM, as the folder that ``gensat flood simulate`` makes."""

    TITLE = "Flood Simulate"
    DESCRIPTION = "Floods a DEM by a level, a storm surge, rain, or an inflow; path is the folder, depth its depth.tif."
    RETURN_TYPES = ("STRING", "STRING", "IMAGE", "MASK")
    RETURN_NAMES = ("path", "depth", "preview", "extent")
    FUNCTION = "simulate"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: D102
        return {
            "required": {
                "dem": text(tooltip="Bare ground: a raster of heights."),
                "method": (["auto", "bathtub", "hand", "inertial", "swe"], {"default": "auto"}),
                "level": text("3.0", "Metres above the DEM's datum, or a raster of levels; empty: none."),
                "rain": text(tooltip="Such as 80mm/h; empty: none."),
                "inflow": text(tooltip="LON LAT Q, m3/s; several with ; between."),
                "hours": number(0.0, 0.0, 10_000.0, 0.25, "Of rain and inflow, and of a sea that moves."),
                "water_from": text(tooltip="LON LAT where the water of a level comes from; several with ; between."),
                "boundary": text(tooltip="Edges, such as N=open E=2.5; closed if empty."),
            },
            "optional": {
                "surge": text(tooltip="File of storm-surge levels, instead of a level."),
                "sea": text(tooltip="File of the sea that the water comes from."),
                "buildings": text(tooltip="Footprints, raised as obstacles."),
                "walls": text(tooltip="Lines of levees and flood walls, raised by their height."),
                "tide": text(tooltip="csv of time and metres that the level changes by, for inertial and swe."),
                "rise": number(-1.0, -1.0, 10_000.0, 0.25, "Hours in which the sea rises; -1: 1, or with a tide none."),
                "hyetograph": text(tooltip="Instead of rain: csv of time and mm/h."),
                "hydrograph": text(tooltip="csv of time and m3/s, for the inflows."),
                "curve_number": number(0.0, 0.0, 100.0, 1.0, "SCS curve number, for infiltration; 0: none."),
                "every": number(0.0, 0.0, 10_000.0, 1.0, "Minutes between depths that are kept; 0: none."),
                "roughness": text(tooltip="Manning's n, or a file of it or of land cover."),
                "gsd": number(0.0, 0.0, 1000.0, 0.5, "Metres a cell; 0: as the DEM."),
                "filename_prefix": text("gensat/flood", "May name a folder."),
            },
        }

    def simulate(
        self,
        dem: str,
        method: str,
        level: str,
        rain: str,
        inflow: str,
        hours: float,
        water_from: str,
        boundary: str,
        surge: str = "",
        sea: str = "",
        buildings: str = "",
        walls: str = "",
        tide: str = "",
        rise: float = -1.0,
        hyetograph: str = "",
        hydrograph: str = "",
        curve_number: float = 0.0,
        every: float = 0.0,
        roughness: str = "",
        gsd: float = 0.0,
        filename_prefix: str = "gensat/flood",
    ) -> tuple[str, str, Any, Any]:
        """The folder, its depth.tif, the depth over the terrain as a picture, and the flooded cells as a mask."""
        import numpy as np
        import torch

        from gensat.hydro.domain import Domain
        from gensat.hydro.moments import keeper
        from gensat.hydro.scenario import Scenario
        from gensat.hydro.simulate import simulate
        from gensat.hydro.walls import with_walls

        stage = host.number_or_file(level)
        scenario = Scenario(
            level=_float(stage),
            surge=host.optional_file(surge),
            tide=host.optional_file(tide),
            rise=None if rise < 0 else rise,
            rain=rain.strip() or None,
            hyetograph=host.optional_file(hyetograph),
            curve_number=curve_number or None,
            hours=hours or None,
            inflows=[(a, b, c) for a, b, c in _numbers(inflow, 3, "inflow")],
            hydrograph=host.optional_file(hydrograph),
            sources=[(a, b) for a, b in _numbers(water_from, 2, "water_from")],
            boundaries=boundary.split(),
            sea=host.optional_file(sea),
            method=None if method == "auto" else method,
        )
        if every and not scenario.moves:
            raise InputError("depths of every so many minutes are those of a flood that moves; set every to 0")
        if not dem.strip():
            raise InputError("a flood needs the ground that it runs over; name a DEM")
        domain = Domain.open(
            host.input_file(dem.strip()),
            gsd=gsd or None,
            buildings=host.optional_file(buildings),
            roughness=_float(host.number_or_file(roughness)),
        )
        if walls.strip():
            domain = with_walls(domain, host.input_file(walls.strip()), corners=not scenario.moves)
        moved = host.on_step(_BAR)

        def progress(now: Any) -> None:
            moved(None, min(int(_BAR * now.time / now.seconds), _BAR - 1), None, {})

        folder = host.next_output(filename_prefix, "")
        keep = keeper(domain, scenario, folder) if every else None
        made, more = simulate(domain, scenario, every=60 * every or None, on_output=keep, progress=progress)
        made.save(folder, record=more)
        preview = torch.from_numpy(made.preview().astype(np.float32) / 255)[None]
        extent = torch.from_numpy(made.extent.astype(np.float32))[None]
        device = host.image_device()
        return str(folder), str(folder / "depth.tif"), preview.to(device), extent.to(device)

    @classmethod
    def IS_CHANGED(
        cls,
        dem: str = "",
        level: str = "",
        surge: str = "",
        sea: str = "",
        buildings: str = "",
        walls: str = "",
        tide: str = "",
        hyetograph: str = "",
        hydrograph: str = "",
        roughness: str = "",
        **_: Any,
    ) -> str:
        """A new value when one of the files was saved again."""
        return host.as_saved(dem, level, surge, sea, buildings, walls, tide, hyetograph, hydrograph, roughness)


def _float(given: str | None) -> float | str | None:
    """A number where it is one, else the name of a file."""
    try:
        return None if given is None else float(given)
    except ValueError:
        return given


def _numbers(given: str, count: int, name: str) -> list[tuple[float, ...]]:
    """Groups of numbers with ; between them."""
    groups = [group.replace(",", " ").split() for group in given.split(";") if group.strip()]
    try:
        found = [tuple(float(value) for value in group) for group in groups]
    except ValueError:
        found = [()]
    if any(len(group) != count for group in found):
        raise InputError(f"{name} {given!r} is not understood; give {count} numbers, and ; between several such")
    return found


NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = mappings((GensatFloodSimulate,))
