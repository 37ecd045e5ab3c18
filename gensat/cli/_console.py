"""What the command line says, and where: results on stdout, everything else on stderr, errors in one sentence."""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import typer

from gensat.errors import GensatError

_UsageError = typer.BadParameter.__mro__[2]  # ClickException, which newer typers bring along under another name
_INTERRUPTED = 130


@dataclass(frozen=True)
class Screen:
    """Where one command talks to: a person (notes, a progress bar, lines) or a program (one JSON object)."""

    quiet: bool = False
    json: bool = False
    silent: bool = False  # one of several processes, of which another prints the result

    def note(self, text: str) -> None:
        """A line for people, on stderr."""
        if not self.quiet:
            typer.echo(text, err=True)

    def result(self, data: Mapping[str, Any], text: str) -> None:
        """The result, on stdout: the data as one JSON object, or the text for people."""
        if self.silent:
            return
        if self.json:
            typer.echo(json.dumps(data, indent=2, allow_nan=False))
        elif not self.quiet and text:
            typer.echo(text)

    @contextmanager
    def progress(self, total: int, label: str) -> Iterator[Callable[[], None]]:
        """Yields a function to call after each of ``total`` steps; a bar is drawn only on a terminal."""
        if self.quiet or self.silent or not sys.stderr.isatty():
            yield lambda: None
            return
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(label, total=total)
            yield lambda: bar.advance(task)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Meanwhile what gensat logs as a warning becomes a line on stderr, once; Python's own warnings are left out."""
        logger = logging.getLogger("gensat")
        handler = _Lines(logging.ERROR if self.quiet else logging.WARNING)
        logger.addHandler(handler)
        try:
            with warnings.catch_warnings():
                if not debugging():
                    warnings.simplefilter("ignore")
                yield
        finally:
            logger.removeHandler(handler)


class _Lines(logging.Handler):
    """Log records as plain lines on whatever stderr is now, each text once."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if text not in self.said:
            self.said.add(text)
            typer.echo(text, err=True)


def hush_libraries() -> None:
    """Switches off progress bars, warnings and load reports of diffusers and transformers.

    Nothing is lost by it: gensat itself refuses weights that lack tensors or have too many.
    """
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    for library in (of_diffusers, of_transformers):
        library.disable_progress_bar()
        if not debugging():
            library.set_verbosity_error()


def debugging() -> bool:
    """Whether the user asked for tracebacks and for everything libraries say."""
    return os.environ.get("GENSAT_DEBUG", "") not in ("", "0")


def explain(error: BaseException) -> int:
    """Says on stderr, in at most three lines, what went wrong and what to do; returns the exit code."""
    code, text = _verdict(error)
    if debugging():
        traceback.print_exception(error)
    for line in (text.strip() or type(error).__name__).splitlines()[:3]:
        typer.echo(line, err=True)
    return code


def _verdict(error: BaseException) -> tuple[int, str]:
    if isinstance(error, GensatError):
        return error.exit_code, f"error: {error}"
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return _INTERRUPTED, "interrupted"
    if isinstance(error, _UsageError):  # a missing argument, an unknown option, text where a number belongs
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "gensat"
        message = " ".join(str(error.format_message()).split())  # type: ignore[attr-defined]
        return 2, f"error: {message}\nsee {command} --help"
    if _out_of_memory(error):
        return 1, "error: out of memory; make the image smaller, lower --batch, or choose another --device"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return 1, "error: the disk is full; free space or choose another folder"
    first = (str(error).strip().splitlines() or [""])[0][:200]
    return 1, f"error: {type(error).__name__}: {first}\nset GENSAT_DEBUG=1 to see where, and report it as a bug"


def _out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
