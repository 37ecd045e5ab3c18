"""The networks that an evaluation looks through: which were given, loaded when first needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

from torch import Tensor

from ...errors import InputError, ModelError
from ...metrics.relations import Centre, centres_of_classes
from ...models.clip import Clip
from ...models.extractors import check_extractor, load_extractor
from ...models.features import EfficientNetLite0, FeatureExtractor
from ...models.perceptual import Elpd, Lpips
from ...models.probe import SceneProbe
from ...models.segmenter import LayoutSegmenter
from .geolocate import Geolocator, check_geolocator, load_geolocator


class LeftOut(Exception):
    """A part or a figure cannot be measured here: why, and what to give."""


@dataclass
class Networks:
    """Names and paths of the networks, as the command line takes them.

    ``extractor``: ``lite0``, ``lite2``, ``inception:FILE`` or ``clip:FOLDER``; ``clip``: folder for CLIP score and CMMD; ``lpips``:
    file of torchvision's AlexNet; ``geolocator``: ``geoclip:CLIP_FOLDER`` or ``plonk:FOLDER,DINOV2_FOLDER``.
    """

    extractor: str = "lite0"
    clip_folder: Path | None = None
    lpips_file: Path | None = None
    geolocator_name: str | None = None
    device: str = "cpu"

    def check(self) -> None:
        """Raises InputError or ModelError for whatever can be found wrong before an image is made: all that was given
        is loaded.
        """
        check_extractor(self.extractor)
        for path in (self.clip_folder, self.lpips_file):
            if path is not None and not path.exists():
                raise InputError(f"{path} does not exist; check the path")
        if self.geolocator_name is not None:
            check_geolocator(self.geolocator_name)
        _ = self.features
        _ = self.clip_folder is None or self.clip
        _ = self.lpips_file is None or self.lpips
        _ = self.geolocator_name is None or self.geolocator

    @cached_property
    def features(self) -> FeatureExtractor:
        """What Frechet, kernel distance, precision, recall and memorisation are taken from."""
        return load_extractor(self.extractor, device=self.device)

    @cached_property
    def second(self) -> FeatureExtractor:
        """Another one than ``features``: lite2, or lite0 where that is lite2. Raises LeftOut."""
        try:
            return load_extractor("lite0" if self.extractor == "lite2" else "lite2", device=self.device)
        except ModelError as reason:
            raise LeftOut(str(reason)) from reason

    @cached_property
    def backbone(self) -> EfficientNetLite0:
        """lite0 at the images' own size, for the probes, the segmenter and ELPD."""
        return EfficientNetLite0.from_installed(size=None).to(self.device)

    @cached_property
    def elpd(self) -> Elpd:
        """The offline perceptual distance."""
        return Elpd.from_assets(self.backbone).to(self.device)

    @cached_property
    def clip(self) -> Clip:
        """CLIP, where a folder was given. Raises LeftOut."""
        if self.clip_folder is None:
            raise LeftOut("needs CLIP; give --clip FOLDER, with a model that transformers wrote")
        return Clip.from_folder(self.clip_folder).to(self.device)

    @cached_property
    def lpips(self) -> Lpips:
        """LPIPS, where its weights were given. Raises LeftOut."""
        if self.lpips_file is None:
            raise LeftOut("needs AlexNet; give --lpips FILE, torchvision's alexnet-owt-7be5be79.pth")
        return Lpips.from_file(self.lpips_file).to(self.device)

    @cached_property
    def geolocator(self) -> Geolocator:
        """GeoCLIP or PLONK, where weights were given. Raises LeftOut."""
        if self.geolocator_name is None:
            raise LeftOut(
                "needs a geolocator; give --geolocator geoclip:CLIP_FOLDER or plonk:FOLDER,DINOV2_FOLDER (meanwhile "
                "regions tells by real images which one an image looks like)"
            )
        return load_geolocator(self.geolocator_name, device=self.device)

    @cached_property
    def segmenter(self) -> LayoutSegmenter:
        """The shipped judge of layouts."""
        return load_net(LayoutSegmenter, "segmenter").to(self.device)

    @cached_property
    def class_probe(self) -> SceneProbe:
        """The shipped judge of land-use classes."""
        return load_net(SceneProbe, "probe-class").to(self.device)

    @cached_property
    def gsd_probe(self) -> SceneProbe:
        """The shipped judge of ground sampling distances."""
        return load_net(SceneProbe, "probe-gsd").to(self.device)

    def find(self, images: Tensor, words: Sequence[str]) -> list[dict[str, Centre]]:
        """The detector of spatial relations: the segmenter's largest patch of each word's class."""
        maps = self.segmenter.predict(images.to(self.device), backbone=self.backbone).cpu()
        return [centres_of_classes(one, words) for one in maps]


def load_net(kind: Any, name: str) -> Any:
    """A shipped evaluation net, in float32."""
    return kind.from_pretrained(Path(str(files("gensat.assets"))) / "evaluation" / name).float().eval()
