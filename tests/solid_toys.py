"""A small scene in EPSG:32618 with everything in it: sloping terrain, a house with a courtyard, a tree, an image."""

import numpy as np
import shapely
import torch
from pyproj import CRS

from gensat.geo.classes import BUILDING, LOW_VEGETATION, ROAD, WOODLAND
from gensat.render.frame import SceneFrame
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.objects import Objects
from gensat.render.prisms import Prisms
from gensat.render.scene import Scene

FRAME = SceneFrame(CRS.from_epsg(32618), (322000.5, 4296000.25, 12.5))
HOUSE = shapely.Polygon([(-6, -5), (6, -5), (6, 5), (-6, 5)], [[(-2, -2), (-2, 2), (2, 2), (2, -2)]])


def village(size=32, step=1.0, slope=0.05, surface="bilinear"):
    grid = Grid.centred(size, size, step)
    x, y = grid.centres()
    image = torch.stack(
        [0.3 + 0.4 * (x / size + 0.5), 0.3 + 0.4 * (y / size + 0.5), torch.full_like(x, 0.35)], -1
    ).float()
    classes = torch.full((size, size), LOW_VEGETATION)
    classes[:, : size // 6] = ROAD
    roof = shapely.contains_xy(HOUSE, x.numpy(), y.numpy())
    image[torch.from_numpy(roof)] = torch.tensor([0.7, 0.2, 0.15])
    classes[torch.from_numpy(roof)] = BUILDING
    heights = (slope * x).float()
    low = float(np.min([slope * px for px, _ in HOUSE.exterior.coords]))
    tree = Objects.ellipsoids(
        torch.tensor([[11.0, 9.0, 5.0]]), torch.tensor([[2.0, 2.0, 3.0]]), classes=WOODLAND, colour=(0.1, 0.4, 0.1)
    )
    trunk = Objects.cones(
        torch.tensor([[11.0, 9.0, 1.5]]), torch.tensor([[0.3, 0.3, 1.5]]), taper=0.8, classes=WOODLAND
    )
    prisms = Prisms.of([HOUSE], [8.0], [low])
    terrain = HeightField(heights, grid, surface, None)  # nothing beyond the image
    return Scene(FRAME, image, terrain, prisms, tree + trunk, classes, grid, None, {"notes": ["made for a test"]})
