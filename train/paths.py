"""Ways of a flow model from noise to image under guidance, solved once and kept: what a few-step student learns from.

The ODE is solved in Euler steps from x_1 = n to x_0, with the guided velocity u + w (c - u) (Ho & Salimans 2021, eq. 6).
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..conditioning.acquisition import acquisition_arrays
from ..conditioning.place import place_arrays
from ..diffusion.adapters import adapt
from ..diffusion.inputs import DenoiserInputs, concatenate
from ..diffusion.schedule import settle
from .checkpoint import sync
from .dropout import Dropout, conditions, untold
from .latents import Entry, TextBank
from .tuning import sample_rng


class Wishes:
    """What path number i is asked for: its noise and conditions, a function of (seed, i) alone.

    Args:
        entries: what is known of samples; path i takes one of them.
        text: states of their captions.
        shape: of a latent (c, h, w).
        seed: of the choice, the noise and what is hidden.
        drop: how often each signal is hidden.
        sensors: names that the acquisition encoder knows.
    """

    def __init__(
        self,
        entries: Sequence[Entry],
        text: TextBank,
        *,
        shape: tuple[int, int, int],
        seed: int,
        drop: Dropout,
        sensors: Sequence[str],
    ):
        self.entries, self.text, self.shape, self.seed, self.drop = list(entries), text, shape, seed, drop
        self.sensors = list(sensors)

    def told(self, indices: Sequence[int]) -> dict[str, Any]:
        """``tokens``, ``mask``, ``place`` and ``acquisition`` of paths, and their ``noise`` (b, c, h, w)."""
        rows = []
        for i in indices:
            rng = sample_rng(self.seed, i, "path")
            noise = torch.from_numpy(rng.standard_normal(self.shape, dtype=np.float32))
            entry = self.entries[int(rng.integers(len(self.entries)))]
            rows.append((noise, *(value[0] for value in conditions([entry], rng, self.drop))))
        noises, captions, places, acquisitions = zip(*rows, strict=True)
        tokens, mask = self.text.states(captions)
        return {
            "noise": torch.stack(noises),
            "tokens": tokens,
            "mask": mask,
            "place": place_arrays(places),
            "acquisition": acquisition_arrays(acquisitions, self.sensors),
        }

    def untold(self, told: dict[str, Any], kept: set[str]) -> dict[str, Any]:
        """The same for the unconditional branch: everything unknown but the signals ``kept``."""
        names = {"prompt": ("tokens", "mask"), "place": ("place",), "acquisition": ("acquisition",)}
        still = {key: told[key] for signal in kept for key in names.get(signal, ())}
        return untold(self.text, len(told["mask"]), self.sensors) | still


def inputs_of(pipe: Any, told: dict[str, Any]) -> DenoiserInputs:
    """Conditions as the denoiser takes them."""
    device = pipe.unet.device
    vectors = []
    if pipe.place_encoder is not None:
        vectors.append(pipe.place_encoder(*told["place"]))
    if pipe.acquisition_encoder is not None:
        vectors.append(pipe.acquisition_encoder(*told["acquisition"]))
    return DenoiserInputs(
        tokens=told["tokens"].to(device),
        token_mask=told["mask"].to(device),
        time_vector=sum(vectors[1:], vectors[0]) if vectors else None,
    )


def levels(scheduler: Any, steps: int) -> tuple[Tensor, Tensor]:
    """Time steps (n,) and noise levels (n + 1,) of a flow schedule, the last level 0: those that images are made with."""
    schedule = settle(scheduler)
    times = schedule.prepare(steps).float()
    return times, schedule.scheduler.sigmas.float().cpu()


def way(
    velocity: Callable[[Tensor, Tensor], Tensor], noise: Float[Tensor, "b c h w"], times: Tensor, sigmas: Tensor
) -> list[Float[Tensor, "b c h w"]]:
    """States of the Euler steps from ``noise``, which is the first, to the image: x + (s' - s) v(x, t) at every level s."""
    states = [noise]
    for i, t in enumerate(times.to(noise.device)):
        states.append(states[-1] + float(sigmas[i + 1] - sigmas[i]) * velocity(states[-1], t).float())
    return states


@torch.no_grad()
def solve(
    pipe: Any, wishes: Wishes, told: dict[str, Any], steps: int, *, guidance: float | int, every: int = 1
) -> Float[Tensor, "b points c h w"]:
    """States of the paths at every ``every``-th of ``steps`` Euler steps, the noise first and the image last; on the CPU."""
    denoiser, parts = adapt(pipe.unet), [inputs_of(pipe, told)]
    if guidance != 1:
        kept = {name for name, signal in pipe.spec.signals.items() if signal.unconditional == "kept"}
        parts.append(inputs_of(pipe, wishes.untold(told, kept)))
    both = concatenate(parts)

    def guided(x: Tensor, t: Tensor) -> Tensor:
        velocity = denoiser(x.repeat(len(parts), 1, 1, 1), t, both).float()
        if len(parts) == 1:
            return velocity
        given, nothing = velocity.chunk(2)
        return nothing + guidance * (given - nothing)

    states = way(guided, told["noise"].to(pipe.unet.device), *levels(pipe.scheduler, steps))
    return torch.stack([state.cpu() for state in states[::every]], dim=1)


def kept_paths(folder: Path, key: str, chunks: Sequence[Sequence[int]], make: Any, *, rank: int, world: int) -> None:
    """Files ``paths-NUMBER.safetensors`` of all chunks of path numbers, those that are missing made by ``make(chunk)``.

    Each is written beside, synced and renamed; of several processes each makes its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(rank, len(chunks), world):
        path = folder / f"paths-{number:05d}.safetensors"
        if _key(path) == key:
            continue
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        save_file({"states": make(chunks[number]).half().contiguous()}, fresh, {"key": key})
        sync(fresh)
        fresh.rename(path)


def load_paths(folder: Path, count: int) -> Float[Tensor, "n points *latent"]:
    """States of the first ``count`` paths, float16."""
    parts: list[Tensor] = []
    for path in sorted(folder.glob("paths-*.safetensors")):
        if sum(map(len, parts)) >= count:
            break
        with safe_open(path, "pt") as file:
            parts.append(file.get_tensor("states"))
    return torch.cat(parts)[:count]


def _key(path: Path) -> str | None:
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("key")
    except Exception:  # missing or damaged: it is made again
        return None


def key_of(**values: Any) -> str:
    """Everything that paths depend on, as text."""
    return json.dumps(values, sort_keys=True, default=str)
