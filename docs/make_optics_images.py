"""Makes the pictures of docs/flood_rendering.md that need no network: ``python docs/make_optics_images.py DATA``.

DATA is the data folder. Nothing is picked.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import shapely
from PIL import Image, ImageDraw

from gensat.geo.canvas import Canvas
from gensat.geo.crs import to_lonlat
from gensat.hydro.bathtub import find_sources, spill_level
from gensat.hydro.domain import Domain
from gensat.hydro.open_water import open_water
from gensat.hydro.resample import depth_on
from gensat.render.change_optics import burn, melt
from gensat.render.change_request import Masked
from gensat.render.flood_optics import render_flood
from gensat.render.forest_optics import reforest
from gensat.render.water_optics import WATERS
from gensat.render.water_seen import SeenWater
from gensat.types import GeoImage

IMAGES = Path(__file__).parent / "images"
VILLAGE = Path(__file__).parents[1] / "assets" / "examples" / "village.jpg"
LANDSAT7 = (485.0, 560.0, 660.0, 835.0, 1650.0, 2215.0)


def save(pictures: list[tuple[str, np.ndarray]], name: str, columns: int, side: int = 300) -> None:
    """Pictures in rows with a line under each, as a WebP of less than 200 kB."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (side + 6) - 6, rows * (side + 20)), "white")
    for i, (text, pixels) in enumerate(pictures):
        x, y = i % columns * (side + 6), i // columns * (side + 20)
        sheet.paste(Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS), (x, y))
        ImageDraw.Draw(sheet).text((x + 2, y + side + 3), text, fill="black")
    for quality in (78, 70, 60):
        sheet.save(IMAGES / name, quality=quality)
        if (IMAGES / name).stat().st_size < 200_000:
            return
    raise SystemExit(f"{name} is larger than 200 kB; make it smaller")


def waters() -> None:
    """One village under the same water surface, a plane that is 2.5 m deep at the southern edge, of five kinds of water."""
    image = GeoImage.open(VILLAGE)
    rows = np.arange(image.height)[:, None] / image.height
    depth = np.broadcast_to(((rows - 0.3) * 2.5 / 0.7).clip(0), image.array.shape[:2]).astype(np.float32)
    seen = open_water(depth)
    pictures = [("before", image.array)]
    for name, water in WATERS.items():
        made = render_flood(image, depth, seen, water=name)
        pictures.append((f"{name}: {water.sediment:g} g/m3 of sediment", made.array))
    save(pictures, "flood_waters.webp", 3)


