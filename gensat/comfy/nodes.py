"""The nodes, as ComfyUI's V1 classes: thin, without an import of ComfyUI, each calling what a Python user would call.

IMAGE is a float32 tensor (B, H, W, 3) in 0..1 on the CPU; it carries no place, so GENSAT_GEO goes beside it.
"""

from __future__ import annotations

import logging
import secrets
from typing import Any

import numpy as np

from gensat.comfy import host
from gensat.comfy.node import MAX_SEED, Node, OutputNode, degrees, mappings, number, prefix, text, whole
from gensat.comfy.values import Geo, Layout, Site
from gensat.errors import InputError
from gensat.geo.display import to_rgb
from gensat.types import Acquisition, Place

_log = logging.getLogger(__name__)
_UNKNOWN = -1.0
"""What stands for "not known" or "the model's default" in a number field, which ComfyUI cannot leave empty."""


class GensatLoadModel(Node):
    """A model by its shipped name, folder or cached hub id."""

    TITLE = "Load Model"
    DESCRIPTION = "Loads a gensat model. Nothing is downloaded."
    RETURN_TYPES = ("GENSAT_MODEL",)
    RETURN_NAMES = ("model",)
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: D102
        return {
            "required": {
                "model": text("gensat-small", "Shipped name, folder or cached hub id."),
                "device": (["auto", "cpu", "cuda", "mps"], {"default": "auto"}),
                "dtype": (["auto", "float32", "float16", "bfloat16"], {"default": "auto"}),
            }
        }

    def load(self, model: str, device: str, dtype: str) -> tuple[Any]:
        """The pipeline, ready on the device."""
        from gensat.hub.load import load

        pipe = load(model, device=device, dtype=dtype)
        pipe.set_progress_bar_config(disable=True)
        return (pipe,)


