"""Facades, materials, paint and noise: what a wall shows is where the tables say, and pixels see means."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from gensat.render.streets.facade_styles import COLUMNS, FACADES, USES, WALLS, Walls, facade_row
from gensat.render.streets.facades import facade
from gensat.render.streets.masonry import wall_albedo
from gensat.render.streets.materials import MATERIALS, NAMES, TEXTURES, ground_albedo, pyramid, texture
from gensat.render.streets.noise import between, fractal, hashed, step, stripes, value_noise
from gensat.render.streets.plan import Marking
from gensat.render.streets.surface import _Paint


def wall(
    style="plaster", use="flats", floors=3, eaves=10.0, length=12.0, front=1.0, door=1.0, seed=4, ground=(0.0, 0.0)
):
    """One wall; the ground at its ends is as many metres above the foot."""
    row = facade_row(style, use, floors, eaves, seed)
    count = max(1, int(length // row[COLUMNS.index("bay")]))
    slope = torch.linspace(*ground, 2 * count + 1)
    entrance = float(slope[2 * int(door) + 1]) if door >= 0 else 0.0
    row = facade_row(style, use, floors, eaves, seed, entrance)
    return Walls(
        torch.tensor([row], dtype=torch.float32),
        torch.tensor([[length, front, door]]),
        torch.zeros(1, dtype=torch.int64),
        torch.zeros(1),
        slope,
        torch.zeros(1, dtype=torch.int64),
    )


def look(walls, u, v, blur=0.01):
    u, v = torch.broadcast_tensors(torch.as_tensor(u, dtype=torch.float32), torch.as_tensor(v, dtype=torch.float32))
    flat = u.reshape(-1)
    edge = torch.zeros(len(flat), dtype=torch.int64)
    return facade(walls, edge, flat, v.reshape(-1), torch.full_like(flat, blur), torch.zeros_like(flat))


@pytest.mark.parametrize("style", FACADES)
@pytest.mark.parametrize("use", USES)
def test_every_style_gives_albedos_for_every_use(style, use):
    floors = 1 if use in ("shed", "garage", "hut") else 3
    u, v = torch.meshgrid(torch.linspace(0, 12, 50), torch.linspace(0, 3.0 * floors + 1, 50), indexing="ij")
    seen = look(wall(style, use, floors, 3.0 * floors + 1), u, v)
    for values in (seen.albedo, seen.gloss, seen.glow):
        assert torch.isfinite(values).all() and values.min() >= 0 and values.max() <= 1


def test_windows_stand_in_rows_and_columns_and_only_there():
    walls = wall()
    row = dict(zip(COLUMNS, walls.building[0].tolist(), strict=True))
    count, bay = walls.bays(torch.tensor([0]))
    storey = (row["eaves"] - row["ground"]) / 2
    glass = []
    for floor in (1, 2):
        low = row["ground"] + (floor - 1) * storey
        for column in range(int(count)):
            x = torch.linspace(-row["width"] / 2, row["width"] / 2, 41) + (column + 0.5) * float(bay)
            glass.append(bool((look(walls, x, low + row["sill"] + 0.6 * row["height"]).gloss > 0.05).any()))
        piers = torch.arange(1, int(count)) * float(bay)
        assert (
            look(walls, piers, low + row["sill"] + 0.6 * row["height"]).gloss == 0
        ).all()  # between windows there is wall
        assert (look(walls, torch.linspace(0, 12, 60), low + 0.3).gloss == 0).all()  # below the sills too
    assert sum(glass) >= 0.7 * len(glass)


def test_the_door_is_in_its_bay_on_the_ground():
    walls = wall(use="flats", ground=(0.3, 0.3))
    _, bay = walls.bays(torch.tensor([0]))
    row = dict(zip(COLUMNS, walls.building[0].tolist(), strict=True))
    accent = torch.tensor([row["accent_red"], row["accent_green"], row["accent_blue"]])
    inside, above, beside = (
        look(walls, u, v).albedo[0]
        for u, v in ((1.5 * float(bay), 0.3 + 1.0), (1.5 * float(bay), 0.3 + 2.5), (0.1, 1.3))
    )
    assert (inside / accent).std() < 0.05 * (inside / accent).mean()  # the colour of the door, lighter or darker
    assert not torch.allclose(inside, beside, atol=0.02) and not torch.allclose(inside, above, atol=0.02)
    none = look(wall(door=-1.0, ground=(0.3, 0.3)), 1.5 * float(bay), 1.3).albedo[0]
    assert not torch.allclose(inside, none, atol=0.02)


def test_a_wall_that_touches_its_neighbour_has_no_window():
    u, v = torch.meshgrid(torch.linspace(0, 12, 80), torch.linspace(0, 10, 80), indexing="ij")
    assert (look(wall(front=-1.0, door=-1.0), u, v).gloss == 0).all()


@pytest.mark.parametrize("use", ["house", "flats", "shops", "shed"])
@pytest.mark.parametrize("door", [0.0, 3.0])
def test_on_a_slope_no_glass_is_in_the_ground_and_the_door_stands_on_it(use, door):
    """A wall of 24 m whose ground rises by 4 m; the door is at its low or its high end."""
    walls = wall(use=use, floors=4, eaves=13.0, length=24.0, door=door, ground=(0.0, 4.0))
    u, v = torch.meshgrid(torch.linspace(0.02, 23.98, 240), torch.linspace(0.02, 12.98, 260), indexing="ij")
    glass = (look(walls, u, v).gloss > 0.05).reshape(u.shape)
    above = v - 4 * u / 24
    own = (u / float(walls.bays(torch.tensor([0]))[1])).floor() == door  # glass of a shop's door reaches to the ground
    assert glass.any() and above[glass & ~own].min() > 0.15 and above[glass].min() > -0.3
    here, highest = walls.ground_at(torch.zeros(9, dtype=torch.int64), torch.linspace(0, 24, 9))
    torch.testing.assert_close(here, torch.linspace(0, 4, 9), atol=1e-3, rtol=0)
    assert (highest >= here - 1e-3).all() and (highest - here).max() <= 4 / 24 * float(
        walls.bays(torch.tensor([0]))[1]
    ) + 1e-3
    entrance = float(walls.building[0, COLUMNS.index("entrance")])
    row, bay = dict(zip(COLUMNS, walls.building[0].tolist(), strict=True)), float(walls.bays(torch.tensor([0]))[1])
    assert entrance == pytest.approx(4 / 24 * (door + 0.5) * bay, abs=1e-3)
    assert row["entrance"] + row["eaves"] == pytest.approx(13.0, abs=1e-3)  # the roof stays where it is


def test_windows_are_lit_at_night_only():
    u, v = torch.meshgrid(torch.linspace(0, 12, 80), torch.linspace(4, 10, 80), indexing="ij")
    walls = wall()
    assert look(walls, u, v).glow.max() == 0
    evening = look(replace(walls, lit=1.0), u, v)
    assert evening.glow.max() > 0.3 and (evening.glow[evening.gloss == 0] == 0).all()


@pytest.mark.parametrize("name", WALLS)
def test_a_large_pixel_of_wall_sees_the_mean_of_small_ones(name):
    """Average of 200 x 200 points over 2 m against one pixel of 2 m."""
    u, v = (w.reshape(-1) for w in torch.meshgrid(torch.linspace(0, 2, 200), torch.linspace(0, 2, 200), indexing="ij"))

    def albedo(u, v, blur):
        many = torch.ones_like(u)
        kind = torch.full_like(u, WALLS.index(name), dtype=torch.int64)
        base = torch.tensor([0.3, 0.25, 0.2]).expand(len(u), 3)
        return wall_albedo(kind, base, u, v, 3 * many, 3 * many, blur * many, torch.zeros_like(kind)).mean(0)

    few = torch.linspace(0.1, 1.9, 10)
    coarse = albedo(*(w.reshape(-1) for w in torch.meshgrid(few, few, indexing="ij")), 2.0)
    assert torch.allclose(coarse, albedo(u, v, 0.01), rtol=0.12)


def test_textures_have_a_mean_of_one_at_every_level():
    for name, side in TEXTURES.items():
        u, v = (
            w.reshape(-1)
            for w in torch.meshgrid(torch.linspace(0, side, 97)[:-1], torch.linspace(0, side, 97)[:-1], indexing="ij")
        )
        for blur in (0.001, side / 16, 10 * side):
            got = texture(name, u, v, torch.full_like(u, blur))
            assert float(got.mean()) == pytest.approx(1.0, abs=0.06), (name, blur)
        assert torch.allclose(
            texture(name, u[:9], v[:9], torch.full((9,), 0.01)),
            texture(name, u[:9] + side, v[:9] - side, torch.full((9,), 0.01)),
            atol=2e-3,
        )
    assert [p.shape[-1] for p in pyramid()] == [128, 64, 32, 16, 8, 4, 2, 1]


def test_materials_have_their_colour_on_average():
    points = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0)) * 200
    for number, name in enumerate(NAMES):
        got = ground_albedo(torch.full((4000,), number), points, torch.full((4000,), 0.02), 3).mean(0)
        assert torch.allclose(got, torch.tensor(MATERIALS[name].colour), rtol=0.2), name


def test_paint_has_dashes_gaps_and_exact_edges():
    paint = _Paint(
        [Marking(-20, 3, 20, 3, width=0.2, dash=2, gap=3), Marking(0, -20, 0, 0, width=3, dash=0.5, gap=0.5)]
    )
    x, blur = torch.tensor([-19.0, -17.0, -14.0]), torch.full((3,), 0.001)
    assert paint(x, torch.full((3,), 3.0), blur)[1].tolist() == [1, 0, 1]
    across = torch.linspace(2.8, 3.2, 401)
    cover = paint(torch.full_like(across, -19.0), across, torch.full_like(across, 0.001))[1]
    edges = across[cover > 0.5]
    assert float(edges.min()) == pytest.approx(2.9, abs=2e-3) and float(edges.max()) == pytest.approx(3.1, abs=2e-3)
    wide = torch.tensor([0.0, 1.4, 1.6])
    assert paint(wide, torch.full((3,), -19.75), blur)[1].tolist() == [1, 1, 0]
    large = paint(torch.tensor([-19.0]), torch.tensor([3.0]), torch.tensor([2.0]))[1]
    assert float(large) == pytest.approx(0.1, abs=0.01)  # its share of a large pixel


def test_hashes_are_uniform_and_noise_is_smooth_and_repeatable():
    values = hashed(torch.arange(20000), 5)
    assert values.min() >= 0 and values.max() < 1 and float(values.mean()) == pytest.approx(0.5, abs=0.01)
    assert np.histogram(values.numpy(), 10)[0].std() < 80 and not torch.equal(values, hashed(torch.arange(20000), 6))
    points = torch.rand(5000, 3) * 40
    got = value_noise(points, 2.0, 1)
    assert torch.equal(got, value_noise(points, 2.0, 1)) and float(got.mean()) == pytest.approx(0.5, abs=0.05)
    assert (value_noise(points + 0.002, 2.0, 1) - got).abs().max() < 0.01
    assert 0 <= fractal(points, 3.0).min() and fractal(points, 3.0).max() <= 1


def test_soft_steps_keep_areas():
    x = torch.linspace(-5, 5, 100001)
    dx = float(x[1] - x[0])
    for blur in (0.01, 0.7):
        assert float(between(x, -1.0, 1.5, blur).sum() * dx) == pytest.approx(2.5, abs=0.01)
        assert float(step(x, 2.0, blur).sum() * dx) == pytest.approx(3.0, abs=0.01)
    for blur in (0.01, 0.2, 3.0):
        assert float(stripes(x, 0.5, 0.1, blur).mean()) == pytest.approx(0.2, abs=0.05)
