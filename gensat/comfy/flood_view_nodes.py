"""The node that shows a flood from the street."""

from __future__ import annotations

from typing import Any

from gensat.comfy import host
from gensat.comfy.ground_nodes import SUITABLE, facades_widget
from gensat.comfy.node import Node, mappings, number, seeds, standing, text, whole
from gensat.comfy.values import as_image, as_mask, camera_at
from gensat.errors import InputError


class GensatFloodView(Node):
    """What one sees standing in a flooded scene."""

    TITLE = "Flood View"
    DESCRIPTION = "A computed flood from the ground, at its depth; connect depth of Flood Simulate, and Scene."
    RETURN_TYPES = ("IMAGE", "IMAGE", "MASK")
    RETURN_NAMES = ("image", "before", "water")
    FUNCTION = "look"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: D102
        return {
            "required": {
                "scene": ("GENSAT_SCENE",),
                "depth": text(tooltip="Raster of metres of water, 0 where dry, or a folder of several moments."),
                "level": text(tooltip="Instead of a depth: metres in the heights of the terrain."),
                **standing(),
                "water": text("silt", "clear, lake, river, silt, mud, or g/m3 of sediment."),
                "wind": number(1.5, 0.0, 30.0, 0.5, "Metres per second; 0 is a mirror."),
                "staff": number(0.0, 0.0, 100.0, 0.5, "Metres of a measuring staff; 0: none."),
            },
            "optional": {
                "staff_lon": number(0.0, -180.0, 180.0, 0.00001, "Where it stands, degrees east."),
                "staff_lat": number(0.0, -90.0, 90.0, 0.00001, "Degrees north."),
                "minute": number(-1.0, -1.0, 1e6, 1.0, "Of a folder; -1: when it is deepest here."),
                "time": text(tooltip="Sun of a moment: 2024-06-21T09:00Z; empty: as it is."),
                "samples": whole(2, 1, 8),
                **seeds(),
                "facades": facades_widget(),
            },
        }

    def look(
        self,
        scene: Any,
        depth: str,
        level: str,
        water: str,
        wind: float,
        staff: float,
        staff_lon: float = 0.0,
        staff_lat: float = 0.0,
        minute: float = -1.0,
        time: str = "",
        samples: int = 2,
        seed: int = 0,
        facades: str = SUITABLE,
        **stand: Any,
    ) -> tuple[Any, Any, Any]:
        """The view under water (with the depth written beside a staff), the view before, and the mask of the water that is seen.

        ``stand`` is what the widgets of :func:`gensat.comfy.node.standing` say.
        """
        from gensat.geo.classes import WATER
        from gensat.render.flood_request import open_flood
        from gensat.render.flood_scene import Staff, require_above
        from gensat.render.flood_view import read_staff
        from gensat.render.gbuffers import render
        from gensat.render.request import open_light
        from gensat.render.water import WaterLight
        from gensat.render.water_optics import Water

        muddy = Water.named(water.strip())
        camera = camera_at(scene, **stand)
        marked = None
        if staff:
            x, y = scene.frame.local(staff_lon, staff_lat)
            marked = Staff(float(x), float(y), staff)
        try:
            metres = float(level) if level.strip() else None
        except ValueError:
            raise InputError(f"level {level!r} is no number; give metres in the heights of the terrain") from None
        points = [(float(camera.position[0]), float(camera.position[1]))]
        wet = open_flood(
            scene,
            depth=host.optional_file(depth),
            level=metres,
            minute=None if minute < 0 else minute,
            points=points if marked is None else [*points, (float(marked.x), float(marked.y))],
        ).scene
        wet = wet if marked is None else marked.into(wet)
        require_above(wet, camera)
        base = open_light(scene, time=time.strip() or None, facades=None if facades == SUITABLE else facades, seed=seed)
        light = WaterLight(wet, base, water=muddy, wind=wind, seed=seed)
        view = render(wet, camera, light=light, shader=light.shader, samples=samples)
        before = render(scene, camera, light=base, samples=samples).image()
        picture = view.image().array if marked is None else read_staff(view, wet, marked)
        return as_image(picture), as_image(before.array), as_mask(view.classes == WATER)

    @classmethod
    def IS_CHANGED(cls, depth: str = "", **_: Any) -> str:
        """A new value when the raster, or one in the folder, was saved again."""
        found = host.optional_file(depth)
        inner = [] if found is None or not found.is_dir() else sorted(str(f) for f in found.rglob("*.tif"))
        return host.as_saved(depth, *inner)


NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = mappings((GensatFloodView,))
