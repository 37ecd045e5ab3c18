"""``gensat demo``: what the shipped model makes, in under a minute, into one folder with a page to look at."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gensat.cli import _options as options
from gensat.cli._console import Screen, hush_libraries

if TYPE_CHECKING:
    from gensat.types import GeoImage

CLASSES = (
    "a harbor with boats",
    "a beach",
    "a river",
    "a parking lot with cars",
    "a runway",
    "crop rows",
    "tennis courts",
    "a mobile home park",
)
VILLAGE = (16.862323, 52.273249)  # the example layout's centre, lon and lat
HOUSTON = (-95.36, 29.76)


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; made if missing.")] = Path("demo"),
    model: options.Model = "gensat-small",
    device: options.Device = "auto",
    dtype: options.DtypeOption = options.Dtype.auto,
    seed: Annotated[int, typer.Option(help="Of the noise.")] = 1,
    json: options.Json = False,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Make example images with the shipped model: by words, by date, by map; as PNG and GeoTIFF, with a page."""
    screen = Screen(quiet=quiet, json=json)
    started = time.perf_counter()
    import gensat
    from gensat.assets import examples

    hush_libraries()
    with screen.listening():
        pipe = gensat.load(model, device=device, dtype=dtype.value)
        pipe.set_progress_bar_config(disable=True)
        out.mkdir(parents=True, exist_ok=True)
        loaded = time.perf_counter() - started
        shown: list[tuple[str, str]] = []
        times: list[float] = []

        def make(name: str, caption: str, prompt: str, **about: Any) -> GeoImage:
            begun = time.perf_counter()
            scene = pipe(prompt, seed=seed, width=256, height=256, **about).scenes[0]
            times.append(time.perf_counter() - begun)
            scene.save(out / name, overwrite=overwrite)
            picture = Path(name).with_suffix(".png").name
            if picture != name:
                scene.save(out / picture, overwrite=overwrite)
            shown.append((picture, caption))
            screen.note(f"{name}: {caption} ({times[-1]:.1f} s)")
            return scene

        for i, words in enumerate(CLASSES):
            make(f"{i + 1:02d}-{words.replace(' ', '-')}.png", words, words, gsd=0.3, sensor="aerial")
        houston = gensat.Place(*HOUSTON)
        make(
            "houston-2017-07.tif",
            "Houston, July 2017",
            "houses in Houston, Texas",
            place=houston,
            gsd=0.47,
            date="2017-07",
        )
        flooded = "a flooded neighborhood in Houston after Hurricane Harvey"
        make("houston-2017-08-31.tif", "Houston, 31 August 2017", flooded, place=houston, gsd=0.47, date="2017-08-31")
        if pipe.controlnet is not None:
            layout = Path(examples.__file__).with_name("village.geojson")
            make(
                "village.tif",
                "a map drawn as an image",
                "houses and trees",
                place=gensat.Place(*VILLAGE),
                gsd=0.5,
                layout=layout,
            )
    write_page(out / "index.html", shown)
    seconds = time.perf_counter() - started
    summary = {
        "out": str(out),
        "images": [name for name, _ in shown],
        "load_seconds": round(loaded, 1),
        "seconds_per_image": [round(t, 2) for t in times],
        "seconds": round(seconds, 1),
        "licence": pipe.spec.licence,
    }
    text = f"{len(shown)} images in {seconds:.0f} s ({loaded:.0f} s of it loading); open {out / 'index.html'}, or {out / 'houston-2017-08-31.tif'} in QGIS"
    screen.result(summary, text)


def write_page(path: Path, shown: list[tuple[str, str]]) -> None:
    """A plain HTML page with every picture and its caption."""
    figures = "".join(
        f'<figure><img src="{name}" width="256" height="256" alt="{text}"><figcaption>{text}</figcaption></figure>'
        for name, text in shown
    )
    style = "body{font:15px sans-serif;margin:2em}figure{display:inline-block;margin:6px}figcaption{max-width:256px}"
    path.write_text(
        f"<!doctype html><meta charset=utf-8><title>gensat demo</title><style>{style}</style><h1>Synthetic images by gensat</h1>{figures}\n"
    )


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(demo)
