"""Every scheduler of Stable Diffusion and of flow matching: run deterministically and to the right distribution, or refused."""

import diffusers
import pytest
import torch
from gaussian import MEAN, STD, Bag, White, best_denoiser, flow_end, levels

from gensat.diffusion.loop import Start, denoise
from gensat.diffusion.noise import NoiseField
from gensat.diffusion.schedule import NAMES, settle
from gensat.errors import InputError

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
FAMILY = sorted({c.__name__ for c in diffusers.EulerDiscreteScheduler().compatibles} - {"EDMEulerScheduler"})
ODE = [name for name in FAMILY if "SDE" not in name]
AS_ODE = {
    "DDPMScheduler": "DDIMScheduler",
    "EulerAncestralDiscreteScheduler": "EulerDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler": "KDPM2DiscreteScheduler",
}
FLOW = ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"]
REFUSED = ["SASolverScheduler", "UnCLIPScheduler", "FlowMatchLCMScheduler", "SCMScheduler", "RePaintScheduler"]
ONLY_FROM_NOISE = {"PNDMScheduler", "LMSDiscreteScheduler"}


def make(name, **settings):
    kind = getattr(diffusers, name)
    known = set(kind.__init__.__wrapped__.__annotations__) if hasattr(kind.__init__, "__wrapped__") else set()
    standard = {**BETAS, "timestep_spacing": "trailing", "clip_sample": False, "set_alpha_to_one": True}
    return kind(**{k: v for k, v in standard.items() if k in known}, **settings)


def run(scheduler, denoiser, steps=40, seed=0, batch=1, start=None):
    settings = {"channels": 4, "height": 16, "width": 16, "steps": steps, "start": start}
    return denoise(denoiser, scheduler, Bag(), White(seed, batch), **settings)


def gain(scheduler, steps):
    """Slope and offset of the exact solution as a function of the initial unit noise."""
    schedule = settle(scheduler)
    t = schedule.prepare(steps)[0]
    first = schedule.first(torch.ones(1, dtype=torch.float64))
    signal, noise = levels(schedule.scheduler, t)
    scale = schedule.scale_input(first, t) if hasattr(schedule.scheduler, "scale_model_input") else first
    return flow_end(scale, signal, noise) - flow_end(0 * scale, signal, noise), flow_end(0 * scale, signal, noise)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", ODE)
def test_noise_is_transported_to_the_data(name, kind):
    scheduler = make(name, prediction_type=kind)
    x = run(scheduler, best_denoiser(scheduler, kind))
    slope, offset = gain(scheduler, 40)
    exact = offset + slope * NoiseField(0)(0, 0, 16, 16, 4)
    assert (x - exact).abs().max() < 0.06 * STD * 4
    assert abs(x.mean() - MEAN) < 0.05 and abs(x.std() - STD) < 0.05 * STD + 0.02
