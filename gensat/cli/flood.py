"""``gensat flood``: where water goes, what it looks like from above, and from the street."""

from __future__ import annotations

import typer

from gensat.cli._flood_render import render
from gensat.cli._flood_simulate import simulate
from gensat.cli._flood_view import view
from gensat.cli._options import Tuples


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(help="Floods: simulated, and shown.", no_args_is_help=True)
    group.command(cls=Tuples)(simulate)
    group.command()(render)
    group.command()(view)
    app.add_typer(group, name="flood")
