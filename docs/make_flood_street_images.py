"""Makes the pictures of Alexandria in docs/flood_rendering.md: ``python docs/make_flood_street_images.py DATA WORK IMAGE LAYOUT``.

DATA holds dsm.tif, dtm.tif and buildings.geojson (data/rasters/urban_heights); IMAGE and LAYOUT are those of docs/make_ground_images.py. The flood is a
bathtub in WORK, which is not made again. Nothing is picked.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from gensat.cli import run
from gensat.geo.crs import to_lonlat
from gensat.geo.raster import open_image
from gensat.render.cameras import Camera, Panorama
from gensat.render.flood_scene import Staff, depth_at, flooded, receded
from gensat.render.flood_view import read_staff
from gensat.render.gbuffers import render
from gensat.render.request import open_light, open_scene
from gensat.render.water import WaterLight
from gensat.types import Place

IMAGES = Path(__file__).parent / "images"
LEVEL, STAND, GAUGE, HEADING = 12.6, (321_803.3, 4_297_878.0), (321_811.0, 4_297_874.6), 116.0  # EPSG:26918
SIZE = {"width": 560, "height": 350}


def save(rows: list[list[np.ndarray]], name: str) -> None:
    """Pictures in rows, as a WebP of less than 200 kB."""
    sheet = Image.fromarray(np.concatenate([np.concatenate(row, 1) for row in rows]))
    for quality in (78, 70, 60):
        sheet.save(IMAGES / name, quality=quality)
        if (IMAGES / name).stat().st_size < 200_000:
            return
    raise SystemExit(f"{name} is larger than 200 kB; make it smaller")


def main() -> None:
    """Dry, rising and full, in two waters; and all around."""
    data, work, image, layout = (Path(argument) for argument in sys.argv[1:5])
    if not (work / "flood").is_dir() and run(
        ["flood", "simulate", str(data / "dtm.tif"), "--level", str(LEVEL), "-o", str(work / "flood")]
    ):
        raise SystemExit("the simulation failed")
    dry = open_scene(
        image,
        heights=data / "dsm.tif",
        buildings=data / "buildings.geojson",
        terrain=str(data / "dtm.tif"),
        height_field="HEIGHT",
        layout=layout,
    )
    light = open_light(dry, time="2024-06-21T20:30Z", cloud=0.3)
    here = Place(*(float(v) for v in to_lonlat(dry.frame.crs, *STAND)))
    staff = Staff(*(float(v) for v in dry.frame.local(*to_lonlat(dry.frame.crs, *GAUGE))), 3.0)
    full = staff.into(flooded(dry, open_image(work / "flood" / "depth.tif")))
    position = dry.stand(here)
    camera = Camera.looking(dry.frame, position, heading=HEADING, fov=80, **SIZE)

    def seen(scene, water="silt", camera=camera, samples=2):
        wet = WaterLight(scene, light, water=water)
        view = render(scene, camera, light=wet, shader=wet.shader, samples=samples)
        return view if isinstance(camera, Panorama) else read_staff(view, scene, staff)

    before = render(replace(full, water=None), camera, light=light, samples=2).image().array
    print("depth here", depth_at(full, *position[:2]), "at the staff", depth_at(full, staff.x, staff.y), flush=True)
    Image.fromarray(before).save(work / "before.png")
    pictures = []
    for name, scene, water in (("full", full, "silt"), ("half", receded(full, 0.7), "silt"), ("clear", full, "clear")):
        pictures.append(seen(scene, water))
        Image.fromarray(pictures[-1]).save(work / f"{name}.png")
        print(name, flush=True)
    save([[before, pictures[1]], [pictures[0], pictures[2]]], "flood_street.webp")
    around = Panorama.looking(dry.frame, position, heading=HEADING, width=1120, height=560)
    save([[seen(full, camera=around, samples=1).image().array]], "flood_panorama.webp")


if __name__ == "__main__":
    main()
