"""The processes that ``accelerate launch`` started together, on one GPU each: who this one is, its share of the work, and what all of them made.

Noise depends on the seed alone, so who makes an image does not change it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Team:
    """``size`` processes, of which this is number ``rank`` (0 ... size - 1); a process started alone is a team of one."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> "Team":
        """The team of this process, as its launcher (accelerate, torchrun) wrote it into the environment."""
        return cls(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))

    def share(self, work: Sequence[T]) -> Sequence[T]:
        """Every ``size``-th piece of work, from number ``rank`` on: all processes together do each piece once."""
        return work[self.rank :: self.size]

    def gather(self, made: list[T]) -> list[T]:
        """What all processes made, in the order of their ranks; waits until each of them has called this."""
        if self.size == 1:
            return made
        import torch
        from accelerate import PartialState
        from accelerate.utils import gather_object

        PartialState(cpu=not torch.cuda.is_available())
        return gather_object(made)
