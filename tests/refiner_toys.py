"""A ground refiner with tiny networks."""

from dataclasses import replace

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from toys import toy_text

from gensat.conditioning.gbuffers import GBUFFER_CHANNELS
from gensat.models.denoiser import LatentDenoiser
from gensat.models.guided_autoencoder import GuidedAutoencoder
from gensat.pipelines.ground import GroundPipeline
from gensat.train.refiner import refiner_spec

TINY = {"latent_channels": 4, "widths": (8, 8, 12), "encoder_widths": (8, 8, 8), "blocks": (1, 1, 1)}
EXTRA = len(GBUFFER_CHANNELS) + 2 * TINY["latent_channels"] + 1


def toy_guided(seed=0) -> GuidedAutoencoder:
    """Random weights, none of them zero."""
    torch.manual_seed(seed)
    vae = GuidedAutoencoder(**TINY).requires_grad_(False)
    for p in vae.parameters():
        torch.nn.init.normal_(p, std=0.08)
    return vae


def toy_refiner() -> GroundPipeline:
    """Paints at random, but everything it is told matters."""
    torch.manual_seed(1)
    unet = LatentDenoiser(
        4, 4, EXTRA, conv_width=8, conv_blocks=1, width=16, depth=1, heads=2, text_dim=16, vector_dim=16
    )
    for p in unet.parameters():
        if not p.any():
            torch.nn.init.normal_(p, std=0.05)
    spec = replace(refiner_spec("toy-ground", licence="none"), text_encoder="saved")
    pipe = GroundPipeline(toy_guided(), unet.eval(), FlowMatchEulerDiscreteScheduler(), *toy_text(), spec=spec)
    pipe.set_progress_bar_config(disable=True)
    return pipe
