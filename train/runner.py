"""What every training shares: the recipe, a resumable step loop on accelerate, EMA, logs and atomic checkpoints.

Every random draw is a pure function of (seed, step), so a run that is killed and resumed continues as if it had not been.
"""

import itertools
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import send_to_device
from diffusers.training_utils import EMAModel
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset

from ..errors import InputError

LossFunction = Callable[[Any, Any], dict[str, torch.Tensor]]


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


def cosine_rate(step: int, done: float, *, warmup: int, floor: float = 0.02) -> float:
    """Linear warm-up over the first steps, times cosine decay from 1 to ``floor`` as ``done`` goes from 0 to 1."""
    return min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def make_optimizers(model: torch.nn.Module, recipe: DictConfig) -> list[torch.optim.Optimizer]:
    """AdamW; with ``recipe.muon`` (a learning rate) Muon for the matrices of transformer blocks and AdamW for the rest.

    Muon (Jordan et al. 2024) steps along the orthogonalised momentum, here with AdamW's root mean square (Liu et al. 2025, eq. 4).
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    muon = recipe.get("muon")
    matrices = [p for n, p in named if muon and p.ndim == 2 and ".blocks." in f".{n}" and not n.endswith("table")]
    held = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in held]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, recipe.beta2), fused=True)]
    if matrices:
        made.append(
            torch.optim.Muon(matrices, lr=muon, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    return made


class Draws(Dataset):
    """``draw(step)`` as a dataset, for torch's DataLoader."""

    def __init__(self, draw: Callable[[int], Any]):
        self.draw = draw

    def __getitem__(self, step: int) -> Any:
        return self.draw(step)


class Trainer:
    """Runs ``loss(model, draw(step)) -> {"loss": ..., more figures}`` for a recipe, with EMA and checkpoints in ``recipe.out``."""

    def __init__(self, model: torch.nn.Module, recipe: DictConfig):
        self.recipe, self.out = recipe, Path(recipe.out)
        self.out.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(recipe, self.out / "recipe.yaml", resolve=True)
        precision = recipe.precision or "no"  # YAML reads a bare no as False
        self.accelerator = Accelerator(mixed_precision=precision, cpu=not torch.cuda.is_available())
        trained = [p for p in model.parameters() if p.requires_grad]
        self.model, *self.optimizers = self.accelerator.prepare(model.train(), *make_optimizers(model, recipe))
        self.ema = EMAModel(trained, decay=recipe.ema, use_ema_warmup=True, power=0.75)
        self.ema.to(self.accelerator.device)
        self.parameters, self.step, self.seconds = trained, 0, 0.0
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
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.ema.load_state_dict(state["ema"])
        self.ema.to(self.accelerator.device)
        self.step, self.seconds = state["step"], state["seconds"]
        self.accelerator.print(f"resumed {found[-1].name}")

    def save(self) -> None:
        """Write model, EMA, optimizer and position beside the last checkpoint, then rename; the last two are kept."""
        if not self.accelerator.is_main_process:
            return
        final, fresh = self.out / f"checkpoint-{self.step}", self.out / f".fresh-{os.getpid()}"
        fresh.mkdir(exist_ok=True)
        save_file({k: v.contiguous() for k, v in self.plain.state_dict().items()}, fresh / "model.safetensors")
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        state = {"optimizers": optimizers, "ema": self.ema.state_dict(), "step": self.step, "seconds": self.seconds}
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

    @property
    def done(self) -> float:
        """How much of the training is done, 0 to 1: by ``steps``, or by time where the recipe gives only ``minutes``."""
        return self.step / self.recipe.steps if self.recipe.steps else self.seconds / (60 * self.recipe.minutes)

    def run(
        self,
        loss: LossFunction,
        draw: Callable[[int], Any] = int,
        *,
        on_save: Callable[["Trainer"], None] | None = None,
    ) -> None:
        """Train to the recipe's ``steps``, or for its ``minutes`` (those of the runs it resumes included).

        With ``minutes`` alone the learning rate decays over that time. Interrupting saves a checkpoint first.

        Args:
            loss: of the model and what was drawn for a step, moved to the device; its entry "loss" is minimised, all are logged.
            draw: CPU tensors for a step, a pure function of it; made ahead by ``recipe.workers`` processes where there are any.
            on_save: called after each checkpoint.

        Raises:
            InputError: the recipe has neither steps nor minutes.
        """
        recipe = self.recipe
        if not (recipe.steps or recipe.minutes):
            raise InputError("the recipe has neither steps nor minutes; give one, or both")
        figures: dict[str, list[float]] = {}
        clock, seen, since = time.time(), self.step, self.seconds
        batches = self._batches(draw)
        try:
            while self.done < 1:
                rate = cosine_rate(self.step, self.done, warmup=recipe.warmup)
                for optimizer, peak in zip(self.optimizers, (recipe.lr, recipe.get("muon")), strict=False):
                    for group in optimizer.param_groups:
                        group["lr"] = peak * rate
                batch = send_to_device(next(batches), self.accelerator.device, non_blocking=True)
                with self.accelerator.autocast():
                    values = loss(self.model, batch)
                self._update(values["loss"])
                self.step, self.seconds = self.step + 1, since + time.time() - clock
                for name, value in values.items():
                    figures.setdefault(name, []).append(float(value.detach()))
                if self.step % recipe.log_every == 0:
                    speed = (self.step - seen) * recipe.batch / (self.seconds - since)
                    means = {k: round(sum(v) / len(v), 5) for k, v in figures.items()}
                    self._log({**means, "lr": recipe.lr * rate, "samples_per_s": round(speed, 2)})
                    figures = {}
                over = recipe.minutes and self.seconds >= 60 * recipe.minutes
                if self.step % recipe.save_every == 0 or self.done >= 1 or over:
                    self.save()
                    if on_save:
                        on_save(self)
                if over:
                    break
        except KeyboardInterrupt:
            self.save()
            raise

    def _batches(self, draw: Callable[[int], Any]) -> Iterator[Any]:
        workers = self.recipe.get("workers") or 0
        return iter(
            DataLoader(
                Draws(draw),
                batch_size=None,
                sampler=itertools.count(self.step),
                num_workers=workers,
                prefetch_factor=4 if workers else None,
                pin_memory=self.accelerator.device.type == "cuda",
            )
        )

    def _update(self, loss: torch.Tensor) -> None:
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.parameters, self.recipe.clip)
        if torch.isfinite(norm):
            for optimizer in self.optimizers:
                optimizer.step()
            self.ema.step(self.parameters)
        else:
            self.accelerator.print(f"step {self.step}: gradient is not finite, step skipped")
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def _log(self, figures: dict[str, float]) -> None:
        if self.accelerator.is_main_process:
            line = json.dumps({"step": self.step, **figures})
            with open(self.out / "log.jsonl", "a") as log:
                log.write(line + "\n")
            print(line, flush=True)
