"""Options of commands that work on a scene: an image, heights, light (:mod:`gensat.render.request` says what they mean)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gensat.cli import _options as options
from gensat.errors import InputError

if TYPE_CHECKING:
    from gensat.render.cameras import AnyCamera
    from gensat.render.lighting import SceneLight
    from gensat.render.scene import Scene
    from gensat.render.view import View

HEIGHTS, LIGHT, PAINT = "Heights", "Light", "Painting"


@dataclass(frozen=True)
class Geometry:
    """What is known of heights, for commands made with :func:`gensat.cli._options.spread`."""

    heights: Annotated[
        Path | None,
        typer.Option(
            help="Surface model (DSM) in metres: alone, or beside the others, for trees. estimate: guessed from the image; "
            "estimate:MODEL by another model than the shipped one.",
            rich_help_panel=HEIGHTS,
        ),
    ] = None
    buildings: Annotated[
        Path | None, typer.Option(help="Footprints with heights, any vector file.", rich_help_panel=HEIGHTS)
    ] = None
    terrain: Annotated[
        str | None,
        typer.Option(help="Bare ground: a raster in metres, or a number for level ground.", rich_help_panel=HEIGHTS),
    ] = None
    smooth: Annotated[
        bool,
        typer.Option(
            "--smooth", help="--heights as a smooth surface, not as columns with walls.", rich_help_panel=HEIGHTS
        ),
    ] = False
    height_field: Annotated[
        str | None, typer.Option(help="Attribute with the height of a building.", rich_help_panel=HEIGHTS)
    ] = None
    default_height: Annotated[
        float | None, typer.Option(help="Metres of buildings without a height.", rich_help_panel=HEIGHTS)
    ] = None
    unit: Annotated[
        str | None, typer.Option(help="Of the heights: m or ft, if the file says none.", rich_help_panel=HEIGHTS)
    ] = None
    gsd: options.PictureGsd = None
    layout: Annotated[Path | None, typer.Option(help="Class map of the image, as for generate.")] = None

    def scene(self, image: Path) -> Scene:
        """The scene over an image. Raises InputError for options that do not go together."""
        from gensat.render.request import number_or_path, open_scene

        given = dict(vars(self))
        word, _, model = str(self.heights or "").partition(":")
        if word != "estimate" or Path(word).is_file():
            return open_scene(image, **given)
        from gensat.pipelines.heights import DEFAULT, estimate_heights

        ground = None if self.terrain is None else number_or_path(self.terrain)
        found = estimate_heights(image, model=model or DEFAULT, gsd=self.gsd, terrain=ground)
        if self.buildings is None:
            given["terrain"] = None  # the estimate stands on it already
        own = image if found.image.crs is None else found.image  # which may have been warped from degrees
        scene = open_scene(own, **{**given, "heights": found.heights, "unit": None})
        scene.provenance["notes"] += ["heights are an estimate from the image, nothing measured", *found.notes]
        return scene


Facades = Annotated[
    str | None,
    typer.Option(
        help="Invented walls of --buildings: none, or perimeter, suburb, downtown, terraces, village, ...; what suits their size when not given.",
        rich_help_panel=LIGHT,
    ),
]


@dataclass(frozen=True)
class Lighting:
    """What illuminates a scene, for commands made with :func:`gensat.cli._options.spread`."""

    time: Annotated[
        str | None, typer.Option(help="Sun and sky of a moment: 2024-06-21T09:00Z.", rich_help_panel=LIGHT)
    ] = None
    light: Annotated[
        Path | None, typer.Option(help="Sun and sky of a panorama (.exr, .hdr, .jpg ...).", rich_help_panel=LIGHT)
    ] = None
    cloud: Annotated[float | None, typer.Option(help="Cloud cover with --time, 0 to 1.", rich_help_panel=LIGHT)] = None
    visibility: Annotated[
        float | None, typer.Option(help="Metres that one can see through the air.", rich_help_panel=LIGHT)
    ] = None
    facades: Facades = None
    seed: Annotated[int, typer.Option(help="Of what is invented.", rich_help_panel=LIGHT)] = 0

    def on(self, scene: Scene) -> SceneLight | None:
        """The light of a scene; None leaves the image's own. Raises InputError for options that do not go together."""
        from gensat.render.request import open_light

        return open_light(scene, **vars(self))


@dataclass(frozen=True)
class Refining:
    """Whether a network paints the views, for commands made with :func:`gensat.cli._options.spread`."""

    refine: Annotated[
        str | None,
        typer.Option(help="Paint views with this model: a shipped name or a folder.", rich_help_panel=PAINT),
    ] = None
    prompt: Annotated[
        str | None, typer.Option(help="What it is told, such as 'a street view, village'.", rich_help_panel=PAINT)
    ] = None
    strength: Annotated[
        float | None, typer.Option(help="How far from the raw render, above 0 to 1 (1).", rich_help_panel=PAINT)
    ] = None
    steps: Annotated[int | None, typer.Option(help="Denoising steps.", rich_help_panel=PAINT)] = None
    alone: Annotated[
        bool,
        typer.Option(
            "--alone", help="Paint each frame by itself: the frame before is not shown.", rich_help_panel=PAINT
        ),
    ] = False

    def check(self) -> None:
        """Raise InputError for options that do not go together."""
        given = (self.prompt, self.strength, self.steps, self.alone or None)
        if self.refine is None and any(value is not None for value in given):
            raise InputError("prompt, strength, steps and alone are for --refine MODEL; give it, or leave them out")

    def on(self, look: Callable[[AnyCamera], View], *, seed: int, device: str) -> Callable[[AnyCamera], View]:
        """Views as ``look`` makes them, painted where that is asked for; raises ModelError where there is no such model."""
        if self.refine is None:
            return look
        import gensat
        from gensat.errors import ModelError
        from gensat.pipelines.ground import GroundPipeline, Painter

        pipe = gensat.load(self.refine, device=device)
        if not isinstance(pipe, GroundPipeline):
            raise ModelError(f"{self.refine} is no refiner of ground views; give one that gensat train refiner made")
        pipe.set_progress_bar_config(disable=True)
        options = {"consistent": not self.alone, "num_inference_steps": self.steps, "seed": seed}
        return Painter(look, pipe, self.prompt or "a street view", strength=self.strength or 1.0, **options)
