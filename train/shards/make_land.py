"""Makes ``land.png`` from the package global-land-mask (which holds the GLOBE elevation model of NOAA, public domain): ``pip install global-land-mask``.

Run ``python -m gensat.train.shards.make_land``; it is needed only to make the file again.
"""

from pathlib import Path

import numpy as np
from PIL import Image

CELLS = 4  # a degree


def main() -> None:
    """Write the mask beside this file: (720, 1440), row 0 north, white where the centre of a cell is land."""
    from global_land_mask import globe

    lat = 90 - (np.arange(180 * CELLS) + 0.5) / CELLS
    lon = -180 + (np.arange(360 * CELLS) + 0.5) / CELLS
    land = globe.is_land(*np.meshgrid(lat, lon, indexing="ij"))
    picture = Image.fromarray(land.astype(np.uint8) * 255).convert("1", dither=Image.Dither.NONE)
    picture.save(Path(__file__).with_name("land.png"), optimize=True)


if __name__ == "__main__":
    main()
