"""Measure a model on the held-out split: what ``gensat evaluate`` runs.

One image is made for each of ``count`` held-out samples, with that sample's own caption, place, acquisition and size; Frechet-64, kernel
distance, precision and recall, memorisation and class consistency are taken from these. Places, layouts and ground sampling distances are asked
for apart. Every figure carries N and its extractor.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..files import write_bytes
from ..geo.canvas import Canvas
from ..geo.display import contact_sheet
from ..geo.legend import colourise
from ..metrics.base import FeatureSet, extract
from ..metrics.consistency import class_consistency, gsd_response, place_consistency
from ..metrics.frechet import PrincipalBasis, frechet_64
from ..metrics.kernel import kernel_distance
from ..metrics.layout import confusion, mean_iou
from ..metrics.memorisation import memorisation
from ..metrics.precision_recall import precision_recall
from ..metrics.reconstruction import psnr_each, ssim_each, summarise
from ..models.features import EfficientNetLite0, over_images, to_tensor
from ..models.probe import SceneProbe
from ..models.segmenter import LayoutSegmenter
from ..types import Acquisition, Place
from .data import load_samples
from .latents import resized
from .response import condition_changes
from .sources import Sample

PARTS = ("autoencoder", "distribution", "place", "layout", "gsd", "conditions")
PLACES = {  # name -> (source, box west, south, east, north) of real images; the centre of the box is what is asked for
    "Houston": ("houston", (-96.0, 29.0, -95.0, 30.5)),
    "Uganda": ("uganda", (32.0, 0.0, 33.0, 1.0)),
    "Arizona": ("landsat", (-115.0, 31.0, -109.0, 37.5)),
    "Foz do Iguacu": ("rasters", (-55.2, -26.0, -54.0, -24.9)),
    "North Dakota": ("rasters", (-100.0, 46.0, -97.0, 48.0)),
    "South Africa": ("rasters", (24.0, -34.2, 25.0, -33.2)),
    "Europe (Sentinel-2)": ("sentinel2", (-10.0, 35.0, 32.0, 69.0)),
}
GSDS = (0.1, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)
CONFIDENCE = 0.95


@dataclass
class Report:
    """Figures by part, and the pictures that belong to them."""

    model: dict[str, Any]
    figures: dict[str, Any] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)


def asked_from(samples: Sequence[Sample], count: int) -> list[Sample]:
    """``count`` held-out samples: all of land use, layouts and small sources, the rest of Houston and the rasters, evenly spaced."""
    first = [s for s in samples if s.source in ("ucmerced", "poland", "uganda", "sentinel2", "landsat")]
    rest = [s for s in samples if s.source in ("houston", "rasters")]
    if len(first) + len(rest) < count:
        raise InputError(f"{count} images were asked for, the held-out split has {len(samples)}; ask for fewer")
    wanted = max(0, count - len(first))
    picks = np.linspace(0, len(rest) - 1, wanted).round().astype(int)
    return (first + [rest[i] for i in picks])[:count]


def bucketed(sample: Sample) -> Sample:
    """The sample at the side a model makes: 256 pixels, or 128 where the image is small; its gsd follows."""
    side = min(sample.image.shape[:2])
    size = 256 if side > 160 else 128
    a = sample.acquisition
    gsd = None if a.gsd is None else a.gsd * side / size
    layout = None if sample.layout is None else resized(sample.layout[:side, :side], size, nearest=True)
    image = resized(np.ascontiguousarray(sample.image[:side, :side]), size)
    acquisition = Acquisition(gsd, a.date, a.cloud_cover, a.sensor)
    return Sample(
        sample.source, sample.key, image, sample.caption, sample.klass, sample.place, acquisition, layout, sample.number
    )


def by_shape(images: Sequence[np.ndarray], most: int = 8) -> Iterator[list[np.ndarray]]:
    """All the images in groups of at most ``most`` of one shape."""
    groups: dict[tuple[int, ...], list[np.ndarray]] = {}
    for image in images:
        groups.setdefault(image.shape, []).append(image)
    for group in groups.values():
        yield from (group[i : i + most] for i in range(0, len(group), most))


def check_parts(parts: Sequence[str]) -> None:
    """Raises InputError for a part that there is none of, and where none is named."""
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        what = f"no part of the evaluation is called {unknown[0]!r}" if unknown else "no part is named"
        raise InputError(f"{what}; use some of {', '.join(PARTS)}")


class Evaluation:
    """One model under measurement; ``out`` receives pictures, figures and the HTML page."""

    def __init__(
        self,
        pipe: Any,
        out: Path,
        *,
        root: Path,
        count: int = 320,
        seed: int = 0,
        batch: int = 4,
        say: Callable[[str], None] = print,
        **call: Any,
    ):
        self.pipe, self.out, self.root, self.count, self.seed, self.batch, self.say, self.call = (
            pipe,
            out,
            root,
            count,
            seed,
            batch,
            say,
            call,
        )
        self.features = EfficientNetLite0.from_installed(size=224)
        self.backbone = EfficientNetLite0.from_installed(size=None)
        self.heldout = [bucketed(s) for s in load_samples(root, "heldout")]
        self.train = [bucketed(s) for s in load_samples(root, "train")]
        self.report = Report({"name": pipe.spec.name, "licence": pipe.spec.licence, "seed": seed, **call})

    @torch.no_grad()
    def run(self, parts: Sequence[str] = PARTS) -> Report:
        """Measure the named parts in order."""
        check_parts(parts)
        if "distribution" in parts:
            asked_from(self.heldout, self.count)  # that there are enough, before any of it takes long
        self.out.mkdir(exist_ok=True)
        for part in parts:
            started = time.time()
            self.report.figures[part] = getattr(self, part)()
            self.say(f"{part}: {time.time() - started:.0f} s")
            figures = json.dumps({"model": self.report.model, **self.report.figures}, indent=1) + "\n"
            write_bytes(self.out / "figures.json", figures.encode(), overwrite=True)
        return self.report

    # -- parts --------------------------------------------------------------------------------------------------------------------

    def autoencoder(self) -> dict:
        """PSNR and SSIM of reconstructions of all held-out images, by source."""
        figures = {}
        for source in sorted({s.source for s in self.heldout}):
            images = [s.image for s in self.heldout if s.source == source]
            psnr, ssim = [], []
            for same in by_shape(images):
                x = to_tensor(same)
                codec = self.pipe.codec
                y = codec.decode(codec.encode((x * 2 - 1).to(self.pipe.device))).cpu() / 2 + 0.5
                psnr.append(psnr_each(y, x))
                ssim.append(ssim_each(y, x))
            figures[source] = [
                summarise("psnr", torch.cat(psnr), confidence=CONFIDENCE).to_dict(),
                summarise("ssim", torch.cat(ssim), confidence=CONFIDENCE).to_dict(),
            ]
        return figures

    def distribution(self) -> dict:
        """Generated against held-out real images, sample for sample."""
        asked = asked_from(self.heldout, self.count)
        made = self.like(asked)
        self.picture("asked", [s.image for s in asked[:: max(1, len(asked) // 48)]], 12)
        self.picture("made", made[:: max(1, len(made) // 48)], 12)
        train = extract(self.features, [s.image for s in self.train])
        real, fake = extract(self.features, [s.image for s in asked]), extract(self.features, made)
        basis = PrincipalBasis.fit(train)
        force = len(asked) < 320
        copies = memorisation(fake, train, heldout=real, confidence=CONFIDENCE)
        self.picture("closest", [x for i, j, _ in copies.closest for x in (made[i], self.train[j].image)], 10)
        figures = {
            "frechet_64": frechet_64(
                real, fake, basis=basis, train=train, force=force, confidence=CONFIDENCE
            ).to_dict(),
            "kernel": kernel_distance(real, fake, confidence=CONFIDENCE).to_dict(),
            "kernel_floor": kernel_distance(
                real, train.sample(len(real), seed=self.seed), confidence=CONFIDENCE
            ).to_dict(),
            "precision_recall": precision_recall(real, fake, confidence=CONFIDENCE).to_dict(),
            "memorisation": copies.to_dict(),
        }
        probe = load_net(SceneProbe, "probe-class")
        chosen = [i for i, s in enumerate(asked) if s.klass]
        if chosen:
            wanted = torch.tensor([probe.outputs.index(asked[i].klass) for i in chosen])
            for name, images in (("class_consistency", made), ("class_consistency_real", [s.image for s in asked])):
                seen = over_images(lambda x: probe.classify(x, backbone=self.backbone), [images[i] for i in chosen])
                result = class_consistency(
                    seen, wanted, classes=probe.outputs, extractor=probe.name, confidence=CONFIDENCE
                )
                figures[name] = result.to_dict()
            by_class = sorted(chosen, key=lambda i: str(asked[i].klass))
            self.picture("classes", [made[i] for i in by_class], max(1, len(by_class) // 16))
        return figures

    def place(self, each: int = 24, size: int = 128) -> dict:
        """Empty prompt and unknown date everywhere; with one gsd for all, with gsd unknown, and 500 km from any known place."""
        real: dict[str, FeatureSet] = {}
        heldout: dict[str, FeatureSet] = {}
        centres: dict[str, Place | None] = {}
        for name, (source, box) in PLACES.items():
            parts = [
                [s for s in group if s.source == source and inside(s.place, box)]
                for group in (self.train, self.heldout)
            ]
            real[name] = extract(self.features, [resized(s.image, size) for s in parts[0]])
            if parts[1]:
                heldout[name] = extract(self.features, [resized(s.image, size) for s in parts[1]])
            centres[name] = parts[0][len(parts[0]) // 2].place
        basis = PrincipalBasis.fit(extract(self.features, [s.image for s in self.train]))
        figures: dict[str, Any] = {}
        shown = min(12, each)
        for title, gsd in (("gsd 0.5 m for all", 0.5), ("gsd unknown", None)):
            images = [x for name in PLACES for x in self.at(centres[name], gsd, each, size)]
            asked = [name for name in PLACES for _ in range(each)]
            measured = place_consistency(
                extract(self.features, images),
                asked,
                real=real,
                basis=basis,
                heldout=heldout,
                confidence=CONFIDENCE,
                seed=self.seed,
            )
            figures[title] = measured.to_dict()
            self.picture(
                f"places, {title}", [images[i * each + j] for i in range(len(PLACES)) for j in range(shown)], shown
            )
        far = Place(-101.0, 30.0)  # 500 km west of Houston, and farther from every other source
        features = basis.project(extract(self.features, self.at(far, None, each, size)))
        means = torch.stack([basis.project(s).mean(0) for s in real.values()])
        nearest = torch.cdist(features, means).argmin(1)
        figures["500 km from Houston, gsd unknown"] = {n: int((nearest == i).sum()) for i, n in enumerate(PLACES)}
        return figures

    def layout(self) -> dict:
        """Held-out layouts asked for and read back by the segmenter, beside what it reads from the real images."""
        if self.pipe.controlnet is None:
            return {"left out": "the model has no controlnet"}
        segmenter = load_net(LayoutSegmenter, "segmenter")
        asked = [s for s in self.heldout if s.source == "poland"]
        maps = [s.layout for s in asked if s.layout is not None]
        target = torch.from_numpy(np.stack(maps)).long()
        figures, shown = {}, []
        for name, images in (
            ("with layout", self.like(asked, layouts=True)),
            ("without", self.like(asked)),
            ("real images", [s.image for s in asked]),
        ):
            read = over_images(lambda x: segmenter.predict(x, backbone=self.backbone), images).long()
            figures[name] = mean_iou(confusion(read, target), extractor=segmenter.name, confidence=CONFIDENCE).to_dict()
            if name == "with layout":
                shown = [
                    x
                    for m, y, s in list(zip(maps, images, asked, strict=True))[:16]
                    for x in (colourise(m), y, s.image)
                ]
        self.picture("layouts (map, made, real)", shown, 12)
        return figures

    def gsd(self, each: int = 8) -> dict:
        """Nothing but a ground sampling distance is asked for; a regressor trained on real images reads it back."""
        probe = load_net(SceneProbe, "probe-gsd")
        images = [x for gsd in GSDS for x in self.at(None, gsd, each, 256)]
        asked = torch.tensor([gsd for gsd in GSDS for _ in range(each)])
        seen = over_images(lambda x: probe.gsd(x, backbone=self.backbone), images)
        self.picture("gsd (one row each: " + ", ".join(map(str, GSDS)) + " m)", images, each)
        return gsd_response(asked, seen, extractor=probe.name, confidence=CONFIDENCE).to_dict()

    def conditions(self) -> dict:
        """How much each condition changes a picture, beside what another seed does."""
        return condition_changes(self.pipe, confidence=CONFIDENCE, **self.call)

    # -- making images -------------------------------------------------------------------------------------------------------------

    def like(self, asked: Sequence[Sample], *, layouts: bool = False) -> list[np.ndarray]:
        """One image for each sample, from its caption, place and acquisition (and its layout)."""
        made = []
        for i, s in enumerate(asked):
            a, side = s.acquisition, s.image.shape[0]
            about: dict[str, Any] = {"date": a.date, "cloud_cover": a.cloud_cover, "sensor": a.sensor}
            if s.place is not None and a.gsd is not None:
                about["canvas"] = Canvas.around(s.place, a.gsd, side, side)
            else:
                about |= {"width": side, "height": side, "gsd": a.gsd}
            out = self.pipe(s.caption, layout=s.layout if layouts else None, seed=self.seed + i, **about, **self.call)
            made.append(out.scenes[0].array)
            if i % 40 == 39:
                self.say(f"  {i + 1} of {len(asked)}")
        return made

    def at(self, place: Place | None, gsd: float | None, count: int, size: int) -> list[np.ndarray]:
        """``count`` images of a place and gsd (each None = unknown), nothing else known."""
        made = []
        for start in range(0, count, self.batch):
            n = min(self.batch, count - start)
            seeds = [self.seed + start + j for j in range(n)]
            canvas = (
                Canvas.local(size, size, gsd)
                if place is None
                else Canvas.around(place, gsd or self.pipe.spec.defaults.gsd, size, size)
            )
            unknown = {"withhold": ("gsd",)} if gsd is None else {}
            out = self.pipe([""] * n, canvas=canvas, seed=seeds, **unknown, **self.call)
            made += [scene.array for scene in out.scenes]
        return made

    def picture(self, title: str, images: Sequence[np.ndarray], columns: int) -> None:
        """Save a contact sheet and remember it for the page."""
        name = "".join(c if c.isalnum() else "-" for c in title.lower()).strip("-")[:40] + ".jpg"
        contact_sheet(images, columns).save(self.out / name, quality=90)
        self.report.pictures[title] = name


def inside(place: Place | None, box: tuple[float, float, float, float]) -> bool:
    """Whether a place lies in a box (west, south, east, north)."""
    return place is not None and box[0] <= place.lon <= box[2] and box[1] <= place.lat <= box[3]


def load_net(kind: Any, name: str) -> Any:
    """A shipped evaluation net, in float32."""
    return kind.from_pretrained(Path(str(files("gensat.assets"))) / "evaluation" / name).float().eval()
