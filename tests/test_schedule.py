"""Every scheduler of Stable Diffusion and of flow matching: run deterministically and to the right distribution, or refused."""

import inspect

import diffusers
import pytest
import torch
from gaussian import MEAN, STD, NoConditions, best_denoiser, field, flow_end, levels

from gensat.diffusion.loop import Start, denoise
from gensat.diffusion.schedule import NAMES, settle
from gensat.errors import InputError

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
FLOW = ["FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"]
EDM = ["EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"]
STABLE_DIFFUSION = sorted(
    {c.__name__ for c in diffusers.EulerDiscreteScheduler().compatibles} - {*EDM, "DPMSolverSDEScheduler"}
)
AS_ODE = {
    "DDPMScheduler": "DDIMScheduler",
    "DDPMParallelScheduler": "DDIMScheduler",
    "EulerAncestralDiscreteScheduler": "EulerDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler": "KDPM2DiscreteScheduler",
}
ONLY_FROM_NOISE = ["LMSDiscreteScheduler", "PNDMScheduler"]
REFUSED = ["SASolverScheduler", "UnCLIPScheduler", "FlowMatchLCMScheduler", "SCMScheduler", "RePaintScheduler"]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
SHAPE = {"channels": 4, "height": 8, "width": 8}


def make(name, **settings):
    kind = getattr(diffusers, name)
    standard = {**BETAS, "timestep_spacing": "trailing", "clip_sample": False, "set_alpha_to_one": True}
    known = inspect.signature(kind.__init__).parameters
    return kind(**{k: v for k, v in standard.items() if k in known}, **settings)


def kind_of(name):
    return "flow" if name in FLOW else "epsilon"


def run(scheduler, denoiser, steps, *, batch=1, start=None):
    return denoise(denoiser, scheduler, NoConditions(), field(batch=batch), steps=steps, start=start, **SHAPE)


def exact(scheduler, steps):
    """Where the ODE itself takes the initial noise."""
    schedule = settle(scheduler)
    t = schedule.prepare(steps)[0]
    x = schedule.scale_input(schedule.first(field()(0, 0, 8, 8, 4).double()), t)
    return flow_end(x, *levels(schedule.scheduler, t)).float()


@pytest.mark.parametrize("name", STABLE_DIFFUSION + FLOW + EDM)
def test_noise_is_transported_along_the_ode(name):
    scheduler = make(name)
    errors = []
    for steps in (10, 20):
        x = run(scheduler, best_denoiser(scheduler, kind_of(name)), steps)
        errors.append(float((x - exact(scheduler, steps)).abs().max()) / STD)
    assert errors[1] < 0.6  # in standard deviations, of the worst of 256 numbers
    assert errors[1] < 0.7 * errors[0] or errors[1] < 0.1, errors


@pytest.mark.parametrize("name", [n for n in STABLE_DIFFUSION if n != "PNDMScheduler"])  # which averages predictions
def test_predicting_velocity_is_predicting_noise(name):
    schedulers = [make(name, prediction_type=kind) for kind in ("epsilon", "v_prediction")]
    noise, velocity = (run(s, best_denoiser(s, s.config.prediction_type), 6) for s in schedulers)
    torch.testing.assert_close(velocity, noise, atol=2e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler"])
def test_flow_prediction_of_multistep_solvers(name):
    scheduler = make(name, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=1.0)
    flow = make("FlowMatchEulerDiscreteScheduler")  # for the levels: the same straight path
    x = run(scheduler, best_denoiser(flow, "flow"), 20)
    t = settle(scheduler).prepare(20)[0]
    ideal = flow_end(field()(0, 0, 8, 8, 4), *levels(flow, t)).float()
    assert (x - ideal).abs().max() < 0.25 * STD


@pytest.mark.parametrize("name", [n for n in STABLE_DIFFUSION + FLOW if n not in ONLY_FROM_NOISE])
def test_start_image_goes_along_the_ode_from_its_strength(name):
    scheduler = make(name)
    image = MEAN + STD * field(seed=50)(0, 0, 8, 8, 4)
    x = run(scheduler, best_denoiser(scheduler, kind_of(name)), 20, start=Start(image, 0.5))
    schedule = settle(scheduler)
    timesteps = schedule.prepare(20, 0.5)
    assert len(timesteps) <= 10 * getattr(schedule.scheduler, "order", 1)
    signal, noise = levels(schedule.scheduler, timesteps[0])
    ideal = flow_end(signal * image + noise * field()(0, 0, 8, 8, 4), signal, noise)
    assert (x - ideal).abs().max() < 0.5 * STD


@pytest.mark.parametrize("name", ONLY_FROM_NOISE)
def test_methods_that_count_from_noise_refuse_a_start_image(name):
    schedule = settle(make(name))
    assert len(schedule.prepare(10, 1.0)) >= 10
    with pytest.raises(InputError, match=f"{name} cannot start from an image; use one of ddim"):
        schedule.prepare(10, 0.5)


@pytest.mark.parametrize(("name", "ode"), AS_ODE.items())
def test_schedulers_that_draw_run_as_their_ode(name, ode):
    assert settle(make(name)).name == ode
    theirs, own = make(name), make(ode)
    x = run(theirs, best_denoiser(own), 6)
    torch.testing.assert_close(x, run(own, best_denoiser(own), 6), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("DPMSolverSinglestepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        ("EDMDPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
        ("FlowMatchEulerDiscreteScheduler", {"stochastic_sampling": True}),
    ],
)
def test_stochastic_settings_are_switched_off(name, settings):
    plain, stochastic = make(name), make(name, **settings)
    denoiser = best_denoiser(plain, kind_of(name))
    torch.testing.assert_close(run(stochastic, denoiser, 6), run(plain, denoiser, 6))


def test_sde_solver_is_given_the_loops_noise():
    scheduler = make("DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++")
    assert settle(scheduler).draws == "given"
    x = run(scheduler, best_denoiser(scheduler), 60, batch=8)
    assert abs(x.mean() - MEAN) < 0.1 and 0.85 < x.std() / STD < 1.1
    ode = make("DPMSolverMultistepScheduler")
    assert (x[:1] - run(ode, best_denoiser(ode), 60)).abs().max() > 0.5 * STD


def test_consistency_model_is_renoised_by_the_loop():
    scheduler = make("LCMScheduler")
    assert settle(scheduler).draws == "renoised"
    consistent = best_denoiser(scheduler, image=flow_end)
    one, four = (run(scheduler, consistent, steps, batch=8) for steps in (1, 4))
    for x in (one, four):
        assert abs(x.mean() - MEAN) < 0.07 and abs(x.std() / STD - 1) < 0.1
    assert abs(torch.corrcoef(torch.stack([one.flatten(), four.flatten()]))[0, 1]) < 0.15  # other draws since


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "LCMScheduler", "TCDScheduler", "DDPMScheduler"])
def test_no_draw_is_left_to_the_scheduler(name):
    settings = {"algorithm_type": "sde-dpmsolver++"} if name.startswith("DPM") else {}
    scheduler = make(name, **settings)
    torch.manual_seed(1)
    first = run(scheduler, best_denoiser(scheduler), 4)
    torch.manual_seed(2)
    assert torch.equal(run(scheduler, best_denoiser(scheduler), 4), first)
    alone, batch = first, run(scheduler, best_denoiser(scheduler), 4, batch=3)
    torch.testing.assert_close(batch[:1], alone)


