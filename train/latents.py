"""Training samples as latents with everything that is known of them: encoded once, kept in memory, drawn by (seed, step).

``variants`` brings each sample to 128 or 256 pixels (its gsd changes with it), 256-pixel ones also to 128 at twice their gsd; ``fitted``
brings it to the one size of a fine-tuning.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..conditioning.text import encode_text
from ..diffusion.codec import Codec
from ..types import Acquisition, Place
from .autoencoder import turn
from .captions import all_captions
from .clouds import add_clouds
from .sources import Sample

SHADOWS = 3.0
"""Metres a pixel from which on shadows of houses and trees are hardly seen."""


@dataclass
class Entry:
    """One encoded sample: ``latent`` (c, h, w) float16, captions, and where, when and how it was taken."""

    source: str
    latent: np.ndarray
    captions: list[str]
    place: Place | None
    acquisition: Acquisition
    image: np.ndarray
    layout: np.ndarray | None
    key: str = ""
    layout_origin: str = "map"  # or "read", off the image by a network


def resized(image: np.ndarray, size: int, *, nearest: bool = False) -> np.ndarray:
    """(size, size[, 3]) by area-weighted Lanczos, or nearest for class maps."""
    how = Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize((size, size), how))


def variants(sample: Sample, rng: np.random.Generator, *, clouds: float) -> list[Sample]:
    """The sample at its native bucket (128 or 256 px), 256-px ones at 128 too, and now and then one more under clouds."""
    side = min(sample.image.shape[:2])
    image = sample.image[:side, :side]
    layout = None if sample.layout is None else sample.layout[:side, :side]
    gsd = sample.acquisition.gsd
    out = []
    for size in (256, 128) if side > 160 else (128,):
        acquisition = replace_gsd(sample.acquisition, None if gsd is None else gsd * side / size)
        small = image if side == size else resized(image, size)
        plan = layout if layout is None or side == size else resized(layout, size, nearest=True)
        out.append(replace(sample, image=small, layout=plan, acquisition=acquisition))
    if rng.random() < clouds:
        base = out[0]
        cover = float(rng.beta(0.8, 0.8))
        cloudy = add_clouds(base.image, cover, base.acquisition.gsd or 0.4, rng)
        a = base.acquisition
        cloudy_acquisition = Acquisition(a.gsd, a.date, cover, a.sensor)
        out.append(replace(base, image=cloudy, layout=None, layout_origin="map", acquisition=cloudy_acquisition))
    return out


def fitted(sample: Sample, size: int) -> Sample:
    """The sample's central square at ``size`` pixels a side, its gsd scaled with it."""
    height, width = sample.image.shape[:2]
    side = min(height, width)
    row, col = (height - side) // 2, (width - side) // 2
    image = sample.image[row : row + side, col : col + side]
    layout = None if sample.layout is None else sample.layout[row : row + side, col : col + side]
    if side != size:
        image = resized(image, size)
        layout = None if layout is None else resized(layout, size, nearest=True)
    gsd = sample.acquisition.gsd
    acquisition = replace_gsd(sample.acquisition, None if gsd is None else gsd * side / size)
    return replace(sample, image=image, layout=layout, acquisition=acquisition)


def replace_gsd(a: Acquisition, gsd: float | None) -> Acquisition:
    """The acquisition with another ground sampling distance."""
    return Acquisition(gsd, a.date, a.cloud_cover, a.sensor)


