"""Options that commands share: the same name means the same everywhere."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

RUNNING, WRITING = "Running", "Output"


class Dtype(str, Enum):
    """Number formats of the denoiser."""

    auto = "auto"
    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"


Model = Annotated[str, typer.Option(help="Shipped name, folder or cached hub id of a model.", rich_help_panel=RUNNING)]
Device = Annotated[str, typer.Option(help="auto, cpu, mps, cuda or cuda:N.", rich_help_panel=RUNNING)]
DtypeOption = Annotated[
    Dtype, typer.Option("--dtype", help="Number format; auto: fp16 on a GPU.", rich_help_panel=RUNNING)
]
Seed = Annotated[
    int | None,
    typer.Option(help="Of the noise; image i gets seed + i. Random when not given.", rich_help_panel=RUNNING),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.", rich_help_panel=WRITING)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.", rich_help_panel=WRITING)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Errors only: no notes, no bar.", rich_help_panel=WRITING)]