@pytest.mark.parametrize("name", REFUSED)
def test_schedulers_without_a_deterministic_form_are_refused(name):
    with pytest.raises(InputError, match=f"{name} draws noise .* use one of ddim, dpm, euler, flow"):
        settle(getattr(diffusers, name)())


@pytest.mark.parametrize("name", [n for n in dir(diffusers) if n.endswith("Scheduler")])
def test_every_scheduler_of_diffusers_settles_or_is_refused(name):
    try:
        scheduler = getattr(diffusers, name)()
    except Exception:
        pytest.skip("cannot be made without arguments here")
    try:
        schedule = settle(scheduler)
    except InputError:
        return
    step = inspect.signature(schedule.scheduler.step).parameters
    assert list(step)[:3] == ["model_output", "timestep", "sample"]
    assert schedule.scheduler is not scheduler


def test_settling_leaves_the_scheduler_of_the_pipeline_alone():
    scheduler = make("EulerDiscreteScheduler")
    before = scheduler.timesteps.clone()
    run(scheduler, best_denoiser(scheduler), 5)
    assert torch.equal(scheduler.timesteps, before) and scheduler.num_inference_steps is None


def test_flow_steps_divide_the_path_evenly():
    timesteps = settle(make("FlowMatchEulerDiscreteScheduler")).prepare(4)
    torch.testing.assert_close(timesteps, torch.tensor([1000.0, 750, 500, 250]))
    shifted = settle(make("FlowMatchEulerDiscreteScheduler", shift=3.0)).prepare(4)
    torch.testing.assert_close(shifted, torch.tensor([1000.0, 900, 750, 500]))


@pytest.mark.parametrize("spacing", ["karras", "exponential", "beta"])
def test_flow_schedulers_keep_a_spacing_of_their_own(spacing):
    settings = {f"use_{spacing}_sigmas": True}
    stock = make("FlowMatchEulerDiscreteScheduler", **settings)
    stock.set_timesteps(4)
    assert torch.equal(settle(stock).prepare(4), stock.timesteps)


def test_dynamic_shifting_gets_its_shift():
    schedule = settle(make("FlowMatchEulerDiscreteScheduler", use_dynamic_shifting=True))
    plain = settle(make("FlowMatchEulerDiscreteScheduler"))
    assert (schedule.prepare(6)[1:] > plain.prepare(6)[1:]).all()


@pytest.mark.parametrize("kind", NAMES.values())
def test_named_schedulers_settle(kind):
    assert settle(kind()).draws == "none"


@pytest.mark.parametrize(
    ("steps", "strength", "message"), [(0, 1.0, "steps"), (4, 0.0, "strength"), (4, 1.2, "strength")]
)
def test_steps_and_strength_outside_their_range_are_refused(steps, strength, message):
    with pytest.raises(InputError, match=message):
        settle(make("DDIMScheduler")).prepare(steps, strength)


def test_the_least_strength_is_one_step():
    assert len(settle(make("DDIMScheduler")).prepare(10, 0.01)) == 1
