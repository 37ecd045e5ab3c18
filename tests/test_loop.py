"""The denoising loop: deterministic, independent of batch and request, and only ever drawing the noise it owns."""

from dataclasses import dataclass, field

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler, LCMScheduler, SASolverScheduler
from gaussian import NoConditions
from toys import toy_unet

from gensat.diffusion.adapters import adapt
from gensat.diffusion.guidance import Branch, Guidance
from gensat.diffusion.inputs import DenoiserInputs
from gensat.diffusion.loop import Known, Start, denoise
from gensat.diffusion.noise import GivenNoise, NoiseBatch, NoiseField
from gensat.diffusion.windows import WindowPlan
from gensat.errors import InputError

FLOW = FlowMatchEulerDiscreteScheduler()
PLAN = WindowPlan(8, 4, whole=16)


def looks_everywhere(x, t, inputs):
    """A denoiser whose every output depends on its whole window, and not linearly."""
    down = torch.linspace(-1, 1, x.shape[-2])[:, None]
    across = torch.linspace(0.5, 2, x.shape[-1])
    return torch.tanh(x) - (x * across).mean((2, 3), keepdim=True) * down + t / 1000 * across.sin()


@dataclass
class Text:
    """Conditions of 16 numbers that depend on window, branch and sample; keeps what it was asked for."""

    samples: int = 1
    asked: list = field(default_factory=list)

    def inputs(self, window, branch):
        self.asked.append((window, branch))
        value = torch.arange(16.0) * {Branch.FULL: 1, Branch.TEXT: -1, Branch.UNCONDITIONAL: 0}[branch]
        value = torch.sin(value + window.row + 2 * window.col)
        return DenoiserInputs(
            tokens=value.expand(self.samples, 3, 16), token_mask=torch.ones(self.samples, 3, dtype=bool)
        )


def run(
    denoiser=looks_everywhere,
    bag=None,
    *,
    seeds=(0,),
    side=16,
    steps=3,
    scheduler=FLOW,
    grid="g",
    wrap=None,
    **settings,
):
    noise = settings.pop("noise", None) or NoiseBatch(tuple(NoiseField(s, grid, wrap) for s in seeds))
    height, width = (side, side) if isinstance(side, int) else side
    defaults = {"channels": 4, "height": height, "width": width, "steps": steps, "plan": PLAN, "wrap": wrap is not None}
    return denoise(denoiser, scheduler, bag or NoConditions(), noise, **{**defaults, **settings})


def unet():
    net = toy_unet()
    return adapt(net)


def test_loop_is_the_stock_loop_bit_for_bit():
    net = toy_unet()
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[1.0, 0.8, 0.6, 0.4, 0.2])  # as the flow matching pipelines of diffusers
    x, text = NoiseField(3, "g")(0, 0, 16, 16, 4), Text().inputs(PLAN.windows(16, 16)[0], Branch.FULL)
    with torch.no_grad():
        for t in scheduler.timesteps:
            prediction = net(x, t, text.tokens, encoder_attention_mask=text.token_mask).sample
            x = scheduler.step(prediction, t, x).prev_sample
    assert torch.equal(run(adapt(net), Text(), seeds=(3,), steps=5), x)


def test_same_request_is_bit_identical():
    first = run(unet(), Text(2), seeds=(5, 6), guidance=Guidance(3.0))
    torch.manual_seed(123)
    assert torch.equal(run(unet(), Text(2), seeds=(5, 6), guidance=Guidance(3.0)), first)
    assert not torch.equal(run(unet(), Text(2), seeds=(5, 7), guidance=Guidance(3.0))[1], first[1])


