"""Panoramas of the published ground-view models: ours against the plain published formulation, on the same weights and input.

``python -m benchmarks.ground_density`` on the CPU. With ``--original FOLDER``, a checkout of the authors' Sat2Density, their own
program runs beside ours in the same process (its two CUDA modules, which this network never calls, are replaced by empty ones).
Weights are random: the time does not depend on them, except that their volume is dense, while trained ones are mostly empty.
"""

import argparse
import sys
import types
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml

from gensat.models import fast_conv
from gensat.models.sat2density import GROUND, Sat2Density
from gensat.models.sat2density_frames import look_around, panorama_camera, ray_length, tile_volume
from gensat.render.density import DensityVolume, density_from_heights

from .common import Compared, machine, pairs, table

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


class _Stub(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


class _Options(dict):
    """A dictionary whose entries are attributes too, as the authors' program reads its settings."""

    def __init__(self, values: Any = (), **more: Any):
        super().__init__()
        for name, value in dict(values or (), **more).items():
            self[name] = _Options(value) if isinstance(value, dict) else value

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    __setattr__ = dict.__setitem__


def original(folder: Path, model: Sat2Density) -> Any:
    """The authors' generator with our weights: a function of (tile, histogram) to its results."""
    for name in ("upfirdn2d_cuda", "bias_act_cuda"):
        sys.modules[name] = _Stub(name)
    easydict = types.ModuleType("easydict")
    easydict.EasyDict = _Options  # type: ignore[attr-defined]
    sys.modules.setdefault("easydict", easydict)
    sys.path.insert(0, str(folder))

    def settings(path: str) -> dict[str, Any]:
        values = yaml.safe_load((folder / path).read_text()) or {}
        return merged(settings(values.pop("_parent_")), values) if "_parent_" in values else values

    def merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
        both = {
            k: merged(low[k], v) if isinstance(v, dict) and isinstance(low.get(k), dict) else v for k, v in high.items()
        }
        return {**low, **both}

    options = _Options(settings("options/sat2density_cvact.yaml"))
    half = model.config.tile_metres / 2
    options.device, options.origin_H_W = "cpu", [-SPOT[1] / half, SPOT[0] / half]
    from imaginaire.generators.craft_2stage_add_style import Generator  # of the authors' checkout

    generator = Generator(options).eval().requires_grad_(False)
    own = model.state_dict()
    state = generator.state_dict()
    for name in list(state):
        if name.endswith("weight_orig"):
            u, v = state[name[:-5] + "_u"], state[name[:-5] + "_v"]
            state[name] = own[name[:-5]]
            state[name[:-5] + "_u"] = u / (u @ (own[name[:-5]].flatten(1) @ v))  # a norm of 1
        elif name in own:
            state[name] = own[name]
    generator.load_state_dict(state)
    return lambda tile, histogram: generator(tile, histogram, options)


@torch.no_grad()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="pairs a row")
    parser.add_argument("--original", type=Path, help="checkout of the authors' Sat2Density")
    options = parser.parse_args()
    torch.manual_seed(0)
    model = Sat2Density().eval().requires_grad_(False)
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
        row(name, pairs(mine, theirs, runs=options.runs), apart(mine(), theirs()))

    volume = tile_volume(model, dense, tile)
    seen = ours(model, volume)[None]
    paint = lambda: model.paint(seen, style)  # noqa: E731

    def plain_paint() -> torch.Tensor:
        with plain_convolutions():
            return model.paint(seen, style)

    row("painter", pairs(paint, plain_paint, runs=options.runs), apart(paint(), plain_paint()))

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

    row("panorama, new tile", pairs(new, plain_whole, runs=options.runs), apart(new(), plain_whole()))
    row("panorama, tile known", pairs(known, plain_whole, runs=options.runs), "")
    if options.original:
        authors = original(options.original, model)
        theirs = lambda: authors(tile[None], histogram)  # noqa: E731

        def corners() -> torch.Tensor:
            own = tile_volume(model, model.density(tile[None])[0], tile)
            around = look_around(model, own, panorama_camera(model, *SPOT), corners=True)
            assert around.values is not None
            half = model.config.tile_metres / 2
            return torch.stack([*around.values.unbind(-1), around.opacity, around.distance / half])

        difference = apart(corners(), theirs()["generator_inputs"][0])
        row("panorama, new tile, against the authors' program", pairs(new, theirs, runs=options.runs), difference)
        row("panorama, tile known, against the authors' program", pairs(known, theirs, runs=options.runs), "")
    print(f"{machine()}; Sat2Density, 512 x 128, 100 samples a ray; {options.runs} pairs\n")
    print(table(rows, ("case", "gensat s", "published s", "ratio", "largest difference")))


if __name__ == "__main__":
    main()
