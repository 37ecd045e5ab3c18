"""The node that shows a flood in an image."""

from __future__ import annotations

from typing import Any

from gensat.comfy import host
from gensat.comfy.node import MAX_SEED, Node, mappings, number, text, whole
from gensat.comfy.values import Geo, one_image


class GensatFloodRender(Node):
    """An image of the place under water: the depth says where, the style what it looks like."""

    TITLE = "Flood Render"
    DESCRIPTION = "Shows a computed flood in an image; connect depth of Flood Simulate. Dry pixels stay as they were."
    RETURN_TYPES = ("IMAGE", "GENSAT_GEO", "MASK")
    RETURN_NAMES = ("image", "geo", "water")
    FUNCTION = "render"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: D102
        return {
            "required": {
                "depth": text(tooltip="Raster of metres of water, 0 where dry."),
                "style": (["optical", "diffusion", "pix2pixhd"], {"default": "optical"}),
                "water": text("silt", "Optical: clear to mud, or g/m3 of sediment."),
                "wind": number(1.5, 0.0, 30.0, 0.5, "Optical: metres per second."),
                "prompt": text("a flooded neighborhood", "Diffusion: words."),
                "edge": number(2.0, 0.0, 50.0, 0.5, "Pixels over which the water sets in."),
                "seed": whole(0, 0, MAX_SEED, control_after_generate=True),
            },
            "optional": {
                "geo": ("GENSAT_GEO",),
                "file": text(tooltip="An image file, where no geo is connected."),
                "model": ("GENSAT_MODEL", {"tooltip": "Of the styles diffusion (gensat-flood without) and pix2pixhd."}),
                "heights": text(tooltip="Raster of metres above ground: what rises above the water; or"),
                "buildings": text(tooltip="footprints with heights."),
            },
        }

    def render(
        self,
        depth: str,
        style: str,
        water: str,
        wind: float,
        prompt: str,
        edge: float,
        seed: int,
        geo: Geo | None = None,
        file: str = "",
        model: Any = None,
        heights: str = "",
        buildings: str = "",
    ) -> tuple[Any, Geo, Any]:
        """The picture, the image with its place, and the mask of the water that is seen."""
        import torch

        from gensat.geo.display import to_rgb
        from gensat.geo.raster import open_image
        from gensat.hydro.over_image import lay_flood
        from gensat.pipelines.flood_styles import picture_flood
        from gensat.types import GeoImage

        image = one_image(geo, file, "a flood needs")
        laid = lay_flood(
            image if isinstance(image, GeoImage) else open_image(image),
            host.input_file(depth.strip()),
            heights=host.input_file(heights.strip()) if heights.strip() else None,
            buildings=host.input_file(buildings.strip()) if buildings.strip() else None,
        )
        painting: dict[str, Any] = {"prompt": prompt}
        if style == "diffusion" and model is not None:
            painting["callback_on_step_end"] = host.on_step(model.spec.defaults.steps)
        made = picture_flood(
            laid,
            style,
            pipe=model,
            edge=edge,
            seed=seed,
            optics={"water": water, "wind": wind},
            painting=painting,
        )
        picture = torch.from_numpy(to_rgb(made)).float()[None] / 255
        mask = torch.from_numpy(laid.seen).float()[None]
        return picture.to(host.image_device()), Geo((made,)), mask.to(host.image_device())

    @classmethod
    def IS_CHANGED(cls, depth: str, file: str = "", heights: str = "", buildings: str = "", **_: Any) -> str:
        """A new value when one of the files was saved again."""
        return host.as_saved(depth, file, heights, buildings)


NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = mappings((GensatFloodRender,))
