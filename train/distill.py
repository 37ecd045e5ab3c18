"""Distil our own model into one that needs few steps and no guidance: ``gensat train distill data.shards=FOLDER key=value ...``.

The student's one step covers several guided steps of the teacher: progressive distillation (Salimans & Ho 2022, section 3) with the
guidance taken along (Meng et al. 2023, section 3.1), in one stage as in knowledge distillation of the sampler (Luhman & Luhman 2021):
the teacher's paths from noise to image are solved once, and the student learns the mean velocity of each of their pieces.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor, nn

from ..diffusion.adapters import adapt
from ..errors import InputError
from ..geo.display import contact_sheet
from ..hub.fingerprint import fingerprint
from ..hub.load import load
from ..hub.resolve import model_folder
from ..metrics.reconstruction import psnr_each
from .assemble import save_model
from .card import Outcome, count_by, finished, write_card
from .device import make_accelerator
from .dropout import make_dropout
from .feed import check_data, samples
from .finetune import cached_text, common_size
from .latents import Entry, fitted
from .logs import say
from .methods import student_spec
from .objective import loss
from .paths import Wishes, inputs_of, kept_paths, key_of, levels, load_paths, solve
from .recipe import program, start
from .runner import Trainer
from .tuning import epoch_order, told_apart


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.distill [RECIPE] key=value ...``."""
    start(train, "distill", arguments)


class Pieces:
    """Batches of pieces of paths, for ``runner.Trainer``: piece k of path i leads from ``states[i, k]`` to ``states[i, k + 1]``."""

    def __init__(self, wishes: Wishes, states: Tensor, times: Tensor, sigmas: Tensor, *, batch: int, seed: int):
        self.wishes, self.states, self.times, self.sigmas = wishes, states, times, sigmas
        self.batch, self.seed = batch, seed
        self.pieces = len(states) * len(times)

    def part(self, step: int, index: int, count: int) -> dict[str, Any]:
        """CPU tensors ``x``, ``t``, ``target`` and the conditions; every piece comes once an epoch."""
        if self.batch % count:
            raise InputError(
                f"a batch of {self.batch} cannot be divided among {count} parts; give a multiple of {count}"
            )
        chosen = [self._piece(step * self.batch + row) for row in range(index, self.batch, count)]
        path, k = (torch.tensor(column) for column in zip(*chosen, strict=True))
        before, after = self.states[path, k].float(), self.states[path, k + 1].float()
        length = (self.sigmas[k + 1] - self.sigmas[k])[:, None, None, None]
        made = self.wishes.told(path.tolist())
        del made["noise"]
        return made | {"x": before, "t": self.times[k], "target": (after - before) / length}

    def _piece(self, position: int) -> tuple[int, int]:
        epoch, place = divmod(position, self.pieces)
        piece = int(epoch_order(self.seed, epoch, self.pieces)[place])
        return divmod(piece, len(self.times))


