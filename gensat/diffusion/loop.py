"""THE denoising loop: every pipeline calls it. Noise, then for each step: predict (in windows), guide, step.

Latents are (b, c, h, w), row 0 north. The loop owns every random draw; schedulers run as their ODE or are re-noised here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gensat.diffusion.guidance import Guidance
from gensat.diffusion.inputs import Bag, Denoiser, concatenate
from gensat.diffusion.noise import Noise
from gensat.diffusion.schedule import settle
from gensat.diffusion.windows import Blend, Window, WindowPlan, bounding

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
    strength: float = 0.8


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
    predicted in windows on the grid's lattice and blended at every step; it is extended to whole windows while it runs and cut back at the end.
    ``start`` and ``known`` cover the canvas. The denoiser runs in ``dtype``, latents and scheduler in float32, at most ``max_batch``
    latents (windows x branches x samples) at a time. ``callback`` sees the canvas; ``interrupted`` ends the loop after the current step.
    """
    guidance, plan = guidance or Guidance(), plan or WindowPlan()
    windows = plan.windows(height, width, origin)
    area = bounding(windows)
    canvas = Window(0, 0, height, width).within(area)
    first_row, first_col = origin[0] + area.row, origin[1] + area.col

    def draw(index: int) -> Tensor:
        return noise(first_row, first_col, area.height, area.width, channels, index).to(device)

    schedule = settle(scheduler)
    timesteps = schedule.prepare(steps, start.strength if start else 1.0, torch.device(device))
    initial = draw(0)
    if start is None:
        x = schedule.first(initial)
    else:
        x = schedule.noised(_spread(start.latents, canvas, area).to(initial), initial, timesteps[0])
    known_area = (
        None if known is None else (_spread(known.latents, canvas, area).to(x), _spread(known.mask, canvas, area).to(x))
    )

    for i, t in enumerate(timesteps):
        scaled = schedule.scale_input(x, t).to(dtype)
        branches = guidance.branches(i / max(1, len(timesteps) - 1))
        jobs = [(window, branch) for window in windows for branch in branches]
        prediction = None if len(windows) == 1 else Blend(area, x)
        for group in _groups(jobs, len(branches), max(1, max_batch // x.shape[0])):
            rows_cols = [window.within(area) for window, _ in group]
            batch = torch.cat([scaled[:, :, rows, cols] for rows, cols in rows_cols])
            inputs = concatenate([bag.inputs(window, branch) for window, branch in group])
            outputs = denoiser(batch, t, inputs).float().chunk(len(group))
            for first in range(0, len(group), len(branches)):
                guided = (
                    guidance.combine(outputs[first : first + len(branches)]) if len(branches) > 1 else outputs[first]
                )
                if prediction is None:
                    prediction = guided
                else:
                    prediction.add(group[first][0], guided)
        after = timesteps[i + 1] if i + 1 < len(timesteps) else None
        x = schedule.step(
            prediction.result() if isinstance(prediction, Blend) else prediction, t, x, lambda n=i + 1: draw(n), after
        ).float()
        if known_area is not None:
            given, mask = known_area
            x = mask * x + (1 - mask) * (given if after is None else schedule.noised(given, initial, after))
        if callback is not None and (replaced := callback(i, t, x[:, :, canvas[0], canvas[1]])) is not None:
            x = x.clone()
            x[:, :, canvas[0], canvas[1]] = replaced.to(x)
        if interrupted():
            break
    return x[:, :, canvas[0], canvas[1]]


def _groups(jobs: Sequence, branches: int, limit: int) -> list[Sequence]:
    """Jobs in runs of whole windows (all branches of a window together), about ``limit`` jobs each."""
    size = max(1, limit // branches) * branches
    return [jobs[i : i + size] for i in range(0, len(jobs), size)]


def _spread(value: Tensor, canvas: tuple[slice, slice], area: Window) -> Tensor:
    """Canvas values on the (larger) working area; outside the canvas the nearest value is repeated."""
    rows = torch.arange(area.height).sub(canvas[0].start).clamp(0, value.shape[-2] - 1).to(value.device)
    cols = torch.arange(area.width).sub(canvas[1].start).clamp(0, value.shape[-1] - 1).to(value.device)
    return value[..., rows, :][..., cols]
