"""Where results go: one file, or a folder of numbered files with a contact sheet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

import numpy as np

from gensat.errors import InputError, OutputError
from gensat.files import check_output
from gensat.geo.display import contact_sheet
from gensat.geo.raster import image_suffix
from gensat.types import GeoImage

SHEET = "contact_sheet.png"
_THUMB = 256  # pixels, the longer side of a picture on the contact sheet at most


@dataclass(frozen=True)
class Output:
    """The files of one request, checked before anything is made.

    Args:
        files: one per image.
        folder: the folder they share, or None for a single file; it gets a contact sheet.
        overwrite: whether files that exist are replaced.
    """

    files: tuple[Path, ...]
    folder: Path | None
    overwrite: bool

    def save(self, index: int, image: GeoImage) -> Path:
        """Writes image ``index``, whole or not at all."""
        if self.folder is not None:
            make_folder(self.folder)
        image.save(self.files[index], overwrite=self.overwrite)
        return self.files[index]

    def save_sheet(self, sheet: ContactSheet) -> Path | None:
        """Writes the contact sheet into the folder, if there is one."""
        if self.folder is None:
            return None
        sheet.image().save(self.folder / SHEET, overwrite=self.overwrite)
        return self.folder / SHEET


def plan_output(out: str, seeds: Sequence[int], *, suffix: str = ".tif", overwrite: bool = False) -> Output:
    """Decides and checks the files of a request.

    Args:
        out: a file name, whose extension is the format; or a folder: one that exists, or a name that ends in ``/`` or
            has no extension.
        seeds: one per image; file i of a folder is ``00000i-seed``.
        suffix: format of the files in a folder.
        overwrite: whether files may exist.

    Raises:
        InputError: no such format, several images for one file, an existing file, a folder that does not exist or
            that may not be written.
    """
    path = Path(out)
    if not out.strip():
        raise InputError("the output has no name; give a file such as image.tif, or a folder")
    if path.is_dir() or out.endswith(("/", os.sep)) or not path.suffix:
        names = [f"{index:06d}-{seed}{suffix}" for index, seed in enumerate(seeds)]
        check_folder(path, [*names, SHEET], overwrite=overwrite)
        return Output(tuple(path / name for name in names), path, overwrite)
    image_suffix(path)
    if len(seeds) > 1:
        raise InputError(
            f"{len(seeds)} images do not fit into the one file {path.name}; give a folder, -o {path.stem}/"
        )
    check_output(path, overwrite)
    _require_writable(path.absolute().parent)
    return Output((path,), None, overwrite)


def check_folder(path: Path, names: Sequence[str], *, overwrite: bool = False) -> None:
    """Checks that files of these names may be written into a folder, which may be missing.

    Raises:
        InputError: it is a file, may not be written, has no parent, or holds one of the files and ``overwrite`` is
            false.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"output {path} is a file where a folder is needed; choose another name")
    if not path.exists() and not path.absolute().parent.is_dir():
        raise InputError(f"folder {path.parent} of output {path.name} does not exist; create it first")
    for name in names if path.is_dir() else ():
        check_output(path / name, overwrite)
    _require_writable(path if path.is_dir() else path.absolute().parent)


def make_folder(path: Path) -> None:
    """Makes a folder that :func:`check_folder` let through, if it is missing. Raises OutputError."""
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"folder {path} could not be made ({error.strerror}); choose another") from error


@dataclass
class ContactSheet:
    """Small pictures of all images of a request, row by row, each with its seed."""

    thumbs: list[np.ndarray] = field(default_factory=list)
    first: GeoImage | None = None
    seeds: list[int] = field(default_factory=list)

    def add(self, image: GeoImage, seed: int) -> None:
        """Adds a thumbnail of at most 256 pixels a side."""
        picture = image.to_pil()
        picture.thumbnail((_THUMB, _THUMB))  # now: a thousand images would not fit into memory
        self.thumbs.append(np.asarray(picture))
        self.seeds.append(seed)
        self.first = self.first or image

    @classmethod
    def joined(cls, sheets: Sequence[ContactSheet]) -> ContactSheet:
        """The pictures of several sheets on one, by seed."""
        pairs = sorted(
            ((s, t) for one in sheets for s, t in zip(one.seeds, one.thumbs, strict=True)), key=itemgetter(0)
        )
        return cls([t for _, t in pairs], sheets[0].first, [s for s, _ in pairs])

    def image(self) -> GeoImage:
        """The sheet, as synthetic as what it shows."""
        assert self.first is not None
        columns, side = int(np.ceil(np.sqrt(len(self.thumbs)))), max(self.thumbs[0].shape)
        sheet = contact_sheet(self.thumbs, columns, side=side, labels=self.seeds)
        kept = ("synthetic", "software", "model", "model_hash", "model_licence", "prompt")
        provenance = {key: self.first.provenance[key] for key in kept if key in self.first.provenance}
        return GeoImage(np.asarray(sheet), provenance={**provenance, "seeds": self.seeds})


def _require_writable(folder: Path) -> None:
    if not os.access(folder, os.W_OK):
        raise InputError(f"folder {folder} may not be written; check its permissions or choose another")