@torch.no_grad()
def encode_samples(
    samples: Iterable[Sample],
    codec: Codec,
    *,
    seed: int,
    clouds: float = 0.15,
    batch: int = 16,
    make: Callable[[Sample], list[Sample]] | None = None,
) -> list[Entry]:
    """Entries of all variants of all samples, as soon as a batch of one size is together.

    ``batch`` is for 128 px, larger images come in proportionally smaller batches. ``make`` says which pictures a sample is encoded as;
    without it those of ``variants``.
    """
    entries: list[Entry] = []
    waiting: dict[int, list[Sample]] = {}
    for i, sample in enumerate(samples):
        found = make(sample) if make else variants(sample, np.random.default_rng([seed, i]), clouds=clouds)
        for made in found:
            size = made.image.shape[0]
            group = waiting.setdefault(size, [])
            group.append(made)
            if len(group) == max(1, batch * 128**2 // size**2):  # an even use of memory
                entries += _encode_group(waiting.pop(size), codec)
    for group in waiting.values():
        entries += _encode_group(group, codec)
    return entries


def _encode_group(group: Sequence[Sample], codec: Codec) -> list[Entry]:
    x = torch.from_numpy(np.stack([s.image for s in group])).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = codec.encode(x.contiguous(memory_format=torch.channels_last)).half().cpu().numpy()
    return [
        Entry(
            s.source,
            latent.copy(),
            all_captions(s),
            s.place,
            s.acquisition,
            s.image,
            s.layout,
            s.key,
            s.layout_origin,
        )
        for s, latent in zip(group, latents, strict=True)
    ]


class Bank:
    """Entries grouped by size, and the batches drawn from them.

    Over all images that ``batch`` draws, each source has its share. Within a source, images that are described alike weigh together
    by the square root of their number, so that what there is much of does not drown the rest.
    """

    def __init__(self, entries: Sequence[Entry], shares: Mapping[str, float | int], text: "TextBank"):
        self.entries = entries
        self.by_size: dict[int, list[int]] = {}
        for i, entry in enumerate(entries):
            self.by_size.setdefault(entry.latent.shape[-1], []).append(i)
        self.shares = {s: float(shares.get(s, 0.0)) for s in {e.source for e in entries}}
        self.weights = {size: self._weights(members, self.shares) for size, members in self.by_size.items()}
        self.text_bank = text
        self._rest: dict[float, np.ndarray] = {}

    def _weights(self, members: Sequence[int], shares: Mapping[str, float]) -> np.ndarray:
        """Probability of each member: its source's share, parted among the source's groups."""
        groups = [(self.entries[i].source, self.entries[i].captions[:1]) for i in members]
        keys = [(source, *caption) for source, caption in groups]
        counts = Counter(keys)
        totals: defaultdict[str, float] = defaultdict(float)
        for key, count in counts.items():
            totals[key[0]] += count**0.5
        weight = np.array([shares.get(key[0], 0.0) / totals[key[0]] * counts[key] ** -0.5 for key in keys])
        if not weight.any():  # none of these sources is named: every sample alike
            weight = np.ones(len(keys))
        return weight / weight.sum()

    def _rest_weights(self, large: float) -> np.ndarray:
        """Weights of the smallest size where a part ``large`` of all images comes from the largest: what brings each source to its share."""
        if large not in self._rest:
            sizes = sorted(self.by_size)
            total = sum(self.shares.values()) or 1.0
            found: defaultdict[str, float] = defaultdict(float)
            for i, weight in zip(self.by_size[sizes[-1]], self.weights[sizes[-1]], strict=True):
                found[self.entries[i].source] += weight
            there = {self.entries[i].source for i in self.by_size[sizes[0]]}
            rest = {s: max(self.shares[s] / total - large * found[s], 0.0) for s in there}
            self._rest[large] = self._weights(self.by_size[sizes[0]], rest)
        return self._rest[large]

    def pick(self, rng: np.random.Generator, size: int, count: int, *, weight: np.ndarray | None = None) -> list[Entry]:
        """``count`` entries of latent side ``size``, by source share or by ``weight``."""
        members, weight = self.by_size[size], self.weights[size] if weight is None else weight
        return [self.entries[i] for i in rng.choice(members, size=count, p=weight)]

    def batch(
        self, rng: np.random.Generator, *, small: int, large: int, share: float | int, crops: float | int
    ) -> list[Entry]:
        """``large`` entries of the largest size with probability ``share``, else ``small`` of the smallest, of which about ``crops`` are cut from the largest.

        A cut keeps its source's gsd: fine texture is learnt at the price of small batches.
        """
        sizes = sorted(self.by_size)
        if rng.random() < share:
            return self.pick(rng, sizes[-1], large)
        cut = int(rng.binomial(small, crops)) if len(sizes) > 1 else 0
        parts = [crop(e, sizes[0], rng) for e in self.pick(rng, sizes[-1], cut)] if cut else []
        return parts + self.pick(rng, sizes[0], small - cut, weight=self._small(small, large, share, crops))

    def _small(self, small: int, large: int, share: float | int, crops: float | int) -> np.ndarray:
        if len(self.by_size) == 1:
            return self.weights[min(self.by_size)]
        drawn = share * large + (1 - share) * small
        return self._rest_weights((share * large + (1 - share) * small * crops) / drawn)

    def drawn(self, *, small: int, large: int, share: float | int, crops: float | int) -> dict[str, float]:
        """The part of all images of ``batch`` that is of each source, and of what each is called, by calculation: ``SOURCE`` and ``SOURCE: CAPTION``."""
        sizes = sorted(self.by_size)
        drawn = share * large + (1 - share) * small
        most = 1.0 if len(sizes) == 1 else (share * large + (1 - share) * small * crops) / drawn
        found: defaultdict[str, float] = defaultdict(float)
        sides = [(sizes[-1], most, self.weights[sizes[-1]])]
        if most < 1:
            sides.append((sizes[0], 1 - most, self._small(small, large, share, crops)))
        for size, part, weights in sides:
            for i, weight in zip(self.by_size[size], weights, strict=True):
                entry = self.entries[i]
                found[entry.source] += part * float(weight)
                found[f"{entry.source}: {(*entry.captions, '')[0]}"] += part * float(weight)
        return dict(sorted(found.items()))

    def about(self) -> dict[str, Any]:
        """What is in it, for a model card."""
        known = {
            "with a place": sum(e.place is not None for e in self.entries),
            "with a gsd": sum(e.acquisition.gsd is not None for e in self.entries),
            "with a layout": sum(e.layout is not None and e.layout_origin == "map" for e in self.entries),
            "with a layout read off the image": sum(e.layout_origin == "read" for e in self.entries),
        }
        sizes = sorted({e.image.shape[0] for e in self.entries})
        return {"images": len(self.entries), "sides in pixels": ", ".join(map(str, sizes)), **known}

    def text(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token states (b, l, d) and mask (b, l) of captions of the bank."""
        return self.text_bank.states(captions)


def crop(entry: Entry, size: int, rng: np.random.Generator) -> Entry:
    """A random window of ``size`` latent cells, with its image and layout; place and gsd stay."""
    room = entry.latent.shape[-1] - size
    row, col = (int(n) for n in rng.integers(0, room + 1, 2))
    factor = entry.image.shape[0] // entry.latent.shape[-1]
    pixels = (slice(row * factor, (row + size) * factor), slice(col * factor, (col + size) * factor))
    return replace(
        entry,
        latent=entry.latent[:, row : row + size, col : col + size],
        image=entry.image[pixels],
        layout=None if entry.layout is None else entry.layout[pixels],
    )


class TextBank:
    """Token states of a fixed set of captions, encoded once or read from a file (where the text encoder cannot go)."""

    def __init__(self, captions: Sequence[str], tokens: Tensor, mask: Tensor):
        self.row, self.tokens, self.mask = {c: i for i, c in enumerate(captions)}, tokens, mask

    @classmethod
    def encode(cls, captions: Iterable[str], text: tuple, *, max_tokens: int = 24) -> "TextBank":
        """States of all captions and of the empty one by ``text`` = (encoder, tokenizer)."""
        encoder, tokenizer = text
        listed = sorted({*captions, ""})
        parts = [
            encode_text(encoder, tokenizer, listed[i : i + 64], max_length=max_tokens)
            for i in range(0, len(listed), 64)
        ]
        return cls(listed, torch.cat([p.tokens for p in parts]), torch.cat([p.mask for p in parts]))

    def save(self, path: str | Path) -> None:
        """One safetensors file, float16, the captions in its header; of each caption only the tokens that it has."""
        tokens = self.tokens[self.mask].half()
        save_file({"tokens": tokens, "mask": self.mask}, path, {"captions": json.dumps(list(self.row))})

    @classmethod
    def load(cls, path: str | Path) -> "TextBank":
        """Inverse of ``save``."""
        with safe_open(path, "pt") as file:
            captions = json.loads(file.metadata()["captions"])
            tokens, mask = file.get_tensor("tokens").float(), file.get_tensor("mask")
        if tokens.ndim == 2:  # else of an older file, with all of its padding
            kept, tokens = tokens, torch.zeros(*mask.shape, tokens.shape[-1])
            tokens[mask] = kept
        return cls(captions, tokens, mask)

    def states(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token states (b, l, d) and mask (b, l)."""
        rows = [self.row[c] for c in captions]
        return self.tokens[rows], self.mask[rows]


def stacked(entries: Sequence[Entry]) -> Tensor:
    """Latents of a batch, (b, c, h, w) float32."""
    return torch.from_numpy(np.stack([e.latent for e in entries])).float()


def turns(entries: Sequence[Entry], k: int) -> list[int]:
    """Which symmetry of the square (``autoencoder.turn``) each entry may take where ``k`` (0..7) was drawn.

    Seen from above nothing says where north is, but shadows do: where place, season and pixels below ``SHADOWS`` metres are told together,
    a turned picture would have its sun in the wrong quarter. Such an entry is only mirrored east to west, which makes a morning an afternoon.
    """
    return [k // 4 * 4 if _sun_known(e) else k for e in entries]


def _sun_known(e: Entry) -> bool:
    a = e.acquisition
    dated = a.date.month is not None or e.source == "houston"  # Houston before the storm: ``conditions`` draws a day
    return e.place is not None and dated and a.gsd is not None and a.gsd < SHADOWS


def turn_each(x: Tensor, ks: Sequence[int]) -> Tensor:
    """Each of a batch (b, c, h, w) under its own symmetry of the square."""
    return torch.cat([turn(one, k) for one, k in zip(x.split(1), ks, strict=True)])
