"""What will be packed, decided from headers alone: every sample with its key, facts and split."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from . import scenes, schemes
from .layouts import Layouts
from .places import Division, Holdout, divide
from .record import Record, safe_key, unique_keys
from .tables import PICTURES, TABLES, Reading, picture_folder, table

KINDS = ("auto", "pictures", "table", "scenes")


@dataclass(frozen=True)
class Options:
    """What is packed and how.

    Args:
        reading: of pictures and rows; its ``base`` also describes scenes.
        cut: of scenes.
        holdout: what is held out.
        layout: map of all samples; a folder with one file each; or a path with {folder} or {stem} of each file, such as {folder}/landcover.tif.
        legend: of the layout.
        layout_share: of known pixels that a layout needs to be kept.
        kind: ``auto``, ``pictures``, ``table`` or ``scenes``.
        scheme: ``gensat``, ``diffusionsat`` or ``geosynth``.
        form: ``auto``, ``jpg``, ``png`` or ``tif``; pictures stay as they are with ``auto``.
        quality: of a JPEG.
        max_empty: share of a tile's pixels that may be empty (not valid, or 0 or the largest value in all bands).
        max_shard_mb: size of a shard in 2**20 bytes.
        name: of the shards.
        skip_bad: leave out rows and pictures that are wrong, and count them; else they are an error.
    """

    reading: Reading
    cut: scenes.Cut = field(default_factory=scenes.Cut)
    holdout: Holdout = field(default_factory=Holdout)
    layout: Path | None = None
    legend: str | None = None
    layout_share: float | int = 0.0
    kind: str = "auto"
    scheme: str = "gensat"
    form: str = "auto"
    quality: int = 95
    max_empty: float | int = 0.05
    max_shard_mb: float | int = 256.0
    name: str = "data"
    skip_bad: bool = False

    def __post_init__(self) -> None:
        for value, known, what in (
            (self.kind, KINDS, "kind"),
            (self.scheme, schemes.SCHEMES, "scheme"),
            (self.form, schemes.FORMATS, "format"),
        ):
            if value not in known:
                raise InputError(f"{what} {value!r} is not known; choose from {', '.join(known)}")
        if not 0 <= self.max_empty <= 1 or not 0 <= self.layout_share <= 1:
            raise InputError("the share of empty pixels and that of the layout run from 0 to 1")
        if not self.max_shard_mb > 0:
            raise InputError(f"shards of {self.max_shard_mb:g} MB hold nothing; give --max-shard-mb above 0")
        if self.name != safe_key(self.name):
            raise InputError(f"{self.name!r} is no name for shards; use letters, digits, - and _")


@dataclass
class Plan:
    """Everything that will be packed, in order, before a pixel is read."""

    options: Options
    records: list[Record]
    division: Division
    scenes: dict[Path, scenes.Scene]
    bad: dict[str, str]
    notes: list[str]

    def of(self, split: str) -> list[tuple[int, Record]]:
        """Records of a split, each with its number in the whole plan."""
        found = zip(self.records, self.division.splits, strict=True)
        return [(number, record) for number, (record, side) in enumerate(found) if side == split]

    @property
    def classes(self) -> list[str]:
        """Names of all classes; the number of a class is its place here."""
        return sorted({record.klass for record in self.records if record.klass})

    def fingerprint(self) -> str:
        """Hash of all that decides the bytes: options, records, and size and time of every file."""
        options = {k: v for k, v in asdict(self.options).items() if k not in ("skip_bad", "reading")}
        parts: list[Any] = [1, options]
        for record, split in zip(self.records, self.division.splits, strict=True):
            parts.append([record.key, record.window, record.caption, record.describe(str(split))])
        files = {r.path for r in self.records} | {r.layout for r in self.records if r.layout}
        files |= {self.options.layout} if self.options.layout is not None else set()
        for path in sorted(files):
            about = path.stat()
            parts.append([str(path), about.st_size, about.st_mtime_ns])
        return hashlib.sha256(json.dumps(parts, default=str, sort_keys=True).encode()).hexdigest()[:32]


def plan(sources: Sequence[Path], options: Options) -> Plan:
    """Finds every sample and decides its split, reading headers only.

    Raises:
        InputError: nothing to pack, a wrong row or unreadable picture (unless ``skip_bad``), or options that do not fit.
    """
    records: list[Record] = []
    found: dict[Path, scenes.Scene] = {}
    bad: dict[str, str] = {}
    notes: list[str] = []
    shared = _shared_folder(sources)
    for source in sources:
        if not source.exists():
            raise InputError(f"{source} does not exist; check the path")
        kind = _kind(source) if options.kind == "auto" else options.kind
        if kind == "table":
            records += table(source, options.reading, bad)
        elif kind == "pictures":
            if not source.is_dir():
                raise InputError(f"{source} is a file; give the folder of the pictures, or a table that names them")
            records += picture_folder(source, options.reading, bad, rasters=options.kind == "pictures")
        else:
            for path, name in _scene_files(source, shared):
                try:
                    scene = scenes.open_scene(path, name, options.cut)
                except InputError as error:
                    bad[path.name] = str(error)
                    continue
                found[path] = scene
                tiles = list(scene.tiles(options.cut, options.reading.base))
                notes += [f"{path.name} {note}" for note in scene.notes]
                if not tiles:
                    size = f"{scene.width} x {scene.height}"
                    notes.append(
                        f"{path.name} is {size} pixels, less than a tile of {options.cut.size}, and gives none"
                    )
                records += tiles
    if bad and not options.skip_bad:
        first = next(iter(bad))
        more = f" ({len(bad)} are wrong in all)" if len(bad) > 1 else ""
        raise InputError(f"{first}: {bad[first]}{more}; correct it, or leave such out with --skip-bad")
    if not records:
        said = [*notes, *(f"{name}: {why}" for name, why in bad.items())]
        reason = f" ({said[0]})" if said else ""
        raise InputError(
            f"nothing to pack in {', '.join(s.name for s in sources)}{reason}; give pictures, a table, or GeoTIFF scenes"
        )
    options = _own_layouts(options, records)
    Layouts(options.layout, options.legend)  # checks that they are there
    notes = _bands_note(found) + notes
    unique_keys(records)
    _finish_captions(records)
    if options.scheme == "diffusionsat" and any(not record.klass for record in records):
        raise InputError(
            "scheme diffusionsat writes the class of each sample; give --class NAME, or a column of classes"
        )
    division = divide(records, options.holdout)
    if options.holdout.share and not division.counts["heldout"]:
        notes.insert(
            0, "no block was drawn for the held-out part; give smaller --block-km, another --split-seed, or --heldout"
        )
    return Plan(options, records, division, found, bad, notes)


def _kind(source: Path) -> str:
    suffix = source.suffix.lower()
    if source.is_dir():
        names = [p.suffix.lower() for p in source.rglob("*") if not p.name.startswith(".")]
        return "pictures" if any(name in PICTURES for name in names) else "scenes"
    if suffix in TABLES:
        return "table"
    if suffix in scenes.SUFFIXES:
        return "scenes"
    raise InputError(f"{source.name} is no source; give a folder, a table ({', '.join(TABLES)}) or a GeoTIFF")


def _shared_folder(sources: Sequence[Path]) -> Path | None:
    """Where the names of several single files begin to differ; None for one source."""
    folders = [source.absolute().parent for source in sources]
    return Path(os.path.commonpath(folders)) if len(set(folders)) > 1 else None


def _scene_files(source: Path, shared: Path | None) -> Iterator[tuple[Path, str]]:
    """Rasters of a source, each with the name its tiles get."""
    if source.is_file():
        name = Path(source.name) if shared is None else source.absolute().relative_to(shared)
        yield source, "-".join(name.with_suffix("").parts)
        return
    for path in sorted(
        p for p in source.rglob("*") if p.suffix.lower() in scenes.SUFFIXES and not p.name.startswith(".")
    ):
        yield path, "-".join(path.relative_to(source).with_suffix("").parts)


def _own_layouts(options: "Options", records: Sequence[Record]) -> "Options":
    """Fills {folder} and {stem} of a layout's path: then each scene has its own."""
    pattern = str(options.layout or "")
    if "{folder}" not in pattern and "{stem}" not in pattern:
        return options
    for record in records:
        record.layout = Path(pattern.replace("{folder}", str(record.path.parent)).replace("{stem}", record.path.stem))
        if not record.layout.is_file():
            raise InputError(f"layout {record.layout} of {record.path.name} does not exist; check the pattern")
    return replace(options, layout=None)


def _bands_note(found: Mapping[Path, scenes.Scene]) -> list[str]:
    kinds = {tuple(band.name for band in scene.bands) for scene in found.values()}
    if len(kinds) < 2:
        return []
    listed = "; ".join(sorted(",".join(kind) for kind in kinds))
    return [f"the scenes hold different bands ({listed}): choose with --bands, or pack them apart"]


def _finish_captions(records: Sequence[Record]) -> None:
    """Fills {class}, {date}, {year}, {sensor} and {source} in captions."""
    for record in records:
        if "{" in record.caption:
            date = record.acquisition.date
            known = {"class": (record.klass or "").replace("_", " "), "date": str(date), "year": date.year or ""}
            try:
                record.caption = record.caption.format(
                    **known, sensor=record.acquisition.sensor or "", source=record.source
                )
            except (KeyError, IndexError, ValueError) as error:
                raise InputError(
                    f"caption {record.caption!r} has a field that is not known ({error}); use {{class}}, {{date}}, {{year}}, {{sensor}} or {{source}}"
                ) from error
