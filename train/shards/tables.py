"""What is to be packed, from a folder of pictures, a CSV table, or a GeoJSON or GeoParquet index."""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from affine import Affine
from PIL import Image
from pyproj import CRS

from ...errors import InputError
from ...geo.crs import crs_text, ground_sampling_distance, parse_crs, pixel_to_world, to_lonlat
from ...geo.picture import read_tags
from ...geo.provenance import read_acquisition, read_provenance
from ...geo.raster import open_dataset
from ...types import Acquisition, PartialDate, Place
from .record import Record, box_around, centre_of, date_in, on_globe, outline, safe_key

PICTURES = (".jpg", ".jpeg", ".png", ".webp")
SHEET = "contact_sheet.png"  # beside images that gensat made
TABLES = (".csv", ".tsv", ".geojson", ".json", ".gpkg", ".parquet", ".geoparquet")
COLUMNS: dict[str, tuple[str, ...]] = {
    "path": ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "img", "location"),
    "lon": ("lon", "lng", "long", "longitude"),
    "lat": ("lat", "latitude"),
    "gsd": ("gsd", "gsd_m", "resolution"),
    "date": ("date", "datetime", "timestamp", "acquired", "acquisition_date"),
    "caption": ("caption", "text", "prompt", "description"),
    "class": ("class", "label", "category"),
    "sensor": ("sensor", "platform", "instrument"),
    "cloud_cover": ("cloud_cover", "cloudcover", "cloud", "eo:cloud_cover"),
    "source": ("source", "dataset"),
    "licence": ("licence", "license"),
    "split": ("split", "subset"),
    "layout": ("layout", "mask"),
}
"""What is read from a table, and the column names it is looked for under, in this order, whatever their case."""

_SPLITS = {"train": "train", "training": "train"} | dict.fromkeys(
    ("heldout", "held-out", "test", "val", "valid", "validation"), "heldout"
)


@dataclass(frozen=True)
class Reading:
    """How pictures and rows are read.

    Args:
        base: values for what a row or file does not say.
        columns: what to column name, before the usual names of ``COLUMNS``.
        cloud_percent: cloud cover is given in percent.
        date_pattern: where the date is in a file name.
        folders: the folder of a picture is its class.
    """

    base: Record
    columns: Mapping[str, str] = field(default_factory=dict)
    cloud_percent: bool = False
    date_pattern: str | None = None
    folders: bool = False


def picture_folder(folder: Path, reading: Reading, bad: dict[str, str], *, rasters: bool = False) -> Iterator[Record]:
    """Records of the pictures below a folder (GeoTIFFs too with ``rasters``), each with its .json and .txt beside it; what is wrong goes to ``bad``."""
    suffixes = (*PICTURES, ".tif", ".tiff") if rasters else PICTURES
    for path in sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in suffixes and not p.name.startswith(".") and p.name != SHEET
    ):
        name = path.relative_to(folder)
        try:
            values = _sidecar(path)
            if reading.folders and len(name.parts) > 1:
                values.setdefault("class", name.parts[-2])
            yield _record(values, path, safe_key(*name.with_suffix("").parts), reading)
        except InputError as error:
            bad[str(name)] = str(error)


def table(path: Path, reading: Reading, bad: dict[str, str]) -> Iterator[Record]:
    """Records of the rows of a table; file names are relative to it. What is wrong with a row goes to ``bad``.

    Raises:
        InputError: the table cannot be read, or has no column of file names.
    """
    rows = list(
        _csv(path)
        if path.suffix.lower() in (".csv", ".tsv")
        else _parquet(path)
        if "parquet" in path.suffix
        else _vector(path)
    )
    if not rows:
        raise InputError(f"{path} has no rows; give a table with one row a picture")
    names = _columns(path, {name for row in rows for name in row}, reading.columns)
    for number, row in enumerate(rows):
        values = {what: row[column] for what, column in names.items() if not _missing(row.get(column))}
        label = f"row {number + 1}"
        try:
            if "path" not in values:
                raise InputError("it names no file")
            label += f" ({values['path']})"
            file = path.parent / str(values.pop("path"))
            if "layout" in values:
                values["layout"] = path.parent / str(values["layout"])
            if names.get("cloud_cover", "").lower() == "eo:cloud_cover" and "cloud_cover" in values:
                values["cloud_cover"] = _float(values["cloud_cover"], "cloud cover") / 100  # STAC gives percent
            try:
                key = file.relative_to(path.parent).with_suffix("").parts
            except ValueError:
                key = (file.stem,)
            yield _record(values, file, safe_key(*(part for part in key if part != "..")), reading, row.get("geometry"))
        except InputError as error:
            bad[label] = str(error)


