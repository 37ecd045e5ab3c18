"""What the tests of exports write: the village of solid_toys as mesh, points, splats and views."""

import numpy as np
from solid_toys import FRAME, village

from gensat.render.cameras import Camera
from gensat.render.splats import Splats
from gensat.render.triangles import scene_mesh, scene_points


def village_mesh():
    return scene_mesh(village())


def village_points():
    return scene_points(village(), 0.8)


def village_splats():
    return Splats.from_points(village_points(), 0.8, degree=2)


def village_views():
    """Five perspective views of the splats, from around the village."""
    splats, made = village_splats(), []
    for k in range(5):
        position = (12 * np.sin(k), -12 * np.cos(k), 6.0)
        made.append(
            splats.render(
                Camera.looking(FRAME, position, heading=FRAME.heading(30.0 * k), pitch=-12, fov=60, width=40, height=30)
            )
        )
    return made
