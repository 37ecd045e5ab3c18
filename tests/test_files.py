"""Writing: what is there is kept, nothing is left half-written."""

import errno
import os
import resource
from pathlib import Path

import pytest
from raster_toys import PROVENANCE, toy_image

from gensat.errors import InputError, OutputError
from gensat.files import atomic_write, check_output
from gensat.types import GeoImage


def test_existing_output_is_kept_unless_overwrite(tmp_path):
    path = tmp_path / "x.tif"
    path.write_text("precious")
    with pytest.raises(InputError, match="overwrite"):
        toy_image().save(path)
    assert path.read_text() == "precious"
    toy_image().save(path, overwrite=True)
    assert GeoImage.open(path).provenance == PROVENANCE
    assert [p.name for p in tmp_path.iterdir()] == ["x.tif"]


def test_output_needs_a_folder_and_a_name(tmp_path):
    with pytest.raises(InputError, match="does not exist; create it"):
        toy_image().save(tmp_path / "none" / "x.tif")
    with pytest.raises(InputError, match="is a folder"):
        check_output(tmp_path)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_interrupted_write_leaves_nothing_and_keeps_the_old_file(tmp_path, error):
    path = tmp_path / "x.bin"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path, overwrite=True) as part:
        assert part.parent == tmp_path and part.suffix == ".bin"
        part.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.bin"]


def test_full_disk_is_an_output_error_and_leaves_nothing(tmp_path):
    # A limit on the size of files makes the kernel refuse the write, as a full disk does.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    image = toy_image(size=(200, 200))
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        for suffix in (".tif", ".png", ".jpg"):
            with pytest.raises(OutputError, match="could not be written"):
                image.save(tmp_path / f"x{suffix}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


def test_no_space_left_is_said(tmp_path, monkeypatch):
    def refuse(self, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(OutputError, match="No space left on device"):
        toy_image().save(tmp_path / "x.tif")


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path):
    path = tmp_path / "x.txt"
    with pytest.raises(InputError, match="exists"), atomic_write(path) as part:
        part.write_text("ours")
        path.write_text("theirs")
    assert path.read_text() == "theirs" and os.listdir(tmp_path) == ["x.txt"]
