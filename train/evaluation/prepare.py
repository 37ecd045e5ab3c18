"""From what a user names (models, folders, shards) to evaluations that are ready to run; whatever is wrong is said here,
before an image is made.
"""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ... import __version__
from ...errors import InputError
from ..data import data_root, load_samples
from ..sources import Sample
from .networks import Networks
from .pictures import Picture, find_pictures, read_source
from .places import project_region
from .session import Evaluation, Sides, bucketed, digest

MOST = 320
_PACKAGES = ("torch", "diffusers", "transformers", "timm", "kornia", "torchmetrics", "rasterio")


def about() -> dict[str, Any]:
    """The command and the versions, for the report. Paths keep their last part only."""
    words = [Path(w).name if Path(w).is_absolute() else w for w in sys.argv[1:]]
    versions = {name: version(name) for name in _PACKAGES}
    return {
        "command": shlex.join(["gensat", *words]),
        "versions": {"gensat": __version__, "python": platform.python_version(), **versions},
    }


def of_folders(
    real: Path,
    fakes: Mapping[str, Path],
    out: Path,
    train: Path | None,
    count: int | None,
    networks: Networks,
    *,
    about: dict[str, Any],
    **shared: Any,
) -> Iterator[tuple[str, Evaluation]]:
    """(name, evaluation) of each folder of generated images against ``real``."""
    ours = find_pictures(real)
    theirs = {name: find_pictures(folder) for name, folder in fakes.items()}
    trained = None if train is None else list(read_source(train, split="train"))
    for name, pictures in theirs.items():
        yield (
            name,
            Evaluation(
                out / name if len(fakes) > 1 else out,
                name=name,
                sides=Sides.of_folders(ours, pictures, count=count),
                train=trained,
                networks=networks,
                about={**about, "data": described(real.name, [p.key for p in ours])},
                **shared,
            ),
        )


def of_models(
    loaders: Mapping[str, Callable[[], Any]],
    out: Path,
    data: Path | None,
    train: Path | None,
    count: int | None,
    networks: Networks,
    *,
    about: dict[str, Any],
    **shared: Any,
) -> Iterator[tuple[str, Evaluation]]:
    """(name, evaluation) of each model, loaded one after the other by the functions given; at most ``MOST`` images a side where no ``count`` is asked for."""
    project = data is None or (data / "scenes").is_dir() or not data.exists()
    root = data_root(data) if project else None
    if root is not None and train is not None:
        raise InputError("--train came with the project's own data, which has its training split; leave it out")
    networks.check()
    samples: tuple[list[Sample], list[Sample] | None] | None = None
    for name, load in loaders.items():
        pipe = load()
        sizes = pipe.spec.native_size, pipe.spec.size_limits[0]
        if samples is None:
            if root is not None:
                samples = load_samples(root, "heldout"), load_samples(root, "train")
            else:
                assert data is not None
                samples = list(read_source(data)), None if train is None else list(read_source(train, split="train"))
        heldout, trained = samples
        title = "the project's held-out split" if root is not None else str(data.name if data else "")
        yield (
            name,
            Evaluation(
                out / name if len(loaders) > 1 else out,
                pipe=pipe,
                name=name,
                heldout=[bucketed(s, *sizes) for s in heldout],
                train=None if trained is None else [bucketed(s, *sizes) for s in trained],
                networks=networks,
                project=root is not None,
                count=count or (MOST if project else min(MOST, len(heldout))),
                about={**about, "data": described(title, [s.key for s in heldout])},
                **{**shared, "region": shared.get("region") or (project_region if root is not None else None)},
            ),
        )


def described(name: str, keys: list[str]) -> dict[str, Any]:
    """What the figures stand on."""
    return {"name": name, "images": len(keys), "digest": digest(keys)}


__all__ = ["Picture", "about", "of_folders", "of_models"]
