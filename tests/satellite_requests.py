"""What the tests of the satellite pipeline ask of the toy model, and how they look at what comes."""

import numpy as np

from gensat.types import Place

HOUSTON, KAMPALA = Place(lon=-95.36, lat=29.76), Place(lon=32.58, lat=0.35)
SMALL = {"width": 32, "height": 32, "num_inference_steps": 2}
REQUEST = {"prompt": "a harbor", "place": HOUSTON, "gsd": 0.5, "date": "2017-08-31", "seed": 7, **SMALL}
CLASSES = np.repeat(np.arange(4, dtype=np.uint8), 8)[:, None].repeat(32, axis=1)


def latents(pipe, **changes):
    return pipe(**{**REQUEST, **changes}, output_type="latent").images


def pixels(out):
    return np.stack([scene.array for scene in out.scenes]).astype(int)


def picture(seed=0, side=32):
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
