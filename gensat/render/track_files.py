"""Tracks from files: GeoJSON and other vector lines, GPX, csv, camera paths of nerfstudio and Skyfall-GS; camera paths written."""

from __future__ import annotations

import csv
import datetime
import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from gensat.errors import InputError
from gensat.files import write_bytes
from gensat.geo.crs import parse_crs, project, to_lonlat
from gensat.geo.raster import require_file
from gensat.render.cameras import Camera
from gensat.render.export.cameras import from_opengl_pose, opengl_pose
from gensat.render.export.place import frame_of, place_of
from gensat.render.frame import SceneFrame
from gensat.render.grid import Grid
from gensat.render.paths import Track, angles_of
from gensat.render.pixel_path import COLUMNS, read_pixel_path
from gensat.types import Place

_COLUMNS = ("lon", "lat", "height", "heading", "pitch", "time")
_AS_VECTORS = (".geojson", ".gpkg", ".shp", ".fgb", ".kml")


def read_track(
    path: str | os.PathLike[str],
    frame: SceneFrame,
    grid: Grid | None = None,
    *,
    drawn_on: int | tuple[int, int] | None = None,
) -> Track:
    """A track by the extension and the content of a file.

    - ``.geojson``, ``.gpkg``, ``.shp``, ``.fgb``, ``.kml``: one line, in the CRS of the file (GeoJSON: lon, lat in degrees). A third coordinate
      is not used, as its datum is not known.
    - ``.gpx``: the first track or else route, with its time; elevations are not used.
    - ``.csv``: columns ``lon,lat`` and any of ``height`` (metres of the eye above ground), ``heading`` (degrees from true north), ``pitch``,
      ``time`` (seconds, or ISO 8601); or places in the image, as Sat2Density, Sat2Density++ and Sat3DGen write them
      (:func:`gensat.render.pixel_path.read_pixel_path`).
    - ``.json``: a camera path as nerfstudio and Skyfall-GS write it (``camera_to_world`` row by row, OpenGL axes, vertical ``fov``), in
      local metres of the scene, or of the place under the key ``gensat``; or GeoJSON.

    Args:
        path: the file.
        frame: of the scene.
        grid: of its image; only places in an image need it.
        drawn_on: (width, height) or side in pixels of the picture that such places were drawn on; by default the image itself.

    Raises:
        InputError: unreadable, an unknown format, not one line, coordinates out of range, or as :class:`Track`.
    """
    path = require_file(Path(path))
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _from_csv(path, frame, grid, drawn_on)
    if suffix == ".gpx":
        return _from_gpx(path, frame)
    if suffix == ".json":
        content = _json(path)
        if isinstance(content, dict) and "camera_path" in content:
            return _from_camera_path(path, content, frame)
        return _from_vectors(path, frame)
    if suffix in _AS_VECTORS:
        return _from_vectors(path, frame)
    raise InputError(f"{path.name} is no track; give .geojson, .gpx, .csv or a camera path .json")


def save_camera_path(
    cameras: Sequence[Camera],
    path: str | os.PathLike[str],
    frame: SceneFrame,
    *,
    fps: float | int = 24,
    overwrite: bool = False,
) -> None:
    """Writes a camera path that nerfstudio's viewer loads: OpenGL camera-to-world in local metres, vertical field of view.

    Raises:
        InputError: no cameras, or as :func:`gensat.files.check_output`.
    """
    if not cameras:
        raise InputError("there are no cameras to write; give a track of at least two points")
    frames = [
        {
            "camera_to_world": opengl_pose(camera).reshape(-1).tolist(),
            "fov": math.degrees(2 * math.atan(camera.height / 2 / camera.fy)),
            "aspect": camera.width / camera.height,
        }
        for camera in cameras
    ]
    made = {
        "camera_type": "perspective",
        "render_width": cameras[0].width,
        "render_height": cameras[0].height,
        "fps": fps,
        "seconds": len(cameras) / fps,
        "is_cycle": False,
        "smoothness_value": 0,
        "camera_path": frames,
        "gensat": place_of(frame),
    }
    write_bytes(path, json.dumps(made, indent=1).encode(), overwrite)


