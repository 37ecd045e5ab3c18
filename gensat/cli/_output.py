"""Where results go: one file, or a folder of numbered files with a contact sheet."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gensat.errors import InputError, OutputError
from gensat.files import check_output
from gensat.geo.raster import image_suffix
from gensat.types import GeoImage

SHEET = "contact_sheet.png"
_THUMB, _LABEL = 256, 14  # pixels: side of a thumbnail, height of the seed under it


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
        self._make_folder()
        image.save(self.files[index], overwrite=self.overwrite)
        return self.files[index]

    def save_sheet(self, sheet: ContactSheet) -> Path | None:
        """Writes the contact sheet into the folder, if there is one."""
        if self.folder is None:
            return None
        sheet.image().save(self.folder / SHEET, overwrite=self.overwrite)
        return self.folder / SHEET

    def _make_folder(self) -> None:
        if self.folder is not None:
            try:
                self.folder.mkdir(exist_ok=True)
            except OSError as error:
                raise OutputError(
                    f"folder {self.folder} could not be made ({error.strerror}); choose another"
                ) from error


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
        if path.exists() and not path.is_dir():
            raise InputError(
                f"output {path} is a file without an extension; give a folder, or a name such as {path}.tif"
            )
        if not path.exists() and not path.absolute().parent.is_dir():
            raise InputError(f"folder {path.parent} of output {path.name} does not exist; create it first")
        files = tuple(path / f"{index:06d}-{seed}{suffix}" for index, seed in enumerate(seeds))
        for file in (*files, path / SHEET) if path.is_dir() else ():
            check_output(file, overwrite)
        _require_writable(path if path.is_dir() else path.absolute().parent)
        return Output(files, path, overwrite)
    image_suffix(path)
    if len(seeds) > 1:
        raise InputError(
            f"{len(seeds)} images do not fit into the one file {path.name}; give a folder, -o {path.stem}/"
        )
    check_output(path, overwrite)
    _require_writable(path.absolute().parent)
    return Output((path,), None, overwrite)


@dataclass
class ContactSheet:
    """Small pictures of all images of a request, row by row, each with its seed."""

    thumbs: list[Image.Image] = field(default_factory=list)
    first: GeoImage | None = None
    seeds: list[int] = field(default_factory=list)

    def add(self, image: GeoImage, seed: int) -> None:
        """Adds a thumbnail of at most 256 pixels a side."""
        picture = image.to_pil()
        picture.thumbnail((_THUMB, _THUMB), Image.Resampling.LANCZOS)
        self.thumbs.append(picture)
        self.seeds.append(seed)
        self.first = self.first or image

    def image(self) -> GeoImage:
        """The sheet, as synthetic as what it shows."""
        assert self.first is not None
        columns = int(np.ceil(np.sqrt(len(self.thumbs))))
        rows = -(-len(self.thumbs) // columns)
        width, height = self.thumbs[0].width + 2, self.thumbs[0].height + 2 + _LABEL
        sheet = Image.new("RGB", (columns * width, rows * height), "white")
        draw = ImageDraw.Draw(sheet)
        for i, (thumb, seed) in enumerate(zip(self.thumbs, self.seeds, strict=True)):
            x, y = i % columns * width + 1, i // columns * height + 1
            sheet.paste(thumb, (x, y))
            draw.text((x + 2, y + thumb.height + 1), str(seed), fill="black")
        kept = ("synthetic", "software", "model", "model_hash", "model_licence", "prompt")
        provenance = {key: self.first.provenance[key] for key in kept if key in self.first.provenance}
        return GeoImage(np.asarray(sheet), provenance={**provenance, "seeds": self.seeds})


def _require_writable(folder: Path) -> None:
    if not os.access(folder, os.W_OK):
        raise InputError(f"folder {folder} may not be written; check its permissions or choose another")
