"""Street pairs in memory, and the batches drawn from them: crops, mirrored half of the time, their walls anywhere in the world."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..conditioning.gbuffers import encode_gbuffers
from ..diffusion.codec import Codec
from ..errors import InputError
from ..hub.resolve import model_folder
from ..models.autoencoder import ConvAutoencoder
from .latents import TextBank
from .logs import say
from .street_pairs import Pair, read_shard

_WORLD = 48.0  # metres over which the rulers of walls are moved: a multiple of all their lengths
_BLOCK = 32


class PairBank:
    """All tiles of a folder of shards (``street_pairs.make_shards``) and of the folders in it.

    The sky of an answer is that of its raw render, which a refined view keeps. With a ``codec`` the latents of pictures and answers are made
    once, upright and mirrored, for the frozen autoencoder costs more than what is trained.

    Raises InputError where there are none.
    """

    def __init__(self, folder: str | Path, codec: Codec | None = None):
        paths = sorted(Path(folder).glob("**/street-*.safetensors"))
        if not paths:
            raise InputError(
                f"{folder} holds no street-*.safetensors; make them: python -m gensat.train.street_pairs {folder}"
            )
        self.pairs: list[Pair] = [pair for path in paths for pair in read_shard(path)]
        self.side = self.pairs[0].target.shape[0]
        self.latents = None if codec is None else self._encode(codec)

    @torch.no_grad()
    def _encode(self, codec: Codec) -> Tensor:
        """(n, 2, 2, c, s, s) float16: of every pair upright and mirrored, the answer and the raw picture."""
        say(f"latents of {len(self.pairs)} tiles are made once")
        device = next(codec.vae.parameters()).device
        made = []
        for k in range(0, len(self.pairs), _BLOCK):
            some = self.pairs[k : k + _BLOCK]
            sides = []
            for mirrored in (False, True):
                target, guide = tensors(some, mirrored=[mirrored] * len(some))
                both = (codec.encode(v.to(device)).cpu().half() for v in (target, guide[:, :3]))
                sides.append(torch.stack([*both], 1))
            made.append(torch.stack(sides, 1))
        return torch.cat(made)

    def batch(self, rng: np.random.Generator, count: int, side: int) -> dict[str, Any]:
        """``target`` (b, 3, side, side) in [-1, 1], ``guide`` (b, g, side, side) and ``captions``; crops start at multiples of 8 pixels.

        With a codec also ``latents`` and ``raw`` (b, c, side / 8, side / 8) of answers and raw pictures.
        """
        chosen = rng.integers(len(self.pairs), size=count)
        starts = 8 * rng.integers(0, (self.side - side) // 8 + 1, (count, 2))
        mirrored = rng.random(count) < 0.5
        pairs = [self.pairs[i] for i in chosen]
        origins = torch.from_numpy(rng.uniform(0, _WORLD, (count, 1, 1, 3)))
        cuts = [(slice(r, r + side), slice(c, c + side)) for r, c in starts]
        target, guide = tensors(pairs, cuts, mirrored, origins)
        batch = {"target": target, "guide": guide, "captions": [p.caption for p in pairs]}
        if self.latents is None:
            return batch
        cells = side // 8
        cut = [
            self.latents[i, int(m), :, :, r : r + cells, c : c + cells].float()
            for i, m, (r, c) in zip(chosen, mirrored, starts // 8, strict=True)
        ]
        latents, raw = torch.stack(cut, 1)
        return {**batch, "latents": latents, "raw": raw}

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


def tensors(
    pairs: Sequence[Pair],
    cuts: Sequence[tuple[slice, slice]] | None = None,
    mirrored: Sequence[bool] | np.ndarray | None = None,
    origins: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Answers (b, 3, h, w) with the sky of the raw picture, and guides (b, g, h, w).

    Args:
        pairs: tiles of one size.
        cuts: the part of each, after it was mirrored; all of it when not given.
        mirrored: which are shown left for right, in a world that is mirrored too.
        origins: where the eye of each stands (b, 1, 1, 3); only the rulers of walls depend on it.
    """
    whole = (slice(None), slice(None))
    flips = [1 if m else 0 for m in mirrored] if mirrored is not None else [0] * len(pairs)
    parts = list(zip(flips, cuts or [whole] * len(pairs), strict=True))

    def stack(arrays: Sequence[np.ndarray]) -> Tensor:
        return torch.from_numpy(
            np.stack([(a[:, ::-1] if flip else a)[cut] for a, (flip, cut) in zip(arrays, parts, strict=True)])
        )

    hand = torch.tensor([[-1.0 if flip else 1.0, 1.0, 1.0] for flip in flips])[:, None, None]
    buffers = {name: stack([p.buffers[name] for p in pairs]) for name in pairs[0].buffers}
    buffers["rgb"] = buffers["rgb"].float() / 255
    buffers["normals"] = buffers["normals"].float() / 127 * hand
    rays = stack([p.rays for p in pairs]).float() * hand
    guide = encode_gbuffers(buffers, rays, torch.zeros(len(pairs), 1, 1, 3) if origins is None else origins)
    target = stack([p.target for p in pairs]).permute(0, 3, 1, 2).float() / 127.5 - 1
    sky = buffers["kind"][:, None] == 0
    return torch.where(sky, guide[:, :3], target), guide


def load_vae(name: str) -> ConvAutoencoder:
    """The autoencoder of a model (a shipped name or a folder) or of a folder of its own, frozen."""
    own = Path(name) / "config.json"
    folder = Path(name) if own.is_file() else model_folder(name) / "vae"
    vae = ConvAutoencoder.from_pretrained(folder).eval().requires_grad_(False)
    return vae.to(memory_format=torch.channels_last)
