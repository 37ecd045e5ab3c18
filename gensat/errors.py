"""The one family of exceptions: each message is a sentence that ends with what to do."""


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
