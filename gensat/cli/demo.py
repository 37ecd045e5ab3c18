"""``gensat demo``: what the shipped model makes, in under a minute, into one folder with a page to look at."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from gensat.cli import _options as options
from gensat.cli._console import Screen, hush_libraries

if TYPE_CHECKING:
    from gensat.cli._request import Model

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
PAGE = "index.html"
SIDE = 256  # pixels


class Shot(NamedTuple):
    """One image of the demo: its file, what the page says under it, the prompt, and the other conditions."""

    name: str
    caption: str
    prompt: str
    about: dict[str, Any]

    @property
    def picture(self) -> str:
        """The file that the page shows."""
        return str(Path(self.name).with_suffix(".png"))


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
    from gensat.cli import _request as request
    from gensat.cli._output import check_folder, make_folder
    from gensat.files import write_bytes

    screen = Screen(quiet=quiet, json=json)
    started = time.perf_counter()
    with screen.listening():
        (seed,) = request.choose_seeds(seed, 1)
        chosen = request.inspect_model(model)
        shots = list(_shots(chosen))
        names = [name for shot in shots for name in dict.fromkeys((shot.name, shot.picture))]
        check_folder(out, [*names, PAGE], overwrite=overwrite)
        hush_libraries()
        from gensat.hub.load import load

        pipe = load(chosen.folder, device=device, dtype=dtype.value)
        pipe.set_progress_bar_config(disable=True)
        loaded = time.perf_counter() - started
        times: list[float] = []
        for shot in shots:
            begun = time.perf_counter()
            scene = pipe(shot.prompt, seed=seed, width=SIDE, height=SIDE, **shot.about).scenes[0]
            times.append(time.perf_counter() - begun)
            make_folder(out)
            for name in dict.fromkeys((shot.name, shot.picture)):
                scene.save(out / name, overwrite=overwrite)
            screen.note(f"{shot.name}: {shot.caption} ({times[-1]:.1f} s)")
    write_bytes(out / PAGE, page(shots).encode(), overwrite)
    seconds = time.perf_counter() - started
    summary = {
        "out": str(out),
        "images": [shot.picture for shot in shots],
        "load_seconds": round(loaded, 1),
        "seconds_per_image": [round(t, 2) for t in times],
        "seconds": round(seconds, 1),
        "licence": pipe.spec.licence,
    }
    text = f"{len(shots)} images in {seconds:.0f} s ({loaded:.0f} s of it loading); open {out / PAGE}, or {out / 'houston-2017-08-31.tif'} in QGIS"
    screen.result(summary, text)


def _shots(model: Model) -> Iterator[Shot]:
    """What is made, each checked against the model; raises InputError."""
    from gensat.assets import examples
    from gensat.cli._request import check_conditions
    from gensat.types import Acquisition, Place

    aerial = {"gsd": 0.3, "sensor": "aerial"}
    houston = {"place": Place(*HOUSTON), "gsd": 0.47}
    flooded = "a flooded neighborhood in Houston after Hurricane Harvey"
    village = Path(str(examples.__file__)).with_name("village.geojson")
    shots = [
        Shot(f"{i + 1:02d}-{words.replace(' ', '-')}.png", words, words, aerial) for i, words in enumerate(CLASSES)
    ]
    shots += [
        Shot("houston-2017-07.tif", "Houston, July 2017", "houses in Houston, Texas", {**houston, "date": "2017-07"}),
        Shot("houston-2017-08-31.tif", "Houston, 31 August 2017", flooded, {**houston, "date": "2017-08-31"}),
    ]
    if "controlnet" in model.components:
        about = {"place": Place(*VILLAGE), "gsd": 0.5, "layout": village}
        shots.append(Shot("village.tif", "a map drawn as an image", "houses and trees", about))
    for shot in shots:
        where = {name: shot.about[name] for name in ("place", "gsd", "layout") if name in shot.about}
        acquisition = Acquisition(shot.about["gsd"], shot.about.get("date"), None, shot.about.get("sensor"))
        check_conditions(model, shot.prompt, **where, width=SIDE, height=SIDE, acquisition=acquisition)
        yield shot


def page(shots: list[Shot]) -> str:
    """A plain HTML page with every picture and its caption."""
    figures = "".join(
        f'<figure><img src="{shot.picture}" width="{SIDE}" height="{SIDE}" alt="{shot.caption}">'
        f"<figcaption>{shot.caption}</figcaption></figure>"
        for shot in shots
    )
    style = "body{font:15px sans-serif;margin:2em}figure{display:inline-block;margin:6px}figcaption{max-width:256px}"
    head = f"<!doctype html><meta charset=utf-8><title>gensat demo</title><style>{style}</style>"
    return f"{head}<h1>Synthetic images by gensat</h1>{figures}\n"


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command()(demo)