@dataclass(frozen=True)
class _Header:
    """What a file says of itself: (height, width), georeference, tags."""

    size: tuple[int, int]
    crs: CRS | None
    transform: Affine | None
    tags: Mapping[str, str]


def _record(values: Mapping[str, Any], path: Path, key: str, reading: Reading, geometry: Any = None) -> Record:
    """What a row or sidecar says goes before what the file says of itself (our own images know all), and that before the base."""
    base, header = reading.base, _look(path)
    own, made = read_acquisition(header.tags), read_provenance(header.tags)
    record = Record(key, path, str(values.get("source") or base.source))
    record.size = header.size
    known = base.acquisition
    cloud = known.cloud_cover if own.cloud_cover is None else own.cloud_cover
    if "cloud_cover" in values:
        cloud = _float(values["cloud_cover"], "cloud cover") / (100 if reading.cloud_percent else 1)
    given = values.get("gsd", values.get("gsd_m"))
    gsd = _float(given, "gsd") if given is not None else own.gsd or known.gsd
    date = known.date or _date(values.get("date")) or own.date
    if not date and reading.date_pattern:
        date = date_in(path.stem, reading.date_pattern)
    if header.crs is not None and header.transform is not None:
        record.crs, record.transform = crs_text(header.crs), header.transform
        record.footprint = outline(header.crs, header.transform, *record.size)
        gsd = ground_sampling_distance(header.crs, header.transform, *record.size) or gsd
        middle = pixel_to_world(header.transform, record.size[1] / 2, record.size[0] / 2)
        lon, lat = (float(v) for v in to_lonlat(header.crs, *middle))
        record.place = Place(lon, lat) if math.isfinite(lon) and math.isfinite(lat) else None
    elif "place" in made:
        record.place = Place.from_dict(made["place"])
    if ("lon" in values) != ("lat" in values):
        raise InputError("only one of lon and lat is given; give both or none")
    if "lon" in values:
        record.place = Place(_float(values["lon"], "lon"), _float(values["lat"], "lat"))
    elif geometry is not None and record.place is None:
        record.place = Place(geometry.x, geometry.y) if geometry.geom_type == "Point" else centre_of(geometry)
    sensor = _text(values.get("sensor")) or own.sensor or known.sensor
    record.acquisition = Acquisition(gsd, date or None, cloud, sensor)
    if record.footprint is None and geometry is not None and shapely.get_dimensions(geometry) == 2:
        record.footprint = geometry
    if record.footprint is None and record.place is not None and gsd is not None:
        record.footprint = box_around(record.place, gsd, *record.size)
    record.klass = _text(values.get("class")) or base.klass
    record.caption = _text(values.get("caption")) or _text(made.get("prompt")) or base.caption
    record.licence = _text(values.get("licence")) or base.licence
    record.layout = values.get("layout") or base.layout
    if made.get("synthetic") is True or values.get("synthetic") is True:
        record.more["synthetic"] = True
    if "split" in values:
        record.split = _SPLITS.get(str(values["split"]).strip().lower())
        if record.split is None:
            raise InputError(f"split is {values['split']!r}; give one of {', '.join(_SPLITS)}")
    return record


def _look(path: Path) -> _Header:
    """What the header of a file says; its pixels are not read."""
    if not path.is_file():
        raise InputError(f"{path.name} does not exist")
    if path.suffix.lower() in (".tif", ".tiff"):
        with open_dataset(path) as source:
            t, size = source.transform, (source.height, source.width)
            placed = source.crs is not None and not t.is_identity and t.b == 0 and t.e < 0
            crs = CRS.from_wkt(source.crs.to_wkt()) if placed else None
            return _Header(size, crs, t if placed else None, source.tags())
    try:
        with Image.open(path) as picture:
            tags = read_tags(picture)
            numbers = json.loads(tags["GEO_TRANSFORM"]) if "GEO_TRANSFORM" in tags else None
            transform = None if numbers is None else Affine(*numbers)
            return _Header((picture.height, picture.width), parse_crs(tags.get("GEO_CRS")), transform, tags)
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
        raise InputError(f"{path.name} is no image that can be read") from error


