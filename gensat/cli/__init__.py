"""The command ``gensat``: one file a command, found by looking into this folder.

A command is a module here whose name has no leading underscore, with a function ``register(app)`` that adds it to a
typer app. Such a module imports nothing heavy (no torch, no rasterio) outside its functions, so that ``gensat --help``
answers at once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, Any, NoReturn

import typer

from gensat import __version__
from gensat.cli._console import explain

_HELP = "Generative Earth imagery that stays tied to the Earth: satellite images from words, a place, a date and a map."


def commands() -> list[str]:
    """Names of the command modules, in the order of the help."""
    return sorted(module.name for module in iter_modules(__path__) if not module.name.startswith("_"))


def build() -> typer.Typer:
    """The whole app with every command."""
    app = typer.Typer(name="gensat", help=_HELP, pretty_exceptions_enable=False)

    @app.callback(invoke_without_command=True)
    def gensat(
        version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
    ) -> None:
        if version:
            typer.echo(f"gensat {__version__}")
            raise typer.Exit()

    for name in commands():
        import_module(f"gensat.cli.{name}").register(app)
    return app


def run(arguments: Sequence[str]) -> int:
    """Runs one command line (without the program's name) and returns its exit code.

    0: done; 1: it failed on the way; 2: something the user gave is wrong; 130: interrupted. Errors are at most three
    lines on stderr; with ``GENSAT_DEBUG=1`` in the environment the traceback goes before them.
    """
    try:
        code = build()(list(arguments) or ["--help"], standalone_mode=False, prog_name="gensat")
    except (Exception, KeyboardInterrupt) as error:
        return explain(error)
    except SystemExit as leaving:  # typer leaves by itself when the reader of a pipe went away
        code = leaving.code
    if code == 130:  # typer's own answer to an interrupt between our steps
        return explain(KeyboardInterrupt())
    return code if isinstance(code, int) else 0


def main() -> NoReturn:
    """Entry point of the command ``gensat``."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(run(sys.argv[1:]))


def _terminate(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt  # so that half-written files are removed as after Ctrl-C
