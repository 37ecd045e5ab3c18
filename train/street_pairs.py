"""Pairs for the ground refiner: what a renderer knows of a generated street from its satellite image, and what the street looks like.

Both come from one geometry and one camera (:mod:`gensat.render.streets`), so every pixel of the answer has exact buffers. Made once, kept in
shards of one street each; which street stands in shard ``i`` is a function of the seed and ``i``.
"""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from safetensors import safe_open
from safetensors.numpy import save_file

from ..errors import InputError
from ..render.cameras import AnyCamera
from ..render.environment import PanoramaLight
from ..render.gbuffers import render
from ..render.light import SkyLight
from ..render.lighting import SceneLight
from ..render.streets.dress import DressedLight
from ..render.streets.scenes import Street
from ..render.streets.styles import STREET_TYPES
from ..render.view import View
from .card import Outcome
from .logs import say
from .recipe import program, start

SIDE = 160
"""Pixels of a tile: a perspective view, or one half of a panorama."""

BUFFERS = ("rgb", "distance", "normals", "classes", "kind", "seen")


@dataclass(frozen=True)
class Pair:
    """One tile: ``target`` (s, s, 3) uint8, ``buffers`` as ``compact`` makes them, ``rays`` (s, s, 3) float16, and words for it."""

    target: np.ndarray
    buffers: dict[str, np.ndarray]
    rays: np.ndarray
    caption: str
    street_type: str


def caption_of(street: Street) -> str:
    """Words for a street: its type, its weather and how high the sun stands."""
    light = street.light.light
    high = light.sky.elevation if isinstance(light, SkyLight) else 30.0
    sun = "low sun" if high < 15 else "high sun" if high > 45 else "daylight"
    return f"a street view, {street.plan.kind.name.replace('_', ' ')}, {street.weather.name}, {sun}"


def street_pairs(
    street: Street, rng: np.random.Generator, *, views: int, side: int = SIDE, panoramas: Sequence[Path] = ()
) -> Iterator[Pair]:
    """Tiles of ``views`` cameras in a street, every third of them a panorama (two tiles).

    Half of the raw pictures have the answer's facades drawn on their walls (:class:`~gensat.render.streets.dress.DressedLight`, what a user
    gets by default); a quarter have plain walls in the light of the answer, a quarter stand in the light of the satellite image under a plain
    sky. Picture and answer are exposed alike, by a factor that is drawn. Of ``panoramas``, HDR files, one lights three streets in ten.
    """
    if panoramas and rng.random() < 0.3:
        chosen = panoramas[int(rng.integers(len(panoramas)))]
        street = street.lit_by(PanoramaLight.open(chosen, heading=float(rng.uniform(0, 360))))
    words, kind = caption_of(street), street.plan.kind.name
    for k in range(views):
        panorama = k % 3 == 2
        [camera] = street.cameras(
            1, seed=int(rng.integers(2**31)), width=side * (2 if panorama else 1), height=side, panorama=panorama
        )
        key = float(rng.uniform(0.9, 1.9))
        lit = street.lit_by(street.light.light, key=key)
        way = rng.choice(["facades", "facades", "plain", "unlit"])
        raw = render(street.scene, camera, light=None if way == "unlit" else raw_light(lit, facades=way == "facades"))
        yield from _tiles(raw, lit.view(camera), camera, words, kind, side)


def raw_light(street: Street, *, facades: bool) -> SceneLight:
    """The light of a street on its scene as a user has it, with an image for its ground; with the street's own facades, or plain walls."""
    own = street.light
    light = (
        DressedLight(
            street.scene,
            own.light,
            style=street.plan.kind.name,
            walls=own.walls,
            visibility=street.weather.visibility,
        )
        if facades
        else SceneLight(own.light, visibility=street.weather.visibility)
    )
    light.exposure = own.exposure
    light.remember(street.scene, own.sky_view(street.scene))
    return light


def _tiles(raw: View, answer: View, camera: AnyCamera, words: str, name: str, side: int) -> Iterator[Pair]:
    every = compact(raw.buffers())
    rays = camera.rays().directions.numpy().astype(np.float16)
    target = answer.image().array
    for left in range(0, target.shape[1], side):
        part = slice(left, left + side)
        yield Pair(target[:, part], {n: every[n][:, part] for n in BUFFERS}, rays[:, part], words, name)


