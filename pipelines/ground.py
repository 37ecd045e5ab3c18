"""The ground refiner: what a scene's raw render looks like from the street, by latent diffusion that is shown its G-buffers.

Geometry decides what is where (:mod:`gensat.render`); the network paints it. The sky stays the renderer's, bit for bit. Along a path it is one
scene: the noise lies on its surfaces, and every frame is shown the frame before, brought to its camera.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, pad

from .. import __version__
from ..conditioning.bag import ConditionBag
from ..conditioning.gbuffers import encode_gbuffers, refiner_channels
from ..conditioning.text import cut_notes, encode_text
from ..diffusion.adapters import adapt
from ..diffusion.guidance import Guidance
from ..diffusion.loop import Start, denoise
from ..diffusion.schedule import settle
from ..diffusion.windows import WindowPlan
from ..errors import InputError
from ..hub.fingerprint import fingerprint
from ..hub.spec import ModelSpec
from ..render.cameras import AnyCamera, OrthographicCamera, Panorama
from ..render.reproject import reproject
from ..render.surface_noise import SurfaceNoise
from ..render.view import View
from .base import ConditionedPipeline
from .parts import spread_seeds


@dataclass
class GroundViews(BaseOutput):
    """What a call returns.

    Args:
        images: the pictures as PIL images.
        views: the same with the buffers of the renders they were made from; no pixel but those of the sky is as it was.
        notes: what was assumed or cut, one sentence each.
    """

    images: list[Image.Image]
    views: list[View]
    notes: list[str] = field(default_factory=list)


class GroundPipeline(ConditionedPipeline):
    """Street views from raw renders.

    Components: ``vae``, ``unet`` (a LatentDenoiser that is shown ``conditioning.gbuffers.refiner_channels``), ``stem`` (a GuideStem, what the
    denoiser sees of the buffers), ``finisher``, ``scheduler``, ``text_encoder`` with ``tokenizer``. The ``vae`` may be that of another model (``spec.shared``), and is then not saved again.
    """

    model_cpu_offload_seq = "text_encoder->stem->unet->vae->finisher"
    _optional_components = ["text_encoder", "tokenizer"]  # noqa: RUF012

    def __init__(
        self,
        vae: nn.Module,
        unet: nn.Module,
        stem: nn.Module,
        finisher: nn.Module,
        scheduler: Any,
        text_encoder: Any = None,
        tokenizer: Any = None,
        spec: ModelSpec | None = None,
    ):
        DiffusionPipeline.__init__(self)
        self.register_modules(
            vae=vae,
            unet=unet,
            stem=stem,
            finisher=finisher,
            scheduler=scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
        )
        self.spec = spec or ModelSpec(name="unnamed", pipeline=type(self).__name__)
        self.folder: Path | None = None
        self._interrupt = False
        self._num_timesteps = 0

    @torch.no_grad()
    def __call__(
        self, views: View | Sequence[View], prompt: str = "", *, return_dict: bool = True, **options: Any
    ) -> GroundViews | tuple:
        """Paint views of one scene, one after the other; arguments as of ``walk``."""
        notes: list[str] = []
        given = [views] if isinstance(views, View) else list(views)
        made = list(self.walk(given, prompt, notes=notes, **options))
        pictures = [Image.fromarray(view.image().array) for view in made]
        return GroundViews(pictures, made, notes) if return_dict else (pictures, made)

    @torch.no_grad()
    def walk(
        self,
        views: Iterable[View],
        prompt: str = "",
        negative_prompt: str = "",
        *,
        consistent: bool = True,
        previous: View | None = None,
        strength: float | int = 1.0,
        num_inference_steps: int | None = None,
        guidance_scale: float | int | None = None,
        seed: int | None = None,
        notes: list[str] | None = None,
        callback_on_step_end: Callable[[Any, int, Any, dict], dict] | None = None,
    ) -> Iterator[View]:
        """Paint views as they come, such as those of a walk, of which only the last is kept.

        Args:
            views: of one scene, as ``gensat.render.gbuffers.render`` makes them, perspective or panoramas at least 64 pixels high and wide; a
                panorama's width is a multiple of the model's window stride.
            prompt: words, such as "a street view, village, overcast, daylight".
            negative_prompt: what the unconditional branch is told instead of nothing.
            consistent: show each frame the frame before as far as it reaches, and let the noise lie on the surfaces; else every frame is
                dreamed by itself.
            previous: a painted frame that comes before the first.
            strength: 0 to 1: how far from the raw render to begin; 1 begins from noise.
            num_inference_steps, guidance_scale: as the spec says when not given.
            seed: of the noise; random when not given.
            notes: a list that receives what was assumed or cut.
            callback_on_step_end: as in diffusers.

        Raises:
            InputError: anything found wrong before the first step.
        """
        steps = self.spec.defaults.steps if num_inference_steps is None else num_inference_steps
        scale = self.spec.defaults.guidance_scale if guidance_scale is None else guidance_scale
        if not 0 < strength <= 1:
            raise InputError(f"strength is {strength}; give a number above 0 and at most 1, or leave the refiner out")
        self._num_timesteps = len(settle(self.scheduler).prepare(steps, float(strength)))
        seed = spread_seeds(seed, 1)[0]
        notes = notes if notes is not None else []
        if self.tokenizer is not None:
            notes += cut_notes(self.tokenizer, [prompt, negative_prompt], self.spec.defaults.prompt_tokens)
        about = {
            "synthetic": True,
            "software": f"gensat {__version__}",
            "refiner": self.spec.name,
            "refiner_hash": fingerprint(self),
            "refiner_licence": self.spec.licence,
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "strength": strength,
            "steps": steps,
            "guidance_scale": scale,
            "consistent": consistent,
            "seed": seed,
        }
        for view in views:
            check(view, self.spec.window_stride)
            rgb = self._paint(
                view,
                previous if consistent else None,
                (prompt, negative_prompt),
                Guidance(scale),
                steps,
                float(strength),
                seed,
                self._on_step(callback_on_step_end, {"latents"} if callback_on_step_end else set(), notes),
            )
            untouched = view.sky  # of which the networks know nothing
            rgb = torch.where(untouched[..., None], view.rgb, rgb.to(view.rgb))
            previous = replace(view, rgb=rgb, seen=torch.zeros_like(view.seen), provenance={**view.provenance, **about})
            yield previous

    def _paint(
        self,
        view: View,
        previous: View | None,
        words: tuple[str, str],
        guidance: Guidance,
        steps: int,
        strength: float,
        seed: int,
        on_step: Any,
    ) -> Float[Tensor, "h w 3"]:
        device, dtype = self._execution_device, self.unet.dtype
        spec, codec, panorama = self.spec, self.codec, isinstance(view.camera, Panorama)
        height, width = view.sky.shape
        plan = WindowPlan(spec.window // 8, spec.window_stride // 8, spec.size_limits[1] // 8)
        # a window at the edge reaches outside: there it is shown the edge again, not nothing
        rim = 8 * plan.stride if panorama or max(height, width) > 8 * plan.whole else 0
        aside = 0 if panorama else rim
        edges = (aside, -width % 16 + aside, rim, -height % 16 + rim)
        buffers = {name: getattr(view, name) for name in ("rgb", "distance", "normals", "classes", "kind", "seen")}
        rays = view.camera.rays(view.rgb.device)
        guide = encode_gbuffers(buffers, rays.directions, rays.origins)
        guide = pad(guide, edges, mode="replicate").to(device, dtype)
        encode = partial(codec.encode, wrap=panorama)
        earlier = None if previous is None else brought(previous, view, guide, edges)
        shown = () if earlier is None else (encode(earlier[0]).to(guide), earlier[1])
        raw = encode(guide[:, :3])
        channels = refiner_channels(self.stem(guide, wrap=panorama), raw, *shown).to(dtype)
        latents = denoise(
            adapt(self.unet),
            self.scheduler,
            self._guided(words, channels, panorama),
            SurfaceNoise(view, seed),
            channels=codec.channels,
            height=guide.shape[-2] // 8,
            width=guide.shape[-1] // 8,
            steps=steps,
            origin=(-rim // 8, -aside // 8),
            guidance=guidance,
            plan=plan,
            wrap=panorama,
            start=None if strength == 1 else Start(raw, strength),
            device=device,
            dtype=dtype,
            callback=on_step,
            interrupted=lambda: self._interrupt,
        )
        decoded = codec.decode(latents, wrap=panorama).to(guide)
        made = self.finisher(decoded, guide, wrap=panorama)[0, :, rim : rim + height, aside : aside + width]
        return (made.float().clamp(-1, 1).permute(1, 2, 0) / 2 + 0.5).cpu()

    def _guided(self, words: tuple[str, str], channels: Tensor, wrap: bool) -> ConditionBag:
        def text(given: Sequence[str]) -> tuple[Tensor, Tensor]:
            return encode_text(self.text_encoder, self.tokenizer, given, max_length=self.spec.defaults.prompt_tokens)

        return ConditionBag(
            self.spec,
            1,
            8,
            prompts=[words[0]],
            negative=[words[1]],
            text=text if self.text_encoder is not None else None,
            channels=channels,
            wrap=wrap,
        )


def brought(previous: View, view: View, guide: Tensor, edges: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """An earlier frame as this camera sees it (1, 3, h, w) in [-1, 1], the raw render where it shows nothing, and the cells that it shows.

    The sky of a frame is its own. ``edges`` is what the guide has more than the view, left, right, top and bottom.
    """
    rgb, shown = reproject(previous, view)
    rgb = torch.where(view.sky[..., None], view.rgb, rgb).to(guide).permute(2, 0, 1)[None] * 2 - 1
    known = pad((shown | view.sky).to(guide)[None, None], edges)
    return torch.where(known > 0, pad(rgb, edges), guide[:, :3]), (avg_pool2d(known, 8) > 0.9).to(guide)


class Painter:
    """What a renderer shows of cameras, painted, each view shown the one before.

    Args:
        look: a camera to its raw render.
        pipe: the refiner.
        prompt, options: as of ``GroundPipeline.walk``.
    """

    def __init__(self, look: Callable[[AnyCamera], View], pipe: GroundPipeline, prompt: str = "", **options: Any):
        self.look, self.pipe, self.prompt, self.options = look, pipe, prompt, options
        self.last: View | None = None

    def __call__(self, camera: AnyCamera) -> View:
        """The painted view of a camera."""
        [self.last] = self.pipe.walk([self.look(camera)], self.prompt, previous=self.last, **self.options)
        assert self.last is not None
        return self.last


def check(view: View, stride: int) -> None:
    """Raise InputError for a view that the refiner cannot paint."""
    height, width = view.sky.shape
    if isinstance(view.camera, OrthographicCamera):
        raise InputError("the refiner paints views from the ground; a view from above keeps its image")
    if min(height, width) < 64:
        raise InputError(f"a view of {width} x {height} pixels is too small to be refined; give 64 or more a side")
    if isinstance(view.camera, Panorama) and (width % stride or width < 2 * stride):
        nearest = max(2 * stride, round(width / stride) * stride)
        raise InputError(
            f"a panorama {width} pixels wide cannot be refined; give a multiple of {stride}, such as {nearest}"
        )
