"""Makes the pictures of the README and of the model card from the shipped model: ``python docs/make_images.py``. Nothing is picked."""

from pathlib import Path

import numpy as np

import gensat
from gensat.geo.display import contact_sheet
from gensat.geo.layout import load_layout
from gensat.geo.legend import colourise
from gensat.train.captions import CLASSES

HERE = Path(__file__).parent


def grid(rows: list[list[np.ndarray]], path: Path) -> None:
    """Save rows of images as one picture."""
    contact_sheet([x for row in rows for x in row], len(rows[0])).save(HERE / "images" / path, quality=78)


def main() -> None:
    """Four pictures: classes, places and dates, ground sampling distance, layout."""
    pipe = gensat.load()
    pipe.set_progress_bar_config(disable=True)

    def make(prompt: str, count: int, **about) -> list[np.ndarray]:
        return [s.array for s in pipe([prompt] * count, seed=0, **about).scenes]

    columns = [make(f"an aerial image of {words[0]}", 2, gsd=0.3, sensor="aerial") for words in CLASSES.values()]
    half = len(columns) // 2
    grid([[c[i] for c in part] for part in (columns[:half], columns[half:]) for i in range(2)], "classes.webp")

    houston, uganda = gensat.Place(-95.55, 29.75), gensat.Place(32.5948, 0.3510)
    rows = [
        make("houses in Houston, Texas", 6, place=houston, gsd=0.47, date="2017-07"),
        make("a flooded neighborhood in Houston", 6, place=houston, gsd=0.47, date="2017-08-31"),
        make("", 6, place=uganda, gsd=0.1),
        make("", 6, place=gensat.Place(-54.5, -25.45), gsd=30.0),
        make("", 6, place=gensat.Place(-112.0, 33.4), gsd=15.0),
    ]
    grid(rows, "places.webp")
    grid([make("", 6, gsd=gsd) for gsd in (0.1, 0.3, 0.5, 1.0, 5.0, 15.0, 30.0)], "gsd.webp")

    if pipe.controlnet is not None:
        village, place = HERE.parent / "assets/examples/village.geojson", gensat.Place(16.862323, 52.273249)
        plan = load_layout(village, gensat.Canvas.around(place, 0.5, 256, 256))
        made = make("houses, trees and a pond in the countryside", 5, place=place, gsd=0.5, layout=village)
        grid([[colourise(plan.class_map), *made]], "layout.webp")


if __name__ == "__main__":
    main()
