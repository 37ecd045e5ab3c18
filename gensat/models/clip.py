"""CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020) from a folder that the user has: pictures and texts as
vectors of one space.

Nothing is downloaded: the folder is what ``save_pretrained`` of transformers writes (config.json, weights,
preprocessor_config.json, and for texts the tokenizer).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gensat.errors import ModelError
from gensat.models.features import resize_square
from gensat.models.inception import short_hash

_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


class Clip(nn.Module):
    """Frozen CLIP; calling it gives unit vectors of RGB images in [0, 1] of any size, ``texts`` those of captions.

    Images are resized to a square of the tower's size (bicubic, antialiased, the whole image; no centre crop).
    ``name`` is e.g. ``clip-vit-14-1024@224 (1a2b3c4d)``: patch, width, input size, hash over the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, model: Any, tokenizer: Any = None, *, mean: Sequence[float] = _MEAN, std: Sequence[float] = _STD
    ):
        super().__init__()
        self.model = model.requires_grad_(False).eval()
        self.tokenizer = tokenizer
        vision = model.config.vision_config
        self.size = int(vision.image_size)
        self.num_features = int(model.config.projection_dim)
        digest = short_hash(dict(model.state_dict()))
        self.name = f"clip-vit-{vision.patch_size}-{vision.hidden_size}@{self.size} ({digest})"
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    @classmethod
    def from_folder(cls, folder: str | Path) -> "Clip":
        """Read a CLIP model of transformers.

        Raises:
            ModelError: no such folder, or one that holds another model or damaged weights.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} holds no CLIP model (no config.json); give a folder that transformers wrote")
        from transformers import AutoTokenizer, CLIPModel

        try:
            kind = json.loads((folder / "config.json").read_text()).get("model_type")
            if kind != "clip":
                raise ModelError(f"{folder} holds a model of type {kind!r}; give a folder with a CLIP model")
            model, info = CLIPModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
            missing = [k for k in info["missing_keys"] if not k.endswith("position_ids")]
            if missing:
                raise ModelError(f"{folder} lacks {len(missing)} tensors of CLIP ({missing[0]}, ...); get it again")
            has_tokenizer = any((folder / f).is_file() for f in ("tokenizer.json", "vocab.json"))
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True) if has_tokenizer else None
            settings = folder / "preprocessor_config.json"
            norm = json.loads(settings.read_text()) if settings.is_file() else {}
        except (OSError, ValueError, RuntimeError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"CLIP in {folder} cannot be read ({str(error)[:120]}); get it again") from error
        return cls(model, tokenizer, mean=norm.get("image_mean", _MEAN), std=norm.get("image_std", _STD))

    def train(self, mode: bool = True) -> "Clip":
        """Stay in evaluation mode whatever is asked."""
        return super().train(False)

    def prepare(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """Resize and scale [0, 1] to what the network was trained on."""
        return (resize_square(images, self.size) - self.mean) / self.std

    def project(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Projected image vectors, not normalised (GeoCLIP reads these)."""
        states = self.model.vision_model(pixel_values=self.prepare(images)).pooler_output
        return self.model.visual_projection(states)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b f"]:
        """Unit vectors of images."""
        return F.normalize(self.project(images), dim=1)

    def texts(self, captions: Sequence[str], *, batch_size: int = 64) -> Float[Tensor, "n f"]:
        """Unit vectors of captions, cut at the model's length (77 tokens as published)."""
        if self.tokenizer is None:
            raise ModelError("this CLIP folder has no tokenizer; add its tokenizer.json (or vocab.json and merges.txt)")
        length = int(self.model.config.text_config.max_position_embeddings)
        out = []
        with torch.inference_mode():
            for i in range(0, len(captions), batch_size):
                tokens = self.tokenizer(
                    list(captions[i : i + batch_size]),
                    padding=True,
                    truncation=True,
                    max_length=length,
                    return_tensors="pt",
                ).to(self.mean.device)
                states = self.model.text_model(
                    input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
                ).pooler_output
                out.append(F.normalize(self.model.text_projection(states), dim=1).cpu())
        return torch.cat(out).float()
