"""Geolocators for place consistency, from weights that the user has: GeoCLIP and PLONK.

Both were trained on ground-level photos, so that what they say of images from above is weak evidence: read it beside
its null and beside what they say of real images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...conditioning.place import GeoClipPlaceEncoder
from ...errors import InputError, ModelError
from ...hub.installed import installed_file
from ...metrics.geolocation import great_circle_km
from ...models.clip import Clip
from ...models.features import resize_square
from ...models.inception import read_tensors
from ...models.plonk import Plonk

KINDS = "geoclip:CLIP_FOLDER or plonk:FOLDER,DINOV2_FOLDER"
_DINO_SIDE, _DINO_MEAN, _DINO_STD = 336, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@runtime_checkable
class Geolocator(Protocol):
    """A network that says where images are from."""

    name: str

    def locate(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """(lon, lat) in degrees of RGB images in [0, 1]."""
        ...


class GeoClip(nn.Module):
    """GeoCLIP (Vivanco Cepeda et al. 2023, https://arxiv.org/abs/2309.16020): the nearest place of a gallery.

    ``clip`` must be ViT-L/14 as published; the image head, the place encoder and the gallery of 100,000 places come from
    the pip package geoclip, read as files. Images are resized as a whole, not cropped at the centre.
    """

    keys: Tensor

    def __init__(self, clip: Clip, head: nn.Sequential, places: nn.Module, gallery: Float[Tensor, "n 2"]):
        super().__init__()
        self.clip, self.head = clip, head
        self.gallery = gallery
        known = torch.ones(4096, dtype=torch.bool)
        with torch.inference_mode():
            rows = [places(part.double(), known[: len(part)]) for part in gallery.split(4096)]
        self.register_buffer("keys", F.normalize(torch.cat(rows), dim=1), persistent=False)
        self.name = f"geoclip, {len(gallery)} places, {clip.name}"

    @classmethod
    def from_folder(cls, folder: str | Path) -> GeoClip:
        """CLIP from ``folder``, the rest from the installed package. Raises ModelError."""
        clip = Clip.from_folder(folder)
        package = {"install": "gensat[place]"}
        tensors = read_tensors(installed_file("geoclip", "model/weights/image_encoder_mlp_weights.pth", **package))
        if clip.num_features != tensors["0.weight"].shape[1]:
            raise ModelError(f"GeoCLIP stands on CLIP ViT-L/14 (768 features), not {clip.name}; give that folder")
        head = nn.Sequential(nn.Linear(768, 768), nn.ReLU(), nn.Linear(768, 512))
        head.load_state_dict(tensors)
        table = installed_file("geoclip", "model/gps_gallery/coordinates_100K.csv", **package)
        gallery = torch.from_numpy(np.loadtxt(table, delimiter=",", skiprows=1)[:, ::-1].copy())  # LAT,LON there
        return cls(clip, head.eval(), GeoClipPlaceEncoder.from_package(), gallery)

    def locate(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """The place of the gallery whose vector is nearest."""
        with torch.inference_mode():
            queries = F.normalize(self.head(self.clip.project(images)), dim=1)
            return self.gallery[(queries @ self.keys.T).argmax(1).cpu()]


class PlonkLocator(nn.Module):
    """PLONK on DINOv2: of ``draws`` places drawn for an image, the one that is nearest to the others.

    Every image gets the same noise, so that its place does not depend on the others.
    """

    def __init__(self, plonk: Plonk, dino: Any, *, draws: int = 8, steps: int = 250):
        super().__init__()
        self.plonk, self.dino, self.steps = plonk, dino.requires_grad_(False).eval(), steps
        self.noise = torch.randn(draws, 3, generator=torch.Generator().manual_seed(0))
        self.name = f"{plonk.name}, {draws} draws"

    @classmethod
    def from_folders(cls, folder: str | Path, dino_folder: str | Path) -> PlonkLocator:
        """PLONK and a DINOv2 of transformers. Raises ModelError."""
        from transformers import AutoModel

        plonk = Plonk.from_folder(folder)
        try:
            dino = AutoModel.from_pretrained(dino_folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelError(f"{dino_folder} holds no DINOv2 of transformers; give its folder") from error
        width = plonk.cond_mapper.in_features
        if getattr(dino.config, "hidden_size", None) != width:
            raise ModelError(f"{dino_folder} gives other than {width} features; give DINOv2 ViT-L/14 with registers")
        return cls(plonk, dino)

    def locate(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2"]:
        """The medoid of the places drawn."""
        mean, std = (torch.tensor(v, device=images.device)[:, None, None] for v in (_DINO_MEAN, _DINO_STD))
        with torch.inference_mode():
            token = self.dino(pixel_values=(resize_square(images, _DINO_SIDE) - mean) / std).last_hidden_state[:, 0]
            draws = len(self.noise)
            noise = self.noise.to(token).repeat(len(images), 1)
            places = self.plonk.sample(token.repeat_interleave(draws, 0), noise, steps=self.steps).cpu()
        places = places.reshape(len(images), draws, 2)
        apart = great_circle_km(places[:, :, None], places[:, None]).sum(2)
        return places[torch.arange(len(images)), apart.argmin(1)]


def check_geolocator(text: str) -> tuple[str, Sequence[Path]]:
    """Kind and folders of a geolocator's name. Raises InputError."""
    kind, _, where = text.partition(":")
    folders = [Path(p) for p in where.split(",") if p]
    if (kind, len(folders)) not in (("geoclip", 1), ("plonk", 2)):
        raise InputError(f"there is no geolocator {text!r}; give {KINDS}")
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"geolocator {text!r}: folder {folder} does not exist; check the path")
    return kind, folders


def load_geolocator(text: str, *, device: str = "cpu") -> Geolocator:
    """The geolocator that ``text`` names (``KINDS``)."""
    kind, folders = check_geolocator(text)
    locator = GeoClip.from_folder(folders[0]) if kind == "geoclip" else PlonkLocator.from_folders(*folders)
    return locator.to(device)
