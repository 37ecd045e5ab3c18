"""Makes the textures in this folder from the project's data: run as ``python -m gensat.assets.streets.make DATA OUT``.

Ground is looked at from straight above in the CC0 panoramas (a plane 1.6 m under the camera), leaves are a perspective view of one, tree crowns and
fields from above come from the public-domain aerial images of UC Merced. Each crop loses its large-scale shading, is made to tile by a cross-fade that
keeps the variance, and is brought to a mean of 0.5 in linear light, so that a material multiplies its own colour with it.
"""

from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from gensat.render.environment import read_panorama
from gensat.render.equirect import sample_equirect, to_perspective
from gensat.render.light import decode_srgb, encode_srgb

EYE = 1.6  # metres of the tripod
# name: (panorama, east and north of the crop's centre from the tripod in metres, side in metres, pixels)
GROUND = {
    "asphalt": ("city", (2.8, -0.8), 1.6, 160),
    "pavers": ("courtyard", (-0.2, 1.0), 1.6, 160),
    "gravel": ("forest", (0.9, 0.3), 1.4, 160),
    "grass": ("sunrise", (0.4, 0.4), 2.0, 160),
    "slabs": ("sunset", (0.2, 0.2), 2.4, 160),
}
# name: (panorama, heading, pitch, field of view, pixels)
VIEWS = {"hedge": ("forest", -106.0, 4.0, 15.0, 128)}
# name: (class of UC Merced, number in the archive, left, top, side in pixels of 0.3 m)
AERIAL = {"canopy": ("mobilehomepark", 0, 0, 85, 60), "field": ("agricultural", 0, 60, 60, 120)}
OVERLAP = 0.25
CHROMA = 0.15  # of the colour differences that is kept: the material has a colour of its own


def level(crop: torch.Tensor, cells: int = 4) -> torch.Tensor:
    """Divides by the crop's own large-scale brightness, mean 0.5."""
    picture = crop.permute(2, 0, 1)[None]
    broad = torch.nn.functional.interpolate(picture.mean(1, keepdim=True), size=cells, mode="area")
    broad = torch.nn.functional.interpolate(broad, size=crop.shape[:2], mode="bicubic", align_corners=False)
    flat = picture / broad.clamp(min=1e-4)
    grey = flat.mean(1, keepdim=True)
    flat = grey + (flat - flat.mean((2, 3), keepdim=True) - (grey - grey.mean())) * CHROMA
    return (flat / flat.mean() * 0.5)[0].permute(1, 2, 0)


def tile(crop: torch.Tensor, size: int) -> torch.Tensor:
    """Cross-fades the margin beyond ``size`` into the opposite edge; the variance stays what it was."""
    mean = crop.mean((0, 1))
    picture = crop - mean
    for _ in range(2):
        extra = picture.shape[0] - size
        fade = torch.linspace(0, 1, extra)[:, None, None]
        head = (picture[:extra] * fade + picture[size:] * (1 - fade)) / torch.sqrt(fade**2 + (1 - fade) ** 2)
        picture = torch.cat([head, picture[extra:size]]).transpose(0, 1)
    return picture + mean


def ground(panorama: torch.Tensor, centre: tuple[float, float], side: float, size: int) -> torch.Tensor:
    """The ground plane from above."""
    reach = side / 2
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    y, x = torch.meshgrid(-line * reach + centre[1], line * reach + centre[0], indexing="ij")
    down = torch.stack([x, y, torch.full_like(x, -EYE)], dim=-1)
    return sample_equirect(panorama, torch.nn.functional.normalize(down, dim=-1), mode="bicubic").clamp(min=0)


def write(name: str, crop: torch.Tensor, size: int, out: Path) -> None:
    """Levels, tiles and saves one texture."""
    made = tile(level(crop), size).clamp(0, 1)
    made = made * 0.5 / made.mean()
    picture = (encode_srgb(made.clamp(0, 1)) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(picture).save(out / f"{name}.jpg", quality=90)


def aerial(data: Path, kind: str) -> list[np.ndarray]:
    """The images of one class of UC Merced, in the order of the archive."""
    found = []
    with tarfile.open(data / "scenes" / "ucmerced-train-000.tar") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if member.name.endswith(".jpg") and kind in member.name and file is not None:
                found.append(np.array(Image.open(io.BytesIO(file.read())).convert("RGB")))
    return found


def main(data: Path, out: Path) -> None:
    """Writes all textures into ``out``."""
    grow = 1 + OVERLAP
    for name, (source, centre, side, size) in GROUND.items():
        panorama = read_panorama(data / "panoramas" / f"{source}.exr")
        write(name, ground(panorama, centre, side * grow, int(size * grow)), size, out)
    for name, (source, heading, pitch, fov, size) in VIEWS.items():
        panorama = read_panorama(data / "panoramas" / f"{source}.exr")
        pixels = int(size * grow)
        write(
            name,
            to_perspective(panorama, fov=fov, width=pixels, height=pixels, heading=heading, pitch=pitch),
            size,
            out,
        )
    for name, (kind, number, left, top, side) in AERIAL.items():
        picture = aerial(data, kind)[number][top : top + side, left : left + side]
        crop = decode_srgb(torch.from_numpy(picture).float() / 255)
        write(name, crop, int(side / grow), out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
