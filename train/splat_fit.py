"""Splats fitted to pictures: 3D Gaussian Splatting's loss and optimiser, on splats that begin on known surfaces.

The loss is (1 - a) L1 + a (1 - SSIM) (Kerbl et al. 2023, eq. 7, a = 0.2) plus the same L1 for opacity, so that the sky stays empty. There is no
densification: the surfaces of a scene are known, and splats begin as close together as the image's pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from kornia.metrics import ssim
from torch import Tensor, nn

from ..errors import InputError
from ..metrics.reconstruction import psnr_each
from ..render.cameras import Camera, OrthographicCamera
from ..render.mesh import Points
from ..render.splats import Splats
from ..render.view import View

_SSIM_WINDOW = 7


@dataclass(frozen=True, eq=False)
class Target:
    """What splats should look like from somewhere.

    Args:
        camera: perspective or orthographic.
        image: display values in [0, 1], of which those where ``opacity`` is 0 do not count.
        opacity: 0 where there is sky, 1 on surfaces; None: nothing but surfaces.
        weight: of this picture against others, both in the loss and in how often it is drawn.
    """

    camera: Camera | OrthographicCamera
    image: Float[Tensor, "h w 3"]
    opacity: Float[Tensor, "h w"] | None = None
    weight: float | int = 1.0

    def __post_init__(self) -> None:
        size = (self.camera.height, self.camera.width)
        if tuple(self.image.shape[:2]) != size or (self.opacity is not None and tuple(self.opacity.shape) != size):
            raise InputError(
                f"a picture of {tuple(self.image.shape)} does not fit its camera of {size}; render it at that size"
            )
        if not bool(torch.isfinite(self.image).all()):
            raise InputError("a picture to fit holds values that are not finite; leave it out or repair it")

    @classmethod
    def of(cls, view: View, weight: float | int = 1.0) -> "Target":
        """A view as it is."""
        if not isinstance(view.camera, Camera | OrthographicCamera):
            raise InputError(
                "splats are fitted to perspective or orthographic views; render the panorama's surroundings as these"
            )
        return cls(view.camera, view.rgb.detach(), view.opacity.detach(), weight)


@dataclass(frozen=True)
class Rates:
    """Learning rates, those of 3D Gaussian Splatting but for colours and opacities, which here have hundreds of steps and not 30,000.

    Args:
        means: of positions, in widths of the splats themselves.
        quats: of rotations.
        scales: of log scales.
        opacities: of logits.
        colors: of the coefficient of degree 0; the higher ones get a twentieth.
    """

    means: float | int = 0.02
    quats: float | int = 0.001
    scales: float | int = 0.005
    opacities: float | int = 0.05
    colors: float | int = 0.02


class SplatModel(nn.Module):
    """Parameters of splats in the space they are optimised in; with ``geometry`` false only the colours are."""

    def __init__(self, splats: Splats, geometry: bool = True):
        super().__init__()
        self.start = splats.detach()
        self.width = self.start.scales.amax(dim=1, keepdim=True)
        self.moves = nn.Parameter(torch.zeros_like(self.start.means), geometry)  # in widths: all splats move alike
        self.quats = nn.Parameter(self.start.quats.clone(), geometry)
        self.scales = nn.Parameter(self.start.scales.clamp(min=1e-9).log(), geometry)
        self.opacities = nn.Parameter(torch.logit(self.start.opacities.clamp(1e-4, 1 - 1e-4)), geometry)
        self.base = nn.Parameter(self.start.sh[:, :1].clone())
        self.rest = nn.Parameter(self.start.sh[:, 1:].clone())
        self.geometry = geometry

    def splats(self) -> Splats:
        """As they are now, with gradients."""
        sh = torch.cat([self.base, self.rest], dim=1)
        if not self.geometry:
            return replace(self.start, sh=sh)
        means = self.start.means + self.moves * self.width
        return replace(
            self.start,
            means=means,
            quats=self.quats,
            scales=self.scales.exp(),
            opacities=torch.sigmoid(self.opacities),
            sh=sh,
        )

    def optimizer(self, rates: Rates) -> torch.optim.Optimizer:
        """Adam with a rate for each kind of parameter."""
        groups: list[dict[str, Any]] = [
            {"params": [self.base], "lr": rates.colors},
            {"params": [self.rest], "lr": rates.colors / 20},
        ]
        if self.geometry:
            groups += [
                {"params": [self.moves], "lr": rates.means},
                {"params": [self.quats], "lr": rates.quats},
                {"params": [self.scales], "lr": rates.scales},
                {"params": [self.opacities], "lr": rates.opacities},
            ]
        return torch.optim.Adam(groups, eps=1e-15)


def photometric_loss(
    rgb: Float[Tensor, "h w 3"], opacity: Float[Tensor, "h w"], target: Target, structure: float | int = 0.2
) -> Float[Tensor, ""]:
    """(1 - a) L1 + a (1 - SSIM) of colours over black, plus 0.2 L1 of opacities; ``structure`` is a."""
    cover = torch.ones_like(opacity) if target.opacity is None else target.opacity
    wanted = target.image * cover[..., None]
    loss = (1 - structure) * (rgb - wanted).abs().mean() + 0.2 * (opacity - cover).abs().mean()
    if structure and min(opacity.shape) >= _SSIM_WINDOW:
        a, b = (v.permute(2, 0, 1)[None] for v in (rgb, wanted))
        loss = loss + structure * (1 - ssim(a, b, _SSIM_WINDOW).mean())
    return loss


def fit(
    splats: Splats,
    targets: Sequence[Target],
    *,
    steps: int,
    geometry: bool = True,
    rates: Rates | None = None,
    structure: float | int = 0.2,
    keep: float | int = 0.01,
    extra: Callable[[Splats, int], Tensor] | None = None,
    seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> Splats:
    """Splats that look like the targets; the ones given are left as they are.

    Args:
        splats: to begin with.
        targets: pictures; one a step is drawn, in proportion to its weight.
        steps: of Adam.
        geometry: whether anything but colours changes.
        rates: learning rates.
        structure: share of SSIM in the loss.
        keep: pull of each splat towards where it began, per squared width that it moved.
        extra: a further loss of (splats, step), such as score distillation.
        seed: of which target comes when.
        on_step: told (step, loss).

    Returns:
        Detached splats; those that became transparent (opacity below 0.005) are left out.

    Raises:
        InputError: neither targets nor an extra loss.
    """
    if not targets and extra is None:
        raise InputError("there is nothing to fit splats to; give pictures with their cameras")
    model = SplatModel(splats, geometry)
    optimizer = model.optimizer(rates or Rates())
    draw = torch.Generator().manual_seed(seed)
    shares = torch.tensor([float(target.weight) for target in targets])
    for step in range(steps):
        now = model.splats()
        loss = now.means.new_zeros(())
        if len(targets):
            target = targets[int(torch.multinomial(shares, 1, generator=draw))]
            loss = loss + photometric_loss(*now.picture(target.camera), target, structure)
        if extra is not None:
            loss = loss + extra(now, step)
        if geometry and keep:
            loss = loss + keep * model.moves.square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if on_step is not None:
            on_step(step + 1, float(loss.detach()))
    made = model.splats().detach()
    return made.part(made.opacities >= 0.005) if geometry else made


def colour_points(
    points: Points, targets: Sequence[Target], spacing: float | int, *, steps: int = 300, degree: int = 0, seed: int = 0
) -> Splats:
    """Colours for the points of a given geometry so that views of them agree with pictures; no point moves, none is added or left out.

    What Sat2Scene (Li et al. 2024) does with diffusion on the points, here by way of pictures: ``targets`` may be photographs, or what a
    diffusion model made of renders.
    """
    return fit(
        Splats.from_points(points, spacing, opacity=0.95, degree=degree),
        targets,
        steps=steps,
        geometry=False,
        seed=seed,
    )


@torch.no_grad()
def psnr(splats: Splats, targets: Sequence[Target]) -> float:
    """Mean PSNR in dB over pictures, sky black in both, so that what stands out into it counts."""
    found = []
    for target in targets:
        rgb, opacity = splats.picture(target.camera)
        cover = torch.ones_like(opacity) if target.opacity is None else target.opacity
        pair = (rgb.clamp(0, 1), target.image * cover[..., None])
        found.append(float(psnr_each(*(v.permute(2, 0, 1)[None] for v in pair))[0]))
    return sum(found) / len(found)
