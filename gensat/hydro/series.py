"""Values over time: hydrographs, stages and hyetographs, with their exact integrals."""

from __future__ import annotations

import csv
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gensat.errors import InputError, require_number
from gensat.geo.raster import require_file

_SECONDS = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "m": 60.0, "min": 60.0, "minute": 60.0, "minutes": 60.0,
            "h": 3600.0, "hr": 3600.0, "hour": 3600.0, "hours": 3600.0, "d": 86400.0, "day": 86400.0, "days": 86400.0}  # fmt: skip
_UNIT = re.compile(r"[a-z]+")


@dataclass(frozen=True, eq=False)
class Series:
    """A value that changes over time, for one scenario or a batch of them.

    Args:
        times: (n) seconds, increasing, float64.
        values: (n) or (n, \\*b), one for each time and scenario, float64.
        steps: whether a value holds until the next time (rain), rather than running straight to the next (levels).
        hold: whether the first and last value hold beyond the times, rather than 0.

    Raises:
        InputError: times that do not increase, or values that are not finite or of another number.
    """

    times: Tensor
    values: Tensor
    steps: bool = False
    hold: bool = True

    def __post_init__(self) -> None:
        if self.times.ndim != 1 or len(self.times) != len(self.values) or not len(self.times):
            raise InputError(f"{len(self.times)} times do not go with {len(self.values)} values; give one for each")
        if not (torch.isfinite(self.times).all() and torch.isfinite(self.values).all()):
            raise InputError("a time series holds a value that is not finite; give numbers")
        if not (self.times.diff() > 0).all():
            raise InputError("the times of a series do not increase; sort them and give each once")

    @classmethod
    def of(cls, value: Series | float | int | Tensor | Sequence[float | int]) -> Series:
        """A series as it is; a number, or one for each scenario, that never changes."""
        if isinstance(value, Series):
            return value
        if isinstance(value, (int, float)):
            value = require_number(value, "the value")
        return cls(torch.zeros(1, dtype=torch.float64), torch.as_tensor(value, dtype=torch.float64)[None])

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, steps: bool = False, hold: bool = True) -> Series:
        """Reads a csv of two columns, time and value.

        The header of the time may name its unit, as in ``hours`` or ``time_min``; without one, times are seconds. Lines
        that begin with ``#`` are left out.

        Args:
            path: the file.
            steps: as of the class.
            hold: as of the class.

        Raises:
            InputError: no such file, no numbers, or times that do not increase.
        """
        path = require_file(path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise InputError(f"{path} is no text; give a csv of time and value") from None
        rows = [row for row in csv.reader(text.splitlines()) if row and row[0].strip() and row[0].strip()[0] != "#"]
        unit = 1.0
        if rows and not _is_number(rows[0][0]):
            words = _UNIT.findall(rows[0][0].lower())
            unit = next((_SECONDS[word] for word in reversed(words) if word in _SECONDS), 1.0)
            rows = rows[1:]
        try:
            pairs = [(float(row[0]) * unit, float(row[1])) for row in rows]
        except (ValueError, IndexError):
            raise InputError(f"{path} is not a table of time and value; give two columns of numbers") from None
        if not pairs:
            raise InputError(f"{path} holds no times and values; give two columns of numbers")
        times, values = torch.tensor(pairs, dtype=torch.float64).T.contiguous()
        try:
            return cls(times, values, steps, hold)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    @property
    def lowest(self) -> float:
        """Smallest value."""
        return float(self.values.min())

    @property
    def highest(self) -> float:
        """Largest value."""
        return float(self.values.max())

    @property
    def peaks(self) -> Tensor:
        """(\\*b) largest value of each scenario."""
        return self.values.amax(0)

    def map(self, change: Callable[[Tensor], Tensor]) -> Series:
        """The series with its values changed, such as to another unit."""
        return Series(self.times, change(self.values), self.steps, self.hold)

    def at(self, time: Tensor) -> Tensor:
        """Values at times.

        Args:
            time: (\\*b) seconds.

        Returns:
            (\\*b) values, float64, on the device of ``time``.
        """
        times, values = self.times.to(time.device), self.values.to(time.device)
        i, inside = self._segment(times, time)
        value = _pick(values, i)
        if not self.steps and len(times) > 1:
            j = (i + 1).clamp(max=len(times) - 1)
            share = ((time - times[i]) / (times[j] - times[i]).clamp(min=1e-300)).clamp(0, 1)
            value = value + share * (_pick(values, j) - value)
        return value if self.hold else torch.where(inside, value, 0)

    def integral(self, start: Tensor, end: Tensor) -> Tensor:
        """Exact integral from ``start`` to ``end``, both (\\*b) seconds; value times seconds, float64."""
        return self._from_first(end) - self._from_first(start)

    def _segment(self, times: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        i = torch.searchsorted(times, time.contiguous(), right=True) - 1
        inside = (i >= 0) & (time <= times[-1])
        return i.clamp(min=0), inside

    def _from_first(self, time: Tensor) -> Tensor:
        """Integral from the first time to ``time``, negative before it."""
        times, values = self.times.to(time.device), self.values.to(time.device)
        i, inside = self._segment(times, time)
        last = len(times) - 1
        width = times.diff().reshape(-1, *[1] * (values.ndim - 1))
        mean = values[:-1] if self.steps else (values[:-1] + values[1:]) / 2
        whole = torch.cat([torch.zeros_like(values[:1]), (mean * width).cumsum(0)])
        part = time - times[i]
        here = _pick(values, i)
        if not self.hold:
            part = torch.where(inside, part, 0)
        total = _pick(whole, i) + here * part
        if not self.steps and last > 0:
            j = (i + 1).clamp(max=last)
            slope = (_pick(values, j) - here) / (times[j] - times[i]).clamp(min=1e-300)
            bend = torch.where((time > times[0]) & (i < last), part, 0)
            total = total + slope * bend**2 / 2
        return total

    def describe(self) -> dict[str, Any]:
        """What is written to run.json and compared on resuming."""
        if len(self.times) == 1 and self.hold:
            return {"value": self.values[0].tolist()}
        return {"seconds": self.times.tolist(), "values": self.values.tolist(), "steps": self.steps, "hold": self.hold}


def described(values: Any) -> Any:
    """What is written of numbers to run.json: one as it is; an array by its shape, mean and digest."""
    array = np.asarray(values)
    if array.size == 1:
        return array.item()
    digest = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return {"shape": list(array.shape), "mean": float(array.mean()), "sha256": digest}


def _pick(values: Tensor, index: Tensor) -> Tensor:
    """values[index] for (n), and for (n, *b) each scenario its own."""
    if values.ndim == 1:
        return values[index]
    return values.gather(0, index.expand(values.shape[1:])[None])[0]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
