"""Makes the pictures of docs/floods.md: ``python docs/make_flood_images.py DATA [NAME ...]``.

DATA is the data folder. One function a picture, called by its name; all of them without a name. Nothing is picked.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from gensat.geo.canvas import Canvas
from gensat.hydro.bathtub import find_sources, spill_level
from gensat.hydro.domain import Domain
from gensat.hydro.ensembles import Ensemble, probability
from gensat.hydro.resample import depth_on
from gensat.hydro.simulate import Scenario
from gensat.types import GeoImage

IMAGES = Path(__file__).parent / "images"
LEVELS = (1, 2, 3, 4, 5)
COLOURS = np.array([(8, 48, 107), (33, 113, 181), (107, 174, 214), (253, 174, 97), (215, 48, 39)], float)


def save(picture: Image.Image, name: str) -> None:
    """A JPEG of less than 200 kB."""
    IMAGES.mkdir(exist_ok=True)
    for quality in (88, 80, 70, 60):
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
    save(labelled(list(zip(texts, panels, strict=True))), "flood_olinda.jpg")


def legend(picture: np.ndarray) -> np.ndarray:
    """The colours of the levels in a corner."""
    sheet = Image.fromarray(picture)
    draw = ImageDraw.Draw(sheet)
    for i, (level, colour) in enumerate(zip(LEVELS, COLOURS, strict=True)):
        draw.rectangle((6, 6 + 15 * i, 18, 18 + 15 * i), fill=tuple(int(v) for v in colour), outline="white")
        draw.text((23, 7 + 15 * i), f"+{level} m", fill="white")
    return np.asarray(sheet)


PICTURES = {"olinda": olinda}


def main(data: str, *names: str) -> None:
    """The pictures that were named."""
    for name in names or PICTURES:
        PICTURES[name](Path(data))


if __name__ == "__main__":
    main(*sys.argv[1:])