def olinda(data: Path) -> None:
    """The sea 5 m higher on a Landsat image of six bands: true colour, and near infrared, red, green."""
    image = GeoImage.open(data / "rasters" / "olinda_landsat7_6band.tif")
    domain = Domain.open(data / "rasters" / "olinda_dem.tif")
    spill = spill_level(domain.bed, find_sources(domain.bed, 1.0).cells)
    land = np.where((spill < 5.0) & (domain.bed > 0), 5.0 - domain.bed, 0.0)
    depth, _ = depth_on(domain.raster(land, name="depth", unit="m"), Canvas.like(image))
    seen = open_water(depth)
    found = SeenWater.of(image, wavelengths=LANDSAT7, flooded=seen)
    made = render_flood(image, depth, seen, water=found.water, edge=0.0, reading=found.reading)
    print(
        "water of the sea",
        found.water,
        "counts of it",
        np.median(image.array[found.where], 0),
        "of the flood",
        np.median(made.array[seen], 0),
    )
    assert np.array_equal(made.array[~seen], image.array[~seen])
    size, count = 120, np.pad(seen.astype(int), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    wet = count[size:, size:] - count[:-size, size:] - count[size:, :-size] + count[:-size, :-size]
    row, column = np.unravel_index(wet.argmax(), wet.shape)  # where most water is
    pictures = []
    for text, bands, low in (("true colour", (2, 1, 0), 35), ("near infrared, red, green", (3, 2, 1), 15)):
        for when, one in (("before", image), ("sea 5 m higher", made)):
            shown = (
                ((one.array[row : row + size, column : column + size, list(bands)].astype(float) - low) * 2)
                .clip(0, 255)
                .astype(np.uint8)
            )
            pictures.append((f"{text}, {when}", shown))
    save(pictures, "flood_olinda_optical.webp", 4, 260)


def changes(data: Path) -> None:
    """Fire and forest on an aerial image of 5 m, and a made-up field of ice that breaks up."""
    image = GeoImage.open(data / "rasters" / "south_africa" / "aerial_5m_1.tif")
    size = 150
    top, left = (image.height - size) // 2, (image.width - size) // 2
    part = GeoImage(
        image.array[top : top + size, left : left + size, :3],
        crs=image.crs,
        transform=Canvas.like(image).crop(top, left, size, size).transform,
    )
    y, x = np.mgrid[:size, :size] / size - 0.5
    mask = np.hypot(x, y) < 0.36 + 0.06 * np.sin(5 * np.arctan2(y, x))
    ice = GeoImage(
        np.random.default_rng(0).normal(222, 5, (size, size, 1)).repeat(3, 2).clip(0, 255).astype(np.uint8),
        crs="EPSG:3413",
        transform=Canvas.local(size, size, 2.0).transform,
    )
    every = np.ones((size, size), bool)
    pictures = [
        ("before (5 m)", part.array),
        ("burnt", burn(part, mask).array),
        ("forest, crowns every 9 m", reforest(part, mask, spacing=9.0, cover=0.75).array),
        ("ice (made up), 10 % melted", melt(ice, every, share=0.1).array),
        ("40 % melted", melt(ice, every, share=0.4).array),
        ("75 % melted", melt(ice, every, share=0.75).array),
    ]
    save(pictures, "optics_changes.webp", 3)


def ground(data: Path) -> None:
    """Fire and forest inside a polygon, on a made-up village (0.5 m) and on Landsat 7 (28.5 m) in shortwave infrared, near infrared and red."""
    pictures = []
    turn = np.linspace(0, 2 * np.pi, 60)[:-1]
    landsat = data / "rasters" / "olinda_landsat7_6band.tif"
    for path, lengths, spacing, bands in ((VILLAGE, None, 6.0, (0, 1, 2)), (landsat, LANDSAT7, 9.0, (5, 3, 2))):
        image = GeoImage.open(path)
        column = image.width * (0.4 + 0.25 * np.cos(turn) + 0.03 * np.cos(3 * turn))
        row = image.height * (0.45 + 0.25 * np.sin(turn) + 0.03 * np.sin(5 * turn))
        area = shapely.Polygon(np.stack(to_lonlat(image.crs, *(image.transform @ (column, row))), 1))
        with TemporaryDirectory() as folder:
            file = Path(folder) / "area.geojson"
            file.write_text(f'{{"type": "Feature", "properties": {{}}, "geometry": {shapely.to_geojson(area)}}}')
            masked = Masked.open(image, file, wavelengths=lengths)
        low, high = np.percentile(image.array[..., list(bands)], (1, 99), axis=(0, 1)) if lengths else (0, 255)
        made = {
            "before": image,
            "burnt": masked.changed("burn"),
            f"forest, crowns every {spacing:g} m": masked.changed("reforest", spacing=spacing),
        }
        for text, one in made.items():
            print(
                path.name,
                text,
                {k: v for k, v in one.provenance.items() if k in ("dnbr", "ndvi_before", "ndvi_after", "crown_cover")},
            )
            shown = ((one.array[..., list(bands)] - low) / (high - low) * 255).clip(0, 255).astype(np.uint8)
            pictures.append((text, shown))
    save(pictures, "change_ground.webp", 3)


if __name__ == "__main__":
    waters()
    olinda(Path(sys.argv[1]))
    changes(Path(sys.argv[1]))
    ground(Path(sys.argv[1]))
