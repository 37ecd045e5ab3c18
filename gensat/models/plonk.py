"""PLONK (Dufour et al. 2025, Around the World in 80 Timesteps, https://arxiv.org/abs/2412.06781): where on Earth was a
picture taken? A flow on the sphere, told what the picture shows by DINOv2.

A port of the published network: the keys of its safetensors file are the names here. It reads 1024 numbers per picture
(the class token of DINOv2 ViT-L/14 with registers at 336 pixels) and carries Gaussian noise to points on the sphere.
"""

import json
import math
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from gensat.errors import ModelError
from gensat.models.inception import short_hash

_START, _END = -7.0, 3.0  # of the sigmoid schedule, tau 1
STEPS = 250


class _Frequencies(nn.Module):
    """Where the published file keeps the wave numbers of the time."""

    freqs: Tensor

    def __init__(self, count: int):
        super().__init__()
        self.register_buffer("freqs", (1 / 10000) ** (torch.arange(count) / count))


class _Time(nn.Module):
    """1000 * gamma as [cos | sin] waves, standardised per sample, through a small network."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.encode_time = _Frequencies(channels // 2)
        self.map_time = nn.Sequential(nn.Linear(channels, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, gamma: Tensor) -> Tensor:
        angle = 1000 * gamma[:, None] * self.encode_time.freqs
        waves = torch.cat([angle.cos(), angle.sin()], 1)
        return self.map_time((waves - waves.mean(1, keepdim=True)) / waves.std(1, keepdim=True))


class _Block(nn.Module):
    """x + gate * MLP((1 + scale) * norm(x) + shift), all three from the condition."""

    def __init__(self, dim: int, expansion: int):
        super().__init__()
        hidden = dim * expansion
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, dim)
        )  # the identity keeps the published numbering, whose dropout is 0
        self.ada_map = nn.Sequential(nn.SiLU(), nn.Linear(dim, 3 * dim))
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift, gate = self.ada_map(condition).chunk(3, dim=-1)
        return x + gate * self.mlp((1 + scale) * self.norm(x) + shift)


class Plonk(nn.Module):
    """The velocity of a point on the sphere, and ``sample``, which follows it."""

    def __init__(self, cond_dim: int = 1024, dim: int = 512, depth: int = 12, expansion: int = 4, input_dim: int = 3):
        super().__init__()
        self.time_embedder = _Time(dim // 4, dim)
        self.cond_mapper = nn.Linear(cond_dim, dim)
        self.initial_mapper = nn.Linear(input_dim, dim)
        self.blocks = nn.ModuleList(_Block(dim, expansion) for _ in range(depth))
        self.final_adaln = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))
        self.final_norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.final_linear = nn.Linear(dim, input_dim)

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Plonk":
        """Read ``config.json`` and ``model.safetensors`` as published. Raises ModelError."""
        folder = Path(folder)
        try:
            config = json.loads((folder / "config.json").read_text())
            known = ("cond_dim", "dim", "depth", "expansion", "input_dim")
            model = cls(**{k: int(config[k]) for k in known if k in config})
            tensors = load_file(folder / "model.safetensors")
            # published models wrap the network once or not at all
            tensors = {k.removeprefix("network.").removeprefix("model."): v for k, v in tensors.items()}
            model.load_state_dict(tensors)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"{folder} does not hold PLONK ({str(error)[:120]}); give a folder with its config.json and "
                "model.safetensors"
            ) from error
        return model.requires_grad_(False).eval()

    @property
    def name(self) -> str:
        """For figures: with a hash over the weights."""
        return f"plonk ({short_hash(dict(self.state_dict()))})"

    def forward(
        self, x: Float[Tensor, "b 3"], gamma: Float[Tensor, " b"], picture: Float[Tensor, "b c"]
    ) -> Float[Tensor, "b 3"]:
        """Velocity at ``x`` and schedule value ``gamma`` (0: noise, 1: place)."""
        condition = self.cond_mapper(picture) + self.time_embedder(gamma)
        x = self.initial_mapper(x)
        for block in self.blocks:
            x = block(x, condition)
        scale, shift = self.final_adaln(condition).chunk(2, dim=-1)
        return self.final_linear((1 + scale) * self.final_norm(x) + shift)

    def sample(
        self, picture: Float[Tensor, "b c"], noise: Float[Tensor, "b 3"], *, steps: int = STEPS
    ) -> Float[Tensor, "b 2"]:
        """(lon, lat) in degrees: Euler steps from ``noise``, put back on the sphere after each."""
        gammas = schedule(torch.linspace(1, 0, steps + 1))
        x = noise
        for now, after in pairwise(gammas):
            x = x + (after - now) * self(x, now.expand(len(x)).to(x), picture)
            x = x / x.norm(dim=1, keepdim=True)
        lat, lon = torch.asin(x[:, 2].clamp(-1, 1)), torch.atan2(x[:, 1], x[:, 0])
        return torch.rad2deg(torch.stack([lon, lat], 1))


def schedule(t: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """The sigmoid schedule of Chen 2023 (https://arxiv.org/abs/2301.10972): 0 at t = 1 to 1 at t = 0."""
    low, high = (1 / (1 + math.exp(-v)) for v in (_START, _END))
    return ((high - torch.sigmoid(t * (_END - _START) + _START)) / (high - low)).clamp(1e-9, 1)
