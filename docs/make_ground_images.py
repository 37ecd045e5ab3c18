"""Makes the pictures of Alexandria in docs/ground.md: ``python docs/make_ground_images.py DATA WORK [FPS]``.

DATA holds dsm.tif, dtm.tif, hag.tif and buildings.geojson (data/rasters/urban_heights). WORK keeps what was made, step by step: what lies
there is not made again, so remove ``image.tif`` after new weights, and ``tour`` or ``plain`` after changes of the renderer. Nothing is picked.
"""

import json
import sys
from pathlib import Path

import numpy as np
import shapely
import trimesh
from affine import Affine
from PIL import Image, ImageDraw
from rasterio.features import rasterize
from scipy.ndimage import gaussian_filter, minimum_filter

from gensat.cli import run
from gensat.geo.buildings import read_buildings
from gensat.geo.canvas import Canvas
from gensat.geo.classes import BUILDING, OTHER_GROUND, WOODLAND
from gensat.geo.crs import crs_text, from_lonlat, to_lonlat
from gensat.geo.elevation import HeightMap
from gensat.geo.legend import colourise
from gensat.types import GeoImage

IMAGES = Path(__file__).parent / "images"
LEFT, TOP, SIDE, GSD = 321_600.0, 4_297_943.0, 768, 0.5  # EPSG:26918; 384 m around the footprints
START, END = (321_720.0, 4_297_884.0), (321_893.0, 4_297_800.0)  # along a street, round a corner, between blocks
LIGHT = ["--time", "2024-06-21T20:30Z", "--cloud", "0.3"]  # the sun in the west, behind who walks east
TREE = 2.5  # metres above ground


def make_layout(data: Path, path: Path) -> None:
    """Classes that the data tell: footprints, what else is high as woodland, the rest other ground. Roads are not known."""
    heights = GeoImage.open(data / "hag.tif")
    canvas = Canvas(SIDE, SIDE, GSD, heights.crs, Affine(GSD, 0, LEFT, 0, -GSD, TOP))
    above = HeightMap.open(data / "hag.tif").on(canvas, "hag.tif", nearest=True).heights
    footprints = read_buildings(data / "buildings.geojson", canvas, default=6.0).footprints
    around = [(shapely.buffer(shape, 2.0), 1) for shape in footprints]
    size, place = (SIDE, SIDE), {"transform": canvas.transform}
    # Cells of 2 m hold the highest point in them, so crowns are a cell too wide all around.
    wood = minimum_filter((above >= TREE) & (rasterize(around, size, **place) == 0), 5).astype(float)
    layout = np.where(gaussian_filter(wood, 3.0) > 0.5, WOODLAND, OTHER_GROUND).astype(np.uint8)
    layout[rasterize([(shape, 1) for shape in footprints], size, **place) == 1] = BUILDING
    GeoImage(layout, bands=["class"], crs=heights.crs, transform=canvas.transform).save(path)


def lonlat(crs, point) -> list[str]:
    """As the command line takes it."""
    return [f"{float(v):.7f}" for v in to_lonlat(crs, *point)]


def gensat(*words: object) -> None:
    """A command, shown and run."""
    print("gensat", *words, flush=True)
    if run([str(word) for word in words]):
        raise SystemExit("that failed")


