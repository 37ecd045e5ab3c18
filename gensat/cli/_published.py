"""``gensat ground --model``: views that a published network makes of a tile, instead of the renderer of a scene."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gensat.cli._console import Screen, hush_libraries
from gensat.errors import InputError

if TYPE_CHECKING:
    from gensat.cli._camera import Lens
    from gensat.cli._ground import Output
    from gensat.cli._walk import Walk
    from gensat.pipelines.density_place import DensityPlace
    from gensat.render.paths import Track
    from gensat.render.view import View

PUBLISHED = "Published models"
SIDE = 256  # pixels of a perspective view where none are given: those of Sat3DGen's training

_ALSO = {
    "image", "out", "at", "heading", "pitch", "fov", "panorama", "width", "height", "track", "drawn_on", "speed", "fps", "frames",
    "light", "seed", "gsd", "device", "json", "overwrite", "quiet",
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """Which network makes the views, and its light, for commands made with :func:`gensat.cli._options.spread`."""

    model: Annotated[
        str | None,
        typer.Option(
            help="Converted Sat2Density, Sat2Density++ or Sat3DGen (gensat models convert): makes the views from the image "
            "alone, in the light of --light or --sky-histogram; 256 x 256 pixels when not said otherwise.",
            rich_help_panel=PUBLISHED,
        ),
    ] = None
    sky: Annotated[
        Path | None,
        typer.Option(
            help="Mask of the sky in --light, white where it is; looked for when not given.", rich_help_panel=PUBLISHED
        ),
    ] = None
    sky_histogram: Annotated[
        Path | None,
        typer.Option(help="Instead of --light: the 270 numbers, as .npy, .json or .csv.", rich_help_panel=PUBLISHED),
    ] = None

    def check(self, given: Set[str]) -> None:
        """Raise InputError for options (by parameter name) that do not go with ``--model``, or not without it."""
        own = {field.name for field in fields(self)}
        if self.model is None:
            if alone := sorted((own & given) - {"model"}):
                raise InputError(f"{_flag(alone[0])} is for --model; give a model too, or leave it out")
            return
        if wrong := sorted(given - own - _ALSO):
            raise InputError(
                f"{_flag(wrong[0])} does not go with --model: the network makes its own geometry and picture; leave it out"
            )
        if "panorama" in given and (wrong := sorted(given & {"width", "height", "fov"})):
            raise InputError(f"the model's panoramas have one size; leave {_flag(wrong[0])} out, or --panorama")


def views_of_model(
    published: Published,
    image: Path,
    output: Output,
    lens: Lens,
    screen: Screen,
    *,
    at: Sequence[float] | None,
    heading: float | None,
    walk: Walk,
    light: Path | None,
    seed: int | None,
    gsd: float | None,
    device: str,
) -> None:
    """Make the files and print the result."""
    from gensat.cli._record import save_record
    from gensat.render.export.place import place_of
    from gensat.types import Place

    began = clock.perf_counter()
    place = _open(published, image, screen, light=light, seed=seed, gsd=gsd, device=device)
    way = None if walk.track is None else _way(place, walk)
    for note in place.notes:
        screen.note(f"note: {note}")
    if at is not None:
        x, y = place.local(at if place.frame.crs is None else Place(*at))
    else:
        assert way is not None and way.heading is not None
        x, y = float(way.x[0]), float(way.y[0])
        heading = float(way.heading[0]) if heading is None else heading
    facing = (x,), (y,), (heading or 0.0,)
    tile = place.tile(*facing[:2])
    loaded = clock.perf_counter()
    frames = 1 if way is None else len(way)
    width, height = lens.size.values()
    files: list[Path] = []
    if output.folder:
        files += _folder(place, tile, facing, output, lens, screen)
    if way is not None:
        views: Iterator[View] = place.along(way, **_how(lens))
        files += output.save_walk(views, frames, walk.fps, screen, output.path / "walk.mp4" if output.folder else None)
    elif not output.folder:
        view = place.make(tile, *facing, **_how(lens)).views[0]
        (height, width), files = view.sky.shape, output.save_one(view)
    spec, known = place.pipe.spec, place.pipe.about()
    data: dict[str, Any] = {
        "outputs": [str(file) for file in files],
        "frames": frames,
        "width": width,
        "height": height,
        "model": {"name": spec.name, "version": spec.version, "licence": spec.licence, "hash": known["model_hash"]},
        "tile_metres": known["tile_metres"],
        "notes": list(place.notes),
        "load_seconds": round(loaded - began, 3),
        "seconds": round(clock.perf_counter() - loaded, 3),
    }
    if output.folder:
        asked = {"image": image, "at": at, "heading": heading, **vars(walk)}
        asked |= {"light": light, "seed": seed, "gsd": gsd, **vars(published), **vars(lens), "eye": None}
        scene = {"geometry": f"density of {spec.name}", "notes": list(place.notes)}
        came = {"place": place_of(tile.frame), "scene": scene, **data}
        files.append(save_record(output.path, asked, came, overwrite=output.overwrite))
        data["outputs"] = [str(file) for file in files]
    shown = str(files[0]) if len(files) == 1 else f"{output.path}/  {len(files)} files"
    screen.result(data, f"{shown}  by {spec.name} in {data['seconds']:.1f} s")


def _open(published: Published, image: Path, screen: Screen, *, device: str, **given: Any) -> DensityPlace:
    import gensat
    from gensat.pipelines.density_place import DensityPlace, read_histogram

    histogram = None if published.sky_histogram is None else read_histogram(published.sky_histogram)
    if given["light"] is None and histogram is None:
        raise InputError(f"{published.model} needs the sky of a place; give --light PANORAMA, or --sky-histogram")
    hush_libraries()
    with screen.listening():
        assert published.model is not None
        pipe = gensat.load(published.model, device=device, dtype="float32")
        return DensityPlace.open(pipe, image, sky=published.sky, histogram=histogram, **given)


def _way(place: DensityPlace, walk: Walk) -> Track:
    from gensat.cli._camera import PACE
    from gensat.pipelines.density_place import steps
    from gensat.render.track_files import read_track

    assert walk.track is not None
    track = read_track(walk.track, place.frame, place.grid, drawn_on=walk.drawn_on).require_inside(place.grid)
    return steps(track, fps=walk.fps, speed=walk.speed, pace=PACE)


def _folder(place: DensityPlace, tile: Any, facing: Any, output: Output, lens: Lens, screen: Screen) -> list[Path]:
    """A view, a panorama, and the tile and its heights from above."""
    around = place.make(tile, *facing, above=True)
    view = place.make(tile, *facing, **_perspective(lens)).views[0]
    files = output.save_standing({"view": view, "panorama": around.views[0]}, screen)
    for name, image in (("above.tif", around.above), ("heights.tif", around.heights)):
        assert image is not None
        files.append(output.path / name)
        image.save(files[-1], overwrite=output.overwrite)
    return files


def _perspective(lens: Lens) -> dict[str, Any]:
    """What the pipeline takes for perspective views."""
    return {"fov": lens.fov, "pitch": lens.pitch, "size": tuple(lens.size.values())}


def _how(lens: Lens) -> dict[str, Any]:
    return {} if lens.panorama else _perspective(lens)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")
