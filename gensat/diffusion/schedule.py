"""diffusers schedulers as the loop uses them: deterministic by default, and every random draw the loop's own."""

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

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

logger = logging.getLogger(__name__)

NAMES = {
    "euler": EulerDiscreteScheduler,
    "flow": FlowMatchEulerDiscreteScheduler,
    "ddim": DDIMScheduler,
    "dpm": DPMSolverMultistepScheduler,
}
# Schedulers that draw inside ``step``, and the deterministic scheduler that solves the probability-flow ODE of the same process.
_AS_ODE = {
    "DDPMScheduler": DDIMScheduler,
    "DDPMParallelScheduler": DDIMScheduler,
    "EulerAncestralDiscreteScheduler": EulerDiscreteScheduler,
    "KDPM2AncestralDiscreteScheduler": KDPM2DiscreteScheduler,
    "DPMSolverSDEScheduler": DPMSolverMultistepScheduler,
}
# These take a generator for settings that are off by default (s_churn, eta) or that ``settle`` switches off.
_DRAWS_NOTHING = {
    "DDIMScheduler",
    "DDIMParallelScheduler",
    "TCDScheduler",  # with eta 0
    "EulerDiscreteScheduler",
    "EDMEulerScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "FlowMatchHeunDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EDMDPMSolverMultistepScheduler",
}
# Multistep methods that count their steps from the start of the whole schedule.
_FROM_NOISE_ONLY = {"PNDMScheduler", "LMSDiscreteScheduler"}


@dataclass
class Schedule:
    """A scheduler settled for one run; ``draws`` says who puts noise in between the steps.

    "none": nobody, it solves the ODE; "given": the scheduler, with noise that the loop hands it; "renoised": the scheduler estimates the
    image and the loop noises it anew.
    """

    scheduler: Any
    draws: Literal["none", "given", "renoised"] = "none"

    @property
    def name(self) -> str:
        """Class name of the scheduler that runs, which may differ from the one that was settled."""
        return type(self.scheduler).__name__

    @property
    def timesteps(self) -> Tensor:
        """Time steps from noise to image."""
        return self.scheduler.timesteps

    def prepare(self, steps: int, strength: float | int = 1.0, device: torch.device | str = "cpu") -> Tensor:
        """Set ``steps`` steps and return the time steps that a start image of ``strength`` leaves (strength 1: all).

        Second-order schedulers evaluate the denoiser at two time steps per step.
        """
        if steps < 1:
            raise InputError(f"steps must be at least 1, not {steps}; 10 to 50 are usual")
        if not 0 < strength <= 1:
            raise InputError(f"strength must lie above 0 and at most 1, not {strength}; 1 ignores the start image")
        self.scheduler.set_timesteps(steps, device=device, **self._spacing(steps))
        skip = steps - max(1, min(steps, round(steps * strength)))
        if skip and self.name in _FROM_NOISE_ONLY:
            raise InputError(f"{self.name} cannot start from an image; use one of {', '.join(sorted(NAMES))}")
        skip *= getattr(self.scheduler, "order", 1)
        if skip and hasattr(self.scheduler, "set_begin_index"):
            self.scheduler.set_begin_index(skip)
        return self.timesteps[skip:]

    def _spacing(self, steps: int) -> dict[str, Any]:
        """How flow matching divides the path: evenly from noise on, before any shift, as the pipelines of diffusers do.

        Left alone, the scheduler puts its last step at a thousandth of the path, where nothing is left to do.
        """
        config = self.scheduler.config
        own = any(config.get(f"use_{kind}_sigmas") for kind in ("karras", "exponential", "beta"))
        spacing: dict[str, Any] = {}
        if self.name == "FlowMatchEulerDiscreteScheduler" and not own:
            spacing["sigmas"] = [1 - i / steps for i in range(steps)]
        if config.get("use_dynamic_shifting"):
            spacing["mu"] = config.get("base_shift", 0.5)
        return spacing

    def scale_input(self, x: Tensor, t: Tensor) -> Tensor:
        """Latents as the denoiser wants them at ``t``."""
        return self.scheduler.scale_model_input(x, t) if hasattr(self.scheduler, "scale_model_input") else x

    def first(self, noise: Tensor) -> Tensor:
        """Latents to start from, given unit noise."""
        return noise * getattr(self.scheduler, "init_noise_sigma", 1.0)

    def noised(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Clean latents with noise at the level of time step ``t``: the first one, or the one that comes next."""
        if hasattr(self.scheduler, "scale_noise"):
            return self.scheduler.scale_noise(clean, t.reshape(1), noise)
        return self.scheduler.add_noise(clean, noise, t.reshape(1))

    def step(
        self, prediction: Tensor, t: Tensor, x: Tensor, draw: Callable[[], Tensor], after: Tensor | None
    ) -> Tensor:
        """One step; ``draw()`` returns fresh unit noise of x's shape, ``after`` is the next time step (None at the end)."""
        if self.draws == "renoised":
            clean = self.scheduler.step(prediction, t, x, return_dict=False)[1]
            return clean if after is None else self.noised(clean, draw(), after)
        keywords: dict[str, Any] = {"return_dict": False}
        parameters = inspect.signature(self.scheduler.step).parameters
        if "eta" in parameters:
            keywords["eta"] = 0.0
        if self.draws == "given":
            keywords["variance_noise"] = draw()
        return self.scheduler.step(prediction, t, x, **keywords)[0]


def settle(scheduler: Any) -> Schedule:
    """A fresh copy of ``scheduler`` that draws no noise of its own: as its ODE, given its noise, or re-noised by the loop.

    Raises InputError for a scheduler that draws inside ``step`` and has none of these forms, naming what to use.
    """
    name, config = type(scheduler).__name__, scheduler.config
    if name in _AS_ODE:
        logger.info("%s draws noise; running the ODE of its process with %s", name, _AS_ODE[name].__name__)
        return Schedule(_AS_ODE[name].from_config(config))
    if name == "LCMScheduler":
        return Schedule(type(scheduler).from_config(config), "renoised")
    algorithm = str(config.get("algorithm_type"))
    changes: dict[str, Any] = {}
    if algorithm.startswith("sde"):
        if name == "DPMSolverMultistepScheduler":  # the one that can be handed its noise
            return Schedule(type(scheduler).from_config(config), "given")
        changes["algorithm_type"] = algorithm.removeprefix("sde-")
    if config.get("stochastic_sampling"):
        changes["stochastic_sampling"] = False
    if changes:
        logger.info("%s draws noise as it is set; running the ODE of its process", name)
    step = getattr(scheduler, "step", None)  # a few have several kinds of step
    parameters = list(inspect.signature(step).parameters) if step else []
    if parameters[:3] != ["model_output", "timestep", "sample"] or (
        "generator" in parameters and name not in _DRAWS_NOTHING
    ):
        raise InputError(
            f"{name} draws noise inside its step or steps in its own way, so results would depend on more than the "
            f"seed; use one of {', '.join(sorted(NAMES))}"
        )
    return Schedule(type(scheduler).from_config(config, **changes))
