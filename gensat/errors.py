"""The one family of exceptions: each message is a sentence that ends with what to do."""

from numbers import Real
from typing import Any


class GensatError(Exception):
    """Base of everything gensat raises on purpose; ``exit_code`` is what the command line returns for it."""

    exit_code = 1


class InputError(GensatError, ValueError):
    """Something the user gave is wrong, and it was found before heavy work began."""

    exit_code = 2


class ModelError(InputError):
    """A model cannot be loaded: no model in the folder, damaged weights, an id that cannot be reached, a signal it cannot take."""


class OutputError(GensatError, OSError):
    """A result could not be written (disk full, folder not writable); nothing half-written is left behind."""


class Interrupted(GensatError):
    """The user stopped the work."""

    exit_code = 130


def require_number(value: Any, what: str) -> float:
    """``value`` as a float; InputError naming ``what`` it should have been when it is no number (a text or a bool is none)."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{what} is {value!r}; give a number")
    return float(value)
