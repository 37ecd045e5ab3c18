"""The rasteriser of Gaussian splats: closed forms, a slow reference, gsplat's own projection, and gsplat itself on a GPU."""

import math
import sys

import numpy as np
import pytest
import torch
from splat_toys import cloud, pinhole, slow_render

from gensat.errors import InputError
from gensat.render.splat_backend import choose_backend
from gensat.render.splat_raster import project, rasterize, rotation_matrices, spherical_harmonics

NAMES = ("means", "quats", "scales", "opacities", "colors")


@pytest.mark.parametrize(
    "count,seed,modes",
    [
        (40, 0, {}),
        (90, 1, {"antialiased": True}),
        (60, 2, {"ortho": True}),
    ],
)
def test_agrees_with_the_slow_reference(count, seed, modes):
    splats, camera = cloud(count, channels=5, seed=seed), pinhole()
    if modes.get("ortho"):
        camera["Ks"] = camera["Ks"].clone()
        camera["Ks"][:, 0, 0], camera["Ks"][:, 1, 1] = 9.0, 8.0
    picture, alpha, meta = rasterize(
        **splats, **camera, render_mode="RGB+D",
        rasterize_mode="antialiased" if modes.get("antialiased") else "classic",
        camera_model="ortho" if modes.get("ortho") else "pinhole",
    )  # fmt: skip
    colour, cover, depth = slow_render(splats, camera, **modes)
    assert meta["backend"] == "torch" and picture.shape == (1, 30, 41, 6)
    assert cover.max() > 0.9 and cover.min() < 0.1  # the scene has both
    np.testing.assert_allclose(picture[0, ..., :5].numpy(), colour, atol=2e-5)
    np.testing.assert_allclose(alpha[0, ..., 0].numpy(), cover, atol=2e-5)
    np.testing.assert_allclose(picture[0, ..., 5].numpy(), depth, atol=2e-4)


def test_many_splats_in_one_tile_go_through_segments():
    """More splats over a pixel than are blended at once: the transmittance and the stop are carried along."""
    splats = cloud(900, seed=3)
    splats["opacities"] = splats["opacities"] * 0.03 + 0.004
    splats["scales"] = splats["scales"] + 0.5
    camera = pinhole(9, 9)
    picture, alpha, _ = rasterize(**splats, **camera)
    colour, cover, _ = slow_render(splats, camera)
    np.testing.assert_allclose(picture[0].numpy(), colour, atol=3e-5)
    np.testing.assert_allclose(alpha[0, ..., 0].numpy(), cover, atol=3e-5)


def one(mean=(0.0, 0.0, 4.0), scale=(0.3, 0.3, 0.3), opacity=0.8, color=(1.0, 0.5, 0.25)):
    return {
        "means": torch.tensor([mean]),
        "quats": torch.tensor([[2.0, 0, 0, 0]]),
        "scales": torch.tensor([scale]),
        "opacities": torch.tensor([opacity]),
        "colors": torch.tensor([color]),
    }


def straight(size=33, focal=32.0):
    K = torch.tensor([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1.0]])
    return {"viewmats": torch.eye(4)[None], "Ks": K[None], "width": size, "height": size}


