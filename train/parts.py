"""One global batch in equal parts: over the processes of ``accelerate launch``, and over the passes that gradients add up in.

Part k of n of a step is the same whoever computes it, so two processes train what one does with twice the passes.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch.utils.data import Dataset

from ..errors import InputError


@runtime_checkable
class PartDraw(Protocol):
    """A draw that can make part ``index`` of ``count`` of a step's batch without the others."""

    def part(self, step: int, index: int, count: int) -> Any:
        """CPU tensors of one part."""
        ...


class Parts(Dataset):
    """For a step, the parts that one process has to compute, for torch's DataLoader.

    Args:
        draw: a ``PartDraw``, or a function of the step that makes the whole batch, which is then cut.
        first: the process's first part.
        own: how many parts it computes.
        count: parts of the whole batch.
    """

    def __init__(self, draw: Callable[[int], Any] | PartDraw, first: int, own: int, count: int):
        self.draw, self.mine, self.count = draw, range(first, first + own), count

    def __getitem__(self, step: int) -> list[Any]:
        if isinstance(self.draw, PartDraw):
            return [self.draw.part(step, index, self.count) for index in self.mine]
        whole = self.draw(step)
        return [take(whole, index, self.count) for index in self.mine]


def take(batch: Any, index: int, count: int) -> Any:
    """Every ``count``-th row from ``index`` on of all tensors and lists in a batch; numbers and texts stay whole.

    Raises InputError where the rows cannot be divided evenly: the mean of the parts would not be that of the batch.
    """
    if count == 1:
        return batch
    if isinstance(batch, dict):
        return {key: take(value, index, count) for key, value in batch.items()}
    if isinstance(batch, tuple):
        return tuple(take(value, index, count) for value in batch)
    if isinstance(batch, list) or (isinstance(batch, torch.Tensor) and batch.ndim):
        if len(batch) % count:
            raise InputError(
                f"a batch of {len(batch)} cannot be divided among {count} parts (processes times accumulate); "
                f"give a multiple of {count}"
            )
        return batch[index::count]
    return batch


def rows(batch: Any) -> int:
    """Images in a batch: the length of its first tensor, 0 where there is none."""
    if isinstance(batch, torch.Tensor):
        return len(batch) if batch.ndim else 0
    inner = batch.values() if isinstance(batch, dict) else batch if isinstance(batch, list | tuple) else ()
    return next((n for n in map(rows, inner) if n), 0)


def part_seed(seed: int, step: int, part: int) -> int:
    """Seed of torch's own generator (dropout layers) for one part of one step."""
    return int(np.random.SeedSequence([seed, step, part]).generate_state(1, np.uint64)[0] >> 1)
