"""The published models that can be converted, in the order in which they are tried."""

from __future__ import annotations

from gensat.hub.convert_ground import Reader, read_sat2density, read_sat2density_plus
from gensat.hub.convert_pix2pixhd import read_pix2pixhd
from gensat.hub.convert_sat3dgen import read_sat3dgen

READERS = (
    Reader(
        "Sat2Density",
        "netG",
        ("depth_model.up_end.layers.conv.weight", "denoise_model.fc_z_cond.weight"),
        "not stated by its authors (no licence file; parts of their program are NVIDIA Source Code Licence-NC)",
        read_sat2density,
    ),
    Reader(
        "Sat2Density++",
        None,
        ("mlp.net1_density.weight", "sky_img_mapping.embed.weight"),
        "MIT by its authors' page (StyleGAN parts of their program are NVIDIA's, non-commercial)",
        read_sat2density_plus,
    ),
    Reader(
        "Sat3DGen",
        None,
        ("mlp.style_squ.weight", "unet_model.dino_model.embeddings.cls_token"),
        "MIT by its authors; it contains DINOv3 of Meta, whose own licence (DINOv3 License) holds for that part",
        read_sat3dgen,
        settings="config.json",
    ),
    Reader(
        "pix2pixHD of the Earth Intelligence Engine",
        None,
        ("model.1.weight", "model.1.bias", "model.4.weight"),
        "not stated by its authors (no licence file; pix2pixHD is NVIDIA's, BSD-like, and the training images are of mixed licences)",
        read_pix2pixhd,
    ),
)
