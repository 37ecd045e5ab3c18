"""A map of places, drawn offline: a frame in degrees with a graticule, and the land in a coarse mask."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np
from PIL import Image, ImageDraw, ImageFont

COLOURS = {"train": (31, 90, 180), "heldout": (214, 69, 30)}
_SEA, _LAND, _LINE, _TEXT = (226, 236, 244), (243, 240, 230), (196, 200, 204), (70, 74, 78)
_WIDTH, _MARGIN, _INSET = 900, 74, 260  # pixels
_COARSE = 3.0  # degrees: over less the land mask, of a quarter of a degree, would show only its cells


def draw_map(places: Sequence[tuple[float, float, str]]) -> Image.Image:
    """Places (lon, lat, split) as dots; of a small region also where on the Earth it lies.

    Args:
        places: longitudes and latitudes in degrees, and ``train`` or ``heldout``.
    """
    points = np.array([(lon, lat) for lon, lat, _ in places], dtype=float).reshape(-1, 2)
    west, south, east, north = _extent(points)
    middle = np.radians((south + north) / 2)
    height = int(np.clip(_WIDTH * (north - south) / ((east - west) * max(np.cos(middle), 0.15)), 240, 1000))
    picture = Image.new("RGB", (_WIDTH + 2 * _MARGIN, height + 2 * _MARGIN), "white")
    frame = (_MARGIN, _MARGIN, _MARGIN + _WIDTH, _MARGIN + height)
    picture.paste(_ground(west, south, east, north, _WIDTH, height), frame[:2])
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(14)

    def at(lon: float, lat: float) -> tuple[float, float]:
        return frame[0] + (lon - west) / (east - west) * _WIDTH, frame[3] - (lat - south) / (north - south) * height

    lon_step, lat_step = _step(east - west), _step(north - south)
    for lon in np.arange(np.ceil(west / lon_step), np.floor(east / lon_step) + 1) * lon_step:
        x, _ = at(lon, south)
        draw.line((x, frame[1], x, frame[3]), fill=_LINE)
        draw.text((x, frame[3] + 8), _degrees(lon, "E", "W", lon_step), fill=_TEXT, font=font, anchor="ma")
    for lat in np.arange(np.ceil(south / lat_step), np.floor(north / lat_step) + 1) * lat_step:
        _, y = at(west, lat)
        draw.line((frame[0], y, frame[2], y), fill=_LINE)
        draw.text((frame[0] - 8, y), _degrees(lat, "N", "S", lat_step), fill=_TEXT, font=font, anchor="rm")
    draw.rectangle(frame, outline=_TEXT)
    for split in ("train", "heldout"):
        for lon, lat, side in places:
            if side == split:
                _dot(draw, *at(lon, lat), COLOURS[split])
    for i, split in enumerate(s for s in ("train", "heldout") if any(side == s for *_, side in places)):
        count = sum(side == split for *_, side in places)
        _dot(draw, _MARGIN + 10 + 190 * i, 24, COLOURS[split])
        draw.text((_MARGIN + 20 + 190 * i, 24), f"{split}: {count}", fill=_TEXT, font=font, anchor="lm")
    if max(east - west, north - south) < 60:
        inset = _world((west + east) / 2, (south + north) / 2)
        picture.paste(inset, (frame[2] - inset.width + 1, 4))
    return picture


def _extent(points: np.ndarray) -> tuple[float, float, float, float]:
    """A frame around the points with some room, at least about 600 m and at most the globe."""
    if not len(points):
        return -180.0, -90.0, 180.0, 90.0
    (west, south), (east, north) = points.min(axis=0), points.max(axis=0)
    squeeze = max(np.cos(np.radians((south + north) / 2)), 0.15)
    room = max(0.08 * (north - south), 0.08 * (east - west) * squeeze, 0.003)
    west, east = west - room / squeeze, east + room / squeeze
    south, north = south - room, north + room
    if (east - west) * squeeze < (north - south) / 1.1:  # no taller than about its width
        grow = ((north - south) / 1.1 / squeeze - (east - west)) / 2
        west, east = west - grow, east + grow
    return max(float(west), -180.0), max(float(south), -90.0), min(float(east), 180.0), min(float(north), 90.0)


@cache
def _land() -> np.ndarray:
    """(720, 1440) bool, row 0 north: land by cells of a quarter of a degree (from the GLOBE elevation model, public domain)."""
    with (files(__package__) / "land.png").open("rb") as file, Image.open(file) as picture:
        return np.asarray(picture.convert("L")) > 0


def _ground(
    west: float | int, south: float | int, east: float | int, north: float | int, width: int, height: int
) -> Image.Image:
    if max(east - west, north - south) < _COARSE:
        return Image.new("RGB", (width, height), _LAND)
    lon = west + (np.arange(width) + 0.5) / width * (east - west)
    lat = north - (np.arange(height) + 0.5) / height * (north - south)
    rows = np.clip(((90 - lat) * 4).astype(int), 0, 719)
    columns = np.clip(((lon + 180) * 4).astype(int), 0, 1439)
    land = _land()[rows[:, None], columns[None]]
    return Image.fromarray(np.where(land[:, :, None], _LAND, _SEA).astype(np.uint8))


def _world(lon: float | int, lat: float | int) -> Image.Image:
    width, height = _INSET // 2, _INSET // 4
    picture = _ground(-180, -90, 180, 90, width, height)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, width - 1, height - 1), outline=_LINE)
    _dot(draw, (lon + 180) / 360 * width, (90 - lat) / 180 * height, (200, 30, 30))
    return picture


def _dot(draw: ImageDraw.ImageDraw, x: float | int, y: float | int, colour: tuple[int, int, int]) -> None:
    draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour, outline="white")


def _step(extent: float | int) -> float:
    """Degrees between two lines of the graticule: 1, 2 or 5 times a power of ten, four to nine of them."""
    power = 10.0 ** np.floor(np.log10(extent / 4))
    return float(power * max(k for k in (1, 2, 5) if power * k <= extent / 4))


def _degrees(value: float | int, positive: str, negative: str, step: float | int) -> str:
    digits = max(0, -int(np.floor(np.log10(step))))
    return f"{abs(value):.{digits}f} {positive if value >= 0 else negative}"
