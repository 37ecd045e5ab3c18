"""What every training shares: the recipe, a resumable step loop on accelerate, EMA, logs and atomic checkpoints.

Every random draw is a pure function of (seed, step), so a run that is killed and resumed continues as if it had not been.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file

from ..errors import InputError

LossFunction = Callable[[Any, int], dict[str, torch.Tensor]]


def load_recipe(name: str, overrides: list[str] | None = None) -> DictConfig:
    """A recipe by name (``recipes/NAME.yaml``) or path, with ``key=value`` overrides merged over it."""
    path = Path(name)
    if path.suffix == ".yaml" and path.is_file():
        recipe = OmegaConf.load(path)
    else:
        source = files(__package__) / "recipes" / f"{name}.yaml"
        if not source.is_file():
            known = sorted(p.name[:-5] for p in (files(__package__) / "recipes").iterdir() if p.name.endswith(".yaml"))
            raise InputError(f"No recipe {name!r}: give a .yaml file or one of {', '.join(known)}.")
        with as_file(source) as real:
            recipe = OmegaConf.load(real)
    OmegaConf.set_struct(recipe, True)
    try:
        return cast(DictConfig, OmegaConf.merge(recipe, OmegaConf.from_dotlist(overrides or [])))
    except Exception as error:
        raise InputError(
            f"Recipe {name!r} does not take these overrides ({error}); see the keys in the recipe file."
        ) from error


def cosine_rate(step: int, *, steps: int, warmup: int, floor: float = 0.02) -> float:
    """Linear warm-up, then cosine decay from 1 to ``floor`` at ``steps``."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


class Trainer:
    """Runs ``loss(model, step) -> {"loss": ..., more figures}`` to ``recipe.steps`` with AdamW, EMA and checkpoints in ``recipe.out``."""

    def __init__(self, model: torch.nn.Module, recipe: DictConfig):
        self.recipe, self.out = recipe, Path(recipe.out)
        self.out.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(recipe, self.out / "recipe.yaml", resolve=True)
        precision = recipe.precision or "no"  # YAML reads a bare no as False
        self.accelerator = Accelerator(mixed_precision=precision, cpu=not torch.cuda.is_available())
        trained = [p for p in model.parameters() if p.requires_grad]
        decay = [p for p in trained if p.ndim > 1]
        plain = [p for p in trained if p.ndim <= 1]
        groups = [{"params": decay, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, recipe.beta2), fused=True)
        self.model, self.optimizer = self.accelerator.prepare(model.train(), optimizer)
        self.ema = EMAModel(trained, decay=recipe.ema, use_ema_warmup=True, power=0.75)
        self.ema.to(self.accelerator.device)
        self.parameters, self.step = trained, 0
        self._resume()

    @property
    def plain(self) -> Any:
        """The model without accelerate's wrapping."""
        return self.accelerator.unwrap_model(self.model)

    def _resume(self) -> None:
        found = sorted(self.out.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
        if not found:
            return
        state = torch.load(found[-1] / "state.pt", map_location="cpu", weights_only=True)
        self.plain.load_state_dict(load_file(found[-1] / "model.safetensors"))
        self.optimizer.load_state_dict(state["optimizer"])
        self.ema.load_state_dict(state["ema"])
        self.ema.to(self.accelerator.device)
        self.step = state["step"]
        self.accelerator.print(f"resumed {found[-1].name}")

    def save(self) -> None:
        """Write model, EMA, optimizer and position beside the last checkpoint, then rename; the last two are kept."""
        if not self.accelerator.is_main_process:
            return
        final, fresh = self.out / f"checkpoint-{self.step}", self.out / f".fresh-{os.getpid()}"
        fresh.mkdir(exist_ok=True)
        save_file({k: v.contiguous() for k, v in self.plain.state_dict().items()}, fresh / "model.safetensors")
        state = {"optimizer": self.optimizer.state_dict(), "ema": self.ema.state_dict(), "step": self.step}
        torch.save(state, fresh / "state.pt")
        if final.exists():
            shutil.rmtree(final)
        fresh.rename(final)
        for old in sorted(self.out.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))[:-2]:
            shutil.rmtree(old)

    def save_ema(self, folder: Path, save: Callable[[Any, Path], None]) -> None:
        """Call ``save(model, folder)`` while the model holds the EMA weights."""
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        try:
            save(self.plain, folder)
        finally:
            self.ema.restore(self.parameters)

    def run(self, loss: LossFunction, *, on_save: Callable[["Trainer"], None] | None = None) -> None:
        """Train to the recipe's steps, or until its ``minutes`` are over; interrupting saves a checkpoint first."""
        recipe, started, seen = self.recipe, time.time(), self.step
        figures: dict[str, list[float]] = {}
        try:
            while self.step < recipe.steps:
                rate = recipe.lr * cosine_rate(self.step, steps=recipe.steps, warmup=recipe.warmup)
                for group in self.optimizer.param_groups:
                    group["lr"] = rate
                with self.accelerator.autocast():
                    values = loss(self.model, self.step)
                self.accelerator.backward(values["loss"])
                norm = self.accelerator.clip_grad_norm_(self.parameters, recipe.clip)
                if not torch.isfinite(norm):
                    self.accelerator.print(f"step {self.step}: gradient is not finite, step skipped")
                else:
                    self.optimizer.step()
                    self.ema.step(self.parameters)
                self.optimizer.zero_grad(set_to_none=True)
                self.step += 1
                for name, value in values.items():
                    figures.setdefault(name, []).append(float(value.detach()))
                if self.step % recipe.log_every == 0:
                    self._log({k: sum(v) / len(v) for k, v in figures.items()}, rate, started, seen)
                    figures = {}
                over = recipe.minutes and time.time() - started > 60 * recipe.minutes
                if self.step % recipe.save_every == 0 or self.step == recipe.steps or over:
                    self.save()
                    if on_save:
                        on_save(self)
                if over:
                    break
        except KeyboardInterrupt:
            self.save()
            raise

    def _log(self, figures: dict[str, float], rate: float, started: float, seen: int) -> None:
        per_second = (self.step - seen) * self.recipe.batch / (time.time() - started)
        line = {
            "step": self.step,
            **{k: round(v, 5) for k, v in figures.items()},
            "lr": rate,
            "samples_per_s": round(per_second, 2),
        }
        if self.accelerator.is_main_process:
            with open(self.out / "log.jsonl", "a") as log:
                log.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
