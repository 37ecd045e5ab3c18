"""Ways on foot: from one point of a scene to another over open ground, around buildings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import shapely
import torch
from jaxtyping import Bool, Float
from rasterio.features import rasterize
from rasterio.transform import from_origin
from scipy.ndimage import distance_transform_edt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from gensat.errors import InputError
from gensat.geo.classes import OTHER_GROUND, ROAD, UNKNOWN, WATER, WOODLAND
from gensat.render.paths import Track
from gensat.render.scene import Scene
from gensat.types import Place

_CELL = 1.0  # metres of the grid that is searched, at least
_PACE = {
    ROAD: 1.0,
    OTHER_GROUND: 1.0,
    UNKNOWN: 1.5,
    WOODLAND: 3.0,
}  # times as long as it is, to walk on a class of ground
_ELSEWHERE = 1.5  # on lawns, fields and so on
_WALLS = 3.0  # metres from walls within which one would rather not walk
_HEAD = 2.0  # metres under which a thing is in the way
_STRAIGHT = 0.4  # metres by which a way may leave the cells it was found on


def find_way(
    scene: Scene,
    start: Place | Sequence[float | int],
    end: Place | Sequence[float | int],
    *,
    clearance: float | int = 1.0,
) -> Track:
    """The cheapest way on foot (Dijkstra on cells of 1 m), as a line with rounded corners.

    Roads and open ground cost their length, woods three times and other ground one and a half times as much, and up to twice that
    within 3 m of walls, so that the way keeps to streets and to their middle. Buildings, trunks and other things, water and what is
    high on a surface model are walked around. Slopes and kerbs count for nothing.

    Args:
        scene: what there is.
        start: a Place, or local (x, y) in metres.
        end: likewise.
        clearance: metres from walls within which nobody walks.

    Raises:
        InputError: one of the points is no place to stand (:meth:`Scene.stand`), or nothing leads from one to the other.
    """
    ends = [np.array(scene.stand(where)[:2]) for where in (start, end)]
    if np.hypot(*(ends[1] - ends[0])) < 1e-6:
        raise InputError("the way begins where it ends; give two places")
    factor = max(1, round(_CELL / scene.grid.step))
    blocked = _coarse(_blocked(scene), factor)
    cell = factor * scene.grid.step
    away = (
        distance_transform_edt(~np.pad(blocked, 1))[1:-1, 1:-1] * cell
        if blocked.any()
        else np.full(blocked.shape, np.inf)
    )
    free = away > clearance
    if not free.any():
        raise InputError(f"no ground of the image is {clearance:g} m from walls; give a smaller clearance")
    cost = _pace(scene)[::factor, ::factor][: free.shape[0], : free.shape[1]] * (1 + np.clip(1 - away / _WALLS, 0, 1))

    def nearest(point: np.ndarray, among: np.ndarray) -> tuple[int, int]:
        row, column = np.nonzero(among)
        x, y = scene.grid.left + (column + 0.5) * cell, scene.grid.top - (row + 0.5) * cell
        best = int(np.argmin(np.hypot(x - point[0], y - point[1])))
        return int(row[best]), int(column[best])

    source, target = (nearest(point, free) for point in ends)
    graph, number = _graph(free, cost, cell)
    length, before = dijkstra(graph, directed=False, indices=number[source], return_predecessors=True)
    if not np.isfinite(length[number[target]]):
        reached = np.zeros(free.shape, bool)
        reached[free] = np.isfinite(length)
        r, c = nearest(ends[1], reached)
        there = scene.name(scene.grid.left + (c + 0.5) * cell, scene.grid.top - (r + 0.5) * cell)
        raise InputError(
            f"no way over open ground leads from {scene.name(*ends[0])} to {scene.name(*ends[1])}; "
            f"the nearest point that can be reached is {there}: go there"
        )
    steps = [int(number[target])]
    while steps[-1] != number[source]:
        steps.append(int(before[steps[-1]]))
    row, column = (index[steps[::-1]] for index in np.nonzero(free))
    middle = np.stack([scene.grid.left + (column + 0.5) * cell, scene.grid.top - (row + 0.5) * cell], axis=1)
    x, y = _rounded(np.concatenate([ends[:1], middle[1:-1], ends[1:]])).T
    return Track(scene.frame, x, y)


def _blocked(scene: Scene) -> Bool[np.ndarray, "h w"]:
    """Pixels that are walked around."""
    blocked = scene.blocked().numpy() | (scene.classes.cpu().numpy() == WATER)
    if scene.water is not None:
        blocked |= torch.isfinite(scene.water).cpu().numpy()
    x, y, z = scene.objects.centre.detach().cpu().unbind(1)
    low = z - scene.objects.half[:, 2].cpu() < scene.height_at(x, y).cpu() + _HEAD
    if low.any():
        wide = scene.objects.half[:, :2].detach().cpu().amax(1)
        discs = shapely.buffer(shapely.points(x[low].numpy(), y[low].numpy()), wide[low].numpy())
        grid = scene.grid
        transform = from_origin(grid.left, grid.top, grid.step, grid.step)
        blocked |= rasterize(list(discs), blocked.shape, transform=transform, all_touched=True) > 0
    return blocked


def _pace(scene: Scene) -> Float[np.ndarray, "h w"]:
    """How many times its length each pixel costs."""
    table = np.full(int(scene.classes.max()) + 1, _ELSEWHERE)
    for code, times in _PACE.items():
        table[code : code + 1] = times
    return table[scene.classes.cpu().numpy()]


def _coarse(values: Bool[np.ndarray, "h w"], factor: int) -> Bool[np.ndarray, "r c"]:
    """Whether any of ``factor`` x ``factor`` cells is set; the last blocks may be smaller."""
    rows, columns = (-(-n // factor) * factor for n in values.shape)
    padded = np.pad(values, ((0, rows - values.shape[0]), (0, columns - values.shape[1])), mode="edge")
    return np.any(padded.reshape(rows // factor, factor, columns // factor, factor), axis=(1, 3))


def _graph(
    free: Bool[np.ndarray, "h w"], cost: Float[np.ndarray, "h w"], cell: float | int
) -> tuple[csr_array, np.ndarray]:
    """Cells joined with their eight neighbours, and the number of each free cell."""
    number = np.full(free.shape, -1)
    number[free] = np.arange(free.sum())
    rows, columns, weights = [], [], []
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        a = (slice(0, free.shape[0] - down), slice(max(0, -right), free.shape[1] - max(0, right)))
        b = (slice(down, None), slice(max(0, right), free.shape[1] + min(0, right)))
        both = free[a] & free[b]
        rows.append(number[a][both])
        columns.append(number[b][both])
        weights.append((cost[a] + cost[b])[both] / 2 * cell * np.hypot(down, right))
    size = int(free.sum())
    weight, row, column = (np.concatenate(v) for v in (weights, rows, columns))
    return csr_array((weight, (row, column)), shape=(size, size)), number


def _rounded(points: Float[np.ndarray, "n 2"], rounds: int = 3) -> Float[np.ndarray, "m 2"]:
    """Straightened within ``_STRAIGHT``, then corners cut off at a quarter of what meets there, again and again (Chaikin 1974)."""
    points = shapely.get_coordinates(shapely.simplify(shapely.LineString(points), _STRAIGHT))
    for _ in range(rounds):
        if len(points) < 3:
            break
        a, b = points[:-1], points[1:]
        cut = np.stack([0.75 * a + 0.25 * b, 0.25 * a + 0.75 * b], axis=1).reshape(-1, 2)
        points = np.concatenate([points[:1], cut[1:-1], points[-1:]])
    return points