def compact(buffers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Buffers of a view in fewer bytes: ``rgb`` uint8 of 255, ``normals`` int8 of 127, ``distance`` float16, the others uint8."""
    distance = buffers["distance"]
    return {
        "rgb": (buffers["rgb"].clip(0, 1) * 255).round().astype(np.uint8),
        "distance": np.where(np.isfinite(distance), distance.clip(0, 6e4), np.inf).astype(np.float16),
        "normals": (buffers["normals"] * 127).round().astype(np.int8),
        **{name: buffers[name].astype(np.uint8) for name in ("classes", "kind", "seen")},
    }


def write_shard(path: Path, pairs: Sequence[Pair]) -> None:
    """One file of tiles, written beside and renamed."""
    tensors = {name: np.stack([p.buffers[name] for p in pairs]) for name in BUFFERS}
    tensors |= {"target": np.stack([p.target for p in pairs]), "rays": np.stack([p.rays for p in pairs])}
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    about = json.dumps([[p.caption, p.street_type] for p in pairs])
    save_file(tensors, fresh, {"about": about})
    fresh.rename(path)


def read_shard(path: Path) -> list[Pair]:
    """Inverse of ``write_shard``."""
    with safe_open(path, "np") as file:
        about = json.loads(file.metadata()["about"])
        t = {name: file.get_tensor(name) for name in ("target", "rays", *BUFFERS)}
    return [
        Pair(t["target"][i], {n: t[n][i] for n in BUFFERS}, t["rays"][i], *about[i]) for i in range(len(t["target"]))
    ]


def make_shard(path: Path, rng: np.random.Generator, *, held_out: bool, **options: Any) -> Path:
    """Draw a street and write its tiles; ``options`` as of ``street_pairs``."""
    names = [name for name, kind in STREET_TYPES.items() if kind.held_out == held_out]
    street = Street.make(str(rng.choice(names)), int(rng.integers(2**31)), samples=1)
    with torch.no_grad():
        write_shard(path, list(street_pairs(street, rng, **options)))
    return path


def make_shards(
    folder: Path,
    count: int,
    *,
    seed: int = 0,
    views: int = 9,
    side: int = SIDE,
    held_out: bool = False,
    panoramas: Sequence[Path] = (),
    workers: int = 1,
    say: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """The first ``count`` shards of the folder; those that exist already are left as they are.

    Args:
        folder: made if missing.
        count: streets.
        seed: of all of them.
        views: cameras a street, see ``street_pairs``.
        side: pixels of a tile.
        held_out: streets of the types that are kept for testing, else of the others.
        panoramas: HDR files that light some of them.
        workers: processes, one core each; the shards are the same for any number.
        say: told how many there are after every tenth new one.

    Raises InputError for a street of no views, or no worker.
    """
    if views < 1 or count < 1:
        raise InputError(f"{count} streets of {views} views hold no pairs; give 1 or more of both")
    if workers < 1:
        raise InputError(f"workers is {workers}; give 1 or more processes")
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"street-{i:05d}.safetensors" for i in range(count)]
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    make = partial(make_shard, held_out=held_out, views=views, side=side, panoramas=panoramas)
    each = [paths[i] for i in missing], [np.random.default_rng([seed, i, int(held_out)]) for i in missing]
    with ExitStack() as stack:
        run: Callable = map
        if workers > 1:
            fresh = get_context("spawn")  # a fork would take locks of torch's threads along
            run = stack.enter_context(ProcessPoolExecutor(workers, fresh, torch.set_num_threads, (1,))).map
        for done, _ in enumerate(run(make, *each), 1):
            if done % 10 == 0:
                say(f"{done} of {len(missing)} streets")
    return paths


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.street_pairs [RECIPE] key=value ...``."""
    start(train, "street_pairs", arguments)


def train(recipe: DictConfig) -> Outcome:
    """Make the shards of the recipe; nothing is trained, but it stands at the beginning of a training."""
    began, out = time.time(), Path(recipe.out)
    make_shards(
        out,
        recipe.count,
        seed=recipe.seed,
        views=recipe.views,
        side=recipe.side,
        held_out=recipe.held_out,
        panoramas=[Path(p) for p in recipe.panoramas],
        workers=recipe.workers,
        say=say,
    )
    return Outcome(out, out, recipe.count, time.time() - began)


if __name__ == "__main__":
    program(main)
