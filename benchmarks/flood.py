"""Flood solvers: cells a second beside landlab's OverlandFlow in the same run, and beside what the memory can carry.

``python -m benchmarks.flood [--clock cpu]``. A basin of hills, all of it wet, so that every cell is stepped; float64. Landlab and ours take turns
(``pairs``), landlab one step and ours several. The bandwidth is that of a triad a = b + s c on arrays of 256 MB in the same
run. With ``--clock cpu`` the ratio is that of processor time: landlab uses one core and ours all, so that by the wall it is larger. The share of it counts what a step must move if every value passes once: 4 arrays in (depth, two discharges, bed), and 3
out that are read before they are written: 80 bytes a cell in float64; of a triad 32 bytes.
"""

import argparse
import time

import numpy as np
import torch

from gensat.hydro.domain import Domain
from gensat.hydro.inertial import LocalInertial
from gensat.hydro.shallow import ShallowWater
from gensat.hydro.solver import Solver

from .common import machine, pairs, seconds, synchronise, table

DX, N, THETA, ALPHA = 10.0, 0.03, 0.8, 0.5
BYTES = 80 / 8  # a cell moves, per byte of a number
STEPS = 5


def basin(side: int) -> tuple[np.ndarray, np.ndarray]:
    """(side, side) bed and depth in metres."""
    y, x = np.meshgrid(*[np.linspace(0, side / 40, side)] * 2, indexing="ij")
    bed = 0.4 * np.sin(x) * np.cos(1.3 * y)
    return bed, 1.5 + 0.3 * np.cos(0.7 * x + y) - bed


def bandwidth() -> float:
    """Bytes a second that all cores move in a triad; the best of ten."""
    import numba

    @numba.njit(parallel=True)
    def triad(a, b, c):
        for i in numba.prange(a.size):
            a[i] = b[i] + 0.5 * c[i]

    a, b, c = (np.ones(2**25) for _ in range(3))
    triad(a, b, c)
    return 32 * a.size / min(seconds(lambda: triad(a, b, c)) for _ in range(10))


def gpu_bandwidth() -> float:
    """The same on a GPU, where a write reads nothing."""
    a, b, c = (torch.ones(2**27, device="cuda", dtype=torch.float64) for _ in range(3))

    def triad() -> None:
        torch.add(b, c, alpha=0.5, out=a)

    triad()
    return 24 * a.numel() / min(seconds(triad) for _ in range(10))


def stepper(solver: Solver, depth: np.ndarray, steps: int = STEPS):
    """A call that takes so many steps, each from the last."""
    here = [solver.start(depth=depth)]

    def run() -> None:
        for _ in range(steps):
            here[0], _ = solver.step(here[0], solver.time_step(here[0]))
        synchronise()

    return run


