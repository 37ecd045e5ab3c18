"""Satellite images from words, a place, an acquisition and a map, with coordinates on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor, nn

from .. import __version__
from ..conditioning.bag import ConditionBag, ControlImage, PromptMap
from ..conditioning.edges import load_edges
from ..conditioning.layout import encode_layout
from ..conditioning.place import place_arrays
from ..conditioning.text import encode_text, load_minilm
from ..diffusion.adapters import adapt
from ..diffusion.codec import Codec
from ..diffusion.guidance import Guidance
from ..diffusion.loop import Known, Start, denoise
from ..diffusion.schedule import settle
from ..diffusion.windows import Window, WindowPlan
from ..errors import InputError
from ..geo.canvas import Canvas
from ..geo.layout import load_layout
from ..hub.fingerprint import fingerprint
from ..hub.request import check_request, make_canvas
from ..hub.resolve import model_folder
from ..hub.spec import ModelSpec
from ..hub.weights import check_weights, import_components
from ..types import Acquisition, GeoImage, Place
from .parts import choose_noise, describe, mask_pixels, spread_prompts, spread_seeds, start_pixels

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


class SatellitePipeline(DiffusionPipeline, StableDiffusionLoraLoaderMixin):
    """Latent diffusion of satellite images; everything about the model that its weights do not say is in ``spec``.

    Components: ``vae``, ``unet`` (any denoiser), ``scheduler``; optional ``text_encoder`` with ``tokenizer``, ``place_encoder``,
    ``acquisition_encoder``, ``controlnet``.
    """

    model_cpu_offload_seq = "text_encoder->place_encoder->acquisition_encoder->controlnet->unet->vae"
    _optional_components = ["text_encoder", "tokenizer", "place_encoder", "acquisition_encoder", "controlnet"]  # noqa: RUF012
    _callback_tensor_inputs = ["latents"]  # noqa: RUF012

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
        spec: ModelSpec | None = None,
    ):
        super().__init__()
        self.register_modules(
            vae=vae,
            unet=unet,
            scheduler=scheduler,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            place_encoder=place_encoder,
            acquisition_encoder=acquisition_encoder,
            controlnet=controlnet,
        )
        self.spec = spec or ModelSpec(name="unnamed")
        self.folder: Path | None = None
        self._interrupt = False
        self._num_timesteps = 0

    # -- saving and loading ---------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> "SatellitePipeline":
        """Load a model folder, or a hub id that is cached (``local_files_only=False`` fetches it); only safetensors are read.

        The spec comes from its ``gensat.json``, a text encoder that it leaves out from the package that the spec names.
        Raises ModelError for weights that do not fit the networks.
        """
        folder = model_folder(pretrained_model_name_or_path, download=not kwargs.pop("local_files_only", True))
        spec = kwargs.pop("spec", None) or ModelSpec.load(folder)
        import_components(folder)
        if spec.text_encoder == "minilm" and not (folder / "text_encoder").is_dir() and "text_encoder" not in kwargs:
            kwargs["text_encoder"], kwargs["tokenizer"] = load_minilm()
            if kwargs.get("torch_dtype") is not None:
                kwargs["text_encoder"] = kwargs["text_encoder"].to(kwargs["torch_dtype"])
        given = set(kwargs)
        pipe = super().from_pretrained(str(folder), **{"use_safetensors": True, **kwargs})
        for name, module in pipe.components.items():
            if name not in given:
                check_weights(folder / name, module)
        pipe.spec, pipe.folder = spec, folder
        return pipe

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> None:
        """Save every component, the text encoder included, and the spec: the folder stands alone."""
        super().save_pretrained(save_directory, **kwargs)
        self.spec.save(save_directory)

    # -- the call -------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | PromptMap = "",
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
        image: GeoImage | Image.Image | np.ndarray | None = None,
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
            image: start from this 8-bit image, noised to ``strength`` (0 to 1); where no size or bbox is given the canvas takes its size, and
                from a georeferenced one without a place also its place.
            mask: of the same size, 1 = make anew; the pixels where it is 0 stay those of the image, bit for bit.
            width, height: pixels, multiples of ``spec.multiple``.
            withhold: what the model is not told although the canvas has it: some of "place", "gsd".
            snap: move the origin onto the noise grid, so that overlapping requests share their noise exactly.
            num_inference_steps, guidance_scale, place_guidance_scale: defaults in the spec; a place scale of its own guides the place apart from the text.
            guidance_rescale, guidance_interval: see ``gensat.diffusion.guidance.Guidance``.
            controlnet_conditioning_scale: strength of layout and edges.
            num_images_per_prompt: images for each prompt.
            seed: of the world-anchored noise field: n images get seed, seed + 1, ...; or one per image. Random when not given.
            generator, latents: as in diffusers; they replace the noise field, and the tags say so.
            max_batch: latents in one call of the denoiser at most.
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
        check_request(spec, asked, acquisition, **given, cropped=cropped, width=width, height=height)
        if self.acquisition_encoder is not None:
            self.acquisition_encoder.arrays([acquisition])  # refuses an unknown sensor
        if asked.place is not None and "place" not in spec.signals:
            notes.append(f"model {spec.name} does not know places: this one only sets the coordinates")

        prompts, negative = spread_prompts(prompt, negative_prompt, num_images_per_prompt)
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
        original, area, start, known = self._start(image, mask, strength, made, asked, len(seeds))
        controls, coverage = self._controls(made, asked, layout, legend, edges, controlnet_conditioning_scale, notes)

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
            device=self._execution_device,
            dtype=self.unet.dtype,
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
            "precision": f"{str(self.unet.dtype).removeprefix('torch.')} on {self._execution_device.type}",
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

    # -- parts of the call ----------------------------------------------------------------------------------------------

    @property
    def codec(self) -> Codec:
        """The VAE as the loop uses it."""
        return Codec(self.vae)

    @property
    def interrupt(self) -> bool:
        """Set ``_interrupt`` in a callback to stop after the current step, as in diffusers."""
        return self._interrupt

    @property
    def num_timesteps(self) -> int:
        """Evaluations of the schedule in the current call, as in diffusers."""
        return self._num_timesteps

    def _canvas(self, canvas: Canvas | None, image: Any, where: dict[str, Any], notes: list[str]) -> Canvas:
        """The pixels asked for: given, of a georeferenced start image, or from place, bbox, CRS, gsd and size."""
        also = [name for name, value in where.items() if value is not None]
        if canvas is not None and also:
            raise InputError(f"a canvas came together with {', '.join(also)}; it says all of that, so leave them out")
        if canvas is None and not also and isinstance(image, GeoImage):
            return Canvas.like(image)
        if image is not None and all(where[name] is None for name in ("bbox", "width", "height")):
            size = image.size if isinstance(image, Image.Image) else np.shape(getattr(image, "array", image))[1::-1]
            where = {**where, "width": size[0], "height": size[1]}
        return canvas or make_canvas(self.spec, notes, **where)

    def _start(
        self, image: Any, mask: Any, strength: float | int, made: Canvas, asked: Canvas, count: int
    ) -> tuple[Tensor | None, Tensor | None, Start | None, Known | None]:
        """Pixels and mask of the canvas asked for, and what the loop takes of them."""
        if image is None:
            if mask is not None:
                raise InputError("a mask came without an image; give the image to be changed")
            return None, None, None, None
        pixels = start_pixels(image, self.spec.bands, asked)
        area = None if mask is None else mask_pixels(mask, asked)
        pad = (0, made.width - asked.width, 0, made.height - asked.height)
        z = self.codec.encode(nn.functional.pad(pixels, pad, mode="replicate").to(self._execution_device))
        start = Start(z.expand(count, -1, -1, -1), strength)
        if area is None:
            return pixels, None, start, None
        cells = nn.functional.adaptive_max_pool2d(nn.functional.pad(area, pad), z.shape[-2:])
        return pixels, area, start, Known(start.latents, cells.expand(count, -1, -1, -1))

    def _controls(
        self,
        made: Canvas,
        asked: Canvas,
        layout: Any,
        legend: Any,
        edges: Any,
        scale: float | int,
        notes: list[str],
    ) -> tuple[list[ControlImage], float | None]:
        """The control picture of layout and edges, and the share of the canvas that the layout covers."""
        if legend is not None and layout is None:
            raise InputError("a legend came without a layout; give the layout that it belongs to")
        if layout is None and edges is None:
            return [], None
        if self.controlnet is None:
            raise InputError(
                f"model {self.spec.name} has no controlnet; leave layout and edges out, or load one that has"
            )
        if not 0 <= scale <= 10:
            raise InputError(f"controlnet_conditioning_scale is {scale}; give 0 to 10, 1 is as trained")
        classes = np.zeros((asked.height, asked.width), np.uint8)
        coverage = None
        if layout is not None:
            plan = load_layout(layout, asked, legend=legend)
            classes, coverage = plan.class_map, plan.coverage
            notes += plan.notes
        lines = None if edges is None else load_edges(edges, width=asked.width, height=asked.height)
        pad = (0, made.width - asked.width, 0, made.height - asked.height)
        control = nn.functional.pad(encode_layout(torch.from_numpy(classes).long(), lines), pad)
        return [ControlImage(self.controlnet, control[:, None].to(self._execution_device), scale)], coverage

    def _bag(
        self,
        canvas: Canvas,
        centre: Place | None,
        prompts: list[str] | PromptMap,
        negative: list[str],
        acquisition: Acquisition,
        controls: list[ControlImage],
        tell_place: bool,
    ) -> ConditionBag:
        factor = self.codec.factor
        whole = Window(0, 0, canvas.height // factor, canvas.width // factor)

        def place_of(window: Window) -> Place | None:
            if centre is None or not tell_place:
                return None
            if window == whole:
                return centre
            rows, cols = window.row + window.height / 2, window.col + window.width / 2
            lon, lat = (float(degrees) for degrees in canvas.places(rows * factor, cols * factor))
            return Place(lon, lat) if np.isfinite([lon, lat]).all() else None  # beyond the edge of the projection

        def text(words: Sequence[str]) -> tuple[Tensor, Tensor]:
            return encode_text(self.text_encoder, self.tokenizer, words, max_length=self.spec.defaults.prompt_tokens)

        def vector(places: Sequence[Place | None], acquisitions: Sequence[Acquisition]) -> Tensor:
            parts = []
            if self.place_encoder is not None:
                parts.append(self.place_encoder(*place_arrays(places)))
            if self.acquisition_encoder is not None:
                parts.append(self.acquisition_encoder(*self.acquisition_encoder.arrays(acquisitions)))
            return sum(parts[1:], parts[0])

        has_vector = self.place_encoder is not None or self.acquisition_encoder is not None
        return ConditionBag(
            self.spec,
            len(negative),
            factor,
            prompts=prompts,
            negative=negative,
            place_of=place_of,
            acquisition=acquisition,
            text=text if self.text_encoder is not None else None,
            vector=vector if has_vector else None,
            controls=controls,
        )

    def _on_step(self, callback: Any, wanted: set[str], notes: list[str]) -> Callable[[int, Tensor, Tensor], Any]:
        """The loop's callback: progress bar, the user's callback, and a note when it stopped early."""
        self._interrupt = False
        bar = self.progress_bar(total=self._num_timesteps)

        def on_step(i: int, t: Tensor, x: Tensor) -> Tensor | None:
            bar.update()
            changed = callback(self, i, t, {"latents": x} if wanted else {}) if callback is not None else None
            if self._interrupt:
                notes.append(f"interrupted after step {i + 1} of {self._num_timesteps}: the image is not finished")
            if self._interrupt or i + 1 == self._num_timesteps:
                bar.close()
            latents = (changed or {}).get("latents", x)
            return None if latents is x else latents

        return on_step


def _grown(pixels: int, spec: ModelSpec, cropped: bool) -> int:
    """A side as it is made: a multiple of the model's, and no less than its smallest, where the result is cropped anyway."""
    least = max(pixels, spec.size_limits[0]) if cropped else pixels
    return -(-least // spec.multiple) * spec.multiple


__all__ = ["SatelliteOutput", "SatellitePipeline", "make_canvas", "spread_seeds"]
