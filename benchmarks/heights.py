"""Heights from an image of Alexandria's geometry: ``python -m benchmarks.heights [MODEL_FOLDER]``.

The data set has surface and terrain of the town, and no photograph of the same place. So its surface model (2 m) is painted by class,
lit by a sun with shadows and seen from above at 0.5 m; the heights in it are known, the picture is not a photograph. Footprints do not
cover the town: what is raised and even counts as a building too, what is raised and rough as a tree. Four windows of 192 m, each
under a sun of its own. What is measured, and against what: :mod:`gensat.train.height_figures`.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import torch
from affine import Affine
from PIL import Image
from scipy.ndimage import binary_dilation, binary_opening, uniform_filter

from gensat.geo.elevation import HeightMap
from gensat.geo.sun import SunPosition
from gensat.hub.load import load
from gensat.pipelines.heights import constants
from gensat.render.cameras import OrthographicCamera
from gensat.render.gbuffers import render
from gensat.render.light import SkyLight
from gensat.render.lighting import SceneLight
from gensat.render.scene import Scene
from gensat.render.sky import Sky
from gensat.render.streets.noise import fractal, hashed
from gensat.train.height_figures import measure, table
from gensat.train.height_pairs import HeightPair
from gensat.types import GeoImage

GSD, SIDE = 0.5, 384
SUNS = (SunPosition(135, 35), SunPosition(160, 50), SunPosition(205, 42), SunPosition(230, 30))


def town(folder: Path) -> tuple[Scene, torch.Tensor, torch.Tensor]:
    """The painted scene, heights above ground and groups on its image."""
    dsm, dtm = (HeightMap.open(folder / f"{name}.tif").without_holes() for name in ("dsm", "dtm"))
    times = round(dsm.transform.a / GSD)
    above = np.repeat(np.repeat((dsm.heights - dtm.heights).clip(0), times, 0), times, 1)
    transform = dsm.transform * Affine.scale(1 / times)
    plain = GeoImage(np.zeros((*above.shape, 3), np.uint8), crs=dsm.crs, transform=transform)
    outlines = Scene.from_buildings(plain, folder / "buildings.geojson", dtm)
    built = (outlines.classes.numpy() == 2) & (above > 1)
    low = (dsm.heights - dtm.heights).clip(0)
    even = np.sqrt(np.maximum(uniform_filter(low**2, 3) - uniform_filter(low, 3) ** 2, 0)) < 0.8
    flat = binary_dilation(binary_opening(even & (low > 2.5), np.ones((3, 3))), np.ones((3, 3))) & (low > 2)
    built |= np.repeat(np.repeat(flat, times, 0), times, 1)
    groups = np.select([built, above > 2], [1, 2], 0).astype(np.uint8)
    x, y = (v.float() for v in outlines.grid.centres())
    where = torch.stack([x, y], dim=-1)
    rough = fractal(where, 6.0, 3)[..., None]
    fine = fractal(where, 1.0, 5)[..., None]
    lawn = (fractal(where, 40.0, 9) > 0.5)[..., None]
    house = outlines.buildings.over(x.reshape(-1), y.reshape(-1)).reshape(x.shape).clamp(min=0)
    tone = 0.3 + 0.5 * hashed(house, 7)[..., None]  # each roof has its own colour
    roof = torch.cat([tone + 0.1 * hashed(house, 8)[..., None], tone, tone * 0.95], dim=-1)
    grass, paved = torch.tensor([0.33, 0.42, 0.22]), torch.tensor([0.5, 0.5, 0.5])
    tree = torch.tensor([0.2, 0.32, 0.14])
    kind = torch.from_numpy(groups)[..., None]
    colour = torch.where(kind == 1, roof, torch.where(kind == 2, tree, torch.where(lawn, grass, paved)))
    image = (colour * (0.7 + 0.35 * rough + 0.25 * fine)).clamp(0, 1)
    painted = GeoImage((image * 255).byte().numpy(), crs=dsm.crs, transform=transform)
    return Scene.from_dsm(painted, dsm), torch.from_numpy(above), torch.from_numpy(groups)


def windows(folder: Path) -> list[HeightPair]:
    """What a camera above sees of four parts of the town."""
    scene, above, groups = town(folder)
    made = []
    for k, sun in enumerate(SUNS):
        down, across = divmod(k, 2)
        row, column = (
            n // 2 * part + (n // 2 - SIDE) // 2 for n, part in zip(above.shape, (down, across), strict=True)
        )
        x = scene.grid.left + (column + SIDE / 2) * GSD
        y = scene.grid.top - (row + SIDE / 2) * GSD
        camera = OrthographicCamera.above((x, y, scene.ceiling + 10), SIDE, SIDE, GSD)
        rgb = render(scene, camera, light=SceneLight(SkyLight(Sky(sun.direction())), key=1.5)).rgb
        here = np.s_[row : row + SIDE, column : column + SIDE]
        pixels = (rgb.clamp(0, 1) * 255).byte().numpy()
        made.append(HeightPair(pixels, above[here].numpy(), groups[here].numpy(), sun, "alexandria", k, "clear"))
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="gensat-heights")
    parser.add_argument("--pictures", help="PNG of the windows, their heights and those that the model sees")
    options = parser.parse_args()
    root = Path(os.environ.get("GENSAT_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    pairs = windows(root / "rasters" / "urban_heights")
    pipe = load(options.model, device="cpu", dtype="float32")
    figures = measure(pipe.model, pairs, constants())
    print(table(figures))
    print(json.dumps(figures))
    if options.pictures:
        rows = []
        for pair in pairs:
            seen = pipe.model.predict(torch.from_numpy(pair.rgb).movedim(-1, 0).float() / 255, pair.sun).median()[0]
            grey = [(v / 30).clip(0, 1)[..., None].repeat(3, 2) * 255 for v in (pair.heights, seen.numpy())]
            rows.append(np.concatenate([pair.rgb, *(g.astype(np.uint8) for g in grey)], axis=1))
        Image.fromarray(np.concatenate(rows)).save(options.pictures)


if __name__ == "__main__":
    main()
