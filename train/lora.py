"""Low-rank updates of a denoiser (Hu et al. 2022), through peft: added, gone on from, and written as diffusers does."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ..errors import InputError

LORA = "lora/pytorch_lora_weights.safetensors"
"""Where a model or a training's result that is a LoRA on another one has it."""


def add_lora(denoiser: Any, settings: DictConfig) -> None:
    """Add a fresh LoRA of ``settings.rank`` and ``alpha`` to the layers named in ``settings.targets``; the denoiser's own weights stay."""
    from peft import LoraConfig

    s = settings
    linear = [n for n, m in denoiser.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    targets = [t for t in s.targets if any(n == t or n.endswith(f".{t}") for n in linear)]
    if not targets:
        raise InputError(f"no layer of the denoiser is called {', '.join(s.targets)}; set lora.targets")
    if s.rank < 1 or s.alpha <= 0 or not 0 <= s.dropout < 1:
        raise InputError("lora.rank has to be 1 or more, lora.alpha above 0 and lora.dropout in 0 to 1; correct them")
    denoiser.requires_grad_(False)
    config = LoraConfig(r=s.rank, lora_alpha=s.alpha, lora_dropout=s.dropout, target_modules=targets)
    denoiser.add_adapter(config, "default")


def go_on(denoiser: Any, earlier: Path) -> None:
    """Give the fresh LoRA of a denoiser the weights of an earlier one: a folder with ``LORA``, or the file. Raises InputError where it does not fit."""
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict

    file = earlier / LORA if earlier.is_dir() else earlier
    if not file.is_file():
        raise InputError(
            f"init={earlier} holds no {LORA}; give the folder of a model or training that has one, or its LoRA"
        )
    tensors = {}
    for key, value in load_file(file).items():  # diffusers renames those of attention
        key = key.removeprefix("unet.").replace(".lora.down.", ".lora_A.").replace(".lora.up.", ".lora_B.")
        tensors[key] = value.float()
    wanted: Any = get_peft_model_state_dict(denoiser)
    if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in wanted.items()}:
        raise InputError(f"the LoRA {file} has other layers or another rank than this recipe; set lora.rank as it was")
    set_peft_model_state_dict(denoiser, tensors)


def save_lora(denoiser: Any, folder: Path, *, half: bool = False) -> None:
    """Write the LoRA to ``folder/pytorch_lora_weights.safetensors``, in float16 with ``half``."""
    from diffusers.loaders import StableDiffusionLoraLoaderMixin
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    learned = convert_state_dict_to_diffusers(get_peft_model_state_dict(denoiser))
    StableDiffusionLoraLoaderMixin.save_lora_weights(
        str(folder),
        unet_lora_layers={name: tensor.contiguous() for name, tensor in learned.items()},  # some are channels last
        unet_lora_adapter_metadata=denoiser.peft_config["default"].to_dict(),
    )
    if half:
        file = folder / Path(LORA).name
        with safe_open(file, "pt") as found:
            about, tensors = found.metadata(), {key: found.get_tensor(key).half() for key in found.keys()}
        save_file(tensors, file, about)
