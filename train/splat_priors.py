"""A diffusion model as what splats are made to look like: by refining their views, and by score distillation."""

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..diffusion.adapters import adapt
from ..diffusion.guidance import Guidance
from ..diffusion.inputs import concatenate
from ..diffusion.windows import Window
from ..errors import InputError
from ..geo.canvas import Canvas
from ..render.cameras import Camera
from ..render.view import View
from ..types import Acquisition
from .objective import Objective

Refine: TypeAlias = Callable[[Float[Tensor, "h w 3"], View], Float[Tensor, "h w 3"]]
"""``refine(image, view)``: the picture of a view, in [0, 1], made better; same shape out."""


class Refiner:
    """Renders made better by a satellite pipeline: image to image at low strength.

    The model knows images from above, so it is meant for high elevations; a street refiner has the same call. The picture is filled up with
    its own edge to the multiple that the model takes, and the sky (opacity 0) stays as it was.

    Args:
        pipe: a ``SatellitePipeline``.
        prompt: words.
        strength: how much is made anew, 0 to 1.
        steps: of the whole schedule, of which ``strength`` is run; None: the model's default.
        seed: of the noise, the same for every view, as the noise field is.
        guidance_scale: None: the model's default.
    """

    def __init__(
        self,
        pipe: Any,
        prompt: str = "",
        *,
        strength: float | int = 0.3,
        steps: int | None = None,
        seed: int = 0,
        guidance_scale: float | int | None = None,
    ):
        if not 0 < strength <= 1:
            raise InputError(f"strength {strength} of the refiner is not above 0 to 1; 0.2 to 0.4 keep the scene")
        self.pipe, self.prompt, self.strength = pipe, prompt, strength
        self.steps, self.seed, self.guidance = steps, seed, guidance_scale
        pipe.set_progress_bar_config(disable=True)

    def __call__(self, image: Float[Tensor, "h w 3"], view: View) -> Float[Tensor, "h w 3"]:
        """The picture, refined."""
        height, width = image.shape[:2]
        multiple = self.pipe.spec.multiple
        pad = (0, -width % multiple, 0, -height % multiple)
        given = nn.functional.pad(image.detach().clamp(0, 1).permute(2, 0, 1)[None], pad, mode="replicate")
        made = self.pipe(
            self.prompt,
            canvas=Canvas.local(given.shape[3], given.shape[2], view_gsd(view)),
            image=given.cpu(),
            strength=self.strength,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance,
            seed=self.seed,
            output_type="pt",
        ).images[0]
        refined = made[:3, :height, :width].permute(1, 2, 0).to(image)
        return torch.where(view.sky[..., None], image.detach(), refined)


class ScorePrior:
    """Score distillation from a latent diffusion model (Poole et al. 2023, "DreamFusion", eq. 3).

    The gradient of a picture is w(t) (predicted noise - noise) through the encoder, without the network's own Jacobian, w(t) = 1. For flow
    matching the noise that a velocity v says is x_t + (1 - s) v, so that the difference is (1 - s) (v - (n - x)).

    Args:
        pipe: a ``SatellitePipeline`` with a differentiable VAE.
        prompt: words.
        guidance_scale: of the score; 100 in the paper for a much larger model, 7.5 here if not given.
        noise: smallest and largest noise level (flow: share of noise; else share of the schedule) that is drawn.
        seed: of noise and levels: step k always gets the same.
    """

    def __init__(
        self,
        pipe: Any,
        prompt: str = "",
        *,
        guidance_scale: float | int = 7.5,
        noise: tuple[float | int, float | int] = (0.02, 0.7),
        seed: int = 0,
    ):
        if not 0 <= noise[0] < noise[1] <= 1:
            raise InputError(f"noise levels {noise} are no range within 0 to 1; give such as (0.02, 0.7)")
        self.pipe, self.prompt, self.noise, self.seed = pipe, prompt, noise, seed
        self.guidance = Guidance(guidance_scale)
        self.objective = Objective(pipe.scheduler)
        self.denoiser = adapt(pipe.unet)
        for module in pipe.components.values():
            if isinstance(module, nn.Module):
                module.requires_grad_(False)

    def loss(self, view: View, step: int) -> Float[Tensor, ""]:
        """A scalar whose gradient with respect to ``view.rgb`` is the paper's, averaged over the latent; its value says nothing.

        Raises:
            InputError: a view whose size is no multiple of what the model takes.
        """
        height, width = view.rgb.shape[:2]
        if height % self.pipe.spec.multiple or width % self.pipe.spec.multiple:
            raise InputError(
                f"a view of {width} x {height} pixels does not fit {self.pipe.spec.name}; give multiples of {self.pipe.spec.multiple}"
            )
        latents = self.pipe.codec.encode(view.rgb.permute(2, 0, 1)[None] * 2 - 1)
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        noise = torch.randn(latents.shape, generator=draw).to(latents)
        level = self.noise[0] + (self.noise[1] - self.noise[0]) * float(torch.rand((), generator=draw))
        return (self.direction(latents.detach(), noise, level, view) * latents).mean()

    @torch.no_grad()
    def direction(self, latents: Tensor, noise: Tensor, level: float | int, view: View) -> Float[Tensor, "b c h w"]:
        """Predicted noise minus noise, of latents at a noise level from 0 to 1."""
        flow = self.objective.kind == "flow"
        time = torch.full((1,), 1000.0 * level if flow else float(round(level * (self.objective.steps - 1))))
        made = self.objective.noised(latents, noise, time.to(latents.device))
        branches = self.guidance.branches(0.5)
        window = Window(0, 0, *latents.shape[-2:])
        canvas = Canvas.local(
            window.width * self.pipe.codec.factor, window.height * self.pipe.codec.factor, view_gsd(view)
        )
        bag = self.pipe._bag(canvas, None, [self.prompt], [""], Acquisition(gsd=view_gsd(view)), [], False)
        inputs = concatenate([bag.inputs(window, branch) for branch in branches])
        given = torch.cat([made["x"]] * len(branches)).to(self.pipe.unet.dtype)
        predictions = self.denoiser(given, made["t"][0], inputs).float().chunk(len(branches))
        wrong = self.guidance.combine(list(predictions)) - made["target"]
        if flow:
            return (1 - level) * wrong
        if self.objective.kind == "epsilon":
            return wrong
        alpha = float(self.objective.alphas[int(time)])
        if self.objective.kind == "v_prediction":
            return math.sqrt(alpha) * wrong
        return -math.sqrt(alpha / max(1 - alpha, 1e-6)) * wrong


def view_gsd(view: View) -> float:
    """Metres per pixel across the line of sight at the middling depth of what is seen."""
    if not isinstance(view.camera, Camera):
        return float(getattr(view.camera, "gsd", 1.0))
    depth = view.depth.detach()
    near = depth[torch.isfinite(depth)]
    return float(near.median()) / view.camera.fx if len(near) else 1.0
