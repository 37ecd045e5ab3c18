"""What bare walls are made of: courses of brick and stone, boards, ribs, panels, plaster with streaks."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gensat.render.streets.facade_styles import WALLS
from gensat.render.streets.materials import texture
from gensat.render.streets.noise import between, fractal, hashed, stripes, value_noise


def wall_albedo(
    kind: Int[Tensor, " n"],
    base: Float[Tensor, "n 3"],
    u: Float[Tensor, " n"],
    v: Float[Tensor, " n"],
    storey: Float[Tensor, " n"],
    bay: Float[Tensor, " n"],
    blur: Float[Tensor, " n"],
    seed: Int[Tensor, " n"],
) -> Float[Tensor, "n 3"]:
    """Albedo of the bare wall of each material: courses, boards, ribs, joints and grain."""
    result = base.clone()
    for code in kind.unique().tolist():
        some = torch.nonzero(kind == code)[:, 0]
        a, b, f, colour = u[some], v[some], blur[some], base[some]
        name = WALLS[code]
        grain = texture("asphalt", a, b, f).mean(1)
        shade = 1 + 0.5 * (grain - 1)
        if name in ("brick", "block"):
            long, tall, joint = (0.23, 0.077, 0.012) if name == "brick" else (0.42, 0.21, 0.015)
            course = (b / tall).floor()
            shifted = a + long / 2 * torch.remainder(course, 2)
            each = hashed((shifted / long).floor().long(), course.long(), seed[some])
            fine = (1 - (f / tall - 0.4) / 0.6).clamp(0, 1)  # bricks melt into their mean
            colour = colour * (1 + 0.5 * (each - 0.5) * fine)[:, None]
            mortar = torch.maximum(stripes(b, tall, joint, f), stripes(shifted, long, joint, f))
            pale = 0.55 * colour + 0.16 if name == "brick" else colour * 0.72
            colour = torch.lerp(colour, pale, mortar[:, None])
        elif name == "stone":
            long, tall = 0.85, 0.42
            course = (b / tall).floor()
            shifted = a + long * 0.5 * torch.remainder(course, 2)
            each = hashed((shifted / long).floor().long(), course.long(), seed[some])
            joints = torch.maximum(stripes(b, tall, 0.022, f), stripes(shifted, long, 0.018, f))
            colour = colour * (1 + 0.22 * (each - 0.5) - 0.38 * joints)[:, None]
        elif name == "siding":
            colour = colour * (1 - 0.42 * stripes(b, 0.19, 0.03, f) + 0.06 * torch.remainder(b, 0.19) / 0.19)[:, None]
        elif name == "timber":
            each = hashed((a / 0.16).floor().long(), seed[some])
            colour = colour * (1 + 0.4 * (each - 0.5) - 0.5 * stripes(a, 0.16, 0.016, f))[:, None]
        elif name == "panel":
            each = hashed((a / bay[some]).floor().long(), (b / storey[some].clamp(min=1)).floor().long(), seed[some])
            down = torch.remainder(b, storey[some].clamp(min=1))
            joints = torch.maximum(between(torch.remainder(a, bay[some]), 0.0, 0.035, f), between(down, 0.0, 0.035, f))
            colour = colour * (1 + 0.12 * (each - 0.5) - 0.45 * joints)[:, None]
        elif name == "metal":
            coarse = (1 - (f / 0.3 - 0.3) / 0.5).clamp(0, 1)
            colour = colour * (1 + 0.16 * torch.sin(a * 2 * torch.pi / 0.3) * coarse)[:, None]
            colour = colour * (1 - 0.25 * stripes(b, 2.4, 0.04, f))[:, None]
        elif name == "concrete":
            joints = torch.maximum(stripes(a, 3.6, 0.025, f), stripes(b, 1.8, 0.025, f))
            colour = colour * (1 - 0.3 * joints)[:, None]
            shade = shade + 0.25 * (value_noise(torch.stack([a * 3, b * 0.4], dim=1), 1.0, 8) - 0.5)
        elif name in ("plaster", "adobe"):
            streaks = value_noise(torch.stack([a * 2.5, b * 0.22], dim=1), 1.0, 3) - 0.5
            shade = shade + (0.10 if name == "plaster" else 0.30) * streaks
            if name == "adobe":
                shade = shade + 0.4 * (fractal(torch.stack([a, b], dim=1), 1.4, 12) - 0.5)
        result = result.index_copy(0, some, colour * shade[:, None])
    return result
