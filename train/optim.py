"""Optimizers and the learning rate, both pure functions of the recipe and the position."""

import math

import torch
from omegaconf import DictConfig


def cosine_rate(step: int, done: float, *, warmup: int, floor: float = 0.02) -> float:
    """Linear warm-up over the first steps, times cosine decay from 1 to ``floor`` as ``done`` goes from 0 to 1."""
    return min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))


def constant_rate(step: int, done: float, *, warmup: int) -> float:
    """Linear warm-up over the first steps, then 1."""
    return min(1.0, (step + 1) / warmup)


RATES = {"cosine": cosine_rate, "constant": constant_rate}


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
