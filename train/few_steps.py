"""A student that makes images in few steps without guidance, against a critic: ``gensat train few_steps key=value ...``.

First the student, a LoRA on the teacher, learns the teacher's guided velocity (Meng et al. 2023, section 3.1) at the noise levels of its own few steps.
Then its whole way from noise to image is one generator: the gradient of ``critic.Critic`` goes through the decoder and all of the steps, so that nothing
is different when images are made (adversarial diffusion distillation, Sauer et al. 2023, draws single steps instead). What is real to the critic are
real latents through the same decoder: the best that a denoiser could do.
"""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from omegaconf import DictConfig
from torch import Tensor, nn

from ..diffusion.adapters import adapt
from ..diffusion.inputs import DenoiserInputs, concatenate
from ..errors import InputError
from ..hub.load import load
from ..hub.resolve import model_folder, shipped
from ..models.denoiser import LatentDenoiser
from .assemble import on_core, save_model
from .card import Outcome, finished, write_card
from .critic import Critic, convincing, steepness, told_apart
from .denoiser import load_bank
from .dropout import make_dropout, told, untold
from .feed import check_data
from .latents import stacked, turn_each, turns
from .lora import LORA, go_on, save_lora
from .methods import Lora, student_spec
from .paths import inputs_of, levels, way
from .recipe import program, start
from .runner import Trainer
from .sheets import requests, sample_sheet


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.few_steps [RECIPE] key=value ...``."""
    start(train, "few_steps", arguments)


class Contest(nn.Module):
    """The student (a LoRA on the denoiser of ``pipe``) and its critic."""

    def __init__(self, pipe: Any, recipe: DictConfig):
        super().__init__()
        self.lora = Lora(pipe, recipe)
        if recipe.init:
            go_on(pipe.unet, Path(recipe.init))
        self.critic = Critic(pipe.unet.config.text_dim, pipe.unet.config.vector_dim, width=recipe.critic.width)


def train(recipe: DictConfig) -> Outcome:
    """Train to the recipe; the model folder ``out/NAME``, the teacher and a LoRA, is written at every save."""
    if recipe.student_steps < 1 or recipe.critic.window < 4:
        raise InputError("student_steps has to be 1 or more and critic.window 4 or more; correct them")
    check_data(recipe.data)
    folder = model_folder(recipe.model)
    torch.manual_seed(recipe.seed)
    left_out: dict[str, Any] = dict.fromkeys(("text_encoder", "tokenizer")) if recipe.data.text_states else {}
    pipe: Any = load(folder, dtype="float32", **left_out)  # the text encoder may not have come to this machine
    pipe.set_progress_bar_config(disable=True)
    flow = type(pipe.scheduler).__name__ == "FlowMatchEulerDiscreteScheduler"
    if not (flow and isinstance(pipe.unet, LatentDenoiser) and pipe.place_encoder and pipe.acquisition_encoder):
        raise InputError(f"{recipe.model} is not one of our own flow models; few_steps takes those only")
    bank = load_bank(recipe, pipe)
    drop, sensors = make_dropout(recipe.dropout), list(pipe.acquisition_encoder.config.sensors)
    times, sigmas = levels(pipe.scheduler, recipe.student_steps)
    name = recipe.name or f"{pipe.spec.name}-{recipe.student_steps}-steps"
    spec = student_spec(pipe.spec, name, recipe.student_steps)
    teacher = deepcopy(pipe.unet).requires_grad_(False).eval()
    trainer = Trainer(Contest(pipe, recipe), recipe)
    teacher.to(trainer.accelerator.device)
    critic, anchor, contest = trainer.plain.critic, recipe.anchor, recipe.critic
    if recipe.compile:
        pipe.unet.compile(dynamic=False)
        teacher.compile(dynamic=False)
        pipe.vae.decoder.compile(dynamic=False)
    student, master = adapt(pipe.unet), adapt(teacher)

    def draw(step: int) -> dict[str, Any]:
        rng = np.random.default_rng([recipe.seed, step])
        entries = bank.batch(rng, small=3 * recipe.batch, large=recipe.batch, share=recipe.large, crops=recipe.crops)
        x = turn_each(stacked(entries), turns(entries, int(rng.integers(8))))
        room = x.shape[-1] - min(contest.window, x.shape[-1])
        noise = rng.standard_normal((2, *x.shape), dtype=np.float32)
        return told(bank, entries, rng, drop, sensors) | {
            "latents": x,
            "noise": torch.from_numpy(noise[0]),
            "start": torch.from_numpy(noise[1]),
            "level": torch.from_numpy(rng.integers(recipe.student_steps, size=len(x))),
            "row": int(rng.integers(room + 1)),
            "col": int(rng.integers(room + 1)),
            "untold": untold(bank.text_bank, len(x), sensors),
            "step": step,
        }

    def anchored(batch: dict[str, Any], inputs: DenoiserInputs) -> Tensor:
        """Distance of the student's velocity to the teacher's guided one, on real latents at the levels of the student's steps."""
        s = sigmas.to(batch["noise"])[batch["level"]][:, None, None, None]
        x, t = (1 - s) * batch["latents"] + s * batch["noise"], times.to(batch["noise"])[batch["level"]]
        with torch.no_grad():
            both = concatenate([inputs, inputs_of(pipe, batch["untold"])])
            given, nothing = master(x.repeat(2, 1, 1, 1), t.repeat(2), both).float().chunk(2)
        return F.mse_loss(student(x, t, inputs).float(), nothing + anchor.guidance * (given - nothing))

    def seen(latents: Tensor, batch: dict[str, Any]) -> Tensor:
        """Images in [0, 1] of the window of the latents that the critic looks at."""
        row, col, side = batch["row"], batch["col"], contest.window
        return pipe.codec.decode(latents[..., row : row + side, col : col + side]) / 2 + 0.5

    def error(model: Contest, batch: dict[str, Any]) -> dict[str, Tensor]:
        inputs, step = inputs_of(pipe, batch), batch["step"]
        begun, heard = step >= contest["from"], step >= contest["from"] + contest.alone
        figures: dict[str, Tensor] = {}
        total = torch.zeros(())
        if weight := anchor.later if heard else 0.0 if begun else anchor.weight:
            figures["anchor"] = anchored(batch, inputs)
            total = total + weight * figures["anchor"]
        if begun:
            with torch.no_grad():
                real = seen(batch["latents"], batch)
            with torch.set_grad_enabled(heard):
                end = way(lambda x, t: student(x, t, inputs), batch["start"], times, sigmas)[-1]
                made = seen(end, batch)
            asked = (batch["tokens"], batch["mask"], inputs.time_vector)
            with torch.autocast(real.device.type, enabled=False):
                theirs, ours = critic.features(real), critic.features(made)
                theirs = [f.requires_grad_() for f in theirs]
                scores = critic(theirs, *asked)
                figures["told_apart"] = told_apart(scores, critic([f.detach() for f in ours], *asked))
                figures["real"] = torch.stack([s.mean() for s in scores]).mean()
                total = total + figures["told_apart"]
                if heard:
                    figures["convincing"] = convincing(critic.held(ours, *asked))
                    total = total + contest.weight * figures["convincing"]
                if contest.steepness:
                    figures["steep"] = steepness(scores, theirs)
                    total = total + contest.steepness * figures["steep"]
        return {"loss": total, **figures}

    def keep(trainer: Trainer) -> None:
        def write(model: Contest, fresh: Path) -> None:
            core = recipe.model if recipe.model in shipped() else str(folder.resolve())
            save_model(pipe, fresh, on_core(spec, core, pipe))
            save_lora(pipe.unet, (fresh / LORA).parent, half=True)
            write_card(
                fresh,
                trainer,
                title=name,
                summary=f"{pipe.spec.name} in {recipe.student_steps} steps without guidance: a LoRA on it, trained against a critic.",
                licence=f"{pipe.spec.licence}, and that of the training data",
                use='gensat generate "a harbor with boats" --model FOLDER -o image.tif',
                data=bank.about(),
                base=pipe.spec.name,
                tags=("lora", "distillation"),
            )

        trainer.save_ema(trainer.out / name, write)

    def picture() -> Any:
        kept, pipe.spec = pipe.spec, spec  # its steps, and no guidance
        try:
            return sample_sheet(pipe, calls, seed=recipe.seed)
        finally:
            pipe.spec = kept

    calls = requests([e for e in bank.entries if e.latent.shape[-1] == max(bank.by_size)])
    shown = recipe.sample_every and pipe.text_encoder is not None
    trainer.run(error, draw, on_save=keep, sample=picture if shown else None)
    return finished(trainer, trainer.out / name)


if __name__ == "__main__":
    program(main)
