"""Moving averages of the weights whose length is chosen after the training (``posthoc``).

Karras et al. 2024 (edm2), sections 3.1 and 3.2, appendix C. Weights of step t count in proportion to t ** gamma, so an average stretches with the training;
its length is said by ``sigma_rel``, the deviation of that profile as a share of the training. Two of them are kept while training
(``recipe.averages``) and written now and then; any other profile is their combination that is nearest to it in the square.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..errors import InputError
from ..files import atomic_write

LONGEST = 0.28
"""Greatest sigma_rel: a uniform average (gamma = 0) has 0.289."""


def exponent(sigma_rel: float) -> float:
    """The gamma of a profile of width ``sigma_rel`` (0..0.28): (gamma + 1) / ((gamma + 2)^2 (gamma + 3)) = sigma_rel^2 (eq. 3).

    Raises InputError outside that range.
    """
    if not 0 < sigma_rel <= LONGEST:
        raise InputError(f"sigma_rel is {sigma_rel}; give a number above 0 and up to {LONGEST}, such as 0.1")
    t = sigma_rel**-2
    return float(max(root.real for root in np.roots([1, 7, 16 - t, 12 - t]) if abs(root.imag) < 1e-9))


def width(gamma: float) -> float:
    """The sigma_rel of a profile: the inverse of ``exponent``."""
    return ((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) ** 0.5


class PowerAverages:
    """Running averages of the parameters of a model that are trained, with power-law profiles, one for each of ``widths`` (sigma_rel)."""

    def __init__(self, model: torch.nn.Module, widths: Sequence[float]):
        self.gammas = [exponent(float(w)) for w in widths]
        named = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.names, self.parameters = list(named), list(named.values())
        self.values = [[p.detach().clone().float() for p in self.parameters] for _ in self.gammas]

    @torch.no_grad()
    def step(self, step: int) -> None:
        """Take the parameters after update number ``step`` (from 1): eq. 2, beta = (1 - 1 / step) ** (gamma + 1)."""
        now = [p.detach().float() for p in self.parameters]
        for gamma, values in zip(self.gammas, self.values, strict=True):
            torch._foreach_lerp_(values, now, 1 - (1 - 1 / step) ** (gamma + 1))

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"gammas": self.gammas, "values": self.values}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Inverse of ``state_dict``; InputError where the averages are others."""
        if list(state["gammas"]) != self.gammas:
            raise InputError(
                "this run keeps averages of other lengths; choose another out=, or the averages= it began with"
            )
        for own, saved in zip(self.values, state["values"], strict=True):
            for a, b in zip(own, saved, strict=True):
                a.copy_(b)

    def write(self, folder: Path, step: int) -> Path:
        """One file with all averages at ``step``, in ``folder``."""
        folder.mkdir(exist_ok=True)
        path = folder / f"step-{step:08d}.safetensors"
        tensors = {
            f"{i}.{name}": value.cpu().contiguous()
            for i, values in enumerate(self.values)
            for name, value in zip(self.names, values, strict=True)
        }
        with atomic_write(path, overwrite=True) as fresh:
            save_file(tensors, fresh, {"step": str(step), "gammas": " ".join(map(repr, self.gammas))})
        return path


def products(
    steps_a: Float[np.ndarray, " n"],
    gammas_a: Float[np.ndarray, " n"],
    steps_b: Float[np.ndarray, " m"],
    gammas_b: Float[np.ndarray, " m"],
) -> Float[np.ndarray, "n m"]:
    """Inner products of profiles p(t) = (gamma + 1) t^gamma / T^(gamma + 1) on 0..T, for each pair of (T, gamma)."""
    ta, tb = steps_a[:, None], steps_b[None, :]
    a, b = gammas_a[:, None] + 1, gammas_b[None, :] + 1
    shorter = np.minimum(ta, tb)
    return a * b / (a + b - 1) * (shorter / ta) ** a * (shorter / tb) ** b / shorter


def mixture(
    steps: Sequence[float | int], gammas: Sequence[float], *, step: float | int, gamma: float
) -> Float[np.ndarray, " n"]:
    """Weights of the kept averages (each of a step and a gamma) whose sum is nearest to the profile of ``gamma`` at ``step``.

    Least squares (section 3.2): the profiles' Gram matrix against their products with the wanted one.
    """
    t, g = np.array(steps, float), np.array(gammas, float)
    wanted = products(t, g, np.array([step], float), np.array([gamma], float))[:, 0]
    return np.linalg.lstsq(products(t, g, t, g), wanted, rcond=None)[0]


def combine(folder: Path, sigma_rel: float) -> tuple[dict[str, Tensor], int]:
    """The average of width ``sigma_rel`` at the last step that ``folder`` holds, and that step.

    Raises InputError where there are no averages.
    """
    paths = sorted(folder.glob("step-*.safetensors"))
    if not paths:
        raise InputError(f"{folder} holds no averages; train with averages=[0.05,0.1]")
    kept: list[tuple[Path, int, int, float]] = []
    for path in paths:
        with safe_open(path, "pt") as file:
            about = file.metadata()
        kept += [(path, i, int(about["step"]), float(g)) for i, g in enumerate(about["gammas"].split())]
    last = max(step for _, _, step, _ in kept)
    weights = mixture([k[2] for k in kept], [k[3] for k in kept], step=last, gamma=exponent(sigma_rel))
    found: dict[str, Tensor] = {}
    for (path, i, _, _), weight in zip(kept, weights.tolist(), strict=True):
        with safe_open(path, "pt") as file:
            for key in file.keys():
                number, _, name = key.partition(".")
                if int(number) == i:
                    found[name] = found.get(name, 0) + weight * file.get_tensor(key).double()
    return {name: value.float() for name, value in found.items()}, last