def test_one_gaussian_in_closed_form():
    """On the axis the variance is (f s / z)^2 + 0.3, opacity a Gaussian of it, and the expected depth z everywhere it is seen."""
    picture, alpha, meta = rasterize(**one(), **straight(), render_mode="RGB+ED")
    variance = (32 * 0.3 / 4) ** 2 + 0.3
    found = meta["projected"][0]
    torch.testing.assert_close(found.covariances[0], torch.tensor([variance, 0.0, variance]), atol=1e-5, rtol=1e-6)
    offset = torch.arange(33) - 16.0
    wanted = 0.8 * torch.exp(-(offset[:, None] ** 2 + offset**2) / (2 * variance))
    wanted = torch.where(wanted >= 1 / 255, wanted, 0.0)
    torch.testing.assert_close(alpha[0, ..., 0], wanted, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(
        picture[0, ..., :3], wanted[..., None] * torch.tensor([1.0, 0.5, 0.25]), atol=1e-6, rtol=1e-5
    )
    seen = wanted > 0
    torch.testing.assert_close(picture[0, ..., 3][seen], torch.full_like(wanted, 4.0)[seen], atol=1e-5, rtol=0)
    assert (picture[0, ..., 3][~seen] == 0).all()


def test_two_overlapping_in_closed_form():
    """The one in front hides the other by its opacity, whatever their order in the list."""
    both = {k: torch.cat([one()[k], one((0.0, 0.0, 2.0), (0.2,) * 3, 0.6, (0.0, 1.0, 0.0))[k]]) for k in NAMES}
    picture, alpha, _ = rasterize(
        **both, **straight(), render_mode="RGB+D", backgrounds=torch.tensor([[0.0, 0.0, 1.0]])
    )
    middle = picture[0, 16, 16]
    weights = (0.6, 0.4 * 0.8)
    wanted = weights[0] * torch.tensor([0, 1, 0, 2.0]) + weights[1] * torch.tensor([1, 0.5, 0.25, 4.0])
    wanted[2] += 1 - sum(weights)
    torch.testing.assert_close(middle, wanted, atol=1e-5, rtol=1e-5)
    assert float(alpha[0, 16, 16]) == pytest.approx(sum(weights), abs=1e-5)


def test_antialiased_keeps_the_light_of_a_small_splat():
    """A splat far below a pixel: widening it by eps2d would make it brighter, the compensation takes exactly that back."""
    tiny = one(scale=(0.01,) * 3, opacity=0.9)
    variance = (32 * 0.01 / 4) ** 2
    _, classic, _ = rasterize(**tiny, **straight())
    _, fair, _ = rasterize(**tiny, **straight(), rasterize_mode="antialiased")
    assert float(classic[0, 16, 16]) == pytest.approx(0.9, abs=1e-5)
    assert float(fair[0, 16, 16]) == pytest.approx(0.9 * variance / (variance + 0.3), rel=1e-3)


@pytest.mark.parametrize("slope,spacing,tolerance", [(0.0, 0.04, 1e-4), (0.5, 0.04, 0.07), (0.5, 0.01, 0.025)])
def test_a_dense_plane_has_the_depth_of_the_plane(slope, spacing, tolerance):
    """Flat splats on a plane at 10 m: its depth exactly when seen head-on; on a slope the nearer splats hide the others, by about their size."""
    grid = torch.arange(-0.8, 0.8, spacing)
    x, y = (v.reshape(-1) for v in torch.meshgrid(grid, grid, indexing="ij"))
    means = torch.stack([x, y, 10 + slope * x], dim=1)
    angle = -math.atan(slope)
    quats = torch.tensor([math.cos(angle / 2), 0, math.sin(angle / 2), 0]).expand(len(means), 4)
    flat = torch.tensor([spacing, spacing, 1e-5]).expand(len(means), 3)
    camera = straight(33, 400.0)
    picture, alpha, _ = rasterize(
        means, quats, flat, torch.full((len(means),), 0.5), torch.ones(len(means), 1), **camera, render_mode="RGB+ED"
    )
    offset = (torch.arange(33) + 0.5 - 16.5) / 400.0
    wanted = (10 / (1 - slope * offset)).expand(33, 33)
    assert float(alpha.min()) > 0.97
    assert float((picture[0, ..., 1] - wanted).abs().max()) < tolerance
    normal = rotation_matrices(quats[:1])[0] @ torch.tensor([0.0, 0.0, 1.0])
    assert abs(float(normal @ torch.tensor([1.0, 0.0, slope]))) < 1e-6  # the thin axis is the plane's normal


def test_gradients_agree_with_finite_differences():
    splats = {k: v.double() for k, v in cloud(6, seed=5).items()}
    camera = {k: v.double() if torch.is_tensor(v) else v for k, v in pinhole(9, 7, 8.0).items()}
    splats["scales"] = splats["scales"] + 0.3
    splats["opacities"] = splats["opacities"] * 0.5 + 0.2
    splats["means"] = splats["means"] * torch.tensor([0.3, 0.3, 1.0]).double()
    aim = torch.rand(1, 7, 9, 4, generator=torch.Generator().manual_seed(1)).double()

    def loss(*values):
        picture, alpha, _ = rasterize(
            **dict(zip(NAMES, values, strict=True)), **camera, render_mode="RGB+ED", rasterize_mode="antialiased"
        )
        return ((picture - aim) ** 2).sum() + alpha.sum()

    values = [splats[k].requires_grad_() for k in NAMES]
    found = torch.autograd.grad(loss(*values), values)
    step, draw = 1e-6, torch.Generator().manual_seed(2)
    for k, value in enumerate(values):
        towards = torch.randn(value.shape, generator=draw).double()
        ends = []
        for sign in (1, -1):
            moved = [v.detach() + (sign * step * towards if i == k else 0) for i, v in enumerate(values)]
            ends.append(float(loss(*moved)))
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float((found[k] * towards).sum()), rel=2e-4, abs=1e-4), NAMES[k]


