"""Averages of a denoiser's weights of any length, after its training: ``python -m gensat.train.posthoc RUN OUT sigma=0.05,0.1``.

The training must have kept averages (``averages=[0.05,0.1]``; see ``averages``).
"""

from pathlib import Path

from omegaconf import OmegaConf

from ..errors import InputError
from .assemble import forget_origin, load_denoiser, save_scheduler, scheduler_of
from .averages import combine
from .recipe import program


def main(arguments: list[str]) -> None:
    """Write a denoiser's folder for each width: ``OUT`` where there is one, else ``OUT-WIDTH``."""
    given = dict(a.partition("=")[::2] for a in arguments[2:])
    if len(arguments) < 3 or set(given) != {"sigma"}:
        raise InputError("give the run, a folder and widths: python -m gensat.train.posthoc RUN OUT sigma=0.05,0.1")
    run, out = Path(arguments[0]), Path(arguments[1])
    known = run / "recipe.yaml"
    if not known.is_file() or OmegaConf.select(OmegaConf.load(known), "training") != "denoiser":
        raise InputError(f"{run} is not the folder of a denoiser's training (recipe.yaml)")
    if OmegaConf.select(OmegaConf.load(known), "core"):
        raise InputError(f"{run} trained a LoRA, whose averages are not put together; train it with another ema")
    widths = [float(w) for w in given["sigma"].split(",")]
    for sigma in widths:
        weights, step = combine(run / "averages", sigma)
        model = load_denoiser(run / "ema")
        model.load_state_dict(weights, strict=False)
        folder = out if len(widths) == 1 else out.with_name(f"{out.name}-{sigma:g}")
        model.save(folder)
        save_scheduler(scheduler_of(run / "ema"), folder)
        forget_origin(folder)
        print(f"{folder}: step {step}, sigma_rel {sigma:g}")


if __name__ == "__main__":
    program(main)
