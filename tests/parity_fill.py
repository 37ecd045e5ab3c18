"""Weights for published networks without their files: every tensor is drawn from the crc32 of its own name."""

import math
import os
import zlib
from pathlib import Path

import torch

PARITY = Path(
    os.environ.get("GENSAT_PARITY")
    or Path(os.environ.get("GENSAT_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data").parent / "parity"
)


def drawn(name: str, shape: tuple[int, ...], gain: float = 1.0) -> torch.Tensor:
    """Matrices and kernels: normal with gain / sqrt(fan in); gains of norms: around 1; everything else: 0.1 normal."""
    values = torch.randn(tuple(shape), generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    if len(shape) >= 2:
        return values * (gain / math.sqrt(values[0].numel()))
    if name.endswith("running_var"):
        return 1 + 0.1 * values.abs()
    if name.endswith("weight") and len(shape) == 1:
        return 1 + 0.1 * values
    return 0.1 * values


def filled(shapes: dict[str, list[int]], gain: float) -> dict[str, torch.Tensor]:
    return {name: drawn(name, tuple(shape), gain) for name, shape in shapes.items()}


def checksum(tensors: dict[str, torch.Tensor]) -> dict[str, float]:
    flat = [t.double() for t in tensors.values()]
    return {
        "n_tensors": len(flat),
        "n_params": sum(t.numel() for t in flat),
        "sum": float(sum(t.sum() for t in flat)),
        "sum_sq": float(sum((t * t).sum() for t in flat)),
    }


def drawn_sat3dgen(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """As ``drawn``, louder where a network of random weights would say next to nothing."""
    values = drawn(name, shape)
    if "lambda1" in name:
        return 0.5 + 0.1 * values
    loud = {"sky_mapping": 2.0, "mlp.net0": 3.0, "mlp.net1_density": 8.0, "mlp.grd_color_convert": 3.0}
    gain = next((g for begin, g in loud.items() if name.startswith(begin)), 1.0)
    return values * gain if name.endswith("weight") and len(shape) == 2 else values


def drawn_field(channels: int = 32, cells: int = 320) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth plane (channels, cells, cells) and a column (channels, cells) of features."""
    plane = torch.nn.functional.interpolate(
        drawn("plane.bias", (1, channels, 20, 20)) * 20, (cells, cells), mode="bilinear"
    )
    column = torch.nn.functional.interpolate(drawn("column.bias", (1, channels, 20)) * 10, cells, mode="linear")
    return plane[0], column[0]
