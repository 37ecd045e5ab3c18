"""A plan written as shards, one after the other: a run that was killed goes on after its last whole shard, with the same bytes."""

import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ... import __version__
from ...errors import InputError, OutputError
from ...files import atomic_write, write_bytes
from ...geo.classes import colourise
from ...geo.raster import open_image
from ...types import GeoImage
from . import schemes
from .decode import picture
from .layouts import Layouts
from .plan import Options, Plan
from .record import Record
from .tables import PICTURES

RECEIPT, SPLIT, STATE = "pack.json", "split.json", ".pack-state.json"
SPLITS = ("train", "heldout")
_BLOCK = 512
_FOLDERS = ("images", "maps", "layouts")  # of a GeoSynth pack


@dataclass
class Tally:
    """What became of the samples of a split: shard to samples, reasons to how many were left out, wrong ones by name, layouts made."""

    position: int = 0
    shards: dict[str, int] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    layouts: int = 0

    @property
    def samples(self) -> int:
        """Samples written."""
        return sum(self.shards.values())


@dataclass
class Result:
    """What was written: by split, what was left out by the split, wrong rows, and what people should know."""

    tallies: dict[str, Tally]
    dropped: dict[str, int]
    bad: dict[str, str]
    notes: list[str]

    def describe(self) -> dict[str, Any]:
        """Plain values for JSON."""
        left_out = Counter(self.dropped)
        for tally in self.tallies.values():
            left_out.update(tally.left_out)
        return {
            "samples": {split: tally.samples for split, tally in self.tallies.items()},
            "layouts": sum(tally.layouts for tally in self.tallies.values()),
            "shards": {name: n for tally in self.tallies.values() for name, n in tally.shards.items()},
            "left_out": dict(left_out),
            "bad": {**self.bad, **{k: v for tally in self.tallies.values() for k, v in tally.bad.items()}},
            "notes": self.notes,
        }


@dataclass(frozen=True)
class _Made:
    """One sample of a plan, ready to be written (``members``), left out for a reason, or damaged."""

    at: int
    record: Record
    key: str = ""
    members: dict[str, bytes] = field(default_factory=dict)
    left_out: str = ""
    bad: str = ""

    def count(self, tally: Tally) -> None:
        if self.left_out:
            tally.left_out[self.left_out] = tally.left_out.get(self.left_out, 0) + 1
        if self.bad:
            tally.bad[self.record.path.name] = self.bad
        tally.layouts += any(name == "layout.png" or name.startswith("layouts/") for name in self.members)


def run(planned: Plan, out: Path, *, overwrite: bool = False, tick: Callable[[], None] = lambda: None) -> Result:
    """Writes what was planned into a folder, and ``split.json`` and ``pack.json`` beside the shards.

    Args:
        planned: from :func:`gensat.train.shards.plan.plan`.
        out: folder, made if missing. One in which the same plan was interrupted is completed.
        overwrite: replace a pack that is there.
        tick: called after each sample.

    Raises:
        InputError: the folder holds another pack and ``overwrite`` is false, a picture is damaged (unless ``skip_bad``), or no sample is left.
        OutputError: the disk is full.
    """
    fingerprint = planned.fingerprint()
    tallies = _prepare(out, fingerprint, overwrite)
    options = planned.options
    with Layouts(options.layout, options.legend, min_share=options.layout_share) as layouts:
        for split in SPLITS:
            made = _made(planned, split, layouts, tallies[split].position, tick)
            if options.scheme == "geosynth":
                tallies[split] = Tally()
                _write_list(planned, out, split, made, tallies[split])
            else:
                for _ in _write_shards(planned, out, split, made, tallies[split]):
                    _write_json(
                        out / STATE, {"fingerprint": fingerprint, "tallies": {s: vars(t) for s, t in tallies.items()}}
                    )
        if layouts.reason is not None and not any(tally.layouts for tally in tallies.values()):
            raise InputError(f"no sample has a layout: {layouts.reason}")
    result = Result(tallies, planned.division.dropped, planned.bad, list(planned.notes))
    if not any(tally.samples for tally in tallies.values()):
        reasons = ", ".join(f"{n} {why}" for why, n in result.describe()["left_out"].items())
        raise InputError(
            f"none of {len(planned.records)} samples is left ({reasons}); check the bands, --max-empty and the split"
        )
    _finish(planned, out, result, fingerprint)
    return result


