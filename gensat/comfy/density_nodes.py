"""The node of the published ground-view models: Sat2Density, Sat2Density++ and Sat3DGen."""

from __future__ import annotations

from typing import Any

from gensat.comfy import host
from gensat.comfy.node import Node, an_image, looking, mappings, seeds, text, whole
from gensat.comfy.values import Geo, one_image, shown
from gensat.errors import InputError
from gensat.types import Place


class GensatPublishedView(Node):
    """What a published network makes of an image from above, standing in it."""

    TITLE = "Published Ground View"
    DESCRIPTION = (
        "A panorama or view by a converted Sat2Density, Sat2Density++ or Sat3DGen, in the light of another panorama."
    )
    RETURN_TYPES = ("IMAGE", "IMAGE", "MASK")
    RETURN_NAMES = ("image", "depth", "invented")
    FUNCTION = "look"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: D102
        return {
            "required": {
                "model": ("GENSAT_MODEL", {"tooltip": "A folder that gensat models convert made."}),
                **looking(panorama=True),
                "size": whole(256, 32, 4096, "Pixels a side; panoramas have the model's size."),
            },
            "optional": {
                **an_image("A georeferenced image"),
                "light": ("IMAGE", {"tooltip": "Street panorama whose sky lights the place."}),
                "sky": ("MASK", {"tooltip": "Where it shows sky; looked for when not connected."}),
                "histogram": text(tooltip="Instead of light: a file with the 270 numbers."),
                **seeds("0: the mean of what the model draws."),
            },
        }

    def look(
        self,
        model: Any,
        lon: float,
        lat: float,
        heading: float,
        pitch: float,
        fov: float,
        panorama: bool,
        size: int,
        geo: Geo | None = None,
        file: str = "",
        light: Any = None,
        sky: Any = None,
        histogram: str = "",
        seed: int = 0,
    ) -> tuple[Any, Any, Any]:
        """The picture, its depth (nearest 1, sky 0), and the mask of what is invented: everything but the sky."""
        from gensat.pipelines.density_place import DensityPlace

        panoramas, masks = (None if v is None else v.detach().cpu().float().numpy() for v in (light, sky))
        if panoramas is not None and len(panoramas) != 1:
            raise InputError(f"the light is {len(panoramas)} pictures; connect one panorama")
        place = DensityPlace.open(
            model,
            one_image(geo, file, "a published view needs"),
            light=None if panoramas is None else panoramas[0, ..., :3],
            sky=None if masks is None else masks[0],
            histogram=host.optional_file(histogram),
            seed=seed or None,
        )
        x, y = place.local(Place(lon, lat))
        how: dict[str, Any] = {} if panorama else {"fov": fov, "pitch": pitch, "size": (size, size)}
        return shown(place.make(place.tile([x], [y]), [x], [y], [heading], **how).views[0])

    @classmethod
    def IS_CHANGED(cls, file: str = "", histogram: str = "", **_: Any) -> str:
        """A new value when one of the files was saved again."""
        return host.as_saved(file, histogram)


NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = mappings((GensatPublishedView,))
