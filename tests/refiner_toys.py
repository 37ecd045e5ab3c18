"""A ground refiner with tiny networks."""

from dataclasses import replace

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from toys import toy_text, toy_vae

from gensat.conditioning.gbuffers import GBUFFER_CHANNELS
from gensat.models.denoiser import LatentDenoiser
from gensat.models.finisher import Finisher
from gensat.models.stem import GuideStem
from gensat.pipelines.ground import GroundPipeline
from gensat.train.refiner import refiner_spec

STEM = (4, 4, 8)
EXTRA = STEM[-1] + 2 * 4 + 1


def toy_finisher(seed=0) -> Finisher:
    """Random weights, none of them zero."""
    torch.manual_seed(seed)
    net = Finisher(widths=(8, 8, 12), blocks=(1, 1, 1)).requires_grad_(False)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.08)
    return net


def toy_stem(seed=0) -> GuideStem:
    """Random weights, none of them zero."""
    torch.manual_seed(seed)
    net = GuideStem(len(GBUFFER_CHANNELS), STEM).requires_grad_(False)
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.15)
    return net


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
    pipe = GroundPipeline(
        toy_vae(), unet.eval(), toy_stem(), toy_finisher(), FlowMatchEulerDiscreteScheduler(), *toy_text(), spec=spec
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