def _prepare(out: Path, fingerprint: str, overwrite: bool) -> dict[str, Tally]:
    """The tallies to go on from; new ones for a new or emptied folder."""
    if out.exists() and not out.is_dir():
        raise InputError(f"output {out} is a file; give a folder")
    if not out.absolute().parent.is_dir():
        raise InputError(f"folder {out.parent} of output {out.name} does not exist; create it first")
    done, begun = _read_json(out / RECEIPT), _read_json(out / STATE)
    if begun is not None and begun.get("fingerprint") == fingerprint and not overwrite:
        _remove_parts(out)
        return {split: Tally(**begun["tallies"][split]) for split in SPLITS}
    if (done is not None or begun is not None) and not overwrite:
        what = "a finished pack" if done is not None else "an unfinished pack of other data or options"
        raise InputError(f"{out} holds {what}; choose another folder, or replace it with --overwrite")
    if done is None and begun is None and any(not p.name.startswith(".") for p in out.glob("*.tar")):
        raise InputError(f"{out} holds shards that were not packed here; choose another folder")
    try:
        out.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"folder {out} could not be made ({error.strerror}); choose another") from error
    _remove_parts(out)
    names = list((done or {}).get("shards", {}))
    names += [n for tally in (begun or {}).get("tallies", {}).values() for n in tally["shards"]]
    for name in (RECEIPT, SPLIT, STATE, *names, *(f".{n}.index" for n in names)):
        (out / name).unlink(missing_ok=True)
    if done is not None and done.get("options", {}).get("scheme") == "geosynth":
        for folder in _FOLDERS:
            shutil.rmtree(out / folder, ignore_errors=True)
    return {split: Tally() for split in SPLITS}


def _remove_parts(out: Path) -> None:
    for part in out.glob(".*.part.*"):  # of a run that was killed in the middle of a shard
        part.unlink(missing_ok=True)


