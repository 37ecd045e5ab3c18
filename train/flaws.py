"""Pictures that nothing can be learned from: framed, blank or blurred.

Each test is one number of one picture; its limit was set by looking at the pictures on both sides of it. Stripes are no flaw: furrows
and long roofs have them too.
"""

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

FRAMED = 0.005
"""Share of pixels in pure black or white pieces along a border line that is all black or white: one row of 128 is 0.008."""
BLANK = 2.0
"""Grey levels of deviation below which a picture shows nothing. The calmest real one, of water, has 3.9."""
BLURRED = 0.5
"""Mean Laplacian, in grey levels, below which nothing is sharp. The calmest real one has 0.84."""


def flaw(image: UInt8[np.ndarray, "h w 3"]) -> str | None:
    """What is wrong with a picture, in one word, or None: framed, blank or blurred."""
    grey = image.astype(np.float32).mean(2)
    if frame(image) > FRAMED:
        return "framed"
    if grey.std() < BLANK:
        return "blank"
    return "blurred" if sharpness(grey) < BLURRED else None


def frame(image: UInt8[np.ndarray, "h w 3"]) -> float:
    """Share of pixels outside of the scene: below 4 or above 251 in all bands, in pieces that fill a whole border line."""
    share = 0.0
    for mask in (image.max(2) < 4, image.min(2) > 251):
        pieces, _ = ndimage.label(mask)
        for line in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
            if (line > 0).mean() > 0.97:
                found = np.isin(pieces, np.unique(line[line > 0]))
                share += float(found.mean())
                pieces[found] = 0
    return share


def sharpness(grey: np.ndarray) -> float:
    """Mean size of the Laplacian, in grey levels."""
    return float(np.abs(ndimage.laplace(ndimage.gaussian_filter(grey, 0.5))).mean())
