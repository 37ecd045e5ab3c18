"""Street pairs in memory, and the batches drawn from them: crops, mirrored half of the time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..conditioning.gbuffers import GBUFFER_CHANNELS, encode_gbuffers
from ..errors import InputError
from ..hub.resolve import model_folder
from ..models.autoencoder import ConvAutoencoder
from .latents import TextBank
from .street_pairs import Pair, read_shard

_ACROSS = GBUFFER_CHANNELS.index("edge-on")


class PairBank:
    """All tiles of a folder of shards (``street_pairs.make_shards``).

    Raises InputError where there are none.
    """

    def __init__(self, folder: str | Path):
        paths = sorted(Path(folder).glob("street-*.safetensors"))
        if not paths:
            raise InputError(
                f"{folder} holds no street-*.safetensors; make them: python -m gensat.train.street_pairs {folder}"
            )
        self.pairs: list[Pair] = [pair for path in paths for pair in read_shard(path)]
        self.side = self.pairs[0].target.shape[0]

    def batch(self, rng: np.random.Generator, count: int, side: int) -> dict[str, Any]:
        """``target`` (b, 3, side, side) in [-1, 1], ``guide`` (b, 22, side, side) and ``captions``; crops start at multiples of 8 pixels."""
        chosen = [self.pairs[i] for i in rng.integers(len(self.pairs), size=count)]
        cuts = []
        for _ in chosen:
            row, col = (int(n) * 8 for n in rng.integers(0, (self.side - side) // 8 + 1, 2))
            cuts.append((slice(row, row + side), slice(col, col + side)))
        mirrored = torch.from_numpy(rng.random(count) < 0.5)
        target, guide = tensors(chosen, cuts)
        target = torch.where(mirrored[:, None, None, None], target.flip(-1), target)
        other = guide.flip(-1)
        other[:, _ACROSS] = -other[:, _ACROSS]
        guide = torch.where(mirrored[:, None, None, None], other, guide)
        return {"target": target, "guide": guide, "captions": [p.caption for p in chosen]}

    def captions(self) -> list[str]:
        """All of them, each once."""
        return sorted({p.caption for p in self.pairs})

    def text(self, text: tuple) -> TextBank:
        """States of all captions by ``text`` = (encoder, tokenizer)."""
        return TextBank.encode(self.captions(), text)

    def about(self) -> dict[str, Any]:
        """What is in it, for a model card."""
        types = sorted({p.street_type for p in self.pairs})
        return {"tiles": len(self.pairs), "side in pixels": self.side, "street types": ", ".join(types)}


def tensors(pairs: Sequence[Pair], cuts: Sequence[tuple[slice, slice]] | None = None) -> tuple[Tensor, Tensor]:
    """Targets (b, 3, h, w) and guides (b, 22, h, w) of pairs, cut where ``cuts`` says so."""
    parts = cuts or [(slice(None), slice(None))] * len(pairs)

    def stack(arrays: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(np.stack([a[cut] for a, cut in zip(arrays, parts, strict=True)]))

    target = stack([p.target for p in pairs]).permute(0, 3, 1, 2).float() / 127.5 - 1
    buffers = {name: stack([p.buffers[name] for p in pairs]) for name in pairs[0].buffers}
    return target, encode_gbuffers(buffers, stack([p.rays for p in pairs]).float())


def load_vae(name: str) -> ConvAutoencoder:
    """The autoencoder of a model (a shipped name or a folder) or of a folder of its own, frozen."""
    own = Path(name) / "config.json"
    folder = Path(name) if own.is_file() else model_folder(name) / "vae"
    vae = ConvAutoencoder.from_pretrained(folder).eval().requires_grad_(False)
    return vae.to(memory_format=torch.channels_last)
