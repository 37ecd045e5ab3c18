"""Whether the weights in a folder are those of a network: nothing missing, nothing left over, before anything is computed with them."""

import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from diffusers import ModelMixin
from safetensors import SafetensorError, safe_open

from gensat.errors import ModelError
from gensat.hub.resolve import model_folder
from gensat.hub.spec import ModelSpec


def import_components(folder: Path) -> None:
    """Import gensat's own classes that a model folder names: diffusers looks for classes only in modules that are imported already.

    Nothing outside of gensat is imported. Raises ModelError for an index that cannot be read or a module that does not exist.
    """
    try:
        index = json.loads((folder / "model_index.json").read_text())
        names = [part[0] for part in index.values() if isinstance(part, list) and part and isinstance(part[0], str)]
        for name in names:
            if name.startswith("gensat."):
                import_module(name)
    except (OSError, ValueError, AttributeError, ImportError) as error:
        raise ModelError(f"{folder / 'model_index.json'} cannot be used ({error}); restore the model folder") from error


def load_component(folder: Path, name: str, dtype: Any = None, *, spec: ModelSpec | None = None) -> Any:
    """One network of a model folder, as its index says, from another model where its spec (that of the folder, unless given) says so.

    A model that lies beside the folder comes before one of that name elsewhere: two that were trained together are moved together.

    Raises ModelError where the folder has no such component.
    """
    import_components(folder)
    spec = spec or ModelSpec.load(folder)
    if name in spec.shared and not (folder / name).is_dir():
        beside = folder.parent / spec.shared[name]
        owner = beside if (beside / "model_index.json").is_file() else model_folder(spec.shared[name])
        module = load_component(owner, name, dtype)
        if name == "unet" and spec.lora:
            merge_lora(module, folder / spec.lora)
        return module
    entry = json.loads((folder / "model_index.json").read_text()).get(name)
    if not (isinstance(entry, list) and entry[0] and (folder / name).is_dir()):
        raise ModelError(f"{folder} has no {name} to share; give a folder that holds it")
    module = getattr(import_module(entry[0]), entry[1]).from_pretrained(folder / name, torch_dtype=dtype)
    check_weights(folder / name, module)
    return module


def check_weights(folder: Path, module: Any) -> None:
    """Compare the tensor names of a component's safetensors files with those of the loaded network.

    diffusers only warns about both, and a network with some random layers still makes pictures. Parts that are no diffusers network
    (tokenizers, schedulers, text encoders) or were quantised while loading are not looked at. Raises ModelError naming the first few.
    """
    named_alike = isinstance(module, ModelMixin) and getattr(module, "hf_quantizer", None) is None
    files = sorted(folder.glob("*.safetensors")) if named_alike else []
    found: dict[str, Any] = {}
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            found.update(dict.fromkeys(tensors.keys()))
    if not found:
        return
    if hasattr(module, "_fix_state_dict_keys_on_load"):  # names of older releases of diffusers
        module._fix_state_dict_keys_on_load(found)
    ignored = module._keys_to_ignore_on_load_unexpected or ()
    expected = set(module.state_dict())
    missing = sorted(expected - set(found))
    left = sorted(k for k in set(found) - expected if not any(re.search(pattern, k) for pattern in ignored))
    if missing or left:
        lists = [
            f"{word} {', '.join(keys[:3])}" for word, keys in (("lack", missing), ("have an unknown", left)) if keys
        ]
        raise ModelError(
            f"the weights in {folder} do not fit {type(module).__name__}: {len(missing)} missing and {len(left)} "
            f"unexpected tensors (they {' and '.join(lists)}); restore the model folder"
        )


def merge_lora(denoiser: Any, file: Path) -> None:
    """Add a LoRA to the weights of a denoiser for good. Raises ModelError for a file that is missing or does not fit."""
    if not file.is_file():
        raise ModelError(f"{file} is missing, with which this model is made of another; restore the model folder")
    try:
        denoiser.load_lora_adapter(str(file.parent), weight_name=file.name, prefix="unet", adapter_name="own")
    except (ValueError, KeyError, RuntimeError, AttributeError, SafetensorError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise ModelError(f"{file} does not fit its denoiser ({first}); restore the model folder") from error
    denoiser.fuse_lora()
    denoiser.unload_lora()
