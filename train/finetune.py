"""Fine-tune a model on one's own images: ``gensat train lora|finetune|layout data.shards=FOLDER key=value ...``.

The model is anything that ``gensat.load`` reads: our own (flow matching) or a Stable Diffusion folder of diffusers (noise or velocity
prediction). Latents and text states are encoded once and kept.
"""

import hashlib
import json
import os
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from omegaconf import DictConfig
from safetensors import safe_open
from torch import Tensor

from ..diffusion.codec import Codec
from ..errors import InputError
from ..hub.fingerprint import fingerprint
from ..hub.load import load
from ..hub.resolve import model_folder
from ..hub.spec import ModelSpec
from .cache import cached
from .card import Outcome, count_by, finished, write_card
from .checkpoint import sync
from .device import make_accelerator
from .dropout import make_dropout
from .feed import check_data, identity, samples
from .latents import Entry, TextBank, encode_samples, fitted
from .methods import METHODS, Tuned, result_spec
from .objective import Objective, loss
from .recipe import program, start
from .runner import Trainer
from .sheets import requests, sample_sheet
from .tuning import EpochDraw, told_apart


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.finetune [RECIPE] key=value ...``; without a recipe a LoRA."""
    start(train, "lora", arguments)


def train(recipe: DictConfig) -> Outcome:
    """Train to the recipe; the result lies in ``out/NAME``: LoRA weights, or a model folder, with its card and recipe."""
    if recipe.method not in METHODS:
        raise InputError(f"method is {recipe.method!r}; use one of {', '.join(METHODS)}")
    drop, folder = make_dropout(recipe.dropout), model_folder(recipe.model)
    check_data(recipe.data)
    make_accelerator(recipe)  # before the model: which device this process has, and whether it can do fp16
    torch.manual_seed(recipe.seed)
    pipe: Any = load(folder, dtype="float32")
    pipe.set_progress_bar_config(disable=True)
    base: ModelSpec = pipe.spec
    objective = Objective(pipe.scheduler, prediction=recipe.prediction, snr_gamma=recipe.snr_gamma)
    entries, text = encoded(pipe, recipe)
    model: Tuned = METHODS[recipe.method](pipe, recipe)
    if recipe.compile:
        pipe.unet.compile()
    if recipe.gradient_checkpointing and hasattr(pipe.unet, "enable_gradient_checkpointing"):
        pipe.unet.enable_gradient_checkpointing()
    encoder = pipe.acquisition_encoder
    draw = EpochDraw(
        entries,
        text,
        objective,
        batch=recipe.batch,
        seed=recipe.seed,
        drop=drop,
        sensors=None if encoder is None else list(encoder.config["sensors"]),
        turns=hasattr(pipe.vae, "decoder_halo"),
        layouts=recipe.method == "controlnet",
        shares=dict(recipe.shares),
    )
    trainer = Trainer(model, recipe)
    name = recipe.name or f"{base.name}-{recipe.method}"
    calls = requests(entries, layouts=recipe.method == "controlnet")

    def error(model: Tuned, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"loss": loss(model(batch), batch)}

    def picture() -> Any:
        kept, pipe.spec = pipe.spec, replace(pipe.spec, signals={**pipe.spec.signals, **model_signals(model)})
        try:
            return sample_sheet(pipe, calls, seed=recipe.seed, steps=recipe.sample_steps)
        finally:
            pipe.spec = kept

    def keep(trainer: Trainer) -> None:
        def write(model: Tuned, fresh: Path) -> None:
            model.save(fresh, result_spec(base, name, recipe.method))
            about = {"images": len(entries), "sources": count_by([e.source for e in entries])}
            about |= {"side in pixels": entries[0].image.shape[0]}
            about |= {"with a layout": sum(e.layout is not None and bool(e.layout.any()) for e in entries)}
            option = f"--model {recipe.model} --lora FOLDER" if recipe.method == "lora" else "--model FOLDER"
            write_card(
                fresh,
                trainer,
                title=name,
                summary=f"{SUMMARY[recipe.method]} {base.name}, trained with gensat.",
                licence=f"{base.licence}, and that of the training data",
                use=f'gensat generate "{entries[0].captions[0]}" {option} -o image.tif',
                data=about,
                base=base.name,
                tags=("lora",) if recipe.method == "lora" else (),
            )

        trainer.save_ema(trainer.out / name, write)

    trainer.run(error, draw, on_save=keep, sample=picture if recipe.sample_every else None)
    return finished(trainer, trainer.out / name)


SUMMARY = {"lora": "A LoRA of", "full": "A fine-tuned", "controlnet": "A ControlNet for layouts and edges on"}


def model_signals(model: Tuned) -> dict[str, Any]:
    """Signals that a model takes because of what is being trained."""
    from .assemble import control_signals

    return control_signals() if "controlnet" in model.nets else {}


def encoded(pipe: Any, recipe: DictConfig) -> tuple[list[Entry], TextBank]:
    """The samples as latents of the model's autoencoder, and the states of their captions; both kept in ``data.cache``."""
    data, images = recipe.data, recipe.method == "controlnet"
    cache = Path(data.cache or Path(recipe.out) / "cache")
    size = data.size or common_size(recipe, pipe.spec)
    if size % pipe.spec.multiple or size < pipe.spec.multiple:
        raise InputError(f"data.size is {size}; model {pipe.spec.name} takes multiples of {pipe.spec.multiple}")
    sensors = None if pipe.acquisition_encoder is None else list(pipe.acquisition_encoder.config["sensors"])

    def encode() -> list[Entry]:
        found = told_apart(samples(data), sensors, data.prompt)
        made = encode_samples(found, Codec(pipe.vae), seed=0, clouds=0.0, make=lambda s: [fitted(s, size)])
        # pictures are needed for the edges of a ControlNet only
        return made if images else [replace(e, image=e.image[..., :0]) for e in made]

    key = {"model": fingerprint(pipe), "size": size, "images": images, "prompt": data.prompt, "sensors": sensors}
    text = json.dumps({**key, "data": identity(data)})
    entries = cached(cache, text, encode)
    captions = sorted({c for e in entries for c in e.captions})
    return entries, cached_text(cache, captions, pipe)


def common_size(recipe: DictConfig, spec: ModelSpec) -> int:
    """The median side of the first samples as a multiple that the model takes, inside its limits."""
    sides = [min(s.image.shape[:2]) for s in islice(samples(recipe.data), 64)]
    whole = int(np.median(sides)) // spec.multiple * spec.multiple
    return max(spec.size_limits[0], min(spec.size_limits[1], spec.native_size, whole))


def cached_text(folder: Path, captions: list[str], pipe: Any) -> TextBank:
    """Token states of captions, kept in half precision as ``text-KEY.safetensors``; every run reads them from there."""
    tokens = pipe.spec.defaults.prompt_tokens
    key = hashlib.sha256(json.dumps([captions, tokens, fingerprint(pipe)]).encode()).hexdigest()[:16]
    path = folder / f"text-{key}.safetensors"
    with PartialState().main_process_first():
        if not _readable(path):
            folder.mkdir(parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}.{os.getpid()}")
            TextBank.encode(captions, (pipe.text_encoder, pipe.tokenizer), max_tokens=tokens).save(fresh)
            sync(fresh)
            fresh.rename(path)
    return TextBank.load(path)


def _readable(path: Path) -> bool:
    try:
        with safe_open(path, "pt") as file:
            return "captions" in (file.metadata() or {})
    except Exception:  # missing or damaged: it is made again
        return False


if __name__ == "__main__":
    program(main)
