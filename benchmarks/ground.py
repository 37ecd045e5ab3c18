"""The exact renderer against a plain fixed-step marcher, in one run: a 512 x 256 panorama of a street.

``python -m benchmarks.ground`` on Alexandria's surface model where the data set is (GENSAT_DATA), else on a made one.
The marcher samples every ray at a fixed step up to the far end of the scene and halves the step in which it went under
ground; it has the step asked for, and is right where no edge is thinner than that. "Right" counts the rays whose distance
is within 1 cm or 0.01 percent of that of the exact renderer in float64.
"""

import argparse
import math
import os
from pathlib import Path

import numpy as np
import torch

from gensat.geo.elevation import HeightMap
from gensat.render.cameras import Panorama
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.rays import Rays

from .common import machine, pairs, seconds, table


def surface(kind: str) -> tuple[HeightField, str]:
    """Alexandria, or blocks of 8 to 30 m between streets on a hill."""
    root = Path(os.environ.get("GENSAT_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    file = root / "rasters" / "urban_heights" / "dsm.tif"
    if file.is_file():
        heights, name = torch.from_numpy(HeightMap.open(file).without_holes().heights), "Alexandria, 2 m"
    else:
        draw = np.random.default_rng(0)
        blocks = draw.uniform(8, 30, (16, 18)) * (draw.random((16, 18)) < 0.8)
        grid = np.kron(blocks, np.pad(np.ones((12, 12)), ((0, 4), (0, 4))))
        heights, name = torch.tensor(grid + 0.02 * np.arange(grid.shape[1]), dtype=torch.float32), "made, 2 m"
    return HeightField(heights, Grid.centred(*heights.shape, 2.0), kind, float(heights.min())), name


def march(field: HeightField, rays: Rays, step: float, far: float) -> torch.Tensor:
    """Metres to the first sample that is under ground, then 20 halvings; inf for none."""
    o, d = rays.origins, rays.directions
    t = torch.full_like(o[:, 0], torch.inf)
    live = torch.arange(len(o), device=o.device)
    highest = float(field.heights.max())
    for k in range(1, math.ceil(far / step) + 1):
        at = o[live] + k * step * d[live]
        under = at[:, 2] <= field.height_at(at[:, 0], at[:, 1])
        t[live[under]] = k * step
        live = live[~under & ((at[:, 2] <= highest) | (d[live, 2] < 0))]
        if not len(live):
            break
    found = torch.nonzero(torch.isfinite(t))[:, 0]
    low, high = t[found] - step, t[found]
    for _ in range(20):
        middle = (low + high) / 2
        at = o[found] + middle[:, None] * d[found]
        under = at[:, 2] <= field.height_at(at[:, 0], at[:, 1])
        low, high = torch.where(under, low, middle), torch.where(under, middle, high)
    return t.index_put((found,), high)


def right(t: torch.Tensor, exact: torch.Tensor, far: float) -> float:
    """Share of rays, in percent, that are within 1 cm or 0.01 percent; both beyond ``far`` counts as right."""
    both = (t.double() > far) & (exact > far)
    close = (t.double() - exact).abs() <= torch.clamp(1e-4 * exact, min=0.01)
    return 100 * float((both | close).double().mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5, help="pairs a row")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--steps", type=float, nargs="*", default=[1.0, 0.25], help="metres of the marcher")
    parser.add_argument("--finest", type=float, default=0.05, help="metres; timed once")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for kind in ("columns", "bilinear"):
        field, name = surface(kind)
        x, y = 10.0, 20.0
        z = float(field.height_at(torch.tensor(x), torch.tensor(y))) + 1.7
        pano = Panorama(options.width, options.width // 2, np.array([x, y, z]))
        far = float(np.hypot(field.grid.rows, field.grid.columns) * field.grid.step / 2)
        exact = field.cast(pano.rays(dtype=torch.float64).flat()).t
        field, rays = field.to(device), pano.rays(device).flat()
        ours = lambda field=field, rays=rays: field.cast(rays)  # noqa: E731
        share = right(ours().t.cpu(), exact, far)
        for step in options.steps:
            marcher = lambda step=step, field=field, rays=rays, far=far: march(field, rays, step, far)  # noqa: E731
            timed = pairs(marcher, ours, runs=options.runs)
            quality = f"{right(marcher().cpu(), exact, far):.2f} / {share:.2f}"
            rows.append(
                (
                    f"{kind}, step {step:g} m",
                    f"{1e3 * timed.second:.0f}",
                    f"{1e3 * timed.first:.0f}",
                    timed.text(),
                    quality,
                )
            )
        results: list[torch.Tensor] = []
        spent = seconds(
            lambda into=results, field=field, rays=rays, far=far: into.append(march(field, rays, options.finest, far))
        )
        mine = seconds(ours)
        quality = f"{right(results[0].cpu(), exact, far):.2f} / {share:.2f}"
        times = f"{1e3 * mine:.0f}", f"{1e3 * spent:.0f}", f"{spent / mine:.1f}"
        rows.append((f"{kind}, step {options.finest:g} m (once)", *times, quality))
    print(f"{machine()}; {name}, {options.width} x {options.width // 2} panorama, float32; {options.runs} pairs\n")
    print(table(rows, ("surface", "exact ms", "marcher ms", "marcher / exact", "right %, marcher / exact")))


if __name__ == "__main__":
    main()