def _write_shards(planned: Plan, out: Path, split: str, made: Iterator[_Made], tally: Tally) -> Iterator[None]:
    """Yields after each shard, when the tally counts exactly what is in whole shards."""
    limit = planned.options.max_shard_mb * 2**20
    waiting = next(made, None)
    while waiting is not None:
        seen: list[_Made] = []
        while waiting is not None and not waiting.members:
            seen.append(waiting)
            waiting = next(made, None)
        name, count = f"{planned.options.name}-{split}-{len(tally.shards):03d}.tar", 0
        if waiting is not None:
            with atomic_write(out / name, overwrite=True) as part:
                with tarfile.open(part, "w", format=tarfile.PAX_FORMAT) as tar:
                    while waiting is not None:
                        size = sum(_BLOCK + -(-len(data) // _BLOCK) * _BLOCK for data in waiting.members.values())
                        if count and size and tar.offset + size + 2 * _BLOCK > limit:
                            break
                        for extension, data in waiting.members.items():
                            item = tarfile.TarInfo(f"{waiting.key}.{extension}")
                            item.size = len(data)
                            tar.addfile(item, BytesIO(data))
                        count += bool(size)
                        seen.append(waiting)
                        waiting = next(made, None)
            tally.shards[name] = count
        for one in seen:
            one.count(tally)
        tally.position = len(planned.of(split)) if waiting is None else waiting.at
        yield


def _write_list(planned: Plan, out: Path, split: str, made: Iterator[_Made], tally: Tally) -> None:
    """GeoSynth: pictures and maps as files, and at the end the list of them: {source, target, prompt, class = row of lonlat.npy}."""
    lines: list[bytes] = []
    for one in made:
        one.count(tally)
        for name, data in one.members.items():
            if name == "line":
                lines.append(data + b"\n")
                continue
            (out / name).parent.mkdir(exist_ok=True)
            write_bytes(out / name, data, overwrite=True)
    if lines:
        write_bytes(out / f"{split}.jsonl", b"".join(lines), overwrite=True)
        tally.shards[f"{split}.jsonl"] = len(lines)
    places = [record.place for record in planned.records]
    table = np.array([(np.nan, np.nan) if p is None else (p.lon, p.lat) for p in places], np.float64)
    buffer = BytesIO()
    np.save(buffer, table)
    write_bytes(out / "lonlat.npy", buffer.getvalue(), overwrite=True)


def _made(planned: Plan, split: str, layouts: Layouts, start: int, tick: Callable[[], None]) -> Iterator[_Made]:
    scene = None
    try:
        for at, (number, record) in enumerate(planned.of(split)):
            if scene is not None and scene.path != record.path:
                scene.close()
            scene = planned.scenes.get(record.path)
            if at >= start:
                yield _make(planned, split, at, number, record, layouts)
            tick()
    finally:
        if scene is not None:
            scene.close()


def _make(planned: Plan, split: str, at: int, number: int, record: Record, layouts: Layouts) -> _Made:
    options = planned.options
    scheme = options.scheme
    try:
        image: GeoImage | None = None
        if record.window is not None and record.size is not None:
            image, empty = planned.scenes[record.path].read(record.window, record.size[0])
            if empty > options.max_empty:
                return _Made(at, record, left_out="empty")
        extension, data, image = _pixels(options, record, image)
        layout = layouts.of(record, image)
        if scheme == "gensat":
            return _Made(at, record, record.key, schemes.gensat_members(record, extension, data, layout, split))
        shown = picture(data, "image") if image is None else schemes.rgb(image, record)
        if scheme == "geosynth":
            return _Made(at, record, record.key, _geosynth(record, number, extension, data, shown, layout, split))
        key = schemes.diffusionsat_key(record, number)
        return _Made(at, record, key, schemes.diffusionsat_members(record, shown, layout, split, planned.classes))
    except InputError as error:
        if not options.skip_bad:
            raise InputError(f"{record.path.name}: {error}; correct it, or leave such out with --skip-bad") from error
        return _Made(at, record, bad=str(error))


def _pixels(options: Options, record: Record, image: GeoImage | None) -> tuple[str, bytes, GeoImage | None]:
    """Extension and bytes of a sample, and its pixels where they were needed; a picture is kept as it is when its format may stay."""
    suffix = record.path.suffix.lower().lstrip(".").replace("jpeg", "jpg").replace("tiff", "tif")
    if image is None and f".{suffix}" in PICTURES and options.form in ("auto", suffix):
        data = record.path.read_bytes()
        picture(data, "image")  # finds truncated ones
        return suffix, data, None
    image = open_image(record.path) if image is None else image
    form = "jpg" if options.scheme == "geosynth" and options.form == "auto" else options.form
    if (
        form == "jpg"
        and options.scheme == "geosynth"
        and not (image.array.dtype == np.uint8 and image.array.shape[2] in (1, 3))
    ):
        image = GeoImage(schemes.rgb(image, record), crs=image.crs, transform=image.transform, valid=image.valid)
    return *schemes.encode(image, form, options.quality), image


def _geosynth(
    record: Record, number: int, extension: str, data: bytes, shown: np.ndarray, layout: np.ndarray | None, split: str
) -> dict[str, bytes]:
    target = f"images/{record.key}.{extension}"
    members = {target: data}
    line: dict[str, Any] = {"source": target, "target": target, "prompt": record.caption, "class": number}
    if layout is not None:
        line |= {"source": f"maps/{record.key}.png", "layout": f"layouts/{record.key}.png"}
        members |= {line["source"]: schemes.png(colourise(layout)), line["layout"]: schemes.png(layout)}
    known = record.describe(split)
    line |= {"dataset": known.pop("source"), "category": known.pop("class", None)} | {
        k: v for k, v in known.items() if k != "caption"
    }
    members["line"] = schemes.text({name: value for name, value in line.items() if value is not None})
    return members


def _finish(planned: Plan, out: Path, result: Result, fingerprint: str) -> None:
    division, about = planned.division, result.describe()
    split = {
        "rule": planned.options.holdout.describe(),
        "samples": about["samples"],
        "left_out": division.dropped,
        "check": {
            "overlapping_pairs": division.overlaps,
            "known_by_point_only": division.points,
            "without_place": division.unplaced,
        },
    }
    options = {k: v for k, v in vars(planned.options).items() if k not in ("reading", "cut", "holdout")}
    options |= {"cut": vars(planned.options.cut), "columns": dict(planned.options.reading.columns)}
    receipt = {
        "gensat": __version__,
        "fingerprint": fingerprint,
        "options": options,
        "classes": planned.classes,
        **about,
    }
    _write_json(out / SPLIT, split)
    _write_json(out / RECEIPT, receipt)
    (out / STATE).unlink(missing_ok=True)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    write_bytes(path, json.dumps(values, indent=1, default=str).encode() + b"\n", overwrite=True)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        read = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return read if isinstance(read, dict) else None


__all__ = ["RECEIPT", "SPLIT", "Result", "Tally", "run"]
