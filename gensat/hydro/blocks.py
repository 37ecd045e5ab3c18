"""Connected cells of rasters larger than memory: label block by block, join labels across block edges, label again.

Only labels that touch a block's edge can go on in another block, so the union-find holds those alone: its memory grows
with the length of the edges, not with the area.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int
from rasterio.windows import Window
from scipy.ndimage import label

from gensat.errors import InputError
from gensat.hydro.bathtub import STRUCTURES, require_neighbours

BLOCK = 1024
"""Cells of a side of a block, by default."""


@dataclass(frozen=True)
class Blocks:
    """A raster cut into blocks; those of the last row and column may be smaller.

    Args:
        height: rows of the raster.
        width: columns.
        side: rows and columns of a block.
    """

    height: int
    width: int
    side: int = BLOCK

    def __post_init__(self) -> None:
        if self.side < 2:
            raise InputError(f"blocks of {self.side} cells are too small; give 2 or more")

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """(block row, block column), row by row."""
        return ((i, j) for i in range(-(-self.height // self.side)) for j in range(-(-self.width // self.side)))

    def __len__(self) -> int:
        return -(-self.height // self.side) * -(-self.width // self.side)

    def window(self, i: int, j: int) -> Window:
        """The cells of a block."""
        top, left = i * self.side, j * self.side
        return Window(left, top, min(self.side, self.width - left), min(self.side, self.height - top))


Cells = Callable[[tuple[int, int]], tuple[Bool[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]]
"""What is open and what is a source in a block; asked twice, and has to answer the same."""


@dataclass
class Reached:
    """Which cells water reaches, block by block: the answer of :func:`reached_by_blocks`."""

    blocks: Blocks
    cells: Cells
    neighbours: int
    fed: dict[tuple[int, int], Int[np.ndarray, " n"]] = field(default_factory=dict)

    def block(self, at: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
        """Of one block, as :func:`gensat.hydro.bathtub.reached` of the whole raster has it there."""
        open_, sources = self.cells(at)
        labels, count = label(open_ | sources, STRUCTURES[self.neighbours])
        fed = np.zeros(count + 1, bool)
        fed[labels[sources]] = True
        fed[self.fed[at]] = True
        return fed[labels] & open_


def reached_by_blocks(
    blocks: Blocks, cells: Cells, *, neighbours: int = 4, on_block: Callable[[], None] = lambda: None
) -> Reached:
    """Cells connected to a source, as :func:`gensat.hydro.bathtub.reached`, without ever holding the raster.

    Args:
        blocks: how the raster is cut.
        cells: open cells and sources of a block.
        neighbours: 4 or 8.
        on_block: called after each block of the first of two passes.
    """
    require_neighbours(neighbours)
    forest = _Forest()
    own: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}  # labels at the edge of a block, their numbers
    above: dict[int, np.ndarray] = {}  # numbers along the last rows of the blocks above, by block column
    here: dict[int, np.ndarray] = {}
    left = np.empty(0, np.int64)
    for i, j in blocks:
        if j == 0:
            above, here = here, {}
        open_, sources = cells((i, j))
        labels, count = label(open_ | sources, STRUCTURES[neighbours])
        rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
        at_edge = np.unique(rim[rim > 0])
        fed = np.zeros(count + 1, bool)
        fed[labels[sources]] = True
        numbers = forest.add(fed[at_edge])
        own[i, j] = at_edge, numbers
        table = np.full(count + 1, -1, np.int64)
        table[at_edge] = numbers
        first = table[labels[0]]
        if j in above:
            forest.join_lines(above[j], first, neighbours)
        if neighbours == 8 and j - 1 in above:
            forest.join(int(above[j - 1][-1]), int(first[0]))
        if neighbours == 8 and j + 1 in above:
            forest.join(int(above[j + 1][0]), int(first[-1]))
        if j:
            forest.join_lines(left, table[labels[:, 0]], neighbours)
        left, here[j] = table[labels[:, -1]], table[labels[-1]]
        on_block()
    wet = forest.wet()
    return Reached(blocks, cells, neighbours, {at: some[wet[numbers]] for at, (some, numbers) in own.items()})


class _Forest:
    """Union-find over numbered labels; a tree is wet if one of its labels is."""

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.source: list[bool] = []

    def add(self, source: np.ndarray) -> np.ndarray:
        """Numbers of new labels."""
        first = len(self.parent)
        self.parent.extend(range(first, first + len(source)))
        self.source.extend(source.tolist())
        return np.arange(first, first + len(source), dtype=np.int64)

    def root(self, number: int) -> int:
        parent = self.parent
        while parent[number] != number:
            parent[number] = parent[parent[number]]
            number = parent[number]
        return number

    def join(self, a: int, b: int) -> None:
        """One tree of two; -1 is no label."""
        if a < 0 or b < 0:
            return
        a, b = self.root(a), self.root(b)
        if a != b:
            low, high = min(a, b), max(a, b)
            self.parent[high] = low
            self.source[low] = self.source[low] or self.source[high]

    def join_lines(self, a: np.ndarray, b: np.ndarray, neighbours: int) -> None:
        """Labels that touch across an edge between two blocks, straight or, with 8 neighbours, aslant."""
        pairs = [np.stack([a, b])]
        if neighbours == 8:
            pairs += [np.stack([a[1:], b[:-1]]), np.stack([a[:-1], b[1:]])]
        both = np.concatenate(pairs, axis=1)
        for one, other in np.unique(both[:, (both >= 0).all(axis=0)], axis=1).T:
            self.join(int(one), int(other))

    def wet(self) -> np.ndarray:
        """(n) bool of all numbers."""
        return np.array([self.source[self.root(n)] for n in range(len(self.parent))], bool)
