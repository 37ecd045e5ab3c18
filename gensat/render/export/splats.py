"""Splats as the PLY of 3D Gaussian Splatting, which viewers and trainers exchange."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import torch

from gensat.errors import InputError
from gensat.files import check_output, write_bytes
from gensat.geo.raster import require_file
from gensat.render.export.place import frame_of, place_of
from gensat.render.export.points import encode_ply, place_in
from gensat.render.frame import SceneFrame
from gensat.render.splats import Splats

_EPS = 1e-6


def save_splats(splats: Splats, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Writes the standard fields: x y z, nx ny nz, f_dc, f_rest (channel by channel), opacity (logit), scale (log), rot (w first).

    ``class`` and ``seen`` follow where they are known; the origin and the CRS are in the header's comments. Opacities of 0 and 1, which
    have no logit, are moved by a millionth.

    Raises:
        InputError: no splats, another extension, or as :func:`gensat.files.check_output`.
        OutputError: the disk is full or the folder not writable.
    """
    path = check_output(path, overwrite)
    if path.suffix.lower() != ".ply" or not len(splats):
        raise InputError(
            f"{path.name}: splats are written as .ply, and there must be at least one; change the name or the scene"
        )
    one = splats.detach().to("cpu")
    columns: dict[str, np.ndarray] = {name: one.means[:, k].numpy() for k, name in enumerate("xyz")}
    columns |= {name: one.normals[:, k].numpy() for k, name in enumerate(("nx", "ny", "nz"))}
    columns |= {f"f_dc_{k}": one.sh[:, 0, k].numpy() for k in range(3)}
    rest = one.sh[:, 1:].transpose(1, 2).flatten(1).numpy()
    columns |= {f"f_rest_{k}": rest[:, k] for k in range(rest.shape[1])}
    columns["opacity"] = torch.logit(one.opacities.clamp(_EPS, 1 - _EPS)).numpy()
    columns |= {f"scale_{k}": one.scales[:, k].clamp(min=1e-12).log().numpy() for k in range(3)}
    quats = torch.nn.functional.normalize(one.quats, dim=-1)
    columns |= {f"rot_{k}": quats[:, k].numpy() for k in range(4)}
    kinds = dict.fromkeys(columns, "f4")
    for name, values in (("class", one.classes), ("seen", one.seen)):
        if values is not None:
            columns[name], kinds[name] = values.numpy(), "u1"
    write_bytes(path, encode_ply(columns, kinds, place_of(one.frame)), overwrite)


def load_splats(path: str | os.PathLike[str], frame: SceneFrame | None = None) -> Splats:
    """Reads a 3DGS PLY, also of other programs; ``frame`` says where it lies if the file does not.

    Raises:
        InputError: no such file, unreadable or cut short, fields missing, values that are not finite, or no place in the file
            and none given.
    """
    from plyfile import PlyData, PlyHeaderParseError, PlyParseError

    path = require_file(Path(path))
    try:
        data = PlyData.read(str(path))
        table = data["vertex"].data
        names = set(table.dtype.names)
    except (PlyParseError, PlyHeaderParseError, KeyError, ValueError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as PLY ({str(error)[:80]}); check that it is complete") from error
    needed = [
        *"xyz",
        "opacity",
        *(f"f_dc_{k}" for k in range(3)),
        *(f"scale_{k}" for k in range(3)),
        *(f"rot_{k}" for k in range(4)),
    ]
    if missing := [name for name in needed if name not in names]:
        raise InputError(f"{path} has no {', '.join(missing[:4])}: it holds no splats; give a 3DGS PLY")

    def columns(*chosen: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([np.asarray(table[name], np.float32) for name in chosen], axis=1))

    rest = sum(name.startswith("f_rest_") for name in names)
    degree = math.isqrt(rest // 3 + 1) - 1
    if 3 * ((degree + 1) ** 2 - 1) != rest or degree > 3:
        raise InputError(f"{path} has {rest} fields f_rest, which fit no degree up to 3; give a 3DGS PLY")
    sh = columns(*(f"f_dc_{k}" for k in range(3)))[:, None]
    if rest:
        sh = torch.cat(
            [sh, columns(*(f"f_rest_{k}" for k in range(rest))).unflatten(1, (3, -1)).transpose(1, 2)], dim=1
        )
    values = (
        columns(*"xyz"),
        columns(*(f"rot_{k}" for k in range(4))),
        columns(*(f"scale_{k}" for k in range(3))),
        columns("opacity"),
    )
    if not all(bool(torch.isfinite(value).all()) for value in (*values, sh)):
        raise InputError(f"{path} holds values that are not finite; remove those splats first")
    place = place_in([str(comment) for comment in data.comments])
    if frame is None and not place:
        raise InputError(
            f"{path} does not say where it lies; give a frame (SceneFrame(crs, origin)), or SceneFrame(None) for nowhere"
        )
    return Splats(
        values[0], values[1], values[2].exp(), torch.sigmoid(values[3][:, 0]), sh, frame or frame_of(place),
        torch.from_numpy(np.asarray(table["class"], np.int64)) if "class" in names else None,
        torch.from_numpy(np.asarray(table["seen"]) > 0) if "seen" in names else None,
    )  # fmt: skip
