"""A satellite image under water: physics says where the water is and how deep, the network what it looks like.

Dry pixels stay as they were, bit for bit; the painted region is exactly the open water, with a soft edge inside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor, nn

from .. import __version__
from ..conditioning.bag import ControlImage
from ..conditioning.flood import encode_flood
from ..conditioning.text import cut_notes
from ..diffusion.adapters import adapt
from ..diffusion.guidance import Guidance
from ..diffusion.loop import denoise
from ..diffusion.schedule import settle
from ..diffusion.windows import WindowPlan
from ..errors import InputError
from ..hub.fingerprint import fingerprint
from ..hub.spec import ModelSpec
from ..hydro.open_water import SHALLOWEST, soft_edge
from ..hydro.over_image import LaidFlood, lay_flood
from ..types import Acquisition, GeoImage
from .base import ConditionedPipeline
from .parts import choose_noise, spread_seeds, start_pixels

PROMPT = "a flooded neighborhood"
"""What a flood is called where nothing else is said."""


@dataclass
class FloodOutput(BaseOutput):
    """What a call returns.

    Args:
        images: PIL images.
        scenes: the same as GeoImages, in the dtype and with all bands of the image before.
        seen: (H, W) bool: the open water, which is all that was painted.
        notes: what was assumed, one sentence each.
    """

    images: list[Image.Image]
    scenes: list[GeoImage]
    seen: np.ndarray
    notes: list[str] = field(default_factory=list)


class FloodPipeline(ConditionedPipeline):
    """Floods by latent diffusion: components of a satellite model, and a ControlNet that is shown ``conditioning.flood``'s channels.

    ``grain``, a :class:`gensat.models.water_grain.WaterGrain`, gives the water the ripples that the autoencoder does not hand on.
    """

    _optional_components = [*ConditionedPipeline._optional_components, "grain"]  # noqa: RUF012

    def __init__(
        self,
        vae: nn.Module,
        unet: nn.Module,
        scheduler: Any,
        text_encoder: Any = None,
        tokenizer: Any = None,
        place_encoder: nn.Module | None = None,
        acquisition_encoder: nn.Module | None = None,
        controlnet: nn.Module | None = None,
        grain: nn.Module | None = None,
        spec: ModelSpec | None = None,
    ):
        super().__init__(
            vae, unet, scheduler, text_encoder, tokenizer, place_encoder, acquisition_encoder, controlnet, spec
        )
        self.register_modules(grain=grain)

    def __call__(
        self,
        image: GeoImage | Image.Image | np.ndarray,
        depth: GeoImage | np.ndarray,
        *,
        gsd: float | int | None = None,
        heights: Any = None,
        buildings: Any = None,
        height_field: str | None = None,
        layout: Any = None,
        legend: Any = None,
        shallowest: float | int = SHALLOWEST,
        return_dict: bool = True,
        **options: Any,
    ) -> FloodOutput | tuple:
        """Paint the water of one image.

        Args:
            image: before the flood, red, green and blue as 8-bit or floats in 0 to 1; other bands of a GeoImage stay as they are.
            depth: metres of water, 0 where dry: a GeoImage of any CRS and resolution (brought to the image, never the image to it), or an
                array of the image's size.
            gsd, heights, buildings, height_field, layout, legend, shallowest: see :func:`gensat.hydro.over_image.lay_flood`: what rises above
                the water stays dry.
            options: as of ``paint``.

        Raises:
            InputError: anything found wrong before the first step.
        """
        source = image if isinstance(image, GeoImage) else GeoImage(np.asarray(image))
        objects = {"heights": heights, "buildings": buildings, "height_field": height_field}
        laid = lay_flood(source, depth, gsd=gsd, layout=layout, legend=legend, shallowest=shallowest, **objects)
        made = self.paint(laid, **options)
        return made if return_dict else (made.images, made.scenes)

    @torch.no_grad()
    def paint(
        self,
        laid: LaidFlood,
        *,
        prompt: str = PROMPT,
        negative_prompt: str = "",
        date: Any = None,
        withhold: Sequence[str] = (),
        edge: float | int = 2.0,
        masked: bool = True,
        num_inference_steps: int | None = None,
        guidance_scale: float | int | None = None,
        controlnet_conditioning_scale: float | int = 1.0,
        grain: float | int = 1.0,
        num_images_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        max_batch: int = 16,
        callback_on_step_end: Callable[[Any, int, Any, dict], dict] | None = None,
    ) -> FloodOutput:
        """Paint the water of a flood that was laid over an image.

        Args:
            laid: of :func:`gensat.hydro.over_image.lay_flood`.
            prompt, negative_prompt: words.
            date: of the flood, as in ``gensat.PartialDate``.
            withhold: what the model is not told although the image has it: some of "place", "gsd".
            edge: pixels over which the water sets in, inside of it.
            masked: False tells the model nothing of the water and keeps all that it paints, dry ground too: a baseline, not a use.
            num_inference_steps, guidance_scale: as the spec says when not given.
            controlnet_conditioning_scale: strength of image and depth, 0 to 10; 1 is as trained.
            grain: strength of the water's grain, 0 (none) to 4; 1 is as it was found.
            num_images_per_prompt: images with seeds of their own.
            seed: of the world-anchored noise field; random when not given.
            max_batch, callback_on_step_end: as in ``SatellitePipeline``.

        Raises:
            InputError: anything found wrong before the first step.
        """
        if unknown := set(withhold) - {"place", "gsd"}:
            raise InputError(f"withhold names {sorted(unknown)}; only place and gsd can be, leave others out instead")
        if not 0 <= controlnet_conditioning_scale <= 10:
            raise InputError(f"controlnet_conditioning_scale is {controlnet_conditioning_scale}; give 0 to 10")
        if not 0 <= grain <= 4:
            raise InputError(f"grain is {grain}; give 0 to 4")
        spec, codec, source, canvas = self.spec, self.codec, laid.image, laid.canvas
        metres, seen, notes = laid.depth, laid.seen, list(laid.notes)
        pixels = start_pixels(source, spec.bands, canvas, torch.from_numpy(seen)[None, None].float())
        others = [b.name for b in source.bands if b.name not in spec.bands]
        if others:
            notes.append(f"band {', '.join(others)} stays as it was: the model paints {', '.join(spec.bands)}")

        pad = (0, -canvas.width % spec.multiple, 0, -canvas.height % spec.multiple)
        water = torch.from_numpy(np.where(seen & masked, metres, 0).astype(np.float32))[None]
        seen = seen if masked else np.ones_like(seen)
        control = nn.functional.pad(encode_flood(pixels, water), pad, mode="replicate")
        made = canvas.crop(0, 0, canvas.height + pad[3], canvas.width + pad[1])
        told = Acquisition(None if "gsd" in withhold else canvas.ground_gsd or canvas.gsd, date)
        prompts, negative = [prompt] * num_images_per_prompt, [negative_prompt] * num_images_per_prompt
        if self.tokenizer is not None:
            notes += cut_notes(self.tokenizer, [prompt, negative_prompt], spec.defaults.prompt_tokens)
        seeds = spread_seeds(seed, num_images_per_prompt)
        steps = spec.defaults.steps if num_inference_steps is None else num_inference_steps
        scale = spec.defaults.guidance_scale if guidance_scale is None else guidance_scale
        schedule = settle(self.scheduler)
        self._num_timesteps = len(schedule.prepare(steps, 1.0))
        origin, cells = made.cell_origin(codec.factor), (made.height // codec.factor, made.width // codec.factor)
        noise, field_name = choose_noise(
            seeds, made.grid_name(codec.factor), (codec.channels, *cells), origin=origin, generator=None, latents=None
        )
        device, dtype = self._execution_device, self.unet.dtype
        shown = ControlImage(self.controlnet, control[:, None].to(device), controlnet_conditioning_scale, "water_depth")
        result = denoise(
            adapt(self.unet),
            self.scheduler,
            self._bag(made, canvas.place, prompts, negative, told, [shown], "place" not in withhold),
            noise,
            channels=codec.channels,
            height=cells[0],
            width=cells[1],
            steps=steps,
            origin=origin,
            guidance=Guidance(scale),
            plan=WindowPlan(*(n // codec.factor for n in (spec.window, spec.window_stride, spec.size_limits[1]))),
            device=device,
            dtype=dtype,
            max_batch=max_batch,
            callback=self._on_step(callback_on_step_end, {"latents"} if callback_on_step_end else set(), notes),
            interrupted=lambda: self._interrupt,
        )
        painted = codec.decode(result, origin)[:, :, : canvas.height, : canvas.width].cpu()
        if masked and grain and self.grain is not None:
            size, pixel, at = (canvas.height, canvas.width), canvas.ground_gsd or canvas.gsd, canvas.cell_origin(1)
            painted = painted + grain * torch.stack(
                [self.grain(*size, gsd=pixel, seed=s, origin=at).cpu() for s in seeds]
            )
        self.maybe_free_model_hooks()
        alpha = torch.from_numpy(soft_edge(seen, edge))  # of a mask without a shore: 1 everywhere
        blended = (pixels + alpha * (painted - pixels)).clamp(-1, 1) / 2 + 0.5
        provenance = {
            "synthetic": True,
            "software": f"gensat {__version__}",
            "model": spec.name,
            "model_hash": fingerprint(self),
            "model_licence": spec.licence,
            "flood": "diffusion",
            "water_share": round(float(seen.mean()), 6),
            "depth_max": round(float(metres[seen].max()), 3),
            "objects": laid.objects,
            "prompt": prompt,
            "negative_prompt": negative_prompt,
            "acquisition": told.to_dict(),
            "withheld": list(withhold) or None,
            "steps": steps,
            "guidance_scale": scale,
            "controlnet_scale": controlnet_conditioning_scale,
            "grain": grain if self.grain is not None else 0,
            "scheduler": schedule.name,
            "noise": field_name,
        }
        scenes = [
            _written(source, rgb, seen, spec.bands, {**provenance, "seed": one})
            for rgb, one in zip(blended.permute(0, 2, 3, 1).numpy(), seeds, strict=True)
        ]
        images = [Image.fromarray((rgb * 255).round().byte().numpy()) for rgb in _display(scenes, spec.bands)]
        return FloodOutput(images, scenes, seen, notes)


def _written(
    source: GeoImage, rgb: np.ndarray, seen: np.ndarray, bands: Sequence[str], provenance: dict[str, Any]
) -> GeoImage:
    """The image with its bands replaced where there is water, in its own dtype."""
    array = source.array.copy()
    eight = array.dtype == np.uint8
    for i, name in enumerate(bands):
        values = np.rint(rgb[..., i] * 255) if eight else rgb[..., i]
        band = source.index(name)
        array[..., band] = np.where(seen, values, array[..., band]).astype(array.dtype)
    return GeoImage(
        array, source.bands, source.crs, source.transform, source.valid, source.acquisition, dict(provenance)
    )


def _display(scenes: Sequence[GeoImage], bands: Sequence[str]) -> list[Tensor]:
    """(H, W, 3) in [0, 1] of each."""
    made = []
    for scene in scenes:
        rgb = np.stack([scene.band(name) for name in bands], -1)
        made.append(torch.from_numpy(rgb.astype(np.float32) / (255 if rgb.dtype == np.uint8 else 1)))
    return made


__all__ = ["FloodOutput", "FloodPipeline"]