def landlab_step(bed: np.ndarray, depth: np.ndarray):
    """A call that takes one step of landlab's OverlandFlow; None where landlab is not installed."""
    try:
        from landlab import RasterModelGrid
        from landlab.components import OverlandFlow
    except ImportError:
        return None
    grid = RasterModelGrid((bed.shape[0] + 2, bed.shape[1] + 2), xy_spacing=DX)
    grid.set_closed_boundaries_at_grid_edges(True, True, True, True)
    grid.add_field("topographic__elevation", np.pad(bed, 1, mode="edge").flatten(), at="node")
    grid.add_field("surface_water__depth", np.pad(depth, 1).flatten(), at="node")
    flow = OverlandFlow(grid, mannings_n=N, theta=THETA, alpha=ALPHA)
    return lambda: flow.overland_flow(float(flow.calc_time_step()))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sides", type=int, nargs="*", default=[512, 1024, 2048])
    parser.add_argument("--runs", type=int, default=3, help="pairs a row")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="of the ratio; cpu on a busy machine")
    options = parser.parse_args()
    clock = time.perf_counter if options.clock == "wall" else time.process_time
    carried = bandwidth()
    print(f"{machine()}; ratios by {options.clock} time; a triad moves {carried / 1e9:.1f} GB/s\n")
    rows = []
    for side in options.sides:
        bed, depth = basin(side)
        domain = Domain.flat(side, side, DX, bed=bed, manning=N)
        cells = side * side
        theirs = landlab_step(bed, depth)
        for dtype in ("float64", "float32"):
            ours = stepper(LocalInertial(domain, theta=THETA, courant=ALPHA, dtype=dtype), depth)
            ours()
            spent = [(seconds(ours), time.process_time()) for _ in range(2 * options.runs + 1)]
            rate = STEPS * cells / min(wall for wall, _ in spent)
            busy = (spent[-1][1] - spent[0][1]) / (2 * options.runs)
            width = 8 if dtype == "float64" else 4
            ratio = landlab_rate = "-"
            if theirs is not None and dtype == "float64":
                timed = pairs(theirs, ours, runs=options.runs, clock=clock)
                ratio, landlab_rate = timed.text(STEPS), f"{cells / timed.first / 1e6:.2f}"
            rows.append(
                (
                    f"{side} x {side}, {dtype}",
                    landlab_rate,
                    f"{rate / 1e6:.1f}",
                    ratio,
                    f"{100 * rate * BYTES * width / carried:.0f}",
                    f"{STEPS * cells / busy / 1e6:.1f}",
                )
            )
            print(rows[-1], flush=True)
    print()
    header = (
        "local inertial",
        "landlab, M cells/s",
        "ours, best",
        "ratio",
        "share of the triad, %",
        "M cells per core second",
    )
    print(table(rows, header))
    shallow(options.sides, options.runs)
    if torch.cuda.is_available():
        gpu(options.sides)


def shallow(sides: list[int], runs: int) -> None:
    """Full shallow water: whole steps of two stages. It computes far more than it moves, so memory is not its limit."""
    ways = [("numba", "cpu")] + [(backend, "cuda") for backend in ("torch", "compile") if torch.cuda.is_available()]
    rows = []
    for side in sides:
        bed, depth = basin(side)
        domain = Domain.flat(side, side, DX, bed=bed, manning=N)
        for backend, device in ways:
            run = stepper(ShallowWater(domain, backend=backend, device=device), depth, 2)
            run()
            spent = [(seconds(run), time.process_time()) for _ in range(runs + 1)]
            busy = (spent[-1][1] - spent[0][1]) / runs
            best = 2 * side * side / min(wall for wall, _ in spent)
            rows.append((f"{side} x {side}, {backend}", f"{best / 1e6:.1f}", f"{2 * side * side / busy / 1e6:.1f}"))
            print(rows[-1], flush=True)
    print()
    print(table(rows, ("full shallow water, float64", "M cells/s, best", "M cells per core second")))


def gpu(sides: list[int]) -> None:
    """The same solver on a GPU, plain and compiled."""
    carried = gpu_bandwidth()
    rows = []
    for side in sides:
        bed, depth = basin(side)
        domain = Domain.flat(side, side, DX, bed=bed, manning=N)
        for backend in ("torch", "compile"):
            for dtype in ("float64", "float32"):
                solver = LocalInertial(domain, theta=THETA, backend=backend, device="cuda", dtype=dtype)
                run = stepper(solver, depth, 20)
                run()
                rate = 20 * side * side / min(seconds(run) for _ in range(5))
                width = 8 if dtype == "float64" else 4
                share = 100 * rate * 7 * width / carried
                rows.append((f"{side} x {side}, {backend}, {dtype}", f"{rate / 1e6:.0f}", f"{share:.0f}"))
    print(f"\nGPU; a triad moves {carried / 1e9:.0f} GB/s\n")
    print(table(rows, ("local inertial", "M cells/s", "share of the triad, %")))


if __name__ == "__main__":
    main()
