"""The whole model in a given time: ``python -m gensat.train.chain OUT minutes=20 [STAGE.key=value ...]``.

Autoencoder, denoiser and ControlNet one after the other, each for its share of the minutes with the learning rate decaying over them, then the
model folder ``OUT/NAME`` and, for machines whose files come back only in small pieces, ``OUT/NAME.tar.000``, ``.001``, ... Run again, it goes on.
"""

import subprocess
import sys
import tarfile
from pathlib import Path

from ..errors import InputError

SHARES = {"autoencoder": 0.35, "denoiser": 0.5, "controlnet": 0.15}
PIECE = 15 * 2**20


def plan(out: Path, minutes: float, overrides: dict[str, list[str]]) -> list[list[str]]:
    """The arguments of ``python -m`` for every stage."""
    folders = {name: out / name for name in SHARES}
    made = []
    for name, share in SHARES.items():
        given = [f"out={folders[name]}", "steps=null", f"minutes={minutes * share}", *overrides[name]]
        if name != "autoencoder":
            given += [f"autoencoder={folders['autoencoder'] / 'ema'}", f"data.cache={out / 'latents'}"]
        if name == "controlnet":
            given += [f"denoiser={folders['denoiser'] / 'ema'}"]
        made.append([f"gensat.train.{name}", *given])
    return made


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


def main(arguments: list[str]) -> None:
    """Run the stages, assemble the model, cut it into pieces."""
    if not arguments or "=" in arguments[0]:
        raise InputError("give the folder: python -m gensat.train.chain OUT minutes=20")
    out, minutes, name = Path(arguments[0]), 20.0, "gensat-small"
    overrides: dict[str, list[str]] = {stage: [] for stage in SHARES}
    for argument in arguments[1:]:
        key, value = argument.split("=", 1)
        stage, _, rest = key.partition(".")
        if key == "minutes":
            minutes = float(value)
        elif key == "name":
            name = value
        elif stage in SHARES and rest:
            overrides[stage].append(f"{rest}={value}")
        else:
            raise InputError(
                f"{argument} is neither minutes=, name= nor one of {', '.join(SHARES)} followed by .key=value"
            )
    for command in plan(out, minutes, overrides):
        print("python -m", *command, flush=True)
        subprocess.run([sys.executable, "-m", *command], check=True)
    parts = [f"{stage}={out / stage / 'ema'}" for stage in SHARES]
    subprocess.run([sys.executable, "-m", "gensat.train.assemble", str(out / name), *parts], check=True)
    for path in pieces(out / name):
        print(path, f"{path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main(sys.argv[1:])
