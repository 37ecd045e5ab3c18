"""``gensat comfy install``: put the gensat nodes into a ComfyUI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gensat.cli import _options as options
from gensat.cli._console import Screen
from gensat.errors import InputError, OutputError

PACK = '''"""The gensat nodes; the code is in the package gensat, which must be installed in the Python that runs ComfyUI."""

from gensat.comfy import NODE_CLASS_MAPPINGS as NODE_CLASS_MAPPINGS
from gensat.comfy import NODE_DISPLAY_NAME_MAPPINGS as NODE_DISPLAY_NAME_MAPPINGS
'''
_SIGNS = ("main.py", "nodes.py", "comfy", "custom_nodes")


def install(
    to: Annotated[Path, typer.Option("--to", help="Folder of ComfyUI, the one that holds main.py.")],
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Write the folder custom_nodes/gensat into a ComfyUI; restart it afterwards."""
    screen = Screen(quiet, json)
    file, changed = write_pack(to, overwrite=overwrite)
    text = f"{file} {'written' if changed else 'is up to date'}; restart ComfyUI with a Python that has gensat"
    screen.result({"path": str(file), "changed": changed}, text)


def write_pack(comfyui: Path, *, overwrite: bool = False) -> tuple[Path, bool]:
    """Writes ``custom_nodes/gensat/__init__.py`` into a ComfyUI.

    Returns:
        The file, and whether it had to be written.

    Raises:
        InputError: the folder is no ComfyUI, or holds other nodes of that name.
        OutputError: it could not be written.
    """
    from gensat.files import write_bytes

    missing = [name for name in _SIGNS if not (comfyui / name).exists()]
    if missing:
        raise InputError(f"{comfyui} is no ComfyUI (it has no {missing[0]}); give the folder that holds its main.py")
    file = comfyui / "custom_nodes" / "gensat" / "__init__.py"
    if file.is_file() and file.read_text(errors="replace") == PACK:
        return file, False
    if file.parent.exists() and not overwrite:
        raise InputError(f"{file.parent} exists and holds something else; remove it, or replace it with --overwrite")
    try:
        file.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{file.parent} could not be made ({error.strerror}); check its permissions") from error
    write_bytes(file, PACK.encode(), overwrite=True)
    return file, True


def register(app: typer.Typer) -> None:
    """Adds the command ``comfy install``."""
    group = typer.Typer(help="Nodes for ComfyUI.")
    group.command()(install)
    group.callback()(lambda: None)  # keeps "install" a subcommand although it is the only one
    app.add_typer(group, name="comfy")
