"""Panoramas of the published ground-view models: ours against the plain published formulation, on the same weights and input.

``python -m benchmarks.ground_density`` on the CPU. With ``--original FOLDER``, a checkout of the authors' Sat2Density, or ``--sat3dgen
FOLDER``, of Sat3DGen, their own program runs beside ours in the same process (:mod:`benchmarks.ground_originals`).
Weights are random: the time does not depend on them, except that their volume is dense, while trained ones are mostly empty.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from gensat.models import fast_conv
from gensat.models.sat2density import GROUND, Sat2Density
from gensat.models.sat2density_frames import look_around, panorama_camera, ray_length, tile_volume
from gensat.render.density import DensityVolume, density_from_heights

from .common import Compared, machine, pairs, table
from .ground_originals import Sat3DGenOriginal, sat2density

SPOT = (-3.75, -5.0)  # metres east and north of the tile's centre


def published(model: Sat2Density, density: torch.Tensor, tile: torch.Tensor) -> torch.Tensor:
    """The published formulation, plainly: every sample of every ray, colours repeated over all levels; (5, h, w) of maps."""
    config, half = model.config, model.config.tile_metres / 2
    rays = panorama_camera(model, *SPOT).rays(dtype=torch.float64)
    volume = torch.cat([torch.full_like(density[:1], GROUND), density])[None, None]
    colours = tile[None, :, None].repeat(1, 1, volume.shape[2], 1, 1)
    step = ray_length(model) / config.samples / half
    at = (torch.arange(config.samples, dtype=torch.float64) + 1) * step
    points = rays.origins[..., None, :] / half + rays.directions[..., None, :] * at[:, None]
    x, y, z = points.unbind(-1)
    grid = torch.stack([x, -y, z / (config.volume_metres / half) * 2 - 1], -1).float()
    grid = grid.permute(2, 0, 1, 3)[None]  # samples, rows, columns
    sigma = F.grid_sample(volume, grid, align_corners=False)[0, 0] * step
    colour = F.grid_sample(colours, grid, align_corners=False)[0]
    through = torch.exp(-torch.cat([torch.zeros_like(sigma[:1]), sigma[:-1]]).cumsum(0))
    weight = through * (1 - torch.exp(-sigma))
    depth = (weight * at.float()[:, None, None]).sum(0)
    return torch.stack([*(colour * weight).sum(1), weight.sum(0), depth])


def ours(model: Sat2Density, volume: DensityVolume) -> torch.Tensor:
    """The same maps by the renderer."""
    seen = look_around(model, volume, panorama_camera(model, *SPOT))
    assert seen.values is not None
    return torch.stack([*seen.values.unbind(-1), seen.opacity, seen.distance / (model.config.tile_metres / 2)])


@contextmanager
def plain_convolutions():
    """Convolutions as torch has them."""
    pays, fast_conv._pays = fast_conv._pays, lambda *_: False
    try:
        yield
    finally:
        fast_conv._pays = pays


def town(side: int) -> torch.Tensor:
    """Heights of a small town in metres, (side, side)."""
    draw = torch.Generator().manual_seed(0)
    blocks = torch.rand(side // 32, side // 32, generator=draw)
    heights = torch.where(blocks > 0.6, 3 + 5 * blocks, 0.0)
    return heights.repeat_interleave(32, 0).repeat_interleave(32, 1)


def size(model: Sat2Density) -> str:
    """Its panorama, as the table says it."""
    return " x ".join(map(str, model.config.pano_size))


def sat3dgen_rows(folder: Path, compare: Callable[..., Compared]) -> Iterator[tuple[str, ...]]:
    """Sat3DGen against the authors' program: both with its random weights, and without its random jitter of samples."""
    from gensat.models.sat3dgen_views import from_above, look
    from gensat.render.cameras import Camera, Panorama
    from gensat.render.frame import SceneFrame

    authors = Sat3DGenOriginal(folder)
    model, tile, histogram = authors.ours(), torch.rand(3, 256, 256), torch.rand(1, 270) / 90
    half = model.config.tile_metres / 2
    eye = np.array([*SPOT, model.config.eye * half])
    where = (-SPOT[1] / half, SPOT[0] / half, model.config.eye - 1)
    planes, theirs = model.encode(tile[None])[0], authors.planes(tile)
    light = model.light(histogram)
    sky, code, padded = model.sky(light)[0], *authors.light(histogram)
    panorama = Panorama(256, 64, eye)
    view = Camera.looking(SceneFrame(None), eye, heading=33.0, fov=120, width=128, height=128)

    cases: list[tuple[str, Any, Any]] = [
        ("tile to planes", lambda: model.encode(tile[None])[0].ground, lambda: authors.planes(tile)[0][0, 0]),
        (
            "panorama, tile known",
            lambda: look(model, planes, panorama, light[0], sky, edges=True).features,
            lambda: authors.panorama(theirs, where, code, padded),
        ),
        (
            "view of 120 degrees, tile known",
            lambda: look(model, planes, view, light[0], sky).features,
            lambda: authors.view(theirs, where, 33.0, code, padded),
        ),
        (
            "128 x 128 from above",
            lambda: from_above(model, planes, 128).distance * model.shrink,
            lambda: authors.above(theirs),
        ),
    ]
    for name, mine, other in cases:
        made: dict[str, torch.Tensor] = {}
        compared = compare(lambda mine=mine: made.update(a=mine()), lambda other=other: made.update(b=other()))  # noqa: B023
        apart = float((made["a"] - made["b"]).abs().max())
        yield f"Sat3DGen: {name}", f"{compared.first:.2f}", f"{compared.second:.2f}", compared.text(), f"{apart:.0e}"


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="pairs a row")
    parser.add_argument("--original", type=Path, help="checkout of the authors' Sat2Density")
    parser.add_argument("--sat3dgen", type=Path, help="checkout of the authors' Sat3DGen; only it is measured then")
    parser.add_argument(
        "--processor-time", action="store_true", help="instead of wall time; for a machine that others use"
    )
    parser.add_argument("--height", type=int, default=128, help="rows of Sat2Density's panorama of 512 columns")
    options = parser.parse_args()
    torch.manual_seed(0)
    clock = time.process_time if options.processor_time else time.perf_counter
    compare = partial(pairs, runs=options.runs, clock=clock)
    measured = "processor" if options.processor_time else "wall"
    header = ("case", "gensat s", "published s", "ratio", "largest difference")
    if options.sat3dgen:
        print(f"{machine()}; Sat3DGen, 48 + 48 samples a ray; {options.runs} pairs, {measured} time\n")
        print(table([], header), flush=True)
        for row in sat3dgen_rows(options.sat3dgen, compare):  # minutes each
            print(table([row], header).splitlines()[-1], flush=True)
        return
    model = Sat2Density(pano_size=(512, options.height)).eval().requires_grad_(False)
    tile, histogram = torch.rand(3, 256, 256), torch.rand(1, 270)
    dense = model.density(tile[None])[0] * 20
    solid = density_from_heights(town(256), 64, 0.0, 8.0, solid=200.0)
    style = model.style(model.illumination(histogram).mean)
    rows: list[tuple[str, ...]] = []

    def row(name: str, compared: Compared, apart: str) -> None:
        rows.append((name, f"{compared.first:.3f}", f"{compared.second:.3f}", compared.text(), apart))

    def apart(a: torch.Tensor, b: torch.Tensor) -> str:
        return f"{float((a - b).abs().max()):.0e}"

    for name, density in (("rays, dense volume", dense), ("rays, solid town", solid)):
        volume = tile_volume(model, density, tile)
        mine = lambda volume=volume: ours(model, volume)  # noqa: E731
        theirs = lambda density=density: published(model, density, tile)  # noqa: E731
        row(name, compare(mine, theirs), apart(mine(), theirs()))

    volume = tile_volume(model, dense, tile)
    seen = ours(model, volume)[None]
    paint = lambda: model.paint(seen, style)  # noqa: E731

    def plain_paint() -> torch.Tensor:
        with plain_convolutions():
            return model.paint(seen, style)

    row("painter", compare(paint, plain_paint), apart(paint(), plain_paint()))

    def known() -> torch.Tensor:
        return model.paint(ours(model, volume)[None], style)

    def new() -> torch.Tensor:
        own = tile_volume(model, model.density(tile[None])[0], tile)
        return model.paint(ours(model, own)[None], model.style(model.illumination(histogram).mean))

    def plain_whole() -> torch.Tensor:
        with plain_convolutions():
            density = model.density(tile[None])[0]
            light = model.style(model.illumination(histogram).mean)
            return model.paint(published(model, density, tile)[None], light)

    row("panorama, new tile", compare(new, plain_whole), apart(new(), plain_whole()))
    row("panorama, tile known", compare(known, plain_whole), "")
    if options.original:
        authors = sat2density(options.original, model, SPOT)
        theirs = lambda: authors(tile[None], histogram)  # noqa: E731

        def corners() -> torch.Tensor:
            own = tile_volume(model, model.density(tile[None])[0], tile)
            around = look_around(model, own, panorama_camera(model, *SPOT), corners=True)
            assert around.values is not None
            half = model.config.tile_metres / 2
            return torch.stack([*around.values.unbind(-1), around.opacity, around.distance / half])

        difference = apart(corners(), theirs()["generator_inputs"][0])
        row("panorama, new tile, against the authors' program", compare(new, theirs), difference)
        row("panorama, tile known, against the authors' program", compare(known, theirs), "")
    print(f"{machine()}; Sat2Density, {size(model)}, 100 samples a ray; {options.runs} pairs, {measured} time\n")
    print(table(rows, header))


if __name__ == "__main__":
    main()
