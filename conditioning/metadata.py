"""The metadata vectors of published models: which number stands where, in which unit, shifted and scaled how.

Coordinates come in another order and with other offsets in every system; a schema names each entry, so a vector in the
wrong order cannot be built.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ..errors import InputError
from ..types import Acquisition, Place

# The unit a schema may count a field in, as the factor from ours (Place and Acquisition).
_UNITS = {
    "lon": {"degree": 1.0},
    "lat": {"degree": 1.0},
    "gsd": {"metre": 1.0},
    "cloud_cover": {"fraction": 1.0, "percent": 100.0},
    "year": {"year": 1.0},
    "month": {"month": 1.0},
    "day": {"day": 1.0},
}


@dataclass(frozen=True)
class MetadataField:
    """One entry of the vector: (value in ``unit`` + ``offset``) / ``divisor``, before the schema's scale.

    ``null`` is the entry, after normalisation, that stands for "unknown" (None: the model was never trained without).
    """

    name: str
    unit: str
    offset: float | int = 0.0
    divisor: float | int = 1.0
    null: float | int | None = 0.0

    def __post_init__(self):
        if self.name not in _UNITS:
            raise InputError(f"no metadata is called {self.name!r}; use one of {', '.join(_UNITS)}")
        if self.unit not in _UNITS[self.name]:
            raise InputError(f"{self.name} has no unit {self.unit!r}; use {' or '.join(_UNITS[self.name])}")
        if self.divisor == 0:
            raise InputError(f"the divisor of {self.name} is 0; give another number, 1 for none")

    @property
    def factor(self) -> float:
        """From our unit to the schema's."""
        return _UNITS[self.name][self.unit]


@dataclass(frozen=True)
class MetadataSchema:
    """An ordered list of fields and the scale they share: entry = (value + offset) / divisor * scale."""

    name: str
    fields: tuple[MetadataField, ...]
    scale: float | int = 1000.0

    @property
    def names(self) -> tuple[str, ...]:
        """The fields in the order of the vector."""
        return tuple(field.name for field in self.fields)

    def vector(
        self, place: Place | None, acquisition: Acquisition, *, gsd_ratio: float | int = 1.0
    ) -> Float64[Tensor, " n"]:
        """The normalised vector; keep it float64 or float32 until after its sinusoid (925.88 in fp16 is 926.0).

        ``gsd_ratio`` is native px / target px when ``acquisition.gsd`` is that of a picture which is then resized: 2
        when 1024 px become 512. Raises InputError when a field is unknown that the schema has no null for.
        """
        if not gsd_ratio > 0:
            raise InputError(f"the gsd ratio is {gsd_ratio}; give native pixels / target pixels, above 0")
        values = _values(place, acquisition, gsd_ratio)
        needed = [field.name for field in self.fields if values[field.name] is None and field.null is None]
        if needed:
            raise InputError(f"the {self.name} model was never trained without {', '.join(needed)}; give a value")
        return torch.tensor([self._entry(field, values[field.name]) for field in self.fields], dtype=torch.float64)

    def invert(self, vector: Float[Tensor, " n"]) -> dict[str, float]:
        """The values behind a vector, in our units: degrees, metres, fraction, year, month, day.

        A null cannot be told from a value (DiffusionSat's 0 is also longitude -180 and a clear sky), so it reads as
        one. Raises InputError for another length.
        """
        if len(vector) != len(self.fields):
            raise InputError(
                f"the metadata vector has {len(vector)} entries; {self.name} takes {len(self.fields)}: "
                f"give {', '.join(self.names)}"
            )
        return {
            field.name: (entry / self.scale * field.divisor - field.offset) / field.factor
            for field, entry in zip(self.fields, vector.tolist(), strict=True)
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, for a model's spec."""
        return {**asdict(self), "fields": [asdict(field) for field in self.fields]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "MetadataSchema":
        """The inverse of ``to_dict``; raises InputError for a field or entry that does not exist."""
        try:
            return cls(**{**data, "fields": tuple(MetadataField(**field) for field in data["fields"])})
        except (TypeError, KeyError) as error:
            raise InputError(f"the metadata schema cannot be read ({error}); write it as to_dict() does") from error

    def _entry(self, field: MetadataField, value: float | int | None) -> float | int | None:
        if value is None:
            return field.null
        return (value * field.factor + field.offset) / field.divisor * self.scale


def _values(place: Place | None, acquisition: Acquisition, gsd_ratio: float | int) -> dict[str, float | int | None]:
    """Every field by name in our units, None where unknown."""
    date, gsd = acquisition.date, acquisition.gsd
    return {
        "lon": None if place is None else place.lon,
        "lat": None if place is None else place.lat,
        "gsd": None if gsd is None else gsd * gsd_ratio,
        "cloud_cover": acquisition.cloud_cover,
        "year": date.year,
        "month": date.month,
        "day": date.day,
    }


def _min_max(name: str, unit: str, low: float | int, high: float | int) -> MetadataField:
    """A field scaled so that low..high becomes 0..1; the models that do so never dropped one in training."""
    return MetadataField(name, unit, offset=-low, divisor=high - low, null=None)


SCHEMAS: dict[str, MetadataSchema] = {
    schema.name: schema
    for schema in (
        # Khanna et al. 2024: each entry was set to zero after normalisation with probability 0.1
        MetadataSchema(
            "diffusionsat",
            (
                MetadataField("lon", "degree", offset=180, divisor=360),
                MetadataField("lat", "degree", offset=90, divisor=180),
                MetadataField("gsd", "metre"),
                MetadataField("cloud_cover", "fraction"),
                MetadataField("year", "year", offset=-1980, divisor=120),
                MetadataField("month", "month", divisor=12),
                MetadataField("day", "day", divisor=31),
            ),
        ),
        # DiffusionSat's mechanism without the offsets: southern and western places give negative entries
        MetadataSchema(
            "controlcity",
            (
                MetadataField("lon", "degree", divisor=360, null=None),
                MetadataField("lat", "degree", divisor=180, null=None),
            ),
        ),
        # Tang et al. 2024
        MetadataSchema(
            "crs-diff",
            (
                _min_max("year", "year", 1980, 2024),
                _min_max("month", "month", 0, 12),
                _min_max("day", "day", 0, 31),
                _min_max("gsd", "metre", 0, 5),
                _min_max("cloud_cover", "percent", 0, 100),
                _min_max("lat", "degree", -90, 90),
                _min_max("lon", "degree", -180, 180),
            ),
        ),
    )
}