def save_track(track: Track, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Writes where a track leads as GeoJSON: one line, lon and lat in degrees.

    Raises:
        InputError: the track lies on no place, or as :func:`gensat.files.check_output`.
    """
    if track.frame.crs is None:
        raise InputError("a track on no place has no longitudes; give the scene an image with a CRS")
    lon, lat = track.frame.lonlat(track.x, track.y)
    points = [[round(float(a), 8), round(float(b), 8)] for a, b in zip(lon, lat, strict=True)]
    line = {"type": "Feature", "properties": {}, "geometry": {"type": "LineString", "coordinates": points}}
    write_bytes(path, json.dumps({"type": "FeatureCollection", "features": [line]}).encode(), overwrite)


def _from_vectors(path: Path, frame: SceneFrame) -> Track:
    import pyogrio.raw
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        meta, _, geometry, _ = pyogrio.raw.read(path, columns=[], force_2d=True)
        shapes = [shape for shape in shapely.from_wkb(geometry) if shape is not None]
    except (DataSourceError, DataLayerError, shapely.errors.GEOSException) as error:
        raise InputError(f"{path} cannot be read as a line; check that it is complete") from error
    lines = [part for shape in shapes for part in shapely.get_parts(shape) if part.geom_type == "LineString"]
    if len(lines) != 1:
        raise InputError(f"{path.name} holds {len(lines)} lines; give a file with one LineString")
    crs = parse_crs(meta["crs"])
    if crs is None:
        raise InputError(f"{path.name} has no CRS; save it with one, or as GeoJSON in lon, lat")
    xy = shapely.get_coordinates(lines[0])
    if crs.is_geographic:
        return _on_earth(frame, xy[:, 0], xy[:, 1], path)
    return _on_earth(frame, *to_lonlat(crs, xy[:, 0], xy[:, 1]), path)


def _from_gpx(path: Path, frame: SceneFrame) -> Track:
    import gpxpy

    try:
        found = gpxpy.parse(path.read_text(encoding="utf-8"))
    except (gpxpy.gpx.GPXException, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path} cannot be read as GPX; check that it is complete") from error
    points: list[Any] = [p for track in found.tracks[:1] for segment in track.segments for p in segment.points]
    points = points or [p for route in found.routes[:1] for p in route.points]
    if not points:
        raise InputError(f"{path.name} holds neither a track nor a route; give a GPX file with one")
    times = [point.time for point in points]
    seconds = None
    if all(time is not None for time in times):
        seconds = np.array([(time - times[0]).total_seconds() for time in times])
    return _on_earth(frame, [p.longitude for p in points], [p.latitude for p in points], path, time=seconds)


def _from_csv(path: Path, frame: SceneFrame, grid: Grid | None, drawn_on: int | tuple[int, int] | None) -> Track:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if any(cell.strip() for cell in row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as csv; save it as text with commas") from error
    names = [name.strip().lower() for name in rows[0]] if rows else []
    if any(set(names) >= set(columns) for columns in COLUMNS):
        return _from_image_places(path, frame, grid, drawn_on)
    if not set(names) >= {"lon", "lat"}:
        raise InputError(
            f"{path.name} begins with {','.join(names)[:60]!r}; the first line has to name lon,lat (and height,heading,pitch,time), or w,h,angle"
        )
    table = _table(path, rows, names, _COLUMNS)
    more = {name: table[name] for name in ("height", "heading", "pitch") if name in table}
    time = table["time"] - table["time"][0] if "time" in table else None
    return _on_earth(frame, table["lon"], table["lat"], path, time=time, **more)


def _from_image_places(
    path: Path, frame: SceneFrame, grid: Grid | None, drawn_on: int | tuple[int, int] | None
) -> Track:
    if grid is None:
        raise InputError(f"{path.name} gives places in an image (w,h,angle); give the image it belongs to")
    size = (grid.columns, grid.rows)
    poses = read_pixel_path(path, drawn_on=drawn_on or size, size=size)
    if len(poses) < 2:
        raise InputError(f"{path.name} holds {len(poses)} points; give at least two")
    x = grid.left + grid.step * np.array([pose.col for pose in poses])
    y = grid.top - grid.step * np.array([pose.row for pose in poses])
    headings = [
        frame.heading(pose.heading, px, py)
        for pose, px, py in zip(poses, x, y, strict=True)
        if pose.heading is not None
    ]
    return Track(frame, x, y, heading=np.array(headings) if headings else None)


def _from_camera_path(path: Path, content: dict[str, Any], frame: SceneFrame) -> Track:
    try:
        entries = content["camera_path"]
        poses = [from_opengl_pose(entry["camera_to_world"]) for entry in entries]
        upright = [float(entry.get("fov", content.get("fov", 60.0))) for entry in entries]
        shape = float(content.get("render_width", 1)) / float(content.get("render_height", 1))
        aspect = [float(entry.get("aspect", shape)) for entry in entries]
        fps = float(content.get("fps", 24))
    except (KeyError, TypeError, ValueError, ZeroDivisionError, np.linalg.LinAlgError, AttributeError) as error:
        raise InputError(
            f"{path.name} is no camera path ({type(error).__name__}); give one that nerfstudio wrote"
        ) from error
    if len(poses) < 2:
        raise InputError(f"{path.name} holds {len(poses)} cameras; give a path of at least two")
    if not (all(0 < v < 180 for v in upright) and all(v > 0 for v in aspect) and fps > 0):
        raise InputError(f"{path.name} has a field of view, an aspect or an fps that cannot be; correct it")
    x, y, z = np.stack([-pose[:3, :3].T @ pose[:3, 3] for pose in poses], axis=1)
    own = frame_of(content["gensat"]) if "gensat" in content else frame
    heading, pitch, roll = np.array([angles_of(own, pose) for pose in poses]).T
    if own.crs is not None and frame.crs is not None and own != frame:
        far_x, far_y = project(own.crs, frame.crs, *own.to_crs(x, y))
        (x, y), z = frame.from_crs(far_x, far_y), z + own.origin[2] - frame.origin[2]
    fov = np.degrees([2 * math.atan(a * math.tan(math.radians(v) / 2)) for v, a in zip(upright, aspect, strict=True)])
    return Track(frame, x, y, z=z, heading=heading, pitch=pitch, roll=roll, fov=fov, time=np.arange(len(poses)) / fps)


def _on_earth(frame: SceneFrame, lon: Any, lat: Any, path: Path, **more: Any) -> Track:
    lon, lat = np.asarray(lon, np.float64), np.asarray(lat, np.float64)
    for number, (one_lon, one_lat) in enumerate(zip(lon, lat, strict=True), start=1):
        try:
            Place(float(one_lon), float(one_lat))
        except InputError as error:
            raise InputError(f"point {number} of {path.name}: {error}") from error
    x, y = frame.local(lon, lat)
    return Track(frame, x, y, **more)


def _table(path: Path, rows: list[list[str]], names: list[str], known: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns by name; times become seconds."""
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"{path.name} has a column {unknown[0]!r}; use {', '.join(known)}")
    table: dict[str, list[float]] = {name: [] for name in names}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(names):
            raise InputError(
                f"line {number} of {path.name} has {len(row)} values for {len(names)} columns; complete it"
            )
        for name, cell in zip(names, row, strict=True):
            table[name].append(_value(cell.strip(), name, f"line {number} of {path.name}"))
    if len(rows) < 3:
        raise InputError(f"{path.name} holds {max(len(rows) - 1, 0)} points; give at least two")
    return {name: np.array(values) for name, values in table.items()}


def _value(cell: str, name: str, where: str) -> float:
    try:
        return float(cell)
    except ValueError:
        pass
    if name == "time":
        try:
            when = datetime.datetime.fromisoformat(cell.replace("Z", "+00:00"))
            return (when if when.tzinfo else when.replace(tzinfo=datetime.timezone.utc)).timestamp()
        except ValueError:
            pass
    raise InputError(
        f"{where} has {name} {cell!r}; give a number" + (" of seconds, or ISO 8601" if name == "time" else "")
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as JSON; check that it is complete") from error
