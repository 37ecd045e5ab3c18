"""The nodes that go down to the ground: a scene of an image and heights, views of it, and its export."""

from __future__ import annotations

from typing import Any

from gensat.comfy import host
from gensat.comfy.node import Node, OutputNode, an_image, mappings, number, prefix, seeds, standing, text, whole
from gensat.comfy.values import Geo, camera_at, one_image, shown
from gensat.errors import InputError

SUITABLE = "what suits"


class GensatScene(Node):
    """An image and what is known of heights, as one scene."""

    TITLE = "Scene"
    DESCRIPTION = "Raises an image into 3-D: a surface model, or footprints with heights on bare ground."
    RETURN_TYPES = ("GENSAT_SCENE",)
    RETURN_NAMES = ("scene",)
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: D102
        return {
            "required": {
                "heights": text(tooltip="Surface model (DSM), a raster: alone, or beside both others, for trees."),
                "buildings": text(tooltip="Footprints with heights, a vector file."),
                "terrain": text(tooltip="Bare ground: a raster, or a number of metres."),
                "default_height": number(0.0, 0.0, 1000.0, 0.5, "Metres of buildings without one; 0: an error."),
            },
            "optional": an_image("A georeferenced image"),
        }

    def make(
        self,
        heights: str,
        buildings: str,
        terrain: str,
        default_height: float,
        geo: Geo | None = None,
        file: str = "",
    ) -> tuple[Any]:
        """The scene of the first image of the batch, or of the file."""
        from gensat.render.request import open_scene

        return (
            open_scene(
                one_image(geo, file, "a scene needs"),
                heights=host.optional_file(heights),
                buildings=host.optional_file(buildings),
                terrain=host.number_or_file(terrain),
                default_height=(default_height or None) if buildings.strip() else None,
            ),
        )

    @classmethod
    def IS_CHANGED(cls, heights: str, buildings: str, terrain: str, file: str = "", **_: Any) -> str:
        """A new value when one of the files was saved again."""
        return host.as_saved(heights, buildings, terrain, file)


class GensatGroundView(Node):
    """What one sees standing in a scene."""

    TITLE = "Ground View"
    DESCRIPTION = "A view or panorama from the ground, its depth, and what the image does not show (invented)."
    RETURN_TYPES = ("IMAGE", "IMAGE", "MASK")
    RETURN_NAMES = ("image", "depth", "invented")
    FUNCTION = "look"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: D102
        return {
            "required": {
                "scene": ("GENSAT_SCENE",),
                **standing(),
            },
            "optional": {
                "time": text(tooltip="Sun of a moment: 2024-06-21T09:00Z; empty: as it is."),
                "samples": whole(2, 1, 8),
                "refiner": ("GENSAT_MODEL", {"tooltip": "Paints the view; a folder that gensat train refiner made."}),
                "prompt": text("a street view", tooltip="What the refiner is told."),
                **seeds(),
                "facades": facades_widget(),
            },
        }

    def look(
        self,
        scene: Any,
        time: str = "",
        samples: int = 2,
        refiner: Any = None,
        prompt: str = "a street view",
        seed: int = 0,
        facades: str = SUITABLE,
        **stand: Any,
    ) -> tuple[Any, Any, Any]:
        """The picture, metres of depth scaled so that the nearest is 1 and the sky 0, and the mask of what is invented.

        ``stand`` is what the widgets of :func:`gensat.comfy.node.standing` say.
        """
        from gensat.pipelines.ground import GroundPipeline, GroundViews
        from gensat.render.gbuffers import render
        from gensat.render.request import open_light

        camera = camera_at(scene, **stand)
        style = None if facades == SUITABLE else facades
        light = open_light(scene, time=time.strip() or None, facades=style, seed=seed)
        view = render(scene, camera, light=light, samples=samples)
        if refiner is not None:
            if not isinstance(refiner, GroundPipeline):
                raise InputError("the refiner is a model for views from above; load one that gensat train refiner made")
            painted = refiner(view, prompt, seed=seed)
            assert isinstance(painted, GroundViews)  # not the tuple that return_dict=False gives
            view = painted.views[0]
        return shown(view)


class GensatExportScene(OutputNode):
    """A scene as a file for other programs."""

    TITLE = "Export Scene"
    DESCRIPTION = "Writes a scene into the output folder: mesh, points, splats or heights."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: D102
        return {
            "required": {
                "scene": ("GENSAT_SCENE",),
                "format": ([".glb", ".obj", ".ply", ".las", ".splats.ply", ".tif"], {"default": ".glb"}),
                **prefix("gensat/scene"),
            },
            "optional": {"facades": facades_widget(), **seeds()},
        }

    def save(
        self, scene: Any, format: str, filename_prefix: str, facades: str = SUITABLE, seed: int = 0
    ) -> dict[str, Any]:
        """The path that was written; existing files are kept."""
        from gensat.render.export.scene import save_scene
        from gensat.render.request import open_light
        from gensat.render.streets.dress import DressedLight

        path = host.next_output(filename_prefix, format)
        light = None
        if format in (".glb", ".obj"):
            light = open_light(scene, facades=None if facades == SUITABLE else facades, seed=seed)
        save_scene(scene, path, facades=light if isinstance(light, DressedLight) else None)
        return self.written([path])


def facades_widget() -> tuple[Any, ...]:
    """A widget for the style of invented walls."""
    from gensat.render.streets.styles import STREET_TYPES

    return [SUITABLE, "none", *STREET_TYPES], {"default": SUITABLE, "tooltip": "Invented walls of footprints."}


NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = mappings((GensatScene, GensatGroundView, GensatExportScene))
