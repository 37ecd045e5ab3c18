"""The whole model in a given time: ``python -m gensat.train.chain OUT minutes=20 [readings=true] [pd=true] [name=NAME] [STAGE.key=value ...]``.

Autoencoder, its decoder alone, denoiser and ControlNet one after the other, each for its share of the minutes with the learning rate
decaying over them, then the model folder ``OUT/NAME`` and, for machines whose files come back only in small pieces, ``OUT/NAME.tar.000``, ``.001``, ... Run again, it goes on.

``readings=true`` first reads layouts and words off the images that have none (``gensat.train.read``, in ``OUT/readings``). ``pd=true`` trains all of
them on the public-domain and CC BY part alone, which makes ``OUT/NAME-pd``, and then a LoRA of its denoiser and a ControlNet on everything: ``OUT/NAME``.
"""

import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import InputError
from .readings import Readings
from .recipe import load_recipe, program

SHARES = {"autoencoder": 0.25, "decoder": 0.1, "denoiser": 0.5, "controlnet": 0.15}
PARTS = {"autoencoder": "decoder", "denoiser": "denoiser", "controlnet": "controlnet"}
"""Parts of a model, and the stage that each comes from."""
ON_ALL = {"denoiser-all": 0.2, "controlnet-all": 0.15}
"""Stages that ``pd=true`` adds: what the model of everything does not share with that of the free part."""
DECODER = ("keep_encoder=true", "disturb=0.5", "loss.perceptual=2", "loss.perceptual_from=0", "lr=3e-4", "warmup=5")
"""How the decoder learns to take latents that are not quite right (docs/experiments.md); else it has the options of the autoencoder."""
LORA = ("lr=5e-4", "muon=null", "ema=0.998", "averages=[]")
"""How a LoRA is trained; else it has the options of the denoiser."""
PIECE = 15 * 2**20
PD = "data.public_domain=true"
FLAGS = ("readings", "pd")
"""Options that are true or false."""


def plan(
    out: Path, minutes: float, overrides: Mapping[str, Sequence[str]], *, readings: bool = False, pd: bool = False
) -> list[list[str]]:
    """The arguments of ``python -m`` for every training."""
    shares = SHARES | ON_ALL if pd else SHARES
    ema = {stage: out / stage / "ema" for stage in shares}
    made = []
    for stage, share in shares.items():
        kind, suffix = stage.removesuffix("-all"), "-all" if stage in ON_ALL else ""
        recipe = "autoencoder" if kind == "decoder" else kind
        given = [f"out={out / stage}", "steps=null", f"minutes={minutes * share / sum(shares.values())}"]
        given += overrides.get(recipe, [])
        if stage == "decoder":
            given += [f"init={ema['autoencoder']}", *DECODER]
        if stage == "denoiser-all":
            given += [f"core={ema['denoiser']}", *LORA]
        if stage == "controlnet-all":
            given += [f"init={ema['controlnet'] / 'controlnet'}"]
        if stage != recipe:
            given += overrides.get(stage, [])
        if pd and stage in SHARES:
            given.append(PD)
        if recipe != "autoencoder":
            given += [f"autoencoder={ema['autoencoder']}", f"data.cache={out / f'latents{suffix}'}"]
            given += [f"data.readings={out / 'readings'}"] if readings else []
        if kind == "controlnet":
            given += [f"denoiser={ema[f'denoiser{suffix}']}"]
        made.append([f"gensat.train.{recipe}", *given])
    return made


def models(out: Path, name: str, overrides: Mapping[str, Sequence[str]], *, pd: bool = False) -> list[list[str]]:
    """The arguments of ``gensat.train.assemble`` for every model folder; one that saw nothing else is ``open``.

    Raises InputError where only some stages are given the public-domain part: the licence would be that of the others.
    """
    given = {part: [overrides[part]] for part in PARTS}
    given["autoencoder"].append([*overrides["autoencoder"], *overrides.get("decoder", [])])
    free = [part for part, all_ in given.items() if all(load_recipe(part, one).data.public_domain for one in all_)]
    if free and len(free) < len(PARTS):
        raise InputError(
            f"data.public_domain is set for {', '.join(free)} only; set it for all of {', '.join(PARTS)}, or give pd=true"
        )
    parts = [f"{part}={out / stage / 'ema'}" for part, stage in PARTS.items()]
    if not pd:
        return [[str(out / name), *parts, *(["open=1"] if free else [])]]
    core = out / f"{name}-pd"
    added = [f"lora={out / 'denoiser-all' / 'ema'}", f"controlnet={out / 'controlnet-all' / 'ema'}"]
    return [[str(core), *parts, "open=1"], [str(out / name), f"core={core}", *added]]


def pieces(folder: Path, limit: int = PIECE) -> list[Path]:
    """The folder as a tar beside it, cut into files of at most ``limit`` bytes; ``cat`` puts them together again."""
    whole = folder.with_name(folder.name + ".tar")
    with tarfile.open(whole, "w") as tar:
        tar.add(folder, arcname=folder.name)
    made: list[Path] = []
    with open(whole, "rb") as source:
        while part := source.read(limit):
            made.append(whole.with_name(f"{whole.name}.{len(made):03d}"))
            made[-1].write_bytes(part)
    whole.unlink()
    return made


def _flag(key: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise InputError(f"{key} is {value!r}; give true or false")
    return value == "true"


def main(arguments: list[str]) -> None:
    """Run the stages, assemble the models, cut them into pieces."""
    if not arguments or "=" in arguments[0]:
        raise InputError("give the folder: python -m gensat.train.chain OUT minutes=20")
    out, minutes, name = Path(arguments[0]), 20.0, "gensat-small"
    flags = dict.fromkeys(FLAGS, False)
    overrides: dict[str, list[str]] = {stage: [] for stage in (*SHARES, *ON_ALL)}
    for argument in arguments[1:]:
        key, _, value = argument.partition("=")
        stage, _, rest = key.partition(".")
        if key == "minutes":
            minutes = float(value)
        elif key == "name":
            name = value
        elif key in flags:
            flags[key] = _flag(key, value)
        elif stage in overrides and rest:
            overrides[stage].append(f"{rest}={value}")
        else:
            raise InputError(
                f"{argument} is neither minutes=, name=, readings=, pd= nor one of {', '.join(overrides)} followed by .key=value"
            )
    folders = models(out, name, overrides, pd=flags["pd"])
    if flags["readings"]:
        root = load_recipe("denoiser", overrides["denoiser"]).data.root
        _run(["gensat.train.read", str(out / "readings"), *([f"root={root}"] if root else [])])
        Readings(out / "readings")
    for command in plan(out, minutes, overrides, **flags):
        _run(command)
    for parts in folders:
        _run(["gensat.train.assemble", *parts])
        for path in pieces(Path(parts[0])):
            print(path, f"{path.stat().st_size / 2**20:.1f} MiB")


def _run(command: Sequence[str]) -> None:
    print("python -m", *command, flush=True)
    subprocess.run([sys.executable, "-m", *command], check=True)


if __name__ == "__main__":
    program(main)
