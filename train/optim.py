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
    ``recipe.rates`` multiplies the rate of AdamW for parts of the model, by their names; a group keeps it as ``factor``.

    Muon (Jordan et al. 2024) steps along the orthogonalised momentum, here with AdamW's root mean square (Liu et al. 2025, eq. 4).
    """
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    muon = recipe.get("muon")
    matrices = [p for n, p in named if muon and p.ndim == 2 and ".blocks." in f".{n}" and not n.endswith("table")]
    held = {id(p) for p in matrices}
    rates = recipe.get("rates") or {}
    groups: dict[tuple[bool, float], list[torch.Tensor]] = {(True, 1.0): [], (False, 1.0): []}
    for name, p in named:
        if id(p) not in held:
            factor = next((float(f) for part, f in rates.items() if name.startswith(f"{part}.")), 1.0)
            groups.setdefault((p.ndim > 1, factor), []).append(p)
    adam = [
        {"params": one, "weight_decay": recipe.weight_decay if decays else 0.0, "factor": factor}
        for (decays, factor), one in groups.items()
    ]
    betas = (recipe.get("beta1") or 0.9, recipe.beta2)
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(adam, lr=recipe.lr, betas=betas, fused=True)]
    if matrices:
        made.append(
            torch.optim.Muon(matrices, lr=muon, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    return made
