"""A training in a process of its own, to be killed; started from a fork server that has everything imported already."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import torch
from accelerate import debug_launcher

from gensat.cli._console import hush_libraries
from gensat.train import checkpoint, finetune, logs
from gensat.train.recipe import load_recipe

START = multiprocessing.get_context("forkserver")
START.set_forkserver_preload([__name__])


def recipe_values(folder: Path, out: str, **changes) -> list[str]:
    """Everything random on: shuffling, dropout of conditions and of layers, EMA, latents and text states kept on disk."""
    values = {
        "data.shards": f"{folder}/toy-000.tar",
        "data.cache": f"{folder}/{out}/cache",
        "model": f"{folder}/toy",
        "out": f"{folder}/{out}",
        "lora.dropout": 0.2,
        "steps": 30,
        "batch": 4,
        "warmup": 3,
        "save_every": 5,
        "log_every": 4,
        "sample_every": 0,
        "precision": "no",
        "tensorboard": "false",
        **changes,
    }
    return [f"{key}={value}" for key, value in values.items()]


def work(values: list[str], wait_in_write: str = "", processes: int = 1) -> None:
    """Train; with ``wait_in_write`` stop for good in the middle of the first checkpoint and make that file as a sign."""
    torch.set_num_threads(1)
    hush_libraries()
    logs.quiet = True
    if wait_in_write:
        checkpoint.torch.save = lambda state, path: _half(path, wait_in_write)
    if processes > 1:
        debug_launcher(_train, (values,), num_processes=processes)
    else:
        _train(values)


def _train(values: list[str]) -> None:
    finetune.train(load_recipe("lora", values))


def _half(path: Path, sign: str) -> None:
    path.write_bytes(b"half")
    Path(sign).touch()
    time.sleep(600)


def run(values: list[str], *, kill_after: float | None = None, kill_in_write: Path | None = None, processes: int = 1):
    """Run to the end, or until it is killed with -9; returns the seconds it had and its exit code."""
    child = START.Process(target=work, args=(values, str(kill_in_write or ""), processes))
    child.start()
    began = time.monotonic()
    if kill_in_write is not None:
        while not kill_in_write.exists() and child.is_alive() and time.monotonic() - began < 120:
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
    child.join(kill_after)
    if child.is_alive():
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    return time.monotonic() - began, child.exitcode
