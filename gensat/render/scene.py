"""A scene: an image and the surfaces under it, in one metric frame."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from gensat.render.frame import SceneFrame
from gensat.render.grid import Grid
from gensat.render.heightfield import HeightField
from gensat.render.objects import Objects
from gensat.render.prisms import Prisms


@dataclass(frozen=True, eq=False)
class Scene:
    """What can be rendered, walked through, exported and flooded without aligning anything again.

    Args:
        frame: local metres and where they lie on the Earth.
        image: display values in [0, 1] on ``grid``, as seen from above; row 0 is north.
        terrain: the ground, or a bare surface model that holds buildings and trees too.
        buildings: prisms that stand in the terrain; may be none (length 0).
        objects: other solids; may be none.
        classes: layout classes 0 to 10 on ``grid``.
        grid: the pixels of the image in the frame.
        water: local z of the water surface on ``grid``, NaN where it is dry; None where no water is known.
        provenance: how it came to be, as JSON-like values; ``notes`` is a list of sentences.
    """

    frame: SceneFrame
    image: Float[Tensor, "h w 3"]
    terrain: HeightField
    buildings: Prisms
    objects: Objects
    classes: Int[Tensor, "h w"]
    grid: Grid
    water: Float[Tensor, "h w"] | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
