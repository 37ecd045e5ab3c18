"""diffusers schedulers as the loop uses them: deterministic by default, and every random draw the loop's own."""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    KDPM2DiscreteScheduler,
)
from torch import Tensor

from gensat.errors import InputError

# Schedulers that draw inside ``step``, and the deterministic scheduler that solves the probability-flow ODE of the same process.
_AS_ODE = {
    "DDPMScheduler": (DDIMScheduler, {}),
    "DDPMParallelScheduler": (DDIMScheduler, {}),
    "EulerAncestralDiscreteScheduler": (EulerDiscreteScheduler, {}),
    "KDPM2AncestralDiscreteScheduler": (KDPM2DiscreteScheduler, {}),
    "DPMSolverSDEScheduler": (DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
}
_RENOISED = {"LCMScheduler", "TCDScheduler"}  # step to an estimate of the image, then noise it anew
NAMES = {
    "euler": EulerDiscreteScheduler,
    "flow": FlowMatchEulerDiscreteScheduler,
    "ddim": DDIMScheduler,
    "dpm": DPMSolverMultistepScheduler,
}


@dataclass
class Schedule:
    """A scheduler settled for one run; ``renoised`` says that the loop adds the noise between steps."""

    scheduler: Any
    renoised: bool = False

    @property
    def timesteps(self) -> Tensor:
        """Time steps from noise to image."""
        return self.scheduler.timesteps

    def prepare(self, steps: int, strength: float, device: torch.device) -> Tensor:
        """Set ``steps`` time steps and return those that a start image of ``strength`` leaves (strength 1: all)."""
        if steps < 1:
            raise InputError(f"steps must be at least 1, not {steps}.")
        if not 0 < strength <= 1:
            raise InputError(f"strength must lie above 0 and at most 1, not {strength}; 1 ignores the start image.")
        if getattr(self.scheduler.config, "use_dynamic_shifting", False):
            self.scheduler.set_timesteps(steps, device=device, mu=self.scheduler.config.get("base_shift", 0.5))
        else:
            self.scheduler.set_timesteps(steps, device=device)
        skip = len(self.timesteps) - max(1, min(len(self.timesteps), round(len(self.timesteps) * strength)))
        if skip and hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(skip)
        return self.timesteps[skip:]

    def scale_input(self, x: Tensor, t: Tensor) -> Tensor:
        """Latents as the denoiser wants them at ``t``."""
        return self.scheduler.scale_model_input(x, t) if hasattr(self.scheduler, "scale_model_input") else x

    def first(self, noise: Tensor) -> Tensor:
        """Latents to start from, given unit noise."""
        return noise * getattr(self.scheduler, "init_noise_sigma", 1.0)

    def noised(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Clean latents with noise at the level of time step ``t``."""
        t = t.reshape(1).expand(clean.shape[0])
        if hasattr(self.scheduler, "scale_noise"):
            return self.scheduler.scale_noise(clean, t, noise)
        return self.scheduler.add_noise(clean, noise, t)

    def step(self, prediction: Tensor, t: Tensor, x: Tensor, draw: Any, after: Tensor | None) -> Tensor:
        """One step; ``draw()`` returns fresh unit noise of x's shape, ``after`` is the next time step (None at the end)."""
        if self.renoised:
            clean = self.scheduler.step(prediction, t, x, return_dict=False)[1]
            return clean if after is None else self.noised(clean, draw(), after)
        keywords = {}
        if "variance_noise" in inspect.signature(self.scheduler.step).parameters:
            eta = getattr(self.scheduler, "eta", 0.0)
            keywords = {"eta": eta, "variance_noise": draw()} if eta else {}
        return self.scheduler.step(prediction, t, x, return_dict=False, **keywords)[0]


def settle(scheduler: Any) -> Schedule:
    """A fresh copy of ``scheduler`` that draws no noise of its own: as its ODE, or re-noised by the loop.

    Raises InputError for a scheduler that draws inside ``step`` and has neither form, naming what to use.
    """
    name = type(scheduler).__name__
    if name in _AS_ODE:
        kind, extra = _AS_ODE[name]
        return Schedule(kind.from_config(scheduler.config, **extra))
    config = scheduler.config
    if name == "DPMSolverMultistepScheduler" and str(config.algorithm_type).startswith("sde"):
        return Schedule(type(scheduler).from_config(config, algorithm_type=config.algorithm_type.removeprefix("sde-")))
    if name == "FlowMatchEulerDiscreteScheduler" and config.get("stochastic_sampling"):
        return Schedule(type(scheduler).from_config(config, stochastic_sampling=False))
    fresh = type(scheduler).from_config(config)
    if name in _RENOISED:
        return Schedule(fresh, renoised=True)
    parameters = inspect.signature(fresh.step).parameters
    if "generator" in parameters and "eta" not in parameters and name not in _DRAWS_NOTHING:
        raise InputError(
            f"{name} draws noise inside its step, so results would depend on more than the seed; use one of {', '.join(sorted(NAMES))}."
        )
    return Schedule(fresh)


# These take ``generator`` for settings that are off unless asked for (s_churn, sde variants handled above).
_DRAWS_NOTHING = {
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "EDMEulerScheduler",
    "KDPM2DiscreteScheduler",
}
