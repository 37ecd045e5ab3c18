"""What every metric takes and returns: features that know their extractor, and figures that know how they were
obtained.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from gensat.errors import InputError
from gensat.models.features import FeatureExtractor, over_images


@dataclass(frozen=True)
class Measurement:
    """One figure: its value, over how many samples, by which extractor, and how sure it is.

    ``interval`` is the confidence interval at level ``confidence``, or None where none was asked for. Figures with
    unlike ``extractor`` or unlike ``n`` must not be compared.
    """

    metric: str
    value: float
    n: int
    extractor: str | None = None
    interval: tuple[float, float] | None = None
    confidence: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary without the fields that are None; infinities and NaN become None."""
        return {k: _plain(v) for k, v in asdict(self).items() if v is not None}

    def __str__(self) -> str:
        text = f"{self.metric} = {self.value:.4g}"
        if self.interval is not None and self.confidence is not None:
            text += f" [{self.interval[0]:.4g}, {self.interval[1]:.4g}] at {self.confidence:.0%}"
        return text + f" (N = {self.n}" + (f", {self.extractor})" if self.extractor else ")")


@dataclass(frozen=True)
class FeatureSet:
    """Features of N images with the name of the extractor that made them."""

    values: Float[Tensor, "n f"]
    extractor: str

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or len(self.values) == 0:
            raise InputError(f"features have shape {tuple(self.values.shape)}; give (N, F) with N > 0")
        if not torch.isfinite(self.values).all():
            raise InputError("the features hold NaN or infinity; check the images that they were extracted from")

    def __len__(self) -> int:
        return len(self.values)

    def take(self, indices: Tensor | Sequence[int]) -> "FeatureSet":
        """The rows at ``indices``."""
        return FeatureSet(self.values[torch.as_tensor(indices, dtype=torch.long)], self.extractor)

    def sample(self, count: int, *, seed: int = 0) -> "FeatureSet":
        """``count`` rows drawn without replacement, the same ones for the same seed."""
        if not 0 < count <= len(self):
            raise InputError(f"cannot draw {count} of {len(self)} features; ask for between 1 and {len(self)}")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return self.take(order[:count])


def require_same_extractor(*sets: FeatureSet) -> str:
    """The one extractor behind all ``sets``; InputError when they differ, in name or in number of features."""
    names = {f"{s.extractor} ({s.values.shape[1]} features)" for s in sets}
    if len(names) > 1:
        raise InputError(
            f"features of {' and '.join(sorted(names))} cannot be compared; extract both sides with the same network"
        )
    return sets[0].extractor


def extract(
    extractor: FeatureExtractor,
    images: Iterable[np.ndarray],
    *,
    batch_size: int = 16,
    device: str | torch.device = "cpu",
    on_batch: Callable[[int], None] | None = None,
) -> FeatureSet:
    """Features of images, each (H, W, 3) uint8 of any size, in their order (see
    ``gensat.models.features.over_images``).
    """
    values = over_images(extractor, images, batch_size=batch_size, device=device, on_batch=on_batch)
    return FeatureSet(values.float(), extractor.name)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