def _sidecar(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = {}
    text, data = path.with_suffix(".txt"), path.with_suffix(".json")
    if data.is_file():
        try:
            read = json.loads(data.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{data.name} does not parse ({error})") from error
        if not isinstance(read, dict):
            raise InputError(f"{data.name} is no JSON object")
        values = {k: v for k, v in read.items() if v is not None}
    if text.is_file():
        values.setdefault("caption", text.read_text(encoding="utf-8", errors="replace").strip())
    return values


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text ({error}); save it as UTF-8") from error
    head = text[:4096]
    try:
        dialect: Any = "excel-tab" if path.suffix == ".tsv" else csv.Sniffer().sniff(head.splitlines()[0], ",;\t|")
    except (csv.Error, IndexError):
        dialect = "excel"
    for row in csv.DictReader(io.StringIO(text, newline=""), dialect=dialect):
        yield {str(name).strip(): value for name, value in row.items() if name is not None}


def _vector(path: Path) -> Iterator[dict[str, Any]]:
    import pyogrio.raw
    from pyogrio.errors import DataLayerError, DataSourceError

    try:
        meta, _, geometry, columns = pyogrio.raw.read(path, force_2d=True)
    except (DataSourceError, DataLayerError) as error:
        raise InputError(f"{path} cannot be read as a vector file; check that it is complete") from error
    shapes = shapely.from_wkb(geometry) if geometry is not None else np.full(len(columns[0]) if columns else 0, None)
    crs = parse_crs(meta["crs"]) if meta.get("crs") else CRS.from_epsg(4326)
    for i, shape in enumerate(shapes):
        yield {
            **{str(f): c[i] for f, c in zip(meta["fields"], columns, strict=True)},
            "geometry": _in_degrees(shape, crs),
        }


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("GeoParquet needs pyarrow; install it with pip install 'gensat[train]'") from error
    try:
        read = pyarrow.parquet.read_table(path)
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(f"{path} cannot be read as Parquet; check that the file is complete") from error
    about = json.loads((read.schema.metadata or {}).get(b"geo", b"{}"))
    primary = about.get("primary_column", "geometry")
    crs = about.get("columns", {}).get(primary, {}).get("crs", "OGC:CRS84")  # no crs means lon/lat, null means unknown
    system = None if crs is None else CRS.from_user_input(crs)
    for row in read.to_pylist():
        shape = row.pop(primary, None)
        yield {**row, "geometry": _in_degrees(shapely.from_wkb(shape) if isinstance(shape, bytes) else None, system)}


def _in_degrees(shape: Any, crs: CRS | None) -> Any:
    if shape is None or shapely.is_empty(shape) or crs is None:
        return None
    if shapely.get_type_id(shape) == 0:
        x, y = shapely.get_coordinates(shape)[0]
        lon, lat = to_lonlat(crs, x, y)
        return shapely.Point(float(lon), float(lat)) if np.isfinite(lon) and np.isfinite(lat) else None
    ring = shapely.get_coordinates(shapely.convex_hull(shape))
    if len(ring) < 4:
        return None
    return on_globe(*to_lonlat(crs, ring[:, 0], ring[:, 1]))


def _columns(path: Path, present: Iterable[str], chosen: Mapping[str, str]) -> dict[str, str]:
    present = list(present)
    lower = {name.lower(): name for name in present}
    for what, column in chosen.items():
        if what not in COLUMNS:
            raise InputError(f"--column {what}={column}: {what!r} is not read; choose from {', '.join(COLUMNS)}")
        if column not in present:
            raise InputError(f"{path.name} has no column {column!r}; it has {', '.join(sorted(present))}")
    found = {what: next((lower[n] for n in names if n in lower), None) for what, names in COLUMNS.items()}
    columns = {what: column for what, column in {**found, **chosen}.items() if column is not None}
    if "path" not in columns:
        raise InputError(
            f"{path.name} has no column of file names; give it with --column path=NAME (it has {', '.join(sorted(present)[:12])})"
        )
    return columns


def _missing(value: Any) -> bool:
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    return isinstance(value, (float, np.floating)) and bool(np.isnan(value))


def _float(value: Any, what: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{what} is {value!r}; give a number") from None


def _date(value: Any) -> PartialDate:
    """A date as a CSV, JSON, GDAL or Arrow gives it: text, number of a year, date or numpy.datetime64."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # a column of years with gaps
    return PartialDate.parse(None if value is None else str(value))


def _text(value: Any) -> str | None:
    return None if value is None else str(value).strip() or None
