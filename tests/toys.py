"""Tiny real components for tests: every part of a gensat model at a size that runs in milliseconds."""

from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from gensat.conditioning.acquisition import AcquisitionEncoder
from gensat.conditioning.place import SirenPlaceEncoder
from gensat.hub.spec import Defaults, ModelSpec, Signal, Value
from gensat.models.autoencoder import ConvAutoencoder
from gensat.models.controlnet import LayoutControlNet
from gensat.models.denoiser import LatentDenoiser
from gensat.pipelines.satellite import SatellitePipeline

WORDS = [
    "a",
    "an",
    "of",
    "image",
    "aerial",
    "satellite",
    "harbor",
    "beach",
    "river",
    "houses",
    "red",
    "blue",
    "flooded",
]


def toy_text() -> tuple[BertModel, PreTrainedTokenizerFast]:
    """A BERT of two thin layers and a whole-word tokenizer."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(c) for c in range(97, 123)] + ["##" + chr(c) for c in range(97, 123)]
    vocabulary = {w: i for i, w in enumerate(special + letters + [w for w in WORDS if len(w) > 1])}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = BertNormalizer(), BertPreTokenizer()
    ends = [("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    tokenizer.post_processor = TemplateProcessing("[CLS] $A [SEP]", special_tokens=ends)
    names = dict(zip(["pad_token", "unk_token", "cls_token", "sep_token", "mask_token"], special, strict=True))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=64, **names)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=64,
    )
    return BertModel(config).eval(), fast


def toy_spec(**changes) -> ModelSpec:
    """A spec that takes every signal of the default model."""
    acquisition = [
        ("gsd", "m"),
        ("year", ""),
        ("month", ""),
        ("day", ""),
        ("cloud_cover", "fraction"),
        ("sensor", "name"),
    ]
    signals = {
        "prompt": Signal("tokens", null="empty_text", component="text_encoder"),
        "place": Signal(
            "time_vector",
            values=(Value("lon", "degrees"), Value("lat", "degrees")),
            null="learned",
            unconditional="dropped",
            component="place_encoder",
        ),
        "acquisition": Signal(
            "time_vector", values=tuple(Value(*v) for v in acquisition), null="learned", component="acquisition_encoder"
        ),
        "layout": Signal(
            "residuals",
            range=(0.0, 1.0),
            unconditional="kept",
            spatial="canvas",
            resampling="mode",
            component="controlnet",
        ),
        "edges": Signal("residuals", range=(0.0, 1.0), unconditional="kept", spatial="canvas", component="controlnet"),
    }
    defaults = Defaults(gsd=0.5, steps=3, guidance_scale=2.0, prompt_tokens=16)
    values = {
        "name": "toy",
        "signals": signals,
        "native_size": 64,
        "size_limits": (32, 128),
        "window": 64,
        "window_stride": 32,
        "licence": "Apache-2.0",
        "defaults": defaults,
    }
    return ModelSpec(**{**values, **changes})


def toy_vae(**changes) -> ConvAutoencoder:
    """An autoencoder with the default one's structure, thin, its zero-initialised layers woken up."""
    torch.manual_seed(1)
    settings = {
        "latent_channels": 4,
        "block_channels": (8, 8, 8),
        "encoder_channels": (8, 8, 8),
        "decoder_blocks": (1, 1, 1),
    }
    return wake(ConvAutoencoder(**{**settings, **changes})).eval()


def toy_unet(**changes) -> LatentDenoiser:
    """A denoiser with the default one's structure, thin, its zero-initialised layers woken up."""
    torch.manual_seed(2)
    settings = {
        "in_channels": 4,
        "out_channels": 4,
        "conv_width": 16,
        "conv_blocks": 1,
        "width": 32,
        "depth": 2,
        "heads": 2,
    }
    return wake(LatentDenoiser(**{**settings, "text_dim": 16, "vector_dim": 32, **changes})).eval()


def toy_controlnet(**changes) -> LayoutControlNet:
    """A ControlNet for ``toy_unet``."""
    torch.manual_seed(3)
    settings = {
        "in_channels": 4,
        "hint_channels": (8, 8, 8),
        "conv_width": 16,
        "width": 32,
        "heads": 2,
        "vector_dim": 32,
    }
    return wake(LayoutControlNet(**{**settings, **changes})).eval()


def wake(net: torch.nn.Module) -> torch.nn.Module:
    """Give every all-zero parameter small random values, so that no path is switched off."""
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return net


def toy_pipeline(**spec_changes) -> SatellitePipeline:
    """A whole satellite pipeline with random weights."""
    text_encoder, tokenizer = toy_text()
    torch.manual_seed(4)
    pipe = SatellitePipeline(
        vae=toy_vae(),
        unet=toy_unet(),
        scheduler=FlowMatchEulerDiscreteScheduler(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        place_encoder=SirenPlaceEncoder(degree=6, hidden_dim=16, out_dim=32).eval(),
        acquisition_encoder=AcquisitionEncoder(
            out_dim=32, num_channels=32, hidden_dim=16, sensors=["aerial", "sentinel-2"]
        ).eval(),
        controlnet=toy_controlnet(),
        spec=toy_spec(**spec_changes),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def toy_clip_folder(folder: Path) -> Path:
    """A CLIP of two thin layers with a whole-word tokenizer, as transformers saves it."""
    from transformers import CLIPConfig, CLIPModel

    _, tokenizer = toy_text()
    thin = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"eos_token_id": tokenizer.sep_token_id, "bos_token_id": tokenizer.cls_token_id, "pad_token_id": 0}
    text = {**thin, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": 32}
    vision = {**thin, "image_size": 32, "patch_size": 16}
    torch.manual_seed(5)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
