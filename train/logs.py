"""What a training says while it runs: JSON lines and TensorBoard in its folder, a bar on a terminal, plain lines elsewhere."""

import json
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LOG = "log.jsonl"
quiet = False
"""Whether nothing is said on stderr; set by ``gensat train --quiet``."""


def say(text: str) -> None:
    """A line for people, on stderr."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


class Log:
    """The log of one run: ``log.jsonl``, TensorBoard events where the package is installed, and what people see.

    Args:
        out: folder of the run.
        step: where the run stands; lines of later steps, which a killed run wrote and this one will write again, are removed.
        board: whether TensorBoard events are written.
        label: shown before the bar.
    """

    def __init__(self, out: Path, step: int, *, board: bool = True, label: str = ""):
        self.out, self.label = out, label
        self._bar: Any = None
        self._writer: Any = None
        self._board, self._first = board and find_spec("tensorboard") is not None, step
        _cut(out / LOG, step)

    def open(self, total: float | int, unit: str) -> None:
        """Show a bar if stderr is a terminal; ``total`` is in the unit that ``advance`` counts in."""
        if quiet or not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        count = [MofNCompleteColumn()] if unit == "steps" else [TextColumn("{task.percentage:.0f} %")]
        columns = [TextColumn("{task.description}"), BarColumn(), *count, TextColumn("{task.fields[figures]}")]
        self._bar = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task(self.label, total=total, figures="")
        self._bar.start()

    def advance(self, done: float | int) -> None:
        """Move the bar to ``done``."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done)

    def write(self, step: int, figures: Mapping[str, float | int]) -> None:
        """One line of figures, everywhere."""
        line = json.dumps({"step": step, **figures})
        with open(self.out / LOG, "a", encoding="utf-8") as file:
            file.write(line + "\n")
        if self._board:
            if self._writer is None:
                from torch.utils.tensorboard import SummaryWriter

                self._writer = SummaryWriter(str(self.out / "tensorboard"), purge_step=self._first)
            for name, value in figures.items():
                self._writer.add_scalar(name, value, step)
        if self._bar is not None:
            speed = f"{figures['samples_per_s']:.1f} images/s  " if "samples_per_s" in figures else ""
            self._bar.update(self._task, figures=f"{speed}loss {figures.get('loss', float('nan')):.4f}")
        else:
            say(line)

    def picture(self, step: int, image: Any) -> None:
        """A sample sheet (PIL) as ``samples/step-STEP.png``, and in TensorBoard."""
        folder = self.out / "samples"
        folder.mkdir(exist_ok=True)
        fresh = folder / f".step-{step:06d}.png"
        image.save(fresh)
        fresh.rename(folder / f"step-{step:06d}.png")
        if self._writer is not None:
            import numpy as np

            self._writer.add_image("samples", np.asarray(image), step, dataformats="HWC")

    def close(self) -> None:
        """Finish the bar and the files."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def read_log(out: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; a last line that a killed run left half-written is left out."""
    if not (out / LOG).is_file():
        return []
    lines = []
    for text in (out / LOG).read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def _cut(path: Path, step: int) -> None:
    lines = read_log(path.parent)
    kept = [line for line in lines if line.get("step", 0) <= step]
    if not path.is_file() or (len(kept) == len(lines) and path.read_bytes().endswith(b"\n")):
        return
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    fresh.rename(path)
