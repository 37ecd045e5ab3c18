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
from ..diffusion.codec import Codec
from ..diffusion.guidance import Guidance
from ..diffusion.inputs import adapt
from ..diffusion.loop import Known, Start, denoise
from ..diffusion.noise import GivenNoise, Noise, NoiseBatch, NoiseField
from ..diffusion.windows import Window, WindowPlan
from ..errors import InputError
from ..geo.canvas import Canvas
from ..geo.layout import LayoutMap, load_layout
from ..hub.fingerprint import fingerprint
from ..hub.request import check_request, make_canvas
from ..hub.resolve import model_folder
from ..hub.spec import ModelSpec
from ..types import Acquisition, GeoImage, Place

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

    # -- saving and loading ---------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> "SatellitePipeline":
        """Load a model folder or hub id; the spec comes from its ``gensat.json``, a text encoder it leaves out from its package."""
        folder = model_folder(pretrained_model_name_or_path)
        spec = kwargs.pop("spec", None) or ModelSpec.load(folder)
        if spec.text_encoder == "minilm" and not (folder / "text_encoder").is_dir() and "text_encoder" not in kwargs:
            kwargs["text_encoder"], kwargs["tokenizer"] = load_minilm()
            if kwargs.get("torch_dtype") is not None:
                kwargs["text_encoder"] = kwargs["text_encoder"].to(kwargs["torch_dtype"])
        pipe = super().from_pretrained(str(folder), **kwargs)
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
        bbox: Sequence[float] | None = None,
        canvas: Canvas | None = None,
        crs: Any = None,
        gsd: float | None = None,
        date: Any = None,
        cloud_cover: float | None = None,
        sensor: str | None = None,
        layout: Any = None,
        legend: Any = None,
        edges: Any = None,
        image: GeoImage | Image.Image | np.ndarray | None = None,
        strength: float = 0.8,
        mask: np.ndarray | Image.Image | None = None,
        width: int | None = None,
        height: int | None = None,
        snap: bool = False,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        place_guidance_scale: float | None = None,
        guidance_rescale: float = 0.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        controlnet_conditioning_scale: float = 1.0,
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
            canvas: the pixels themselves, instead of place, bbox, size and gsd.
            crs: projected CRS of the result (default: the UTM zone of the place).
            gsd: metres per pixel; a place without it takes the model's default, and the notes say so.
            date: "2017", "2017-08", "2017-08-31" or a PartialDate.
            cloud_cover: fraction 0 to 1.
            sensor: one of the names the model knows.
            layout: class map, see ``gensat.geo.layout.load_layout``; ``legend`` says what its codes mean.
            edges: picture or (H, W) array in [0, 1] of the size of the canvas.
            image: start from this image, noised to ``strength``; with ``mask`` (1 = make anew) the rest is kept.
            width, height: pixels, multiples of ``spec.multiple``.
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
        if unknown := set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs):
            raise InputError(f"callback_on_step_end_tensor_inputs has {sorted(unknown)}; only latents can be asked for")
        spec, notes = self.spec, []
        asked = canvas or make_canvas(spec, notes, place=place, bbox=bbox, gsd=gsd, width=width, height=height, crs=crs)
        if snap:
            asked = asked.snapped(self.codec.factor)
        made, inner = asked.padded(spec.multiple)
        acquisition = Acquisition(asked.ground_gsd or gsd, date, cloud_cover, sensor)
        given = {"prompt": bool(prompt), "layout": layout is not None, "edges": edges is not None}
        check_request(spec, asked, acquisition, **given, cropped=bbox is not None)
        if self.acquisition_encoder is not None:
            self.acquisition_encoder.arrays([acquisition])  # refuses an unknown sensor

        prompts, negative = self._prompts(prompt, negative_prompt, num_images_per_prompt)
        seeds = spread_seeds(seed, len(prompts) if not callable(prompts) else num_images_per_prompt)
        count = len(seeds)
        controls, coverage = self._controls(made, asked, layout, legend, edges, controlnet_conditioning_scale, notes)
        bag = self._bag(made, prompts, negative, acquisition, controls, count)

        steps = num_inference_steps or spec.defaults.steps
        scale = spec.defaults.guidance_scale if guidance_scale is None else guidance_scale
        place_scale = spec.defaults.place_guidance_scale if place_guidance_scale is None else place_guidance_scale
        guidance = Guidance(scale, place_scale, guidance_rescale, tuple(guidance_interval))
        start, known = self._start(image, mask, strength, made, count)
        cells = (made.height // self.codec.factor, made.width // self.codec.factor)
        self._interrupt = False
        result = self._run(
            bag,
            self._noise(seeds, made, cells, generator, latents),
            cells,
            origin=made.cell_origin(self.codec.factor),
            steps=steps,
            guidance=guidance,
            start=start,
            known=known,
            max_batch=max_batch,
            callback=callback_on_step_end,
        )

        provenance = {
            "synthetic": True,
            "software": f"gensat {__version__}",
            "model": spec.name,
            "model_hash": fingerprint(self),
            "model_licence": spec.licence,
            "negative_prompt": negative[0],
            "place": None if asked.place is None else (place or asked.place).to_dict(),
            "acquisition": acquisition.to_dict(),
            "layout": None if layout is None else describe(layout),
            "layout_coverage": coverage,
            "legend": None if legend is None else describe(legend),
            "edges": None if edges is None else describe(edges),
            "controlnet_scale": controlnet_conditioning_scale if controls else None,
            "image": None if image is None else describe(image),
            "strength": None if image is None else strength,
            "steps": steps,
            "guidance_scale": scale,
            "place_guidance_scale": place_scale,
            "scheduler": type(self.scheduler).__name__,
            "noise": "latents"
            if latents is not None
            else "generator"
            if generator is not None
            else made.grid_name(self.codec.factor),
            "precision": f"{str(self.unet.dtype).removeprefix('torch.')} on {self.device.type}",
        }
        if output_type == "latent":
            return SatelliteOutput(result, None, notes) if return_dict else (result,)
        pixels = self.codec.decode(result, made.cell_origin(self.codec.factor))[:, :, inner[0], inner[1]]
        scenes = []
        for i, array in enumerate(
            (pixels * 127.5 + 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        ):
            words = "(a function of the place)" if callable(prompts) else prompts[i]
            own = {**provenance, "prompt": words, "seed": seeds[i] if latents is None and generator is None else None}
            scenes.append(asked.image(array, bands=spec.bands, acquisition=acquisition, provenance=own))
        self.maybe_free_model_hooks()
        images: Any
        if output_type == "pil":
            images = [scene.to_pil() for scene in scenes]
        else:
            images = pixels.cpu() / 2 + 0.5
            images = images.permute(0, 2, 3, 1).numpy() if output_type == "np" else images
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

    def _prompts(self, prompt: Any, negative: Any, repeat: int) -> tuple[Any, list[str]]:
        if repeat < 1:
            raise InputError(f"num_images_per_prompt is {repeat}; give 1 or more")
        if callable(prompt):
            words, count = prompt, repeat
        else:
            listed = [prompt] if isinstance(prompt, str) else list(prompt)
            words = [p for p in listed for _ in range(repeat)]
            count = len(words)
        listed = (
            [negative or ""] * count
            if negative is None or isinstance(negative, str)
            else [n for n in negative for _ in range(repeat)]
        )
        if len(listed) != count:
            raise InputError(f"{len(listed)} negative prompts for {count} images; give one, or one per prompt")
        return words, listed

    def _controls(
        self, made: Canvas, asked: Canvas, layout: Any, legend: Any, edges: Any, scale: float, notes: list[str]
    ) -> tuple[list[ControlImage], float | None]:
        if layout is None and edges is None:
            return [], None
        if self.controlnet is None:
            raise InputError(
                f"model {self.spec.name} has no controlnet; leave layout and edges out, or load one that has"
            )
        classes = np.zeros((asked.height, asked.width), np.uint8)
        coverage = None
        if layout is not None:
            plan: LayoutMap = load_layout(layout, asked, legend=legend)
            classes, coverage = plan.class_map, plan.coverage
            notes += plan.notes
        lines = None if edges is None else load_edges(edges, width=asked.width, height=asked.height)
        pad = (0, made.width - asked.width, 0, made.height - asked.height)
        control = nn.functional.pad(encode_layout(torch.from_numpy(classes).long(), lines), pad)
        return [ControlImage(self.controlnet, control[:, None].to(self.device), scale)], coverage

    def _bag(
        self, canvas: Canvas, prompts: Any, negative: list[str], acquisition: Acquisition, controls: list, count: int
    ) -> ConditionBag:
        factor = self.codec.factor

        def place_of(window: Window) -> Place | None:
            if canvas.crs is None:
                return None
            lon, lat = canvas.places(
                (window.row + window.height / 2) * factor, (window.col + window.width / 2) * factor
            )
            return Place(float(lon), float(lat))

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
            count,
            factor,
            prompts=prompts,
            negative=negative,
            place_of=place_of,
            acquisition=acquisition,
            text=text if self.text_encoder is not None else None,
            vector=vector if has_vector else None,
            controls=controls,
        )

    def _noise(
        self, seeds: list[int], canvas: Canvas, cells: tuple[int, int], generator: Any, latents: Tensor | None
    ) -> Noise:
        if latents is None and generator is None:
            return NoiseBatch(tuple(NoiseField(s, canvas.grid_name(self.codec.factor)) for s in seeds))
        generators = tuple(generator) if isinstance(generator, (list, tuple)) else (generator,) if generator else None
        if generators and len(generators) not in (1, len(seeds)):
            raise InputError(f"{len(generators)} generators for {len(seeds)} images; give one, or one per image")
        if latents is None:
            shape = (len(seeds), self.codec.channels, *cells)
            if len(generators) == 1:
                latents = torch.randn(shape, generator=generators[0])
            else:
                latents = torch.cat([torch.randn((1, *shape[1:]), generator=g) for g in generators])
        elif latents.shape[0] != len(seeds):
            raise InputError(f"latents hold {latents.shape[0]} samples for {len(seeds)} images; give one per image")
        return GivenNoise(latents, generators)

    def _start(
        self, image: Any, mask: Any, strength: float, canvas: Canvas, count: int
    ) -> tuple[Start | None, Known | None]:
        if image is None:
            if mask is not None:
                raise InputError("a mask came without an image; give the image to be changed")
            return None, None
        pixels = image.array if isinstance(image, GeoImage) else np.asarray(image)
        if (
            pixels.shape[:2] != (canvas.height, canvas.width)
            or pixels.ndim != 3
            or pixels.shape[2] != len(self.spec.bands)
        ):
            wanted = f"{canvas.height} x {canvas.width} x {len(self.spec.bands)}"
            raise InputError(
                f"the image is {' x '.join(map(str, pixels.shape))}, the canvas needs {wanted}; resize it, or change the size"
            )
        if pixels.dtype != np.uint8:
            raise InputError(f"the image is {pixels.dtype}; give 8-bit pixels")
        x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
        z = self.codec.encode(x.to(self.device)).expand(count, -1, -1, -1)
        if mask is None:
            return Start(z, strength), None
        area = np.asarray(mask, dtype=np.float32)
        area = area / 255 if area.max() > 1 else area
        if area.shape != pixels.shape[:2]:
            raise InputError(f"the mask is {area.shape}, the image {pixels.shape[:2]}; give a mask of the image's size")
        cells = nn.functional.adaptive_max_pool2d(torch.from_numpy(area)[None, None], z.shape[-2:])
        return Start(z, strength), Known(z, cells.expand(count, -1, -1, -1))

    def _run(
        self,
        bag: ConditionBag,
        noise: Noise,
        cells: tuple[int, int],
        *,
        origin,
        steps,
        guidance,
        start,
        known,
        max_batch,
        callback,
    ) -> Tensor:
        spec, factor = self.spec, self.codec.factor
        device = self._execution_device

        def on_step(i: int, t: Tensor, x: Tensor) -> Tensor | None:
            bar.update()
            if callback is None:
                return None
            returned = callback(self, i, t, {"latents": x}) or {}
            changed = returned.get("latents", x)
            return None if changed is x else changed

        with self.progress_bar(total=steps) as bar:
            return denoise(
                adapt(self.unet),
                self.scheduler,
                bag,
                noise,
                channels=self.codec.channels,
                height=cells[0],
                width=cells[1],
                steps=steps,
                origin=origin,
                guidance=guidance,
                plan=WindowPlan(spec.window // factor, spec.window_stride // factor, spec.size_limits[1] // factor),
                start=start,
                known=known,
                device=device,
                dtype=self.unet.dtype,
                max_batch=max_batch,
                callback=on_step,
                interrupted=lambda: self._interrupt,
            )


def spread_seeds(seed: int | Sequence[int] | None, count: int) -> list[int]:
    """One seed per image: seed, seed + 1, ... from one number, or the numbers given; random ones from None."""
    if seed is None:
        seed = int(torch.randint(0, 2**31 - 1, (1,)))
    if isinstance(seed, (int, np.integer)):
        return [int(seed) + i for i in range(count)]
    if len(seed) != count:
        raise InputError(f"{len(seed)} seeds for {count} images; give one, or one per image")
    return [int(s) for s in seed]


def describe(source: Any) -> str:
    """What a tag says of an input: its file name, or what kind of object it was."""
    if isinstance(source, (str, Path)):
        return Path(source).name
    return f"{type(source).__name__} in memory"


__all__ = ["SatelliteOutput", "SatellitePipeline", "make_canvas", "spread_seeds"]
