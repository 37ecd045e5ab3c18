"""The batches of a fine-tuning: every sample once an epoch, its draws a function of (seed, epoch, its key) alone.

So a batch does not depend on how many processes or passes make it, nor on what was trained before.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ..conditioning.acquisition import acquisition_arrays
from ..conditioning.place import place_arrays
from ..errors import InputError
from .autoencoder import turn
from .controls import controls
from .dropout import Dropout, conditions
from .latents import Entry, TextBank, turns
from .objective import Objective
from .sources import Sample


class EpochDraw:
    """Part ``index`` of ``count`` of the batch of a step, for ``runner.Trainer``.

    Args:
        entries: encoded samples, all of one size.
        text: states of their captions and of the empty one.
        objective: what the denoiser is trained to predict.
        batch: images of a step, over all processes and passes.
        seed: of order and draws.
        drop: how often each signal is hidden.
        sensors: names that the acquisition encoder knows; None without one.
        turns: whether latents may be turned and mirrored (an autoencoder that follows the symmetries of the square).
        layouts: whether control pictures are made of layouts and edges.
        shares: relative weight of each source; none: every sample once an epoch.

    Raises:
        InputError: no entries, or shares of sources that are not there.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        text: TextBank,
        objective: Objective,
        *,
        batch: int,
        seed: int,
        drop: Dropout,
        sensors: Sequence[str] | None = None,
        turns: bool = False,
        layouts: bool = False,
        shares: Mapping[str, float | int] | None = None,
    ):
        if not entries:
            raise InputError("there is nothing to train on; see gensat data check")
        self.entries, self.text, self.objective, self.batch = list(entries), text, objective, batch
        self.seed, self.drop, self.turns, self.layouts = seed, drop, turns, layouts
        self.sensors = None if sensors is None else list(sensors)
        self.weights = _weights([e.source for e in entries], shares or {})

    def chosen(self, position: int) -> tuple[int, int]:
        """Epoch and index of the sample at a position, any number from 0 on."""
        epoch = position // len(self.entries)
        return epoch, int(epoch_order(self.seed, epoch, len(self.entries), self.weights)[position % len(self.entries)])

    def part(self, step: int, index: int, count: int) -> dict[str, Any]:
        """CPU tensors: ``x``, ``t``, ``target``, ``weight``, and ``tokens``, ``mask``, ``place``, ``acquisition``, ``control``.

        Raises InputError where the batch cannot be divided evenly.
        """
        if self.batch % count:
            raise InputError(
                f"a batch of {self.batch} cannot be divided among {count} parts (processes times accumulate); "
                f"give a multiple of {count}"
            )
        rows = [self._row(step * self.batch + k) for k in range(index, self.batch, count)]
        latents, noise = (torch.stack([row[name] for row in rows]) for name in ("latent", "noise"))
        made: dict[str, Any] = self.objective.noised(latents, noise, torch.tensor([row["time"] for row in rows]))
        made["tokens"], made["mask"] = self.text.states([row["caption"] for row in rows])
        made["place"] = place_arrays([row["place"] for row in rows])
        if self.sensors is not None:
            made["acquisition"] = acquisition_arrays([row["acquisition"] for row in rows], self.sensors)
        if self.layouts:
            made["control"] = torch.cat([row["control"] for row in rows])
        return made

    def _row(self, position: int) -> dict[str, Any]:
        epoch, index = self.chosen(position)
        entry = self.entries[index]
        key = f"{entry.source}/{entry.key or index}"
        # by shares a sample may come more than once an epoch
        rng = sample_rng(self.seed, epoch if self.weights is None else position, key)
        k = turns([entry], int(rng.integers(8)))[0] if self.turns else 0
        captions, places, acquisitions = conditions([entry], rng, self.drop)
        latent = torch.from_numpy(np.array(entry.latent)).float()
        noise, time = self.objective.draw(latent.shape, rng)
        row = {"latent": turn(latent[None], k)[0], "noise": noise, "time": time, "caption": captions[0]}
        row |= {"place": places[0], "acquisition": acquisitions[0]}
        if self.layouts:
            row["control"] = turn(controls([entry], rng, none=self.drop.controls), k)
        return row


def sample_rng(seed: int, epoch: int, key: str) -> np.random.Generator:
    """The generator of one sample in one epoch."""
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    return np.random.default_rng([seed, epoch, int.from_bytes(digest, "big")])


def told_apart(samples: Sequence[Sample] | Any, sensors: Sequence[str] | None, prompt: str | None) -> Any:
    """Samples one by one, with sensors that the model does not know taken as unknown and ``prompt`` where there is no caption."""
    for sample in samples:
        known = sensors is not None and sample.acquisition.sensor in sensors
        if not known and sample.acquisition.sensor is not None:
            sample = replace(sample, acquisition=replace(sample.acquisition, sensor=None))
        if not sample.caption and prompt:
            sample = replace(sample, caption=prompt)
        yield sample


def _weights(sources: list[str], shares: Mapping[str, float | int]) -> tuple[float, ...] | None:
    if not shares:
        return None
    if missing := set(shares) - set(sources):
        raise InputError(f"shares names {', '.join(sorted(missing))}; there is {', '.join(sorted(set(sources)))}")
    counts = {s: sources.count(s) for s in set(sources)}
    weight = np.array([shares.get(s, 0.0) / counts[s] for s in sources], float)
    if not weight.sum() > 0 or weight.min() < 0:
        raise InputError("the shares of the sources do not add up to anything; give numbers above 0")
    return tuple(weight / weight.sum())


@lru_cache(maxsize=4)
def epoch_order(seed: int, epoch: int, count: int, weights: tuple[float, ...] | None = None) -> np.ndarray:
    """The order of ``count`` things in an epoch: a permutation, or with weights as many draws."""
    rng = np.random.default_rng([seed, epoch, count])
    return rng.permutation(count) if weights is None else rng.choice(count, size=count, p=weights)
