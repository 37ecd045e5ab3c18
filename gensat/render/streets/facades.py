"""Facades as a function of wall coordinates: floors, bays, windows, doors, shop fronts and balconies.

A wall is looked at by (u, v): metres along its edge, and metres up from the foot of the building. Everything is decided by
tables of the building and of the edge and by hashes of (building, floor, bay), so a wall looks the same from everywhere.
Floors count from the entrance, where the door stands on the ground; on a slope there are windows below it where the wall is
free, and none where they would be in the ground.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gensat.render.streets.facade_styles import COLUMNS, USES, WALLS, Walls
from gensat.render.streets.masonry import wall_albedo
from gensat.render.streets.noise import between, fractal, hashed, step, stripes

_CLEAR = 0.2  # metres that sills are above the ground


@dataclass(frozen=True)
class Look:
    """How surfaces answer to light: albedo, share of mirror reflection at right angles (0 matt, 0.04 to 0.1 glass and water), and light of their own
    relative to a white surface in the open."""

    albedo: Float[Tensor, "n 3"]
    gloss: Float[Tensor, " n"]
    glow: Float[Tensor, "n 3"]


def facade(
    walls: Walls,
    edge: Int[Tensor, " n"],
    outline: Float[Tensor, " n"],
    v: Float[Tensor, " n"],
    blur: Float[Tensor, " n"],
    sun_from_right: Float[Tensor, " n"],
) -> Look:
    """What walls look like.

    Args:
        walls: tables.
        edge: of each point.
        outline: metres along the outline of the building, as ``Surfels.uv`` has it.
        v: metres above the foot.
        blur: size of a pixel, metres.
        sun_from_right: -1 to 1: where the sun stands seen from the wall, for the shadow in reveals.
    """
    outline, v, blur, sun_from_right = (value.to(walls.building) for value in (outline, v, blur, sun_from_right))
    owner = walls.owner[edge]
    row = dict(zip(COLUMNS, walls.building[owner].unbind(1), strict=True))
    length, front, door_bay = walls.edge[edge].unbind(1)
    u = outline - walls.along[edge]
    count, bay = walls.bays(edge)
    column = (u / bay).floor().clamp(min=0).minimum(count - 1)
    x = u - (column + 0.5) * bay  # from the middle of the bay
    ground, highest = (height - row["entrance"] for height in walls.ground_at(edge, u))
    v = v - row["entrance"]
    storey = (row["eaves"] - row["ground"]) / (row["floors"] - 1).clamp(min=1)
    storey = torch.where(row["floors"] > 1, storey, row["ground"]).clamp(min=0.1)
    above = 1 + ((v - row["ground"]) / storey).floor().minimum(row["floors"] - 2).clamp(min=0)
    floor = torch.where(v < 0, (v / storey).floor(), torch.where(v < row["ground"], 0.0, above))
    low = torch.where(floor <= 0, floor * storey, row["ground"] + (floor - 1) * storey)
    y = v - low
    high = torch.where(floor == 0, row["ground"], storey)
    seed = row["seed"].long()
    chance = hashed(seed, floor.long(), column.long(), edge)
    chance2 = hashed(seed, floor.long() + 100, column.long(), edge)

    base = torch.stack([row["red"], row["green"], row["blue"]], dim=1)
    trim = torch.stack([row["trim_red"], row["trim_green"], row["trim_blue"]], dim=1)
    accent = torch.stack([row["accent_red"], row["accent_green"], row["accent_blue"]], dim=1)
    kind = row["wall"].long()
    albedo = wall_albedo(kind, base, u + 31.7 * owner, v, storey, bay, blur, seed)

    def lay(colour: Tensor, cover: Tensor) -> None:
        nonlocal albedo
        albedo = torch.lerp(albedo, colour, cover.clamp(0, 1)[:, None])

    use = row["use"].long()
    shed, hut, house = (
        use == USES.index("shed"),
        use == USES.index("hut"),
        (use == USES.index("house")) | (use == USES.index("hut")),
    )
    glassy = kind == WALLS.index("glass")
    plinth = between(v - ground, -99.0, 0.55, blur) * ((row["bands"] > 0) | house & ~hut)
    lay(albedo * 0.62, plinth)
    bands = row["bands"] * (between(y, high - 0.16, high + 0.01, blur) + between(y, -0.01, 0.06, blur))
    lay(0.4 * albedo + 0.45 * trim + 0.12, bands * (floor >= 0) * (row["floors"] > 1) * 0.8)
    cornice = between(v, row["eaves"] - 0.45, row["eaves"] + 9, blur) * row["bands"]
    lay(0.5 * albedo + 0.25 * trim + 0.1, cornice)
    lay(albedo * 0.55, between(v, row["eaves"] - 0.75, row["eaves"] - 0.45, blur) * row["bands"])

    # windows
    ground_shop = (floor == 0) & ((use == USES.index("shops")) | (use == USES.index("office"))) & (front > 0)
    ground_shop = ground_shop & (highest < 0.3)
    blind = torch.where(front > 0, torch.where(house, 0.10, 0.02), torch.where(house, 0.35, 0.25))
    blind = torch.where(shed, 0.45, blind)
    garage = use == USES.index("garage")
    has = (chance > blind) & (length > 1.7) & ~ground_shop & ~garage & (front >= 0)
    has = has & (row["eaves"] - row["sill"] - low > 0.6)
    wide, tall = torch.minimum(row["width"], bay - 0.5) / 2, torch.minimum(row["height"], high - row["sill"] - 0.25)
    wide, tall = torch.where(glassy, bay / 2 - 0.04, wide), torch.where(glassy, high - 0.55, tall)
    sill = torch.where(glassy, 0.45, torch.minimum(row["sill"], high - 0.6))
    # ground floors of shops: wide glass between piers, a sign above
    wide = torch.where(ground_shop, bay / 2 - 0.22, wide)
    sill = torch.where(ground_shop, 0.35, sill)
    tall = torch.where(ground_shop, (high - 1.35).clamp(min=1.0), tall)
    has = has | (ground_shop & (bay > 1.2))
    is_door = (floor == 0) & (column == door_bay)
    has = has & ~is_door & (low + sill > highest + _CLEAR) & ((floor >= 0) | (row["floors"] > 2))
    window = has * between(x, -wide, wide, blur) * between(y, sill, sill + tall, blur)
    around = (
        has
        * between(x, -wide - row["surround"], wide + row["surround"], blur)
        * between(y, sill - row["surround"], sill + tall + 1.3 * row["surround"], blur)
    )
    lay(0.45 * albedo + 0.5 * trim + 0.04, around * (row["surround"] > 0) * ~ground_shop)
    ledge = has * between(x, -wide - 0.12, wide + 0.12, blur) * between(y, sill - 0.09, sill, blur) * ~glassy
    lay(0.3 * albedo + 0.3, ledge)
    stain = has * between(x, -wide, wide, blur) * between(y, sill - 0.8, sill - 0.09, blur) * ~glassy
    lay(albedo * 0.86, stain * hashed(seed, (u * 9).long()) * 0.9)
    shutter = (
        has
        * row["shutters"]
        * (between(x.abs(), wide + 0.03, wide + 0.03 + wide * 0.9, blur) * between(y, sill, sill + tall, blur))
        * ~ground_shop
    )
    slats = 0.75 + 0.35 * (1 - stripes(y, 0.09, 0.03, blur))
    lay(accent * 1.6 * slats[:, None], shutter * (bay / 2 > wide * 1.7))

    frame = 0.07
    across = (x + wide) / (2 * wide).clamp(min=0.1)
    up = (y - sill) / tall.clamp(min=0.1)
    pane_x = (torch.remainder(across * row["columns"], 1.0) - 0.5).abs() * 2 * wide / row["columns"] * 2
    pane_y = (torch.remainder(up * row["rows"], 1.0) - 0.5).abs() * tall / row["rows"] * 2
    edge_x, edge_y = wide / row["columns"] * 2 - pane_x, tall / row["rows"] - pane_y
    thick = torch.where(glassy, torch.full_like(x, 0.05), torch.full_like(x, frame))
    bars = torch.maximum(1 - step(edge_x, thick, blur), 1 - step(edge_y, thick, blur))
    rails = bars * window
    inside = _interior(x, across, up, chance, chance2, ground_shop, seed, column, y)
    lay(inside, window)
    lay(trim, rails)
    reveal = torch.maximum(
        between(sill + tall - y, -0.1, 0.16, blur),
        between(wide - x * sun_from_right.sign(), -0.1, 0.1 * sun_from_right.abs(), blur),
    )
    lay(albedo * 0.45, window * reveal * ~glassy * 0.8)
    glass = window * (1 - bars)

    # doors, garage doors, roller doors, shop signs
    half = torch.where(shed, 1.9, torch.where(garage, bay / 2 - 0.35, torch.where(ground_shop, 0.75, 0.52))).minimum(
        bay / 2 - 0.1
    )
    top = torch.where(shed, 3.9, torch.where(garage, 2.15, 2.12)).minimum(row["eaves"] - 0.25)
    above = v  # the entrance is where the ground is before the door
    door = is_door * (front >= 0) * between(x, -half, half, blur) * between(above, 0.0, top, blur)
    case = is_door * between(x, -half - 0.12, half + 0.12, blur) * between(above, -0.3, top + 0.13, blur)
    lay(0.4 * albedo + 0.5 * trim, case * ~shed)
    rolled = shed | garage
    leaf = torch.where(rolled[:, None], 0.5 * trim + 0.18, accent)
    panels = torch.where(
        rolled,
        0.88 + 0.2 * (1 - stripes(above, torch.where(shed, 0.3, 0.5), 0.05, blur)),
        0.8
        + 0.35
        * between(x.abs(), 0.08, half - 0.12, blur)
        * (between(above, 0.2, 0.9, blur) + between(above, 1.1, 1.9, blur)),
    )
    lay(leaf * panels[:, None], door)
    lay(
        torch.full_like(albedo, 0.03),
        door * ~rolled * between(above, top - 0.55, top - 0.12, blur) * between(x, -half + 0.1, half - 0.1, blur),
    )
    glass_door = (
        door * ground_shop * between(x, -half + 0.08, half - 0.08, blur) * between(above, 0.12, top - 0.1, blur)
    )
    lay(torch.full_like(albedo, 0.05), glass_door)
    lamp = is_door * ~rolled * between(x, half + 0.22, half + 0.34, blur) * between(above, 1.75, 1.98, blur)
    lay(torch.full_like(albedo, 0.5), lamp)
    sign = ground_shop * (use == USES.index("shops")) * (floor == 0) * between(y, high - 0.98, high - 0.3, blur)
    block = (column / 2).floor()
    shop = torch.stack([hashed(seed, block.long(), edge, i) for i in (3, 4, 5)], dim=1)
    muted = 0.03 + 0.4 * (0.4 * shop + 0.6 * shop.mean(1, keepdim=True)) ** 2
    board = torch.where((hashed(seed, block.long(), 9) < 0.45)[:, None], muted, accent * 1.5)
    lay(board, sign)
    letters = (
        sign
        * between(y, high - 0.78, high - 0.5, blur)
        * between(torch.remainder(u, 2 * bay), 0.35 * bay, 1.65 * bay, blur)
    )
    lay(
        torch.where(board.mean(1, keepdim=True) > 0.25, 0.04, 0.62).expand_as(board),
        letters * (hashed(seed, (u / 0.16).floor().long()) > 0.38),
    )
    awning = (
        ground_shop
        * (use == USES.index("shops"))
        * (hashed(seed, block.long(), 12) < 0.4)
        * between(y, high - 1.75, high - 1.0, blur)
    )
    cloth = torch.where((torch.remainder(u, 0.5) < 0.25)[:, None], 0.5 * torch.ones_like(shop), 0.05 + muted)
    lay(cloth, awning)
    glass = glass * (1 - awning)
    lay(
        albedo * 0.5,
        ground_shop
        * between(y, high - 2.1, high - 1.75, blur)
        * (hashed(seed, block.long(), 12) < 0.4)
        * (use == USES.index("shops")),
    )

    # balconies: a slab, a railing before the window, and its shadow on the floor below
    balcony = (chance2 < row["balconies"]) & (floor >= 1) & (front != 0) & (bay > 2.2) & (low > highest + 1.0)
    span = between(x, -bay / 2 + 0.18, bay / 2 - 0.18, blur)
    railing = balcony * span * between(y, 0.05, 1.02, blur)
    solid = hashed(seed, 77) < 0.45
    posts = torch.where(solid, 0.95 * torch.ones_like(u), 0.25 + 0.75 * stripes(u, 0.13, 0.025, blur))
    posts = torch.maximum(posts, between(y, 0.95, 1.03, blur))
    tint = torch.where(solid[:, None], 0.5 * base + 0.25 * accent + 0.12, 0.06 * torch.ones_like(base))
    lay(tint, railing * posts)
    glass = glass * (1 - railing * posts)
    lay(0.36 * torch.ones_like(base), balcony * span * between(y, -0.12, 0.07, blur))
    over = (
        (hashed(seed, floor.long() + 101, column.long(), edge) < row["balconies"])
        & (front != 0)
        & (bay > 2.2)
        & (floor + 1 < row["floors"])
    )
    lay(albedo * 0.5, over * span * between(y, high - 0.75, high - 0.1, blur))

    dirt = fractal(torch.stack([u + 17 * owner, v], dim=1), 2.2, 5) - 0.5
    albedo = albedo * (1 + 0.22 * dirt * (1 - glass))[:, None]
    albedo = albedo * (0.82 + 0.18 * step(v - ground, 0.5, 1.2))[:, None]
    glow = _light_inside(glass, chance, chance2, ground_shop, walls.lit)
    gloss = 0.075 * torch.maximum(glass, glass_door) + 0.09 * glass * glassy
    return Look(albedo.clamp(0.005, 0.9), gloss, glow)


def _interior(
    x: Tensor,
    across: Tensor,
    up: Tensor,
    chance: Tensor,
    chance2: Tensor,
    shop: Tensor,
    seed: Tensor,
    column: Tensor,
    y: Tensor,
) -> Tensor:
    """What is seen through glass by day: dark rooms, curtains, blinds, goods."""
    dark = (0.012 + 0.03 * chance2)[:, None].expand(-1, 3)
    drawn = hashed((chance * 65536).long(), 5)
    cloth = (0.16 + 0.3 * drawn)[:, None] * torch.tensor([1.0, 0.97, 0.9], device=x.device)
    sides = ((across < 0.26) | (across > 0.74)) & (drawn > 0.45) & (chance2 < 0.75)
    blind = (up > 1 - 0.75 * hashed((chance2 * 65536).long(), 6)) & (drawn < 0.33)
    folded = cloth * (0.75 + 0.25 * torch.sin(x * 60))[:, None]
    room = torch.where((sides | blind)[:, None] & ~shop[:, None], folded, dark)
    kinds = [hashed(seed, column.long(), (x * 4.5).floor().long(), (y * 2.6).floor().long(), i) for i in (1, 2, 3)]
    goods = 0.7 * kinds[0][:, None] + 0.3 * torch.stack(kinds, dim=1)
    shelf = (
        (y < 1.7)
        & (hashed(seed, (y * 2.6).floor().long(), column.long()) < 0.75)
        & (torch.remainder(y * 2.6, 1.0) < 0.7)
    )
    return torch.where(shop[:, None], 0.018 + 0.075 * goods**2 * shelf[:, None], room)


def _light_inside(glass: Tensor, chance: Tensor, chance2: Tensor, shop: Tensor, lit: float | int) -> Tensor:
    on = (hashed((chance * 65536).long(), 21) < lit) | (shop & (lit > 0.05))
    warm = torch.stack([torch.ones_like(chance), 0.62 + 0.2 * chance2, 0.28 + 0.35 * chance2], dim=1)
    return glass[:, None] * on[:, None] * warm * (0.35 + 0.65 * chance)[:, None]