class GensatPlace(Node):
    """Where the image lies."""

    TITLE = "Place"
    DESCRIPTION = "The centre of the image on the Earth, and the size of its pixels."
    RETURN_TYPES = ("GENSAT_PLACE",)
    RETURN_NAMES = ("place",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: D102
        return {
            "required": {
                **degrees(-95.36, 29.76, 0.0001),
                "gsd": number(0.5, 0.0, 1000.0, 0.05, "Metres per pixel; 0 is the model's default."),
            },
            "optional": {
                "crs": text(tooltip="Projected CRS such as EPSG:32615; empty is the UTM zone."),
                "snap": ("BOOLEAN", {"default": False, "tooltip": "Move the origin onto the noise grid."}),
            },
        }

    def make(self, lon: float, lat: float, gsd: float, crs: str = "", snap: bool = False) -> tuple[Site]:
        """The place and its grid."""
        return (Site(Place(lon, lat), gsd or None, crs.strip() or None, snap),)


class GensatAcquisition(Node):
    """How and when the image is to look as if taken."""

    TITLE = "Acquisition"
    DESCRIPTION = "Date, cloud cover and sensor; each may be unknown."
    RETURN_TYPES = ("GENSAT_ACQUISITION",)
    RETURN_NAMES = ("acquisition",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: D102
        meaning = "Metres per pixel, of an image without a place or whose place has 0; 0 is unknown."
        return {
            "required": {
                "date": text(tooltip="YYYY, YYYY-MM or YYYY-MM-DD; empty is unknown."),
                "cloud_cover": number(0.0, _UNKNOWN, 1.0, 0.05, "Fraction; -1 is unknown."),
                "sensor": text(tooltip="A sensor the model knows; empty is unknown."),
            },
            "optional": {"gsd": number(0.0, 0.0, 1000.0, 0.05, meaning)},
        }

    def make(self, date: str, cloud_cover: float, sensor: str, gsd: float = 0.0) -> tuple[Acquisition]:
        """The acquisition; a negative cloud cover is unknown."""
        return (Acquisition(gsd or None, date, None if cloud_cover < 0 else cloud_cover, sensor),)


class GensatLayout(Node):
    """A map of what is where: a file, or a picture painted in the colours of the legend."""

    TITLE = "Layout"
    DESCRIPTION = (
        "A class map from a file (GeoTIFF, PNG, GeoJSON, GeoPackage; a name is looked up in ComfyUI's input folder) or "
        "from an IMAGE in exactly the colours of the legend (docs/comfyui.md lists them)."
    )
    RETURN_TYPES = ("GENSAT_LAYOUT",)
    RETURN_NAMES = ("layout",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: D102
        return {
            "required": {
                "file": text(tooltip="A file; empty when an image is connected."),
                "legend": text(tooltip="What the codes of a file mean: a name or a file."),
            },
            "optional": {"image": ("IMAGE", {"tooltip": "A picture of the size of the result, in legend colours."})},
        }

    @classmethod
    def IS_CHANGED(cls, file: str = "", legend: str = "", image: Any = None) -> str:
        """A file that was saved again has to be read again."""
        named = [host.input_file(name) for name in (file.strip(), legend.strip()) if name]
        return " ".join(f"{path.stat().st_mtime_ns}-{path.stat().st_size}" for path in named if path.is_file())

    def make(self, file: str, legend: str, image: Any = None) -> tuple[Layout]:
        """The layout; it is brought onto the canvas when the image is generated."""
        file, legend = file.strip(), legend.strip()
        if bool(file) == (image is not None):
            raise InputError("a layout comes from a file or from an image; give exactly one of them")
        if image is None:
            table = host.input_file(legend) if host.input_file(legend).is_file() else legend
            return (Layout(host.input_file(file), str(table) or None),)
        pictures = to_pixels(image)
        if len(pictures) != 1:
            raise InputError(f"the layout IMAGE holds {len(pictures)} pictures; give one")
        return (Layout(pictures[0], legend or None),)


class GensatGenerate(Node):
    """Satellite images, with where they lie."""

    TITLE = "Generate Satellite Image"
    DESCRIPTION = "Makes satellite images; connect GENSAT_GEO to Save GeoTIFF to keep their place."
    RETURN_TYPES = ("IMAGE", "GENSAT_GEO")
    RETURN_NAMES = ("image", "geo")
    FUNCTION = "generate"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: D102
        side = whole(256, 16, 16384, step=16)
        return {
            "required": {
                "model": ("GENSAT_MODEL",),
                "prompt": text("a harbor with boats", multiline=True),
                "negative": text(multiline=True),
                "width": side,
                "height": side,
                "steps": whole(0, 0, 1000, "0: the model's default."),
                "guidance": number(_UNKNOWN, _UNKNOWN, 100.0, 0.1, "-1: the model's default."),
                "seed": whole(0, 0, MAX_SEED, control_after_generate=True),
                "count": whole(1, 1, 64, "Image i gets seed + i."),
            },
            "optional": {
                "place": ("GENSAT_PLACE",),
                "acquisition": ("GENSAT_ACQUISITION",),
                "layout": ("GENSAT_LAYOUT",),
                "layout_scale": number(1.0, 0.0, 10.0, 0.05, "Strength of the layout."),
            },
        }

    def generate(
        self,
        model: Any,
        prompt: str,
        negative: str,
        width: int,
        height: int,
        steps: int,
        guidance: float,
        seed: int,
        count: int,
        place: Site | None = None,
        acquisition: Acquisition | None = None,
        layout: Layout | None = None,
        layout_scale: float = 1.0,
    ) -> tuple[Any, Geo]:
        """IMAGE (count, height, width, 3) and where its pictures lie."""
        import torch

        taken = acquisition or Acquisition()
        made = model(
            prompt,
            negative,
            place=place.place if place else None,
            gsd=_gsd(place, taken),
            crs=place.crs if place else None,
            snap=place.snap if place else False,
            date=taken.date,
            cloud_cover=taken.cloud_cover,
            sensor=taken.sensor,
            layout=layout.source if layout else None,
            legend=layout.legend if layout else None,
            width=width,
            height=height,
            num_inference_steps=steps or None,
            guidance_scale=None if guidance < 0 else guidance,
            controlnet_conditioning_scale=layout_scale,
            num_images_per_prompt=count,
            seed=seed,
            callback_on_step_end=host.on_step(steps or model.spec.defaults.steps),
        )
        for note in made.notes:
            _log.warning("%s", note)
        pictures = np.stack([to_rgb(scene) for scene in made.scenes])
        image = torch.from_numpy(pictures).float().div(255).to(host.image_device())
        return image, Geo(tuple(made.scenes))


class GensatSaveGeoTIFF(OutputNode):
    """GeoTIFFs in ComfyUI's output folder, with CRS, transform and what made them in their tags."""

    TITLE = "Save GeoTIFF"
    DESCRIPTION = "Writes georeferenced GeoTIFFs into the output folder and shows a preview."
    RETURN_NAMES = ("paths",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: D102
        return {"required": {"image": ("IMAGE",), "geo": ("GENSAT_GEO",), **prefix("gensat", ": city/gensat")}}

    def save(self, image: Any, geo: Geo, filename_prefix: str) -> dict[str, Any]:
        """Paths, one a line; the interface gets previews (PNG) and the names of the files."""
        host.output_target(filename_prefix)
        images = geo.images(to_pixels(image))
        paths, previews = [], []
        for scene in images:
            paths.append(host.next_output(filename_prefix, ".tif"))
            scene.save(paths[-1])
            if (temp := host.temp_folder()) is not None:
                temp.mkdir(parents=True, exist_ok=True)
                previews.append(temp / f"{paths[-1].stem}{secrets.token_hex(3)}.png")
                scene.to_pil().save(previews[-1])
        folder = host.output_target(filename_prefix).parent.relative_to(host.output_folder().resolve())
        subfolder = str(folder).replace("\\", "/").removeprefix(".")
        files = [{"filename": path.name, "subfolder": subfolder, "type": "output"} for path in paths]
        shown = [{"filename": path.name, "subfolder": "", "type": "temp"} for path in previews]
        return self.written(paths, images=shown, geotiffs=files)


def to_pixels(image: Any) -> list[np.ndarray]:
    """Pictures (H, W, 3) uint8 of an IMAGE (B, H, W, 3 or 4) in 0..1; alpha is dropped. Raises InputError."""
    values = image.detach().cpu().float().numpy()
    if values.ndim != 4 or values.shape[3] not in (3, 4):
        raise InputError(f"an IMAGE of shape {values.shape} came in; connect one of (batch, height, width, 3)")
    return list(np.round(np.clip(np.nan_to_num(values[..., :3]), 0, 1) * 255).astype(np.uint8))


def _gsd(place: Site | None, acquisition: Acquisition) -> float | int | None:
    """Metres per pixel, from whichever of the two says it. Raises InputError when they say different things."""
    of_place = place.gsd if place else None
    if of_place and acquisition.gsd and of_place != acquisition.gsd:
        raise InputError(
            f"the place says {of_place:g} m per pixel and the acquisition {acquisition.gsd:g}; set one of them to 0"
        )
    return of_place or acquisition.gsd


NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = mappings(
    (GensatLoadModel, GensatPlace, GensatAcquisition, GensatLayout, GensatGenerate, GensatSaveGeoTIFF)
)
