"""A scene in 3D by distillation: ``gensat train splats image=IMAGE.tif dsm=DSM.tif key=value ...``.

Splats begin on the surfaces of the scene in the image's colours. Then, from high to low elevation, they are rendered, the renders are made better by
a diffusion model, and the splats are fitted to them (the curriculum and dataset update of Skyfall-GS; "GPS as a control signal" distils by score
instead, which ``method=score`` does). The image itself stays a target throughout, so that what was seen from above stays as it was seen.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from ..errors import InputError
from ..geo.display import contact_sheet
from ..hub.load import load
from ..render.cameras import Camera, OrthographicCamera
from ..render.export.splats import load_splats, save_splats
from ..render.paths import orbit
from ..render.scene import Scene
from ..render.splats import Splats
from .card import Outcome
from .logs import Log, say
from .recipe import program, start
from .splat_fit import Target, fit, psnr
from .splat_priors import Refine, Refiner, ScorePrior

METHODS = ("refine", "score")
_MAY_CHANGE = ("out", "elevations", "radii", "log_every", "tensorboard")


def main(arguments: list[str]) -> None:
    """``python -m gensat.train.splats [RECIPE] key=value ...``."""
    start(train, "splats", arguments)


def distil(
    splats: Splats,
    cameras: Sequence[Camera],
    kept: Sequence[Target],
    refine: Refine,
    *,
    steps: int,
    share: float | int = 0.75,
    geometry: bool = True,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> tuple[Splats, list[Target]]:
    """One episode: render from the cameras, refine, fit to that and to what is kept.

    Args:
        splats: as they are.
        cameras: of this episode's elevation.
        kept: pictures that stay, such as the satellite image.
        refine: makes a render better.
        steps: of fitting.
        share: of the steps that go to refined pictures.
        geometry: whether more than colours changes.
        seed: of the order of pictures.

    Returns:
        The splats, and the refined pictures.
    """
    if not 0 < share <= 1:
        raise InputError(f"share is {share}; give above 0 to 1, 0.75 is usual")
    fresh = []
    with torch.no_grad():
        for camera in cameras:
            view = splats.render(camera)
            # what is behind has the mean colour: a black void would mislead the model
            plain = (view.rgb.sum(dim=(0, 1)) / view.opacity.sum().clamp(min=1)).clamp(0, 1)
            view = replace(view, rgb=view.rgb + (1 - view.opacity[..., None]) * plain)
            fresh.append(Target(camera, refine(view.rgb, view), (~view.sky).to(view.rgb), share / len(cameras)))
    others = [replace(target, weight=(1 - share) / len(kept)) for target in kept] if share < 1 else []
    made = fit(splats, [*fresh, *others], steps=steps, geometry=geometry, seed=seed, on_step=on_step)
    return made, fresh


def score(
    splats: Splats,
    cameras: Sequence[Camera],
    kept: Sequence[Target],
    prior: ScorePrior,
    *,
    steps: int,
    weight: float | int = 0.1,
    geometry: bool = False,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> Splats:
    """One episode of score distillation: each step the score of a view and the loss of a kept picture."""
    draw = torch.Generator().manual_seed(seed)
    order = torch.randint(len(cameras), (steps,), generator=draw)

    def extra(now: Splats, step: int) -> Tensor:
        return weight * prior.loss(now.render(cameras[int(order[step])]), step)

    return fit(splats, kept, steps=steps, geometry=geometry, extra=extra, seed=seed, on_step=on_step)


def train(recipe: DictConfig) -> Outcome:
    """All episodes of a recipe; the splats are ``out/splats.ply``, those of each episode are kept and a run goes on after the last."""
    _check(recipe)
    out = Path(recipe.out)
    _require_same(recipe, out)
    splats, kept = _begin(recipe)
    begun = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(recipe, out / "recipe.yaml", resolve=True)
    pipe: Any = load(recipe.model, dtype="float32" if recipe.method == "score" else "auto")
    device = pipe.unet.device
    middle, across = _extent(splats)
    done = sorted(out.glob("episode-*.ply"))
    if done:
        say(f"going on after {done[-1].name}")
        splats = load_splats(done[-1])
    splats = splats.to(device)
    kept = [
        replace(t, image=t.image.to(device), opacity=None if t.opacity is None else t.opacity.to(device)) for t in kept
    ]
    episodes = list(zip(recipe.elevations, recipe.radii, strict=True))
    log = Log(out, len(done) * recipe.steps, board=recipe.tensorboard, label="splats")
    log.open(len(episodes) * recipe.steps, "steps")
    sheet: list[np.ndarray] = []
    try:
        for number, (elevation, radius) in enumerate(episodes):
            if number < len(done):
                continue
            cameras = orbit(
                middle, radius=radius * across, elevation=elevation, count=recipe.views, fov=recipe.fov,
                width=recipe.size, height=recipe.size, start=180.0 + 17.0 * number,
            )  # fmt: skip

            def on_step(step: int, loss: float, number: int = number) -> None:
                whole = number * recipe.steps + step
                log.advance(whole)
                if whole % recipe.log_every == 0:
                    log.write(whole, {"loss": round(loss, 5), "elevation": float(episodes[number][0])})

            shared: dict[str, Any] = {"steps": recipe.steps, "seed": recipe.seed + number, "on_step": on_step}
            before = _picture(splats, cameras[0])
            if recipe.method == "score":
                prior = ScorePrior(
                    pipe,
                    recipe.prompt,
                    guidance_scale=7.5 if recipe.guidance is None else recipe.guidance,
                    seed=recipe.seed + number,
                )
                splats = score(splats, cameras, kept, prior, weight=recipe.weight, geometry=recipe.geometry, **shared)
                middle_picture = before
            else:
                refiner = Refiner(
                    pipe, recipe.prompt, strength=recipe.strength, seed=recipe.seed, guidance_scale=recipe.guidance
                )
                splats, fresh = distil(
                    splats, cameras, kept, refiner, share=recipe.share, geometry=recipe.geometry, **shared
                )
                middle_picture = (fresh[0].image.clamp(0, 1) * 255).round().byte().cpu().numpy()
            sheet += [before, middle_picture, _picture(splats, cameras[0])]
            save_splats(splats, out / f"episode-{number + 1:02d}.ply", overwrite=True)
            log.picture((number + 1) * recipe.steps, contact_sheet(sheet, 3, side=recipe.size))
    finally:
        log.close()
    figures = {"psnr_from_above": round(psnr(splats, kept), 2), "splats": len(splats)}
    save_splats(splats, out / "splats.ply", overwrite=True)
    return Outcome(out, out / "splats.ply", len(episodes) * recipe.steps, time.monotonic() - begun, figures)


def from_above(scene: Scene) -> Target:
    """The image of a scene as what an orthographic camera above it should see."""
    left, bottom, right, top = scene.grid.bounds
    centre = ((left + right) / 2, (bottom + top) / 2, scene.ceiling + 100.0)
    camera = OrthographicCamera.above(centre, scene.grid.columns, scene.grid.rows, float(scene.grid.step))
    return Target(camera, scene.image)


def _begin(recipe: DictConfig) -> tuple[Splats, list[Target]]:
    """Splats to begin with and the pictures that stay: those of a scene, or of splats that a file holds, as they look from above."""
    if recipe.splats is None:
        if recipe.dsm is not None:
            scene = Scene.from_dsm(recipe.image, recipe.dsm)
        elif recipe.buildings is not None:
            scene = Scene.from_buildings(recipe.image, recipe.buildings, *([recipe.terrain] if recipe.terrain else []))
        else:
            scene = Scene.from_terrain(recipe.image, recipe.terrain)
        splats = Splats.from_scene(scene, recipe.spacing)
        if len(splats) > recipe.most:
            raise InputError(
                f"the scene makes {len(splats):,} splats, more than {recipe.most:,}; give a larger spacing or a larger most"
            )
        return splats, [from_above(scene)]
    splats = load_splats(recipe.splats)
    middle, across = _extent(splats)
    side = max(recipe.size, 64)
    top = float(splats.means[:, 2].amax()) + 100.0
    camera = OrthographicCamera.above((*middle[:2], top), side, side, across / side)
    with torch.no_grad():
        return splats, [Target.of(splats.render(camera))]


def _extent(splats: Splats) -> tuple[tuple[float, float, float], float]:
    """The middle of splats at their median height, and metres across."""
    low, high = splats.means.amin(dim=0), splats.means.amax(dim=0)
    x, y = ((low + high) / 2)[:2].tolist()
    return (x, y, float(splats.means[:, 2].median())), float((high - low)[:2].amax())


def _picture(splats: Splats, camera: Camera) -> np.ndarray:
    with torch.no_grad():
        return (splats.picture(camera)[0].clamp(0, 1) * 255).round().byte().cpu().numpy()


def _require_same(recipe: DictConfig, out: Path) -> None:
    """A run that goes on has to be the one that lies there, but for how it logs and how far it goes."""
    if not (out / "recipe.yaml").is_file() or not list(out.glob("episode-*.ply")):
        return
    before: Any = OmegaConf.load(out / "recipe.yaml")
    for name, value in recipe.items():
        if name not in _MAY_CHANGE and before.get(name) != value:
            raise InputError(f"{out} holds a run with {name!s}={before.get(name)}; give that again, or another out")


def _check(recipe: DictConfig) -> None:
    given = [name for name in ("splats", "image") if recipe[name] is not None]
    if len(given) != 1 or (recipe.image is not None and not (recipe.dsm or recipe.buildings or recipe.terrain)):
        raise InputError("give splats=FILE.ply, or image=IMAGE.tif with dsm=, buildings= or terrain= for its heights")
    if recipe.method not in METHODS:
        raise InputError(f"method is {recipe.method!r}; use one of {', '.join(METHODS)}")
    if len(recipe.elevations) != len(recipe.radii) or not len(recipe.elevations):
        raise InputError(
            f"{len(recipe.elevations)} elevations come with {len(recipe.radii)} radii; give as many of each"
        )
    for elevation, radius in zip(recipe.elevations, recipe.radii, strict=True):
        if not 0 < elevation <= 90 or not (radius > 0 and math.isfinite(radius)):
            raise InputError(
                f"elevation {elevation} with radius {radius} cannot be; give above 0 to 90 degrees and above 0"
            )
    if recipe.views < 1 or recipe.size < 16:
        raise InputError(f"views {recipe.views} of {recipe.size} pixels are too few; give 1 or more of 16 or more")


__all__ = ["METHODS", "distil", "from_above", "score", "train"]


if __name__ == "__main__":
    program(main)
