"""How and when a picture was taken: ground sampling distance, date, cloud cover and sensor as one vector.

Every scalar takes the way of a diffusion time: scaled to about 0..1000, a sinusoid in float32, an MLP of its own; the
sum is added to the time embedding (DiffusionSat, Khanna et al. 2024, section 3.1). What is unknown, each field on its
own, is a learned vector: zero would be a legal value.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor, nn

from ..errors import InputError
from ..types import Acquisition

# "low" maps to 0 and "high" to 1000, on a logarithm where "log" is set; values outside go on beyond these.
SCALARS = (
    {"name": "gsd", "low": 0.1, "high": 30.0, "log": True},  # metres per pixel
    {"name": "year", "low": 1980, "high": 2100, "log": False},
    {"name": "month", "low": 0, "high": 12, "log": False},
    {"name": "day", "low": 0, "high": 31, "log": False},
    {"name": "cloud_cover", "low": 0.0, "high": 1.0, "log": False},  # fraction
)
SCALAR_NAMES = tuple(str(scalar["name"]) for scalar in SCALARS)


class AcquisitionEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A vector per acquisition, to be added to a time embedding of the same width.

    Args:
        out_dim: width of the vector.
        num_channels: width of the sinusoid, [cos | sin] with frequencies 10000^(-i / (num_channels / 2)).
        hidden_dim: width inside each scalar's MLP (``out_dim`` when None).
        scalars: which scalars in which order, and how each is scaled; see ``SCALARS``.
        sensors: names of the sensors the model knows, in lower case; row 0 of the table stands for "unknown".
        zero_init: the encoder starts as exactly zero for every input, for fine-tuning a denoiser that knew none.
    """

    @register_to_config
    def __init__(
        self,
        out_dim: int = 256,
        num_channels: int = 256,
        hidden_dim: int | None = None,
        scalars: Sequence[Mapping] = SCALARS,
        sensors: Sequence[str] = (),
        zero_init: bool = False,
    ):
        super().__init__()
        for scalar in scalars:
            if scalar["name"] not in SCALAR_NAMES:
                raise InputError(f"no scalar is called {scalar['name']!r}; use some of {', '.join(SCALAR_NAMES)}")
            if not scalar["low"] < scalar["high"] or (scalar.get("log") and scalar["low"] <= 0):
                raise InputError(
                    f"the range of {scalar['name']} is {scalar['low']} to {scalar['high']}; "
                    "give low < high, and low > 0 on a logarithmic scale"
                )
        mlps = [TimestepEmbedding(num_channels, hidden_dim or out_dim, out_dim=out_dim) for _ in scalars]
        self.scalar_embedding = nn.ModuleList(mlps)
        self.null = nn.Parameter(0.02 * torch.randn(len(scalars), out_dim))
        self.sensor_embedding = nn.Embedding(len(sensors) + 1, out_dim)
        nn.init.normal_(self.sensor_embedding.weight, std=0.02)
        if zero_init:
            last = [parameter for mlp in mlps for parameter in mlp.linear_2.parameters()]
            for parameter in (*last, self.null, self.sensor_embedding.weight):
                nn.init.zeros_(parameter)

    @property
    def scalar_names(self) -> tuple[str, ...]:
        """The scalars in the order of the columns of ``values``."""
        return tuple(scalar["name"] for scalar in self.config["scalars"])

    def arrays(
        self, acquisitions: Sequence[Acquisition]
    ) -> tuple[Float32[Tensor, "b s"], Bool[Tensor, "b s"], Int[Tensor, " b"]]:
        """What ``forward`` takes, in this encoder's order and with its sensors (on the CPU); see acquisition_arrays."""
        return acquisition_arrays(acquisitions, self.config["sensors"], scalars=self.scalar_names)

    def forward(
        self, values: Float[Tensor, "b s"], known: Bool[Tensor, "b s"], sensor: Int[Tensor, " b"]
    ) -> Float[Tensor, "b d"]:
        """Encode raw values (metres, years, months 1..12, days 1..31, fractions); ``sensor`` 0 means unknown.

        Values are ignored where ``known`` is False. They have to be float32 or float64: half a float's digits cannot
        tell 0.41145 m from 0.4113 m. Raises InputError for half precision or another number of scalars.
        """
        if values.dtype not in (torch.float32, torch.float64):
            raise InputError(f"acquisition values came as {values.dtype}; give float32, only weights may be half")
        if values.shape[1] != len(self.scalar_embedding):
            raise InputError(
                f"{values.shape[1]} acquisition values were given; this encoder takes {', '.join(self.scalar_names)}"
            )
        values, known = values.to(self.null.device), known.to(self.null.device)
        out = self.sensor_embedding(sensor.to(self.null.device))
        for k, (scalar, mlp) in enumerate(zip(self.config["scalars"], self.scalar_embedding, strict=True)):
            # a value that is not known may be 0 or NaN, and neither may reach the logarithm or the gradients
            value = torch.where(known[:, k], values[:, k], float(scalar["low"]))
            wave = get_timestep_embedding(
                _scaled(value, scalar), self.config["num_channels"], flip_sin_to_cos=True, downscale_freq_shift=0
            )
            out = out + torch.where(known[:, k, None], mlp(wave.to(self.null.dtype)), self.null[k])
        return out


def acquisition_arrays(
    acquisitions: Sequence[Acquisition], sensors: Sequence[str], *, scalars: Sequence[str] = SCALAR_NAMES
) -> tuple[Float32[Tensor, "b s"], Bool[Tensor, "b s"], Int[Tensor, " b"]]:
    """Raw values (0 where unknown), which of them are known, and the row in the sensor table (0 = unknown).

    Raises InputError for a sensor that is not among ``sensors``.
    """
    rows, rows_of = [], {name: row for row, name in enumerate(sensors, start=1)}
    for acquisition in acquisitions:
        if acquisition.sensor is not None and acquisition.sensor not in rows_of:
            choice = f"use one of {', '.join(sensors)}, or leave the sensor out" if sensors else "leave the sensor out"
            raise InputError(f"this model does not know the sensor {acquisition.sensor!r}; {choice}")
        rows.append(rows_of.get(acquisition.sensor or "", 0))
    table = [[_value(acquisition, name) for name in scalars] for acquisition in acquisitions]
    shape = len(acquisitions), len(scalars)
    values = torch.tensor([[value or 0.0 for value in row] for row in table], dtype=torch.float32).reshape(shape)
    known = torch.tensor([[value is not None for value in row] for row in table], dtype=torch.bool).reshape(shape)
    return values, known, torch.tensor(rows, dtype=torch.long)


def _value(acquisition: Acquisition, name: str) -> float | int | None:
    """One scalar of an acquisition in raw units, None if unknown."""
    return getattr(acquisition.date if name in ("year", "month", "day") else acquisition, name)


def _scaled(value: Float[Tensor, " b"], scalar: Mapping) -> Float[Tensor, " b"]:
    """From raw units to 0..1000 over the scalar's range."""
    low, high = float(scalar["low"]), float(scalar["high"])
    if scalar.get("log"):
        value, low, high = torch.log10(value), math.log10(low), math.log10(high)
    return 1000 * (value - low) / (high - low)