@pytest.mark.parametrize("side", [16, 20])
def test_a_sample_does_not_depend_on_its_batch(side):
    seeds = (4, 5, 6, 7)
    batch = run(unet(), Text(4), seeds=seeds, side=side, guidance=Guidance(3.0, 2.0), max_batch=12)
    for i, seed in enumerate(seeds):
        alone = run(unet(), Text(1), seeds=(seed,), side=side, guidance=Guidance(3.0, 2.0))
        torch.testing.assert_close(batch[i : i + 1], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("max_batch", [1, 2, 5, 7, 100])
def test_calls_of_the_denoiser_are_no_larger_than_asked(max_batch):
    sizes = []

    def watched(x, t, inputs):
        sizes.append(x.shape[0])
        return looks_everywhere(x, t, inputs) + inputs.tokens.mean((1, 2))[:, None, None, None]

    settings = {"side": 20, "steps": 1, "guidance": Guidance(3.0, 2.0)}
    x = run(watched, Text(), **settings, max_batch=max_batch)
    count = len(PLAN.windows(20, 20)) * 3
    assert max(sizes) <= max_batch and sum(sizes) == count and len(sizes) == -(-count // max_batch)
    torch.testing.assert_close(x, run(watched, Text(), **settings), atol=1e-6, rtol=1e-6)


def test_a_batch_larger_than_max_batch_goes_one_branch_at_a_time():
    sizes = []

    def watched(x, t, inputs):
        sizes.append(x.shape[0])
        return x

    run(watched, Text(3), seeds=(0, 1, 2), steps=1, guidance=Guidance(2.0), max_batch=2)
    assert sizes == [3, 3]


def test_three_branches_are_combined_by_the_guidance():
    parts = {0.0: -2.0, 1.0: 3.0, -1.0: 0.5}  # unconditional, full and text, told apart by the slope of the tokens

    class Slopes:
        def inputs(self, window, branch):
            slope = {Branch.FULL: 1.0, Branch.TEXT: -1.0, Branch.UNCONDITIONAL: 0.0}[branch]
            return DenoiserInputs(tokens=torch.full((1, 1, 1), slope))

    def constant(x, t, inputs):
        values = torch.tensor([parts[float(v)] for v in inputs.tokens.flatten()])
        return values[:, None, None, None].expand_as(x)

    x = run(constant, Slopes(), steps=1, guidance=Guidance(4.0, 2.0))
    combined = -2.0 + 4 * (0.5 - -2.0) + 2 * (3.0 - 0.5)
    torch.testing.assert_close(
        x, NoiseField(0, "g")(0, 0, 16, 16, 4) - combined
    )  # one step of flow: x - 1 * prediction


def test_guidance_outside_its_interval_costs_nothing():
    bag = Text()
    run(bag=bag, steps=5, guidance=Guidance(3.0, interval=(0.2, 0.6)))
    branches = [branch for _, branch in bag.asked]
    assert len(branches) == 1 + 2 + 2 + 1 + 1 and branches.count(Branch.FULL) == 5


def test_every_window_is_asked_for_its_own_conditions():
    bag = Text()
    run(bag=bag, side=20, steps=2, origin=(3, 6))
    assert [window for window, _ in bag.asked] == PLAN.windows(20, 20, (3, 6)) * 2


def test_prompts_of_windows_appear_in_their_footprints():
    class North:
        """Says 1 in windows that lie in the upper half."""

        def inputs(self, window, branch):
            return DenoiserInputs(tokens=torch.full((1, 1, 1), float(window.row + 4 <= 20)))

    x = run(lambda x, t, i: i.tokens[..., None].expand_as(x), North(), side=40, steps=1)
    change = NoiseField(0, "g")(0, 0, 40, 40, 4) - x
    assert torch.allclose(change[:, :, :16], torch.ones(())) and torch.allclose(
        change[:, :, 28:], torch.zeros(()), atol=1e-6
    )
    middle = change[0, 0, 16:28, 0]
    assert (middle.diff() <= 1e-6).all() and 0.2 < middle.mean() < 0.8


@pytest.mark.parametrize("scheduler", [FLOW, DDIMScheduler(clip_sample=False), LCMScheduler(clip_sample=False)])
@pytest.mark.parametrize("shift", [(0, 0), (5, -7)])
def test_small_canvas_is_a_part_of_a_large_one_beyond_the_halo(scheduler, shift):
    halo = PLAN.halo(2)  # noise has no edge, so the first of the three steps is right on the whole canvas
    large = run(side=64, steps=3, origin=(-20, 33), scheduler=scheduler)
    row, col = 4 + shift[0], 10 + shift[1]
    small = run(side=48, steps=3, origin=(row - 20, col + 33), scheduler=scheduler)
    difference = (small - large[:, :, row : row + 48, col : col + 48]).abs()[0].amax(0)
    assert difference[halo:-halo, halo:-halo].max() <= 1e-5 < difference.max()


def test_start_images_and_masks_are_felt_no_further_than_the_halo():
    image, mask = torch.randn(1, 4, 64, 64), (torch.rand(1, 1, 64, 64) > 0.5).float()

    def part(rows, cols):
        return {
            "start": Start(image[:, :, rows, cols], 0.99),
            "known": Known(image[:, :, rows, cols], mask[:, :, rows, cols]),
        }

    everything, rows, cols = slice(0, 64), slice(9, 57), slice(4, 52)
    large = run(side=64, steps=3, **part(everything, everything))
    small = run(side=48, steps=3, origin=(9, 4), **part(rows, cols))
    difference = (small - large[:, :, rows, cols]).abs()[0].amax(0)
    halo = PLAN.halo(3)
    assert difference[halo:-halo, halo:-halo].max() <= 1e-5 < difference.max()


def test_windows_agree_with_the_whole_where_the_denoiser_looks_at_one_cell():
    def local(x, t, inputs):
        return torch.tanh(x) + t / 1000

    whole = run(local, side=24, plan=WindowPlan(8, 4, whole=24))
    torch.testing.assert_close(run(local, side=24, origin=(0, 0)), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("scheduler", [FLOW, DDIMScheduler(clip_sample=False)])
def test_panorama_has_no_seam(scheduler):
    settings = {"side": (8, 32), "scheduler": scheduler, "wrap": 32}
    x = run(**settings)
    for turn in (4, 13, 31):
        turned = run(**settings, origin=(0, turn))
        if turn % 4 == 0:
            torch.testing.assert_close(turned, x.roll(-turn, dims=-1), atol=1e-5, rtol=0)
        assert turned.shape == x.shape
    flat = run(side=(8, 32), scheduler=scheduler)
    assert not torch.allclose(flat[..., :4], x[..., :4], atol=1e-3)


@pytest.mark.parametrize("scheduler", [FLOW, DDIMScheduler(clip_sample=False)])
@pytest.mark.parametrize("side", [16, 20])
def test_known_latents_stay_exactly(scheduler, side):
    given, mask = torch.randn(2, 4, side, side), torch.zeros(2, 1, side, side)
    mask[:, :, 4:9, 3:12] = 1
    x = run(seeds=(1, 2), side=side, scheduler=scheduler, known=Known(given, mask))
    keep = (mask == 0).expand_as(x)
    assert torch.equal(x[keep], given[keep])
    assert (x - given)[~keep].abs().min() > 0


def test_known_latents_are_noisy_in_between():
    given, mask, seen = torch.randn(1, 4, 16, 16), torch.zeros(1, 1, 16, 16), []
    run(steps=4, known=Known(given, mask), callback=lambda i, t, x: seen.append(x.clone()))
    noise = NoiseField(0, "g")(0, 0, 16, 16, 4)
    for x, sigma in zip(seen, (0.75, 0.5, 0.25, 0.0), strict=True):
        torch.testing.assert_close(x, (1 - sigma) * given + sigma * noise, atol=1e-6, rtol=0)


def test_soft_mask_blends():
    given = torch.randn(1, 4, 16, 16)
    x = run(steps=1, known=Known(given, torch.full((1, 1, 16, 16), 0.25)))
    torch.testing.assert_close(x, 0.25 * run(steps=1) + 0.75 * given)


def test_start_image_of_small_strength_is_nearly_kept():
    image = torch.randn(1, 4, 16, 16)
    far = [(run(steps=20, start=Start(image, s)) - image).abs().mean() for s in (0.05, 0.3, 0.6, 1.0)]
    assert far[0] < 0.15 and far == sorted(far)
    torch.testing.assert_close(run(start=Start(image, 1.0)), run())  # flow begins with noise alone


@pytest.mark.parametrize("side", [16, 20])
def test_callback_sees_and_replaces_the_canvas(side):
    seen = []

    def callback(i, t, x):
        seen.append((i, float(t), tuple(x.shape)))
        return torch.full_like(x, 2.0) if i == 1 else None

    x = run(lambda x, t, inputs: torch.zeros_like(x), side=side, seeds=(0, 1), callback=callback)
    assert torch.equal(x, torch.full((2, 4, side, side), 2.0))
    assert [i for i, _, _ in seen] == [0, 1, 2] and {s for _, _, s in seen} == {(2, 4, side, side)}
    assert [t for _, t, _ in seen] == sorted((t for _, t, _ in seen), reverse=True)


def test_interrupt_ends_after_the_current_step():
    steps = []
    x = run(steps=10, callback=lambda i, t, x: steps.append(x.clone()), interrupted=lambda: len(steps) == 3)
    assert len(steps) == 3 and torch.equal(x, steps[-1])


def test_denoiser_runs_in_its_dtype_and_latents_in_float32():
    kinds = set()

    def watched(x, t, inputs):
        kinds.add(x.dtype)
        return x

    assert run(watched, dtype=torch.bfloat16).dtype == torch.float32 and kinds == {torch.bfloat16}


def test_given_latents_may_fill_a_canvas_of_windows():
    latents = torch.randn(1, 4, 20, 20)
    x = run(noise=GivenNoise(latents, origin=(3, 5)), side=20, origin=(3, 5))
    assert torch.isfinite(x).all()
    assert not torch.allclose(x, run(noise=GivenNoise(latents.flip(0) + 1, origin=(3, 5)), side=20, origin=(3, 5)))


def test_scheduler_that_draws_is_refused():
    with pytest.raises(InputError, match="SASolverScheduler draws noise"):
        run(scheduler=SASolverScheduler())
