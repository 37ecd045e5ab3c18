"""Inception-v3 as a feature extractor, from a weight file that the user has; nothing is downloaded.

Two networks go by that name, and their distances differ: the one of the Frechet Inception distance (Heusel et al.
2017, https://arxiv.org/abs/1706.08500; 1008 classes, TensorFlow's pooling and resizing), which torch-fidelity rebuilds
bit for bit, and torchvision's (1000 classes). The file says which one it is.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gensat.errors import ModelError
from gensat.models.features import resize_square

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of torchvision's weights
_SIDE = 299


class InceptionV3(nn.Module):
    """Frozen Inception-v3: 2048 pooled features of RGB images in [0, 1] of any size.

    ``fid=True`` is the network of published FID figures: 8-bit input, bilinear resizing as in TensorFlow 1. Otherwise
    torchvision's: bicubic, antialiased. ``name`` is ``inception-v3-fid@299`` or ``inception-v3-torchvision@299``,
    followed by the first hex digits of a hash over the weights.
    """

    num_features = 2048
    mean: Tensor
    std: Tensor

    def __init__(self, net: Any, *, fid: bool, digest: str = ""):
        super().__init__()
        self.fid = fid
        self.name = f"inception-v3-{'fid' if fid else 'torchvision'}@{_SIDE}" + (f" ({digest})" if digest else "")
        self.net = net.requires_grad_(False).eval()
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(_STD)[:, None, None], persistent=False)

    @classmethod
    def from_file(cls, path: str | Path) -> "InceptionV3":
        """Read torch-fidelity's (or pytorch-fid's) or torchvision's weights.

        Raises:
            ModelError: no such file, one that holds more than tensors, or another network's weights.
        """
        path = Path(path)
        tensors = read_tensors(path)
        classes = tensors["fc.weight"].shape[0] if "fc.weight" in tensors else 0
        if classes not in (1000, 1008):
            raise ModelError(
                f"{path} does not hold Inception-v3 ({len(tensors)} tensors); give the file of torch-fidelity or "
                "pytorch-fid (1008 classes) or torchvision's inception_v3 (1000 classes)"
            )
        try:
            net = _fid_network(path) if classes == 1008 else _torchvision_network(tensors)
        except (RuntimeError, KeyError) as error:
            raise ModelError(f"{path} does not fit Inception-v3 ({str(error)[:120]}); get the file again") from error
        return cls(net, fid=classes == 1008, digest=short_hash(tensors))

    def train(self, mode: bool = True) -> "InceptionV3":
        """Stay in evaluation mode whatever is asked."""
        return super().train(False)

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 2048"]:
        """Features after the last pooling."""
        if self.fid:
            return self.net((images.clamp(0, 1) * 255).round().to(torch.uint8))[0]
        return self.net((resize_square(images, _SIDE) - self.mean) / self.std)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` file or of a PyTorch file, which may hold nothing else. Raises ModelError."""
    if not path.is_file():
        raise ModelError(f"weights {path} do not exist; check the path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler met: a damaged or foreign file
        raise ModelError(f"weights {path} cannot be read ({type(error).__name__}); get the file again") from error
    if not isinstance(tensors, dict) or not all(isinstance(v, Tensor) for v in tensors.values()):
        raise ModelError(f"{path} holds more than tensors; give a file with a plain state dict")
    return tensors


def short_hash(tensors: dict[str, Tensor]) -> str:
    """Eight hex digits that tell weights of one architecture apart: over names, shapes and the first values of all."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.flatten()[:64].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:8]


def _fid_network(path: Path) -> nn.Module:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise ModelError("the FID network needs the package torch-fidelity; run pip install 'gensat[eval]'") from error
    # it unpickles without a check: read_tensors has already made sure that the file holds tensors alone
    return FeatureExtractorInceptionV3("inception-v3", ["2048"], feature_extractor_weights_path=str(path))


def _torchvision_network(tensors: dict[str, Tensor]) -> nn.Module:
    from torchvision.models import inception_v3

    has_aux = any(k.startswith("AuxLogits") for k in tensors)
    net = inception_v3(weights=None, init_weights=False, transform_input=False, aux_logits=has_aux)
    net.load_state_dict(tensors)
    net.fc = nn.Identity()
    return net
