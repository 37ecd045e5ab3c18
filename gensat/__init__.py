"""gensat: generative Earth imagery that stays tied to the Earth.

Importing this package imports no torch; public names are resolved on first use (PEP 562).
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_root = Path(__file__).resolve().parent.parent
if (
    _root / "pyproject.toml"
).is_file():  # a checkout: pipelines/, conditioning/, train/, assets/ lie beside this folder
    __path__.append(str(_root))

_PUBLIC = {
    "Place": "gensat.types",
    "PartialDate": "gensat.types",
    "Acquisition": "gensat.types",
    "Band": "gensat.types",
    "GeoImage": "gensat.types",
    "Canvas": "gensat.geo.canvas",
    "load": "gensat.hub.load",
    "ModelSpec": "gensat.hub.spec",
    "SatellitePipeline": "gensat.pipelines.satellite",
}

__all__ = ["__version__", *_PUBLIC]

if TYPE_CHECKING:
    from gensat.geo.canvas import Canvas
    from gensat.hub.load import load
    from gensat.hub.spec import ModelSpec
    from gensat.pipelines.satellite import SatellitePipeline
    from gensat.types import Acquisition, Band, GeoImage, PartialDate, Place


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'gensat' has no attribute {name!r}")


def __dir__():
    return sorted(set(globals()) | set(_PUBLIC))
