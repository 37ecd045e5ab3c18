"""Makes the pictures of docs/floods.md: ``python docs/make_flood_images.py DATA [NAME ...]``.

DATA is the data folder. One function a picture, called by its name; all of them without a name. Nothing is picked.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw

from gensat.cli import run as command
from gensat.geo.canvas import Canvas
from gensat.hydro.bathtub import find_sources, spill_level
from gensat.hydro.domain import Domain
from gensat.hydro.ensembles import Ensemble, probability
from gensat.hydro.inertial import LocalInertial
from gensat.hydro.picture import DepthPicture
from gensat.hydro.resample import depth_on
from gensat.hydro.scenario import Scenario
from gensat.hydro.shallow import ShallowWater
from gensat.hydro.solver import run
from gensat.train.flood import guessed_depth
from gensat.train.flood_pairs import flood_pairs, larger
from gensat.train.mosaics import GSD as MOSAIC_GSD
from gensat.types import Band, GeoImage

IMAGES = Path(__file__).parent / "images"
LEVELS = (1, 2, 3, 4, 5)
COLOURS = np.array([(8, 48, 107), (33, 113, 181), (107, 174, 214), (253, 174, 97), (215, 48, 39)], float)


def save(picture: Image.Image, name: str) -> None:
    """A WebP of less than 200 kB."""
    IMAGES.mkdir(exist_ok=True)
    for quality in (78, 70, 60):
        picture.save(IMAGES / name, quality=quality)
        if (IMAGES / name).stat().st_size < 200_000:
            return
    raise SystemExit(f"{name} is larger than 200 kB; make it smaller")


def labelled(pictures: list[tuple[str, np.ndarray]], gap: int = 6) -> Image.Image:
    """Pictures side by side, each with a line under it."""
    height, width = pictures[0][1].shape[:2]
    sheet = Image.new("RGB", (len(pictures) * (width + gap) - gap, height + 18), "white")
    for i, (text, picture) in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (i * (width + gap), 0))
        ImageDraw.Draw(sheet).text((i * (width + gap) + 2, height + 3), text, fill="black")
    return sheet


def olinda(data: Path) -> None:
    """A sea 1 to 5 m higher, on the satellite image: the lowest of these levels that reaches a pixel, and how sure that is."""
    image = GeoImage.open(data / "rasters" / "olinda_landsat7_6band.tif")
    domain = Domain.open(data / "rasters" / "olinda_dem.tif")
    canvas = Canvas.like(image)
    sources = find_sources(domain.bed, 1.0)
    spill = spill_level(domain.bed, sources.cells)
    seen = np.clip((image.array[:, :, [2, 1, 0]].astype(float) - 35) * 2, 0, 255)
    flooded = seen.copy()
    for level, colour in reversed(list(zip(LEVELS, COLOURS, strict=True))):
        land = np.where((spill < level) & (domain.bed > 0), level - domain.bed, 0.0)
        _, wet = depth_on(domain.raster(land, name="depth", unit="m"), canvas)
        flooded[wet] = colour
    made, _ = probability(domain, Scenario(level=3.0), Ensemble(members=400, dem_error=3.0, correlation=500.0))
    assert made.probability is not None
    share = np.where(domain.bed > 0, made.probability, 0.0)
    rows, columns = np.meshgrid(np.arange(image.height) + 0.5, np.arange(image.width) + 0.5, indexing="ij")
    scale = image.transform.a / domain.transform.a
    down = (domain.transform.f - image.transform.f) / domain.transform.a
    r = np.clip((rows * scale + down).astype(int), 0, domain.shape[0] - 1)
    c = np.clip((columns * scale).astype(int), 0, domain.shape[1] - 1)
    likely = np.sqrt(share[r, c])[:, :, None]
    unsure = (1 - likely) * (0.5 * seen + 40) + likely * np.array([255.0, 60.0, 20.0])
    panels = [legend(np.uint8(v)) if i == 1 else np.uint8(v) for i, v in enumerate((seen, flooded, unsure))]
    texts = ("Landsat 7, Olinda", "land reached at +1 ... +5 m", "chance at +3 m, DEM off by 3 m")
    save(labelled(list(zip(texts, panels, strict=True))), "flood_olinda.webp")


def legend(picture: np.ndarray) -> np.ndarray:
    """The colours of the levels in a corner."""
    sheet = Image.fromarray(picture)
    draw = ImageDraw.Draw(sheet)
    for i, (level, colour) in enumerate(zip(LEVELS, COLOURS, strict=True)):
        draw.rectangle((6, 6 + 15 * i, 18, 18 + 15 * i), fill=tuple(int(v) for v in colour), outline="white")
        draw.text((23, 7 + 15 * i), f"+{level} m", fill="white")
    return np.asarray(sheet)


def merewether(data: Path) -> None:
    """Depths after 1000 s, and the stages at the five points beside those of the three reference models."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from merewether import SECONDS
    from merewether import merewether as place_of

    place = place_of(data / "rasters" / "merewether")
    panels = []
    for name, kind in (("local inertial", LocalInertial), ("full shallow water", ShallowWater)):
        solver = kind(place.domain, place.boundaries)
        flow = run(solver, solver.start(), place.forcing, seconds=SECONDS, gauges=place.points)
        assert flow.gauges is not None and flow.peaks is not None
        print(
            f"{name}: {int(flow.steps)} steps, {flow.wall:.0f} s, balance {float(flow.balance.relative):.1e}, "
            f"largest Froude number {float(flow.peaks.froude):.2f}, swift {float(flow.peaks.swift):.2f}"
        )
        stages = dict(zip(place.points, flow.gauges.level[-1].tolist(), strict=True))
        panels.append((name, stages_on(place, flow.state.depth.numpy(), stages, f"{name}, {SECONDS:g} s; stages in m")))
    save(labelled(panels), "flood_merewether.webp")