def train(recipe: DictConfig) -> Outcome:
    """Solve the teacher's paths, train the student on them, measure both; the student is the model folder ``out/NAME``."""
    drop, folder = make_dropout(recipe.dropout), model_folder(recipe.model)
    few, many = recipe.student_steps, recipe.teacher_steps
    if few < 1 or many % few or many == few:
        raise InputError(f"teacher_steps is {many}; give a multiple of student_steps ({few}), such as {5 * few}")
    if recipe.paths < 1 or recipe.chunk < 1 or recipe.held < 1:
        raise InputError("paths, chunk and held have to be 1 or more; correct them")
    check_data(recipe.data)
    processes = make_accelerator(recipe)
    torch.manual_seed(recipe.seed)
    pipe: Any = load(folder, dtype="float32")
    pipe.set_progress_bar_config(disable=True)
    if type(pipe.scheduler).__name__ != "FlowMatchEulerDiscreteScheduler":
        raise InputError(f"{recipe.model} was not trained with flow matching; distillation takes our own models only")
    guidance = pipe.spec.defaults.guidance_scale if recipe.guidance is None else recipe.guidance
    wishes, about = wanted(pipe, recipe, drop)

    total = recipe.paths + recipe.held
    chunks = [range(total)[i : i + recipe.chunk] for i in range(0, total, recipe.chunk)]
    cache = Path(recipe.data.cache or Path(recipe.out) / "cache")
    key = key_of(
        model=fingerprint(pipe),
        shape=wishes.shape,
        steps=(few, many),
        guidance=guidance,
        seed=recipe.seed,
        drop=vars(drop),
        chunk=recipe.chunk,
        data=about,
    )

    def ask(chunk: range) -> Tensor:
        if chunk.start % (8 * recipe.chunk) == 0:
            say(f"teacher: path {chunk.start} of {total}")
        return solve(pipe, wishes, wishes.told(chunk), many, guidance=guidance, every=many // few)

    rank, world = processes.process_index, processes.num_processes
    kept_paths(cache / "paths", key, chunks, ask, rank=rank, world=world)
    processes.wait_for_everyone()
    states = load_paths(cache / "paths", total)
    held = range(recipe.paths, total)
    coarse = solve(pipe, wishes, wishes.told(held), few, guidance=guidance, every=few)[:, -1]
    plain = solve(pipe, wishes, wishes.told(held), few, guidance=1.0, every=few)[:, -1]

    for module in pipe.components.values():
        if isinstance(module, nn.Module):
            module.requires_grad_(False)
    student = pipe.unet.requires_grad_(True)
    times, sigmas = levels(pipe.scheduler, few)
    draw = Pieces(wishes, states[: recipe.paths], times, sigmas, batch=recipe.batch, seed=recipe.seed)
    trainer = Trainer(student, recipe)
    if recipe.compile:
        student.compile()
    denoiser = adapt(student)
    name = recipe.name or f"{pipe.spec.name}-{few}-steps"
    goal = states[recipe.paths :, -1].float()

    def error(model: nn.Module, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"loss": loss(denoiser(batch["x"], batch["t"], inputs_of(pipe, batch)), batch)}

    def own() -> Tensor:
        return solve(pipe, wishes, wishes.told(held), few, guidance=1.0, every=few)[:, -1]

    def picture() -> Image.Image:
        shown = [*_pictures(pipe, goal[:6]), *_pictures(pipe, own()[:6])]
        return contact_sheet(shown, len(shown) // 2, side=max(shown[0].shape))

    def compared() -> dict[str, float]:
        """PSNR in dB to the teacher's many guided steps, the mean over the held paths."""
        aim = pipe.codec.decode(goal) / 2 + 0.5
        ends = {"student": own(), "teacher_guided": coarse, "teacher_unguided": plain}
        made = {k: pipe.codec.decode(v) / 2 + 0.5 for k, v in ends.items()}
        return {f"{k}_{few}_steps_psnr": round(float(psnr_each(v.cpu(), aim.cpu()).mean()), 2) for k, v in made.items()}

    measured: dict[str, float] = {}

    def keep(trainer: Trainer) -> None:
        def write(model: nn.Module, fresh: Path) -> None:
            measured.update(compared())
            spec = pipe.spec
            save_model(pipe, fresh, student_spec(spec, name, few))
            write_card(
                fresh,
                trainer,
                title=name,
                summary=f"{spec.name} distilled: {few} steps without guidance instead of {many} with scale {guidance:g}.",
                licence=spec.licence,
                use='gensat generate "a harbor with boats" --model FOLDER -o image.tif',
                data={**about, "paths of the teacher": recipe.paths},
                base=spec.name,
                tags=("distillation",),
                measured={k.replace("_", " "): f"{v} dB, {recipe.held} held-out paths" for k, v in measured.items()},
            )

        trainer.save_ema(trainer.out / name, write)

    trainer.run(error, draw, on_save=keep, sample=picture if recipe.sample_every else None)
    if not measured and trainer.main:  # a run that was done already
        with trainer.averaged():
            measured.update(compared())
    say(" ".join(f"{k} {v}" for k, v in measured.items()))
    return finished(trainer, trainer.out / name, **measured)


def wanted(pipe: Any, recipe: DictConfig, drop: Any) -> tuple[Wishes, dict[str, Any]]:
    """What the teacher is asked for: conditions of the samples; and what they are, for the card."""
    size = recipe.data.size or common_size(recipe, pipe.spec)
    if size % pipe.spec.multiple or size < pipe.spec.multiple:
        raise InputError(f"data.size is {size}; model {pipe.spec.name} takes multiples of {pipe.spec.multiple}")
    encoder = pipe.acquisition_encoder
    sensors = [] if encoder is None else list(encoder.config["sensors"])
    nothing = np.zeros((0,), np.uint8)
    entries = [
        Entry(s.source, nothing, [s.caption], s.place, s.acquisition, nothing, None, s.key)
        for s in (fitted(s, size) for s in told_apart(samples(recipe.data), sensors, recipe.data.prompt))
    ]
    text = cached_text(
        Path(recipe.data.cache or Path(recipe.out) / "cache"), sorted({e.captions[0] for e in entries}), pipe
    )
    cells = size // pipe.codec.factor
    shape = (pipe.codec.channels, cells, cells)
    about = {"conditions of": f"{len(entries)} samples", "sources": count_by([e.source for e in entries])}
    about |= {"side in pixels": str(size)}
    return Wishes(entries, text, shape=shape, seed=recipe.seed, drop=drop, sensors=sensors), about


def _pictures(pipe: Any, latents: Tensor) -> list[np.ndarray]:
    images = pipe.codec.decode(latents) * 127.5 + 127.5
    return list(images.round().byte().permute(0, 2, 3, 1).cpu().numpy())


if __name__ == "__main__":
    program(main)
