"""Pictures to MP4 and GIF."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from gensat.errors import InputError, OutputError
from gensat.files import atomic_write, check_output

SUFFIXES = (".mp4", ".gif")
"""What is written."""


def save_video(
    frames: Iterable[np.ndarray],
    path: str | os.PathLike[str],
    *,
    fps: float | int = 24,
    total: int | None = None,
    quality: int = 8,
    comment: str = "synthetic images made by gensat",
    progress: bool = True,
    overwrite: bool = False,
) -> int:
    """Writes frames one by one as they come, so that they may be rendered meanwhile; returns how many.

    MP4 is H.264 in yuv420p, which every player shows; sizes that are not even get their last row or column doubled. GIF has 256 colours
    chosen for each frame. Until the last frame is written ``path`` is what it was: an interrupt or an error leaves nothing behind.

    Args:
        frames: uint8 pictures (h, w, 3) of one size.
        path: ending in ``.mp4`` or ``.gif``.
        fps: frames per second, above 0 to 120; a GIF's rounds to hundredths of a second per frame.
        total: how many there will be, for the bar.
        quality: of an MP4, 1 to 10.
        comment: stored in the file.
        progress: show a bar where stderr is a terminal.

    Raises:
        InputError: another extension, no frames, frames of different sizes, or as :func:`gensat.files.check_output`.
        OutputError: the encoder stopped, the disk is full or the folder not writable.
    """
    path = check_output(path, overwrite)
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path} is no name for a video; end it with .mp4 or .gif")
    if not 0 < fps <= 120 or not 1 <= quality <= 10:
        raise InputError(
            f"fps {fps:g} or quality {quality} is out of range; give fps above 0 to 120 and quality 1 to 10"
        )
    count = 0
    with atomic_write(path, overwrite) as part, _bar(total, f"writing {Path(path).name}", progress) as step:
        with _writer(part, suffix, fps, quality, comment) as append:
            size: tuple[int, ...] | None = None
            for frame in frames:
                if (
                    frame.ndim != 3
                    or frame.shape[2] != 3
                    or frame.dtype != np.uint8
                    or (size or frame.shape) != frame.shape
                ):
                    raise InputError(
                        f"frame {count + 1} is {frame.dtype} {frame.shape}; give uint8 (h, w, 3), all of {size or 'one size'}"
                    )
                size = frame.shape
                append(frame)
                count += 1
                step()
            if not count:
                raise InputError("there are no frames to write; give at least one")
        if suffix == ".mp4":
            _require_whole(part, count)
    return count


@contextmanager
def _writer(
    part: Path, suffix: str, fps: float | int, quality: int, comment: str
) -> Iterator[Callable[[np.ndarray], None]]:
    if suffix == ".gif":
        shown: list[Image.Image] = []
        yield lambda frame: shown.append(Image.fromarray(frame).quantize(256, dither=Image.Dither.FLOYDSTEINBERG))
        duration = max(20, round(1000 / fps / 10) * 10)
        shown[0].save(part, save_all=True, append_images=shown[1:], duration=duration, loop=0, comment=comment.encode())
        return
    import imageio_ffmpeg

    send = None

    def append(frame: np.ndarray) -> None:
        nonlocal send
        frame = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
        if send is None:
            send = imageio_ffmpeg.write_frames(
                str(part), frame.shape[1::-1], fps=fps, quality=quality, macro_block_size=2, pix_fmt_out="yuv420p",
                output_params=["-metadata", f"comment={comment}", "-movflags", "+faststart"],
            )  # fmt: skip
            send.send(None)
        send.send(np.ascontiguousarray(frame))

    try:
        yield append
    except OSError as error:
        raise OutputError(f"{part.name} could not be encoded ({str(error)[:120]}); free space or write .gif") from error
    finally:
        if send is not None:
            send.close()


def _require_whole(part: Path, count: int) -> None:
    """The encoder is another process, which may have stopped without a word."""
    import imageio_ffmpeg

    try:
        written = imageio_ffmpeg.count_frames_and_secs(str(part))[0]
    except RuntimeError:
        written = 0
    if written != count:
        raise OutputError(f"the encoder wrote {written} of {count} frames; free space, or write .gif")


@contextmanager
def _bar(total: int | None, label: str, progress: bool) -> Iterator[Callable[[], None]]:
    if not progress or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)