MEREWETHER = """--extent extent.csv --buildings houses.geojson --building-height 3 --roughness 0.04 --roughness RoadPolygon.csv=0.02
--inflow 151.74051248 -32.94343544 19.7 --inflow-radius 10 --boundary N=open --boundary E=open --hours 0.27778 --every 1
--gauges ObservationPoints.csv --animation gif"""


def merewether_depth(data: Path) -> None:
    """The depths of Merewether as the one command leaves them."""
    place = data / "rasters" / "merewether"
    words = [str(place / word) if ".csv" in word or ".geojson" in word else word for word in MEREWETHER.split()]
    with TemporaryDirectory() as folder:
        if command(["flood", "simulate", str(place / "dem_1m.tif"), *words, "-o", f"{folder}/merewether"]):
            raise SystemExit("that failed")
        save(Image.open(f"{folder}/merewether/preview.png"), "flood_merewether_depth.webp")


def stages_on(place, depth: np.ndarray, stages: dict[str, float], text: str) -> np.ndarray:
    """Depths, and at each point its stage with the lowest and highest of the references."""
    picture = DepthPicture(place.domain, 1.0)(depth, text)
    sheet = Image.fromarray(picture).resize((2 * picture.shape[1], 2 * picture.shape[0]), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(sheet)
    for number, (row, column) in place.points.items():
        stage, others = stages[number], place.stages[number]
        print(f"point {number}: {stage:.2f}, references {min(others):.2f} to {max(others):.2f}")
        x, y = 2 * column + 1, 2 * row + 1
        draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill="red", outline="white")
        label = f"{number}: {stage:.2f} ({min(others):.2f} to {max(others):.2f})"
        at = (x + 11, y - 7) if x < sheet.width / 2 else (x - 11 - draw.textlength(label), y - 7)
        left, top, right, bottom = draw.textbbox(at, label)
        draw.rectangle((left - 3, top - 3, right + 3, bottom + 3), fill="white")
        draw.text(at, label, fill="black")
    return np.asarray(sheet)


def houston(data: Path) -> None:
    """All larger images of the held-out place: before and after the storm, and its water laid into the image before by optics and by diffusion.

    The derived water is kept in ``runs/flood-pairs``, as training keeps it.
    """
    rows = []
    for pair in larger(flood_pairs(data, split="heldout", cache="runs/flood-pairs"), 192):
        with TemporaryDirectory() as folder:
            before, depth = Path(folder, "before.png"), Path(folder, "depth.tif")
            GeoImage(np.ascontiguousarray(pair.before)).save(before)
            metres = guessed_depth(pair.water, 0.02, MOSAIC_GSD)
            GeoImage(metres[..., None], [Band("depth", unit="m")]).save(depth)
            panels = [("before", pair.before), ("after", pair.after)]
            for style in ("optical", "diffusion"):
                out = Path(folder, f"{style}.png")
                asked = [
                    "flood",
                    "render",
                    str(before),
                    "--depth",
                    str(depth),
                    "--gsd",
                    str(MOSAIC_GSD),
                    "--style",
                    style,
                ]
                if command([*asked, "--seed", "1", "-o", str(out)]):
                    raise SystemExit("that failed")
                panels.append((style, GeoImage.open(out).array))
        rows.append(labelled(panels))
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    for i, row in enumerate(rows):
        sheet.paste(row, (0, i * row.height))
    save(sheet, "flood_houston.webp")


PICTURES = {"houston": houston, "olinda": olinda, "merewether_depth": merewether_depth, "merewether": merewether}


def main(data: str, *names: str) -> None:
    """The pictures that were named."""
    for name in names or PICTURES:
        PICTURES[name](Path(data))


if __name__ == "__main__":
    main(*sys.argv[1:])
