"""Satellite images from words, a place, an acquisition and a map, with coordinates on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor, nn

from .. import __version__
from ..conditioning.bag import PromptMap
from ..conditioning.text import cut_notes
from ..diffusion.adapters import adapt
from ..diffusion.guidance import Guidance
from ..diffusion.loop import Known, Start, denoise
from ..diffusion.schedule import settle
from ..diffusion.windows import WindowPlan
from ..errors import InputError, require_number
from ..geo.canvas import Canvas
from ..hub.fingerprint import fingerprint
from ..hub.request import check_request, make_canvas
from ..hub.spec import ModelSpec
from ..types import Acquisition, GeoImage, Place
from .base import ConditionedPipeline
from .parts import (
    active_loras,
    choose_noise,
    describe,
    image_size,
    mask_pixels,
    spread_prompts,
    spread_seeds,
    start_pixels,
)

OUTPUT_TYPES = ("pil", "np", "pt", "latent")


@dataclass
class SatelliteOutput(BaseOutput):
    """What a call returns.

    Args:
        images: a list of PIL images, an array (b, H, W, bands) in [0, 1], a tensor (b, bands, H, W) in [0, 1], or latents.
        scenes: a GeoImage per image; None for latents.
        notes: what was assumed or cut, one sentence each.
    """

    images: Any
    scenes: list[GeoImage] | None = None
    notes: list[str] = field(default_factory=list)


class SatellitePipeline(ConditionedPipeline):
    """Satellite images from words, a place, an acquisition, a layout and edges, from nothing or from an image."""

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | PromptMap | None = "",
        negative_prompt: str | Sequence[str] | None = None,
        *,
        place: Place | None = None,
        bbox: Sequence[float | int] | None = None,
        canvas: Canvas | None = None,
        crs: Any = None,
        gsd: float | int | None = None,
        date: Any = None,
        cloud_cover: float | int | None = None,
        sensor: str | None = None,
        layout: Any = None,
        legend: Any = None,
        edges: Any = None,
        image: GeoImage | Image.Image | np.ndarray | Tensor | None = None,
        strength: float | int = 0.8,
        mask: np.ndarray | Image.Image | None = None,
        width: int | None = None,
        height: int | None = None,
        snap: bool = False,
        withhold: Sequence[str] = (),
        num_inference_steps: int | None = None,
        guidance_scale: float | int | None = None,
        place_guidance_scale: float | int | None = None,
        guidance_rescale: float | int = 0.0,
        guidance_interval: tuple[float | int, float | int] = (0.0, 1.0),
        controlnet_conditioning_scale: float | int = 1.0,
        num_images_per_prompt: int = 1,
        seed: int | Sequence[int] | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        max_batch: int = 16,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callable[[Any, int, Any, dict], dict] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> SatelliteOutput | tuple:
        """Make images of one canvas.

        Args:
            prompt: words, one string per image wanted, or a function from a window's Place (None without coordinates) to words.
            negative_prompt: what the unconditional branch is told instead of nothing.
            place: (lon, lat) of the centre of the canvas, in degrees; also a condition.
            bbox: (west, south, east, north) in degrees; the canvas is its UTM envelope, made in a multiple of the model's and cropped.
            canvas: the pixels themselves, of any size, instead of place, bbox, crs, gsd, width and height.
            crs: projected CRS of the result (default: the UTM zone of the place).
            gsd: metres per pixel; a place without it takes the model's default, and the notes say so.
            date: "2017", "2017-08", "2017-08-31" or a PartialDate.
            cloud_cover: fraction 0 to 1.
            sensor: one of the names the model knows.
            layout: class map, see ``gensat.geo.layout.load_layout``; ``legend`` says what its codes mean.
            edges: picture or (H, W) array in [0, 1] of the size of the canvas.
            image: start from this image, noised to ``strength`` (0 to 1): 8-bit, or floats in 0 to 1; bands of a GeoImage are taken by name. Where
                no size or bbox is given the canvas takes its size, and from a georeferenced one without a place also its place.
            mask: of the same size, 1 = make anew; the pixels where it is 0 stay those of the image, bit for bit.
            width, height: pixels, multiples of ``spec.multiple``.
            withhold: what the model is not told although the canvas has it: some of "place", "gsd".
            snap: move the origin onto the noise grid, so that overlapping requests share their noise exactly.
            num_inference_steps: denoising steps, 1 or more; as the spec says when not given.
            guidance_scale, place_guidance_scale: 0 to 100, 1 is no guidance; as the spec says when not given. A place scale of its own guides the
                place apart from the text.
            guidance_rescale, guidance_interval: see ``gensat.diffusion.guidance.Guidance``.
            controlnet_conditioning_scale: strength of layout and edges, 0 to 10; 1 is as trained.
            num_images_per_prompt: images for each prompt.
            seed: of the world-anchored noise field: n images get seed, seed + 1, ...; or one per image. Random when not given.
            generator, latents: as in diffusers; they replace the noise field, and the tags say so.
            max_batch: windows times guidance branches in one call of the denoiser at most, each for all images; 1 or more.
            output_type: "pil", "np", "pt" or "latent".
            callback_on_step_end: as in diffusers, called with (pipe, step, timestep, {"latents": ...}).

        Raises:
            InputError: anything found wrong before the first step.
        """
        if output_type not in OUTPUT_TYPES:
            raise InputError(f"output_type is {output_type!r}; use one of {', '.join(OUTPUT_TYPES)}")
        wanted = set(getattr(callback_on_step_end, "tensor_inputs", callback_on_step_end_tensor_inputs))
        if unknown := wanted - set(self._callback_tensor_inputs):
            raise InputError(f"callback_on_step_end_tensor_inputs has {sorted(unknown)}; only latents can be asked for")
        if not isinstance(place, Place | None):
            raise InputError(f"place is {place!r}; give gensat.Place(lon=..., lat=...) in degrees")
        if max_batch < 1:
            raise InputError(f"max_batch is {max_batch}; give 1 or more")
        gsd = None if gsd is None else require_number(gsd, "gsd")
        spec, codec = self.spec, self.codec
        notes: list[str] = []
        where = {"place": place, "bbox": bbox, "crs": crs, "gsd": gsd, "width": width, "height": height}
        asked = self._canvas(canvas, image, where, notes)
        if snap:
            asked = asked.snapped(codec.factor)
        cropped = bbox is not None or (place is None and width is None and height is None)
        made = asked.crop(0, 0, *(_grown(n, spec, cropped) for n in (asked.height, asked.width)))
        if unknown := set(withhold) - {"place", "gsd"}:
            raise InputError(f"withhold names {sorted(unknown)}; only place and gsd can be, leave others out instead")
        told_gsd = None if "gsd" in withhold else asked.ground_gsd or gsd
        acquisition = Acquisition(told_gsd, date, cloud_cover, sensor)
        words = any(any(p) if isinstance(p, (list, tuple)) else bool(p) for p in (prompt, negative_prompt))
        given = {"prompt": words, "layout": layout is not None, "edges": edges is not None}
        check_request(spec, asked, acquisition, **given, cropped=cropped)
        others = replace(acquisition, gsd=None)
        self._require_components({**given, "acquisition": bool(others)})
        if self.acquisition_encoder is not None:
            self.acquisition_encoder.arrays([acquisition])  # refuses an unknown sensor
        if asked.place is not None and not self._takes("place"):
            notes.append(f"model {spec.name} does not know places: this one only sets the coordinates")
        if acquisition.gsd is not None and not self._takes("acquisition"):
            notes.append(
                f"model {spec.name} does not know ground sampling distances: this one only sets the coordinates"
            )

        prompts, negative = spread_prompts(prompt, negative_prompt, num_images_per_prompt)
        if self.tokenizer is not None:
            told = negative if callable(prompts) else [*prompts, *negative]
            notes += cut_notes(self.tokenizer, told, spec.defaults.prompt_tokens)
        seeds = spread_seeds(seed, len(negative))
        steps = spec.defaults.steps if num_inference_steps is None else num_inference_steps
        scale = spec.defaults.guidance_scale if guidance_scale is None else guidance_scale
        place_scale = spec.defaults.place_guidance_scale if place_guidance_scale is None else place_guidance_scale
        guidance = Guidance(scale, place_scale, guidance_rescale, (guidance_interval[0], guidance_interval[1]))
        schedule = settle(self.scheduler)
        self._num_timesteps = len(schedule.prepare(steps, 1.0 if image is None else strength))
        origin, cells = made.cell_origin(codec.factor), (made.height // codec.factor, made.width // codec.factor)
        grid, shape = made.grid_name(codec.factor), (codec.channels, *cells)
        noise, source = choose_noise(seeds, grid, shape, origin=origin, generator=generator, latents=latents)
        original, area, start, known = self._start(image, mask, strength, made, asked, len(seeds), origin)
        controls, coverage = self._controls(made, asked, layout, legend, edges, controlnet_conditioning_scale, notes)

        device, dtype = self._execution_device, self.unet.dtype  # each goes through all modules
        plan = WindowPlan(
            spec.window // codec.factor, spec.window_stride // codec.factor, spec.size_limits[1] // codec.factor
        )
        if windowed := max(cells) > plan.whole:
            halo = (plan.halo(self._num_timesteps) + codec.halo) * codec.factor
            notes.append(
                f"made in windows of {spec.window} px: pixels more than {halo} px inside do not depend on where the canvas ends"
            )
        result = denoise(
            adapt(self.unet),
            self.scheduler,
            self._bag(made, place or asked.place, prompts, negative, acquisition, controls, "place" not in withhold),
            noise,
            channels=codec.channels,
            height=cells[0],
            width=cells[1],
            steps=steps,
            origin=origin,
            guidance=guidance,
            plan=plan,
            start=start,
            known=known,
            device=device,
            dtype=dtype,
            max_batch=max_batch,
            callback=self._on_step(callback_on_step_end, wanted, notes),
            interrupted=lambda: self._interrupt,
        )
        if output_type == "latent":
            self.maybe_free_model_hooks()
            return SatelliteOutput(result, None, notes) if return_dict else (result,)
        pixels = codec.decode(result, origin)[:, :, : asked.height, : asked.width].cpu()
        if area is not None and original is not None:
            pixels = area * pixels + (1 - area) * original

        provenance = {
            "synthetic": True,
            "software": f"gensat {__version__}",
            "model": spec.name,
            "model_hash": fingerprint(self),
            "model_licence": spec.licence,
            "lora": active_loras(self.unet),
            "place": None if asked.place is None else (place or asked.place).to_dict(),
            "withheld": list(withhold) or None,
            "acquisition": acquisition.to_dict(),
            "layout": None if layout is None else describe(layout),
            "layout_coverage": coverage,
            "legend": None if legend is None else describe(legend),
            "edges": None if edges is None else describe(edges),
            "controlnet_scale": controlnet_conditioning_scale if controls else None,
            "image": None if image is None else describe(image),
            "mask": None if mask is None else describe(mask),
            "strength": None if image is None else strength,
            "steps": steps,
            "guidance_scale": scale,
            "place_guidance_scale": place_scale,
            "guidance_rescale": guidance_rescale,
            "guidance_interval": list(guidance_interval),
            "scheduler": schedule.name,
            "noise": source,
            "windows": f"{spec.window} px every {spec.window_stride} px" if windowed else None,
            "interrupted": self._interrupt,
            "precision": f"{str(dtype).removeprefix('torch.')} on {device.type}",
        }
        scenes = []
        for i, array in enumerate((pixels * 127.5 + 127.5).round().byte().permute(0, 2, 3, 1).numpy()):
            own = {
                **provenance,
                "prompt": "(a function of the place)" if callable(prompts) else prompts[i],
                "negative_prompt": negative[i],
                "seed": seeds[i] if source == grid else None,
            }
            scenes.append(asked.image(array, bands=spec.bands, acquisition=acquisition, provenance=own))
        self.maybe_free_model_hooks()
        images: Any = pixels / 2 + 0.5
        if output_type == "pil":
            images = [scene.to_pil() for scene in scenes]
        elif output_type == "np":
            images = images.permute(0, 2, 3, 1).numpy()
        return SatelliteOutput(images, scenes, notes) if return_dict else (images,)

    def _canvas(self, canvas: Canvas | None, image: Any, where: dict[str, Any], notes: list[str]) -> Canvas:
        """The pixels asked for: given, of a georeferenced start image, or from place, bbox, CRS, gsd and size."""
        also = [name for name, value in where.items() if value is not None]
        if canvas is not None and also:
            raise InputError(f"a canvas came together with {', '.join(also)}; it says all of that, so leave them out")
        if canvas is None and isinstance(image, GeoImage) and (image.georeferenced or not also):
            if all(where[name] is None for name in ("place", "bbox", "crs")):
                return _like(image, where)
        if image is not None and all(where[name] is None for name in ("bbox", "width", "height")):
            where = {**where, **dict(zip(("width", "height"), image_size(image), strict=True))}
        return canvas or make_canvas(self.spec, notes, **where)

    def _start(
        self,
        image: Any,
        mask: Any,
        strength: float | int,
        made: Canvas,
        asked: Canvas,
        count: int,
        origin: tuple[int, int],
    ) -> tuple[Tensor | None, Tensor | None, Start | None, Known | None]:
        """Pixels and mask of the canvas asked for, and what the loop takes of them."""
        if image is None:
            if mask is not None:
                raise InputError("a mask came without an image; give the image to be changed")
            return None, None, None, None
        area = None if mask is None else mask_pixels(mask, asked)
        pixels = start_pixels(image, self.spec.bands, asked, area)
        pad = (0, made.width - asked.width, 0, made.height - asked.height)
        z = self.codec.encode(nn.functional.pad(pixels, pad, mode="replicate").to(self._execution_device), origin)
        start = Start(z.expand(count, -1, -1, -1), strength)
        if area is None:
            return pixels, None, start, None
        cells = nn.functional.adaptive_max_pool2d(nn.functional.pad(area, pad), z.shape[-2:])
        return pixels, area, start, Known(start.latents, cells.expand(count, -1, -1, -1))


def _like(image: GeoImage, where: dict[str, Any]) -> Canvas:
    """The canvas of a start image, whose size and gsd a request may repeat but not change."""
    canvas = Canvas.like(image)
    for name, own in (("width", canvas.width), ("height", canvas.height), ("gsd", canvas.ground_gsd)):
        asked = where[name]
        if asked is not None and (own is None or abs(require_number(asked, name) / own - 1) > 0.01):
            raise InputError(
                f"the image has a {name} of {own:g}, {asked:g} was asked for; leave it out, or resample the image"
            )
    return canvas


def _grown(pixels: int, spec: ModelSpec, cropped: bool) -> int:
    """A side as it is made: a multiple of the model's, and no less than its smallest, where the result is cropped anyway."""
    least = max(pixels, spec.size_limits[0]) if cropped else pixels
    return -(-least // spec.multiple) * spec.multiple


__all__ = ["SatelliteOutput", "SatellitePipeline", "make_canvas", "spread_seeds"]