def side_by_side(pictures: list[Image.Image], columns: int, gap: int = 4) -> Image.Image:
    """Pictures of one size in rows."""
    width, height = pictures[0].size
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(picture, (number % columns * (width + gap), number // columns * (height + gap)))
    return sheet


def save(picture: Image.Image, name: str) -> None:
    """A WebP of less than 200 kB."""
    for quality in (78, 70, 60):
        picture.save(IMAGES / name, quality=quality)
        if (IMAGES / name).stat().st_size < 200_000:
            return
    raise SystemExit(f"{name} is larger than 200 kB; make it smaller")


def seen_from_above(work: Path) -> None:
    """The layout, the image, and the walk."""
    layout, image = GeoImage.open(work / "layout.tif"), GeoImage.open(work / "image.tif")
    walked = Image.fromarray(image.array[:, :, :3])
    line = json.loads((work / "tour" / "track.geojson").read_text())["features"][0]["geometry"]["coordinates"]
    columns, rows = ~image.transform @ np.stack(from_lonlat(image.crs, *np.array(line).T))
    ImageDraw.Draw(walked).line(list(zip(columns, rows, strict=True)), fill=(255, 210, 0), width=5)
    pictures = [Image.fromarray(colourise(layout.array[:, :, 0])), walked]
    save(side_by_side([p.resize((512, 512), Image.Resampling.LANCZOS) for p in pictures], 2), "alexandria_above.webp")


def frames_of(video: Path, count: int) -> list[Image.Image]:
    """Evenly spread over it."""
    import imageio.v3 as iio

    every = iio.imread(video)
    return [Image.fromarray(every[k]) for k in np.linspace(0, len(every) - 1, count).round().astype(int)]


def look_at_mesh(path: Path, size: int = 760, points: int = 3_000_000) -> Image.Image:
    """A glTF as trimesh reads it, from the south-east: points strewn over its triangles, textured or coloured as the file says, y up."""
    parts = trimesh.load(path).dump()  # each copy of a tree where it stands
    areas = np.array([part.area for part in parts])
    places, colours = [], []
    for part, count in zip(parts, np.ceil(points * areas / areas.sum()).astype(int), strict=True):
        spot, face = trimesh.sample.sample_surface(part, count, seed=1)
        share = trimesh.triangles.points_to_barycentric(part.triangles[face], spot)[..., None]
        material, own = part.visual.material, part.visual.vertex_attributes.get("color")
        colour = np.ones((len(spot), 3))
        if own is not None:  # linear, as glTF has it; the rest is multiplied with it
            colour = (own[part.faces[face], :3] * share).sum(axis=1)
        if material.baseColorTexture is not None:
            texture = np.asarray(material.baseColorTexture.convert("RGB")) / 255
            u, v = (part.visual.uv[part.faces[face]] * share).sum(axis=1).T
            row, column = ((1 - v) * texture.shape[0]).astype(int), (u * texture.shape[1]).astype(int)
            colour = colour * texture[row.clip(0, texture.shape[0] - 1), column.clip(0, texture.shape[1] - 1)] ** 2.2
        elif material.baseColorFactor is not None:
            colour = (
                colour
                * np.asarray(material.baseColorFactor)[:3]
                / (255 if np.asarray(material.baseColorFactor).dtype == np.uint8 else 1)
            )
        colours.append(255 * colour.clip(0, 1) ** (1 / 2.2))
        places.append(spot)
    (east, up, south), colour = np.concatenate(places).T, np.concatenate(colours)
    turn, tilt = np.radians(30), np.radians(40)
    right = east * np.cos(turn) + south * np.sin(turn)
    ahead = east * np.sin(turn) - south * np.cos(turn)
    down, depth = -up * np.cos(tilt) - ahead * np.sin(tilt), ahead * np.cos(tilt) - up * np.sin(tilt)
    scale = 0.98 * size / np.ptp(right)
    column, row = ((w - w.min()) * scale + 0.01 * size for w in (right, down))
    picture = np.full((int(row.max()) + 8, size, 3), 240, np.uint8)
    order = np.argsort(-depth)  # the nearest is written last
    picture[row[order].astype(int), column[order].astype(int).clip(0, size - 1)] = colour[order]
    return Image.fromarray(picture)


def main() -> None:
    """The layout, the image, the tour with facades and without, and the pictures of them."""
    data, work = Path(sys.argv[1]), Path(sys.argv[2])
    work.mkdir(exist_ok=True)
    layout, image = work / "layout.tif", work / "image.tif"
    if not layout.exists():
        make_layout(data, layout)
    crs = GeoImage.open(layout).crs
    if not image.exists():
        middle = lonlat(crs, (LEFT + SIDE * GSD / 2, TOP - SIDE * GSD / 2))
        gensat(
            "generate", "houses, streets and trees in a town", "--lon", middle[0], "--lat", middle[1], "--gsd", GSD, "--crs", crs_text(crs),
            "--width", SIDE, "--height", SIDE, "--layout", layout, "--seed", 4, "-o", image,
        )  # fmt: skip
    known = ["--buildings", data / "buildings.geojson", "--terrain", data / "dtm.tif", "--heights", data / "dsm.tif"]
    walk = ["--at", *lonlat(crs, START), "--to", *lonlat(crs, END), "--layout", layout, *LIGHT]
    small = [
        "--width",
        480,
        "--height",
        270,
        "--fps",
        sys.argv[3] if len(sys.argv) > 3 else 4,
        "--speed",
        6,
        "--samples",
        1,
    ]
    if not (work / "tour" / "run.json").exists():
        gensat("ground", image, *known, *walk, *small, "-o", f"{work}/tour/", "--overwrite")
    around = ["--panorama", "--width", 960, "--samples", 1, "--heading", 100, "--at", *lonlat(crs, START), *LIGHT]
    for name, heights in (("plain", [*known, "--facades", "none"]), ("surface", known[4:])):
        if not (work / f"{name}.png").exists():
            gensat("ground", image, *heights, *around, "-o", work / f"{name}.png")
    seen_from_above(work)
    save(Image.open(work / "tour" / "panorama.png").convert("RGB"), "alexandria_panorama.webp")
    save(side_by_side(frames_of(work / "tour" / "walk.mp4", 6), 3), "alexandria_walk.webp")
    save(
        side_by_side([Image.open(work / f"{n}.png").convert("RGB") for n in ("plain", "surface")], 1),
        "alexandria_plain.webp",
    )
    save(look_at_mesh(work / "tour" / "scene.glb"), "alexandria_mesh.webp")


if __name__ == "__main__":
    main()
