"""What every training shares: a resumable step loop on accelerate, EMA, logs and atomic checkpoints.

Every random draw is a pure function of (seed, step, part of the batch), torch's own generator included, so a run that is killed and
resumed continues as if it had not been, and several processes train what one does.
"""

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import broadcast_object_list, send_to_device
from diffusers.training_utils import EMAModel
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader

from ..errors import InputError, ModelError
from . import checkpoint
from .averages import PowerAverages
from .device import make_accelerator
from .logs import Log, say
from .optim import RATES, make_optimizers
from .parts import PartDraw, Parts, part_seed, rows
from .stops import stops

LossFunction = Callable[[Any, Any], dict[str, Tensor]]
_BUCKET = 2**24  # gradient values sent at a time


class Trainer:
    """Runs ``loss(model, draw(step)) -> {"loss": ..., more figures}`` for a recipe, with EMA and checkpoints in ``recipe.out``.

    Raises:
        InputError: fp16 without a GPU, or a checkpoint of another model in ``recipe.out``.
    """

    def __init__(self, model: torch.nn.Module, recipe: DictConfig):
        self.recipe, self.out = recipe, Path(recipe.out)
        self.accelerator = make_accelerator(recipe)
        self.main, self.world = self.accelerator.is_main_process, self.accelerator.num_processes
        self.accumulate = int(recipe.get("accumulate") or 1)
        self.scaler = self.accelerator.scaler  # of fp16, else None
        self.plain: Any = model.train().to(self.accelerator.device)
        self.optimizers = make_optimizers(model, recipe)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.ema = EMAModel(self.parameters, decay=recipe.ema, use_ema_warmup=True, power=0.75)
        self.ema.to(self.accelerator.device)
        widths = recipe.get("averages")
        self.averages = PowerAverages(self.plain, widths) if widths else None
        self.step, self.seconds, self.images = 0, 0.0, 0
        self._pending: dict[str, list[float]] = {}  # figures since the last line of the log
        self._whole, self._saved = True, -1  # not in the middle of an update; step of the last checkpoint
        if self.main:
            self._begin()
        self.accelerator.wait_for_everyone()
        self._resume()

    def _begin(self) -> None:
        """The run's folder, its recipe, and nothing of a killed write."""
        self.out.mkdir(parents=True, exist_ok=True)
        if left := checkpoint.clean(self.out):
            say(f"removed {', '.join(left)}, which a killed run left half-written")
        path = self.out / "recipe.yaml"
        if path.is_file() and checkpoint.checkpoints(self.out):
            before: Any = OmegaConf.to_container(OmegaConf.load(path))
            now: Any = OmegaConf.to_container(self.recipe, resolve=True)
            changed = [k for k, v in now.items() if before.get(k) != v]
            if changed:
                say(f"this run began with another {', '.join(map(str, changed))}: it goes on with the new values")
        fresh = path.with_name(".recipe.yaml")
        OmegaConf.save(self.recipe, fresh, resolve=True)
        fresh.rename(path)

    def _resume(self) -> None:
        found = [str(checkpoint.newest(self.out, say) or "")] if self.main else [""]
        if self.world > 1:
            broadcast_object_list(found)
        if not found[0]:
            return
        path = Path(found[0])
        tensors, state = checkpoint.read(path)
        try:
            report = self.plain.load_state_dict(tensors, strict=False)
            if report.unexpected_keys or set(report.missing_keys) & set(self._tensors()):
                raise ValueError("it holds other tensors")
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            if self.averages and not state.get("averages"):
                raise ValueError("it was begun without averages")
        except (RuntimeError, ValueError, KeyError) as error:
            first = str(error).strip().splitlines()[0][:120]
            raise ModelError(f"{path} is of another model ({first}); choose another out=") from error
        self.ema.load_state_dict(state["ema"])
        if self.averages:
            self.averages.load_state_dict(state["averages"])
        self.ema.to(self.accelerator.device)
        if self.scaler is not None and state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.images, self._pending = state.get("images", 0), state.get("pending", {})
        self._saved = self.step
        if self.main:
            say(f"resumed {path.name}")

    def _tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds of the model: what is trained, and the buffers; frozen weights are where they came from."""
        frozen = {n for n, p in self.plain.named_parameters(remove_duplicate=False) if not p.requires_grad}
        return {k: v for k, v in self.plain.state_dict().items() if k not in frozen}

    def save(self) -> None:
        """Write model, EMA, optimizers, scaler and position; see ``checkpoint.write``."""
        if self.main and self._saved != self.step:
            if self.averages:
                self.averages.write(self.out / "averages", self.step)
            state = {
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
                "ema": self.ema.state_dict(),
                "averages": self.averages and self.averages.state_dict(),
                "scaler": None if self.scaler is None else self.scaler.state_dict(),
                "step": self.step,
                "seconds": self.seconds,
                "images": self.images,
                "schedule": {"done": self.done, "rate": self._rate()},
                "pending": self._pending,
            }
            checkpoint.write(self.out, self.step, self._tensors(), state)
        self._saved = self.step
        self.accelerator.wait_for_everyone()

    @contextmanager
    def averaged(self) -> Iterator[Any]:
        """The model while it holds the EMA weights, in evaluation mode."""
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        self.plain.eval()
        try:
            yield self.plain
        finally:
            self.ema.restore(self.parameters)
            self.plain.train()

    def save_ema(self, folder: Path, save: Callable[[Any, Path], None]) -> None:
        """Call ``save(model, fresh folder)`` while the model holds the EMA weights, then replace ``folder`` by it; by one process."""
        if self.main:
            with self.averaged() as model:
                checkpoint.replace_folder(folder, lambda fresh: save(model, fresh))

    @property
    def done(self) -> float:
        """How much of the training is done, 0 to 1: by ``steps``, or by time where the recipe gives only ``minutes``."""
        return self.step / self.recipe.steps if self.recipe.steps else self.seconds / (60 * self.recipe.minutes)

    def _rate(self) -> float:
        schedule = RATES[self.recipe.get("schedule") or "cosine"]
        return schedule(self.step, self.done, warmup=self.recipe.warmup)

    def run(
        self,
        loss: LossFunction,
        draw: Callable[[int], Any] | PartDraw = int,
        *,
        on_save: Callable[["Trainer"], None] | None = None,
        sample: Callable[[], Any] | None = None,
    ) -> None:
        """Train to the recipe's ``steps``, or for its ``minutes`` (those of the runs it resumes included).

        With ``minutes`` alone the learning rate decays over that time. Interrupting (Ctrl-C, SIGTERM) finishes the step and saves a
        checkpoint first; a second interrupt does not wait.

        Args:
            loss: of the model and what was drawn for a part of a step, moved to the device; its entry "loss" is minimised, all are logged.
            draw: CPU tensors for a step, a pure function of it; made ahead by ``recipe.workers`` processes where there are any.
            on_save: called after each checkpoint, by every process.
            sample: makes a picture (PIL) from the model, which holds the EMA weights then; called every ``recipe.sample_every`` steps
                and at the end, by one process.

        Raises:
            InputError: the recipe has neither steps nor minutes, or a batch that the processes cannot share evenly.
        """
        recipe = self.recipe
        if not (recipe.steps or recipe.minutes):
            raise InputError("the recipe has neither steps nor minutes; give one, or both")
        log = self._open_log()
        clock, since, seen, before = time.time(), self.seconds, self.images, self.seconds
        batches = self._batches(draw)
        try:
            with stops() as stop:
                if self.done >= 1 and on_save:  # a run killed between its last checkpoint and this
                    on_save(self)
                while self.done < 1:
                    rate = self._rate()
                    self._update(loss, next(batches), rate)
                    self.seconds, stopping = self._agreed(since + time.time() - clock, bool(stop))
                    if log:
                        log.advance(self.step if recipe.steps else self.seconds)
                    if self.step % recipe.log_every == 0:
                        speed = (self.images - seen) / max(1e-9, self.seconds - before)
                        seen, before = self.images, self.seconds
                        means = self._means()
                        if log:
                            log.write(self.step, {**means, "lr": recipe.lr * rate, "samples_per_s": round(speed, 2)})
                    over = bool(recipe.minutes and self.seconds >= 60 * recipe.minutes)
                    last = self.done >= 1 or over
                    if self.step % recipe.save_every == 0 or last or stopping:
                        self.save()
                        if on_save:
                            on_save(self)
                    if sample and recipe.get("sample_every") and (last or self.step % recipe.sample_every == 0):
                        self._picture(sample, log)
                    if stopping and not last:
                        raise KeyboardInterrupt
                    if over:
                        break
        except KeyboardInterrupt:
            if self._whole:
                self.save()
            raise
        finally:
            if log:
                log.close()

    def _open_log(self) -> Log | None:
        if not self.main:
            return None
        log = Log(self.out, self.step, board=bool(self.recipe.get("tensorboard", True)), label=self.out.name)
        log.open(self.recipe.steps or 60 * self.recipe.minutes, "steps" if self.recipe.steps else "seconds")
        return log

    def _batches(self, draw: Callable[[int], Any] | PartDraw) -> Iterator[list[Any]]:
        workers = self.recipe.get("workers") or 0
        first = self.accelerator.process_index * self.accumulate
        return iter(
            DataLoader(
                Parts(draw, first, self.accumulate, self.world * self.accumulate),
                batch_size=None,
                sampler=itertools.count(self.step),
                num_workers=workers,
                prefetch_factor=4 if workers else None,
                pin_memory=self.accelerator.device.type == "cuda",
                collate_fn=_as_it_is,
            )
        )

    def _update(self, loss: LossFunction, parts: list[Any], rate: float) -> None:
        """Gradients of all parts, one step of the optimizers and of the EMA."""
        for optimizer, peak in zip(self.optimizers, (self.recipe.lr, self.recipe.get("muon")), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = peak * rate * group.get("factor", 1.0)
        values: dict[str, Tensor] = {}
        first = self.accelerator.process_index * self.accumulate
        for k, part in enumerate(parts):
            torch.manual_seed(part_seed(self.recipe.get("seed") or 0, self.step, first + k))
            batch = send_to_device(part, self.accelerator.device, non_blocking=True)
            with self.accelerator.autocast():
                found = loss(self.plain, batch)
            total = found["loss"] / len(parts)
            (total if self.scaler is None else self.scaler.scale(total)).backward()
            for name, value in found.items():
                values[name] = values.get(name, 0) + value.detach().float() / len(parts)
        self._share_gradients()
        self._whole = False
        self._step_optimizers()
        for name, value in values.items():
            self._pending.setdefault(name, []).append(float(value))
        self.images += (sum(map(rows, parts)) or self.recipe.batch // self.world) * self.world
        self.step += 1
        self._whole = True

    def _step_optimizers(self) -> None:
        if self.scaler is not None:
            for optimizer in self.optimizers:
                self.scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip)
        finite = bool(torch.isfinite(norm))
        if self.scaler is not None:  # it leaves the step out by itself, and lowers its scale
            for optimizer in self.optimizers:
                self.scaler.step(optimizer)
            self.scaler.update()
        elif finite:
            for optimizer in self.optimizers:
                optimizer.step()
        if finite:
            self.ema.step(self.parameters)
            if self.averages:
                self.averages.step(self.step + 1)
        elif self.main:
            say(f"step {self.step}: gradient is not finite, step skipped")
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def _share_gradients(self) -> None:
        """The mean of the processes' gradients, in all of them.

        The model is not wrapped in DistributedDataParallel, so that a loss may call any part of it; the price is that sending
        does not overlap with the backward pass.
        """
        if self.world == 1:
            return
        waiting: list[Tensor] = []
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        for k, gradient in enumerate(gradients):
            waiting.append(gradient)
            if k + 1 < len(gradients) and sum(g.numel() for g in waiting) < _BUCKET:
                continue
            flat: Any = self.accelerator.reduce(torch.cat([g.reshape(-1) for g in waiting]), "mean")
            for mine, mean in zip(waiting, flat.split([g.numel() for g in waiting]), strict=True):
                mine.copy_(mean.view_as(mine))
            waiting = []

    def _agreed(self, seconds: float, stop: bool) -> tuple[float, bool]:
        """The main process's clock, and whether any process was told to stop: all have to leave at the same step."""
        if self.world == 1:
            return seconds, stop
        mine = torch.tensor([seconds if self.main else 0.0, float(stop)], device=self.accelerator.device)
        told: Any = self.accelerator.reduce(mine, "sum")
        return float(told[0]), bool(told[1] > 0)

    def _means(self) -> dict[str, float]:
        """Figures since the last line, the mean over steps and processes."""
        names = sorted(self._pending)
        values = torch.tensor([sum(self._pending[n]) / len(self._pending[n]) for n in names], dtype=torch.float64)
        self._pending = {}
        if self.world > 1:
            shared: Any = self.accelerator.reduce(values.float().to(self.accelerator.device), "mean")
            values = shared.cpu()
        means = dict(zip(names, (round(v, 5) for v in values.tolist()), strict=True))
        return {k: means[k] for k in sorted(means, key=lambda name: name != "loss")}

    def _picture(self, sample: Callable[[], Any], log: Log | None) -> None:
        if log:
            with self.averaged(), torch.no_grad():
                log.picture(self.step, sample())
        self.accelerator.wait_for_everyone()


def _as_it_is(parts: Any) -> Any:
    return parts
