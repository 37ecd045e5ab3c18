"""Options that commands share: the same name means the same everywhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
import typer.core

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
Picture = Annotated[Path, typer.Argument(help="Satellite or aerial image: GeoTIFF, or a picture with --gsd.")]
PictureGsd = Annotated[float | None, typer.Option(help="Metres per pixel of an image without a georeference.")]
Wavelengths = Annotated[
    str | None,
    typer.Option(
        help="Nanometres of the bands, such as 485,560,660,835,1650,2215; nan for thermal ones. By default their names or tags say them.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.", rich_help_panel=WRITING)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files.", rich_help_panel=WRITING)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Errors only: no notes, no bar.", rich_help_panel=WRITING)]


class Given(frozenset[str]):
    """Parameters whose values are not their defaults; a command made with :func:`spread` may ask for it."""


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command for typer of one that takes dataclasses: each field becomes an option, in the dataclass's place."""
    hints = get_type_hints(command, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    asks = [name for name, hint in hints.items() if hint is Given]
    options: list[Parameter] = []
    for parameter in signature(command).parameters.values():
        if group := groups.get(parameter.name):
            kinds = get_type_hints(group, include_extras=True)
            own = [parameter.replace(name=f.name, default=f.default, annotation=kinds[f.name]) for f in fields(group)]
        elif parameter.name in asks:
            continue
        else:
            own = [parameter.replace(annotation=hints[parameter.name])]
        options += [option.replace(kind=Parameter.KEYWORD_ONLY) for option in own]
    defaults = {option.name: option.default for option in options}

    @wraps(command)
    def flat(**values: Any) -> None:
        given = Given(name for name, value in values.items() if value != defaults[name])
        made = {
            name: group(**{field.name: values.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**values, **made, **dict.fromkeys(asks, given))

    flat.__signature__ = Signature(options)  # type: ignore[attr-defined]
    flat.__annotations__ = {option.name: option.annotation for option in options}
    return flat


def numbers(value: Any) -> Any:
    """Parser of an option that takes several numbers each time it is given, for commands of the class :class:`Tuples`."""
    return tuple(float(one) for one in value) if isinstance(value, (tuple, list)) else float(value)


class Tuples(typer.core.TyperCommand):
    """A command whose repeatable options take as many values each time as their metavar has words (typer knows no such lists)."""

    def __init__(self, *values: Any, **named: Any) -> None:
        super().__init__(*values, **named)
        for option in self.params:
            words = len((getattr(option, "metavar", None) or "").split())
            if getattr(option, "multiple", False) and words > 1:
                option.nargs = words
