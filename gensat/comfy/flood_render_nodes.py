"""The node that shows a flood in an image."""

from __future__ import annotations

from typing import Any

from gensat.comfy import host
from gensat.comfy.node import Node, an_image, mappings, number, seeds, text
from gensat.comfy.values import Geo, as_image, as_mask, one_image


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
                "water": text(
                    "silt", "Optical: clear to mud, g/m3 of sediment, image (its largest water), or a mask file."
                ),
                "wind": number(5.0, 0.0, 30.0, 0.5, "Optical: metres per second."),
                "prompt": text("a flooded neighborhood", "Diffusion: words."),
                "edge": number(2.0, 0.0, 50.0, 0.5, "Pixels over which the water sets in."),
                **seeds(),
            },
            "optional": {
                **an_image(),
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
        from gensat.geo.display import to_rgb
        from gensat.geo.raster import open_image
        from gensat.hydro.over_image import lay_flood
        from gensat.pipelines.flood_styles import picture_flood
        from gensat.render.water_seen import IMAGE, is_seen, require_water
        from gensat.render.wavelengths import read_wavelengths
        from gensat.types import GeoImage

        water = water.strip()
        if is_seen(water) and water != IMAGE:
            water = str(host.input_file(water))
        require_water(water)
        image = one_image(geo, file, "a flood needs")
        laid = lay_flood(
            image if isinstance(image, GeoImage) else open_image(image),
            host.input_file(depth.strip()),
            heights=host.optional_file(heights),
            buildings=host.optional_file(buildings),
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
            optics={
                "water": water,
                "wind": wind,
                "wavelengths": None if isinstance(image, GeoImage) else read_wavelengths(image),
            },
            painting=painting,
        )
        return as_image(to_rgb(made)), Geo((made,)), as_mask(laid.seen)

    @classmethod
    def IS_CHANGED(
        cls, depth: str = "", water: str = "", file: str = "", heights: str = "", buildings: str = "", **_: Any
    ) -> str:
        """A new value when one of the files was saved again."""
        return host.as_saved(depth, water, file, heights, buildings)


NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = mappings((GensatFloodRender,))