def test_recomputed_gradients_are_the_kept_ones(monkeypatch):
    splats, camera = cloud(50, seed=7), pinhole()

    def gradients():
        values = [splats[k].clone().requires_grad_() for k in NAMES]
        picture, _, _ = rasterize(*values, **camera)
        return torch.autograd.grad(picture.square().sum(), values)

    kept = gradients()
    monkeypatch.setattr("gensat.render.splat_raster._PAIRS", 1000)
    for a, b in zip(kept, gradients(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_result_does_not_depend_on_the_order_of_splats_or_on_other_cameras():
    splats, camera = cloud(50, seed=8), pinhole()
    mixed = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    other = torch.eye(4)[None]
    both = {**camera, "viewmats": torch.cat([other, camera["viewmats"]]), "Ks": camera["Ks"].expand(2, 3, 3)}
    alone, _, _ = rasterize(**splats, **camera)
    pair, _, _ = rasterize(**{k: v[mixed] for k, v in splats.items()}, **both)
    torch.testing.assert_close(alone[0], pair[1], atol=1e-6, rtol=0)


def test_nothing_in_sight():
    behind = one((0.0, 0.0, -4.0))
    picture, alpha, _ = rasterize(**behind, **straight(), backgrounds=torch.tensor([[0.2, 0.3, 0.4]]))
    assert (alpha == 0).all() and torch.allclose(picture, torch.tensor([0.2, 0.3, 0.4]))


def test_projection_and_harmonics_are_gsplats():
    """gsplat's own torch code, which runs without CUDA, as an independent implementation."""
    reference = pytest.importorskip("gsplat.cuda._torch_impl")
    splats, camera = cloud(200, seed=9), pinhole()
    covariance, _ = reference._quat_scale_to_covar_preci(splats["quats"], splats["scales"], compute_preci=False)
    for model in ("pinhole", "ortho"):
        radii, means, depths, conics, shrink = reference._fully_fused_projection(
            splats["means"], covariance, camera["viewmats"], camera["Ks"], 41, 30,
            calc_compensations=True, camera_model=model,
        )  # fmt: skip
        found = project(
            *(splats[k] for k in NAMES[:4]), camera["viewmats"][0], camera["Ks"][0], 41, 30,
            antialiased=True, camera_model=model,
        )  # fmt: skip
        i = found.index
        assert len(i) > 3
        assert (radii[0, i] > 0).all()
        torch.testing.assert_close(found.means, means[0, i], atol=1e-3, rtol=1e-5)
        torch.testing.assert_close(found.depths, depths[0, i], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found.opacities, (splats["opacities"] * shrink[0])[i], atol=1e-4, rtol=1e-3)
        xx, xy, yy = found.covariances.unbind(-1)
        mine = torch.stack([yy, -xy, xx], -1) / (xx * yy - xy * xy)[:, None]
        torch.testing.assert_close(mine, conics[0, i], atol=1e-5, rtol=1e-3)
    directions = torch.nn.functional.normalize(splats["means"], dim=-1)
    coefficients = torch.randn(200, 16, 3, generator=torch.Generator().manual_seed(4))
    wanted = reference._spherical_harmonics(3, directions, coefficients)
    mine = torch.einsum("nk,nkd->nd", spherical_harmonics(3, directions), coefficients)
    torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=1e-5)


def test_harmonics_are_orthonormal():
    k = torch.arange(4000) + 0.5
    up, turn = 1 - 2 * k / 4000, k * math.pi * (1 + 5**0.5)  # a Fibonacci sphere
    around = (1 - up * up).sqrt()
    directions = torch.stack([around * turn.cos(), around * turn.sin(), up], dim=1)
    basis = spherical_harmonics(3, directions).double()
    torch.testing.assert_close(basis.T @ basis * 4 * math.pi / 4000, torch.eye(16).double(), atol=2e-3, rtol=0)


def test_colours_of_degree_one_follow_the_direction():
    splats = one(opacity=0.999)
    coefficients = torch.zeros(1, 4, 3)
    coefficients[0, 2] = torch.tensor([0.3, -0.2, -9.0])  # the harmonic along z
    seen = {k: v for k, v in splats.items() if k != "colors"}
    picture, alpha, _ = rasterize(**seen, colors=coefficients, **straight(), sh_degree=1)
    wanted = (0.4886025 * torch.tensor([0.3, -0.2, -9.0]) + 0.5).clamp(min=0) * alpha[0, 16, 16]
    torch.testing.assert_close(picture[0, 16, 16], wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "changed,words",
    [
        ({"render_mode": "depth"}, "render_mode.*RGB"),
        ({"rasterize_mode": "sharp"}, "classic"),
        ({"camera_model": "fisheye"}, "pinhole"),
        ({"backend": "cuda"}, "backend"),
        ({"backend": "gsplat"}, "backend='torch'"),
        ({"sh_degree": 2}, "degree 2 needs colors"),
        ({"colors": torch.zeros(1, 4, 3)}, "sh_degree"),
    ],
)
def test_wrong_arguments_are_one_sentence(changed, words):
    with pytest.raises(InputError, match=words):
        rasterize(**{**one(), **straight(), **changed})


def test_gsplat_without_kernels_is_not_chosen(monkeypatch, caplog):
    """On a machine whose gsplat could not be compiled, CUDA tensors are drawn by our own rasteriser, and it is said once."""
    from types import SimpleNamespace

    from gensat.render import splat_backend

    for kernels, chosen in ((None, "torch"), (object(), "gsplat")):
        monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", SimpleNamespace(_C=kernels))
        monkeypatch.setattr(splat_backend, "find_spec", lambda name: object())
        splat_backend._gsplat_runs.cache_clear()
        assert splat_backend.choose_backend("auto", torch.device("cuda")) == chosen
        assert splat_backend.choose_backend("torch", torch.device("cuda")) == "torch"
        assert splat_backend.choose_backend("auto", torch.device("cpu")) == "torch"
    splat_backend._gsplat_runs.cache_clear()
    assert sum("no compiled kernels" in record.message for record in caplog.records) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("modes", [{}, {"rasterize_mode": "antialiased"}, {"camera_model": "ortho"}])
def test_agrees_with_gsplat_on_a_gpu(modes):
    if choose_backend("auto", torch.device("cuda")) == "torch":
        pytest.skip("gsplat cannot run here")
    splats = {k: v.cuda() for k, v in cloud(400, seed=11).items()}
    camera = {k: v.cuda() if torch.is_tensor(v) else v for k, v in pinhole(96, 64, 70.0).items()}
    made = {b: rasterize(**splats, **camera, render_mode="RGB+ED", backend=b, **modes) for b in ("torch", "gsplat")}
    assert made["gsplat"][2]["backend"] == "gsplat"
    difference = (made["torch"][0] - made["gsplat"][0]).abs()
    assert float(difference[..., :3].max()) < 2e-3 and float((made["torch"][1] - made["gsplat"][1]).abs().max()) < 2e-3
