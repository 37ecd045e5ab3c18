"""THE denoising loop: every pipeline calls it. Noise, then for each step: predict (in windows), guide, step.

Latents are (b, c, h, w), row 0 north. The loop owns every random draw; schedulers run as their ODE or are given or re-noised with it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gensat.diffusion.guidance import Guidance
from gensat.diffusion.inputs import Bag, Denoiser, concatenate
from gensat.diffusion.noise import Noise
from gensat.diffusion.schedule import settle
from gensat.diffusion.windows import Blend, Window, WindowPlan

# callback(step index, time step, latents of the canvas) -> replacement latents or None
StepCallback = Callable[[int, Tensor, Tensor], Tensor | None]


@dataclass(frozen=True)
class Known:
    """Latents that are given where ``mask`` is 0 and generated where it is 1 (floats between blend): inpainting without extra channels."""

    latents: Float[Tensor, "b c h w"]
    mask: Float[Tensor, "b 1 h w"]


@dataclass(frozen=True)
class Start:
    """Begin from clean latents noised to ``strength`` of the schedule (1: pure noise) instead of from noise alone."""

    latents: Float[Tensor, "b c h w"]
    strength: float | int = 0.8


@torch.no_grad()
def denoise(
    denoiser: Denoiser,
    scheduler: Any,
    bag: Bag,
    noise: Noise,
    *,
    channels: int,
    height: int,
    width: int,
    steps: int,
    origin: tuple[int, int] = (0, 0),
    guidance: Guidance | None = None,
    plan: WindowPlan | None = None,
    wrap: bool = False,
    start: Start | None = None,
    known: Known | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    max_batch: int = 16,
    callback: StepCallback | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Float[Tensor, "b c h w"]:
    """Latents of a canvas of ``height`` x ``width`` cells whose first cell is ``origin`` (row, column) on the noise grid.

    ``noise(row, col, height, width, channels, draw)`` gives one row of the batch per sample. A canvas larger than the plan's ``whole`` is
    predicted in windows on the grid's lattice and blended at every step; it is extended to whole windows while it runs and cut back at the end
    (``plan.halo`` says how far that is felt). With ``wrap`` it is a panorama: always in windows, which go round its columns.
    ``start`` and ``known`` cover the canvas. The denoiser runs in ``dtype``, latents and scheduler in float32, with at most ``max_batch``
    latents (windows x branches x samples) at a time, or one of each sample where that is more. ``callback`` sees the canvas;
    ``interrupted`` ends the loop after the current step.
    """
    guidance, plan = guidance or Guidance(), plan or WindowPlan()
    windows = plan.windows(height, width, origin, wrap=wrap)
    area = plan.area(height, width, origin, wrap=wrap)
    rows, cols = Window(0, 0, height, width).within(area)

    def draw(index: int) -> Tensor:
        return noise(origin[0] + area.row, origin[1] + area.col, area.height, area.width, channels, index).to(device)

    def spread(value: Tensor) -> Tensor:
        return _spread(value, area).to(device, torch.float32)

    schedule = settle(scheduler)
    timesteps = schedule.prepare(steps, start.strength if start else 1.0, device)
    initial = draw(0)
    x = schedule.noised(spread(start.latents), initial, timesteps[0]) if start else schedule.first(initial)
    held = (spread(known.latents), spread(known.mask)) if known else None

    for i, t in enumerate(timesteps):
        scaled = schedule.scale_input(x, t).to(dtype)
        branches = guidance.branches(i / max(1, len(timesteps) - 1))
        jobs = [(window, branch) for window in windows for branch in branches]
        size = max(1, max_batch // x.shape[0])
        blend, done = Blend(area, wrap=wrap), iter(windows)
        waiting: list[Tensor] = []  # predictions of a window whose branches are not complete
        for first in range(0, len(jobs), size):
            group = jobs[first : first + size]
            batch = torch.cat([scaled[(..., *window.within(area, wrap=wrap))] for window, _ in group])
            inputs = concatenate([bag.inputs(window, branch) for window, branch in group])
            prediction = denoiser(batch, t, inputs).to(
                torch.float32, copy=True
            )  # a CUDA graph writes the next one over it
            waiting += prediction.chunk(len(group))
            while len(waiting) >= len(branches):
                blend.add(next(done), guidance.combine(waiting[: len(branches)]))
                del waiting[: len(branches)]
        after = timesteps[i + 1] if i + 1 < len(timesteps) else None
        x = schedule.step(blend.result(), t, x, partial(draw, i + 1), after).float()
        if held is not None:
            given, mask = held
            x = mask * x + (1 - mask) * (given if after is None else schedule.noised(given, initial, after))
        if callback is not None and (replaced := callback(i, t, x[:, :, rows, cols])) is not None:
            x = x.clone()
            x[:, :, rows, cols] = replaced.to(x)
        if interrupted():
            break
    return x[:, :, rows, cols]


def _spread(value: Tensor, area: Window) -> Tensor:
    """Canvas values on the (larger) working area; outside the canvas the nearest value is repeated."""
    rows = (torch.arange(area.height) + area.row).clamp(0, value.shape[-2] - 1).to(value.device)
    cols = (torch.arange(area.width) + area.col).clamp(0, value.shape[-1] - 1).to(value.device)
    return value[..., rows, :][..., cols]
