"""What a training leaves behind besides weights: its outcome in figures, and the model card (README.md) with its recipe."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from .logs import read_log
from .runner import Trainer


@dataclass(frozen=True)
class Outcome:
    """Where a training left its weights and what it took.

    Args:
        out: folder of the run: log, checkpoints, recipe.
        weights: folder of the result.
        steps: done.
        seconds: spent, those of the runs it resumed included.
        figures: the last line of the log, and what was measured at the end.
    """

    out: Path
    weights: Path
    steps: int
    seconds: float
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "out": str(self.out),
            "weights": str(self.weights),
            "steps": self.steps,
            "seconds": round(self.seconds, 1),
            "figures": dict(self.figures),
        }

    def text(self) -> str:
        """One line for people."""
        loss = f", loss {self.figures['loss']:.4f}" if "loss" in self.figures else ""
        return f"{self.weights}  {self.steps} steps in {self.seconds:.0f} s{loss}"


def finished(trainer: Trainer, weights: Path, **measured: Any) -> Outcome:
    """The outcome of a run."""
    last = (read_log(trainer.out) or [{}])[-1]
    figures = {k: v for k, v in last.items() if k != "step"}
    return Outcome(trainer.out, weights, trainer.step, trainer.seconds, {**figures, **measured})


def write_card(
    folder: Path,
    trainer: Trainer,
    *,
    title: str,
    summary: str,
    licence: str,
    use: str,
    data: Mapping[str, Any],
    base: str | None = None,
    tags: tuple[str, ...] = (),
    measured: Mapping[str, Any] | None = None,
) -> None:
    """Write ``README.md`` and ``recipe.yaml`` beside the weights.

    Args:
        folder: of the weights.
        trainer: of the run, at its end or at a checkpoint.
        title: name of the result.
        summary: what it is, in a sentence or two.
        licence: of the weights.
        use: commands or code, without the fence.
        data: what it was trained on; a table of these entries.
        base: the model it was made from.
        tags: further tags for the hub.
        measured: figures besides the losses.
    """
    recipe, log = trainer.recipe, read_log(trainer.out)
    device = trainer.accelerator.device
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    trained = sum(p.numel() for p in trainer.parameters)
    head = ["---", "library_name: diffusers", f"license: other\nlicense_name: {licence!r}"]
    head += [f"base_model: {base}"] if base else []
    head += ["tags:", *(f"- {tag}" for tag in ("gensat", "remote-sensing", *tags)), "---"]
    compute = {
        "trained parameters": f"{trained:,}",
        "steps": f"{trainer.step:,} of {recipe.batch} images",
        "time": f"{trainer.seconds:.0f} s" + (f" on {trainer.world} processes" if trainer.world > 1 else ""),
        "device": where,
        "precision": trainer.accelerator.mixed_precision.replace("no", "float32"),
        "EMA": recipe.ema,
    }
    lines = [*head, "", f"# {title}", "", summary, "", "## How to use", "", "```sh", use.strip(), "```", ""]
    lines += ["## Data", "", *_table(data), "", "## Training", "", *_table(compute), ""]
    if log:
        names = [k for k in log[0] if k not in ("step", "lr", "samples_per_s")]
        few = log if len(log) <= 6 else [log[round(i * (len(log) - 1) / 5)] for i in range(6)]
        lines += [f"| step | {' | '.join(names)} |", "|" + " --- |" * (len(names) + 1)]
        lines += [f"| {one['step']} | {' | '.join(str(one.get(n, '')) for n in names)} |" for one in few]
        lines += ["", "Each is the mean over the steps since the line before.", ""]
    if measured:
        lines += ["## Measured", "", *_table(measured), ""]
    lines += ["The recipe with every value is in `recipe.yaml`. Images from this model are synthetic.", ""]
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")
    OmegaConf.save(recipe, folder / "recipe.yaml", resolve=True)


def count_by(values: list[str]) -> str:
    """How often each value occurs, the most frequent first."""
    found = sorted({v: values.count(v) for v in values}.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in found[:8]) + (" ..." if len(found) > 8 else "")


def _table(values: Mapping[str, Any]) -> list[str]:
    return ["| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in values.items())]
