"""The node that estimates heights from an image from above."""

from __future__ import annotations

from typing import Any

from gensat.comfy import host
from gensat.comfy.node import Node, an_image, mappings, number, text
from gensat.comfy.values import Geo, one_image


class GensatHeights(Node):
    """Heights of an image, as a GeoTIFF that Scene takes."""

    TITLE = "Heights"
    DESCRIPTION = "Estimates heights from one image; connect path to heights of Scene. A real surface model is better."
    RETURN_TYPES = ("STRING", "IMAGE", "IMAGE")
    RETURN_NAMES = ("path", "heights", "spread")
    FUNCTION = "estimate"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: D102
        return {
            "required": {
                "method": (["model", "shadow", "constant"], {"default": "model"}),
                "model": text("gensat-heights", "Shipped name, or a model folder."),
                "time": text(tooltip="When the image was taken: 2024-06-21T09:00Z; or"),
                "sun_azimuth": number(0.0, 0.0, 360.0, 1.0, "Degrees from true north."),
                "sun_elevation": number(0.0, 0.0, 90.0, 1.0, "Degrees up; 0: nobody knows."),
                "terrain": text(tooltip="Bare ground: a raster, or a number of metres; empty: level at 0."),
                "gsd": number(0.0, 0.0, 2.0, 0.05, "Metres per pixel without a georeference; 0: as the image says."),
                "brightest": number(30.0, 1.0, 1000.0, 1.0, "Metres above ground that are white in the pictures."),
            },
            "optional": {
                **an_image(),
                "filename_prefix": text("gensat/heights", "May name a folder."),
            },
        }

    def estimate(
        self,
        method: str,
        model: str,
        time: str,
        sun_azimuth: float,
        sun_elevation: float,
        terrain: str,
        gsd: float,
        brightest: float,
        geo: Geo | None = None,
        file: str = "",
        filename_prefix: str = "gensat/heights",
    ) -> tuple[str, Any, Any]:
        """The file, and pictures of the heights above ground and of their spread (black where nothing is said of it)."""
        import numpy as np
        import torch

        from gensat.geo.sun import SunPosition
        from gensat.pipelines.heights import estimate_heights
        from gensat.render.request import number_or_path

        ground = host.number_or_file(terrain)
        found = estimate_heights(
            one_image(geo, file, "heights need"),
            method=method,
            model=model,
            gsd=gsd or None,
            sun=SunPosition(sun_azimuth, sun_elevation) if sun_elevation else None,
            time=time.strip() or None,
            terrain=None if ground is None else number_or_path(ground),
        )
        path = host.next_output(filename_prefix, ".tif")
        found.save(path)
        spread = np.zeros_like(found.above) if found.spread is None else found.spread
        grey = [torch.from_numpy(np.nan_to_num(v) / brightest).clamp(0, 1) for v in (found.above, spread)]
        pictures = [v[None, :, :, None].expand(-1, -1, -1, 3).to(host.image_device()) for v in grey]
        return str(path), pictures[0], pictures[1]

    @classmethod
    def IS_CHANGED(cls, file: str = "", terrain: str = "", **_: Any) -> str:
        """A new value when one of the files was saved again."""
        return host.as_saved(file, terrain)


NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = mappings((GensatHeights,))
