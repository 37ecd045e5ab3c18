"""Streets as scenes: satellite image, panoramas and perspective views of one generated place, with exact buffers.

``StreetScenes(seed)[i]`` is a pair: the image from above and views from the street. Everything is a function of (seed, i), in whatever process.
"""

from __future__ import annotations

import datetime
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import shapely
import torch
from affine import Affine
from jaxtyping import Int, UInt8

from gensat.errors import InputError
from gensat.geo.crs import from_lonlat, utm_crs
from gensat.geo.sun import parse_time
from gensat.render.cameras import EYE, Camera, OrthographicCamera, Panorama
from gensat.render.frame import SceneFrame
from gensat.render.gbuffers import render
from gensat.render.grid import Grid
from gensat.render.light import Light, SkyLight
from gensat.render.scene import Scene
from gensat.render.streets.blocks import fill
from gensat.render.streets.build import build_scene
from gensat.render.streets.look import StreetLight
from gensat.render.streets.network import bend_for, draw_streets, lay
from gensat.render.streets.plan import Plan
from gensat.render.streets.styles import STREET_TYPES, street_type
from gensat.render.streets.things import PARTS, part_of
from gensat.render.streets.weather import Weather, draw_time, sun_in
from gensat.render.view import View
from gensat.types import Acquisition, GeoImage, Place

HALF = 124.0
"""Half the side of what is built, metres."""

_RIM = 28.0  # metres of it beyond the scene's image

GSD = 0.5
"""Metres per pixel of the satellite image."""

SIZE = 256
"""Pixels of the satellite image."""


def draw_plan(name: str, seed: int, half: float | int = HALF) -> Plan:
    """The plan of a street type and a seed.

    Raises:
        InputError: there is no such street type.
    """
    kind = street_type(name)
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    plan = Plan(kind, seed, half, bend_for(kind, rng))
    rows, columns = draw_streets(kind, rng, half)
    fill(plan, lay(plan, rows, columns, rng), rng)
    plan.settle()
    return plan


@dataclass(frozen=True, eq=False)
class Street:
    """One generated place at one time in one weather.

    Args:
        plan: where everything is.
        scene: its geometry; the image is what the satellite sees.
        place: of its centre.
        time: of day and year, UTC.
        weather: air and ground.
        light: materials and light; give it to :func:`gensat.render.gbuffers.render`.
        layout: classes as seen from above on the scene's grid.
    """

    plan: Plan
    scene: Scene
    place: Place
    time: datetime.datetime
    weather: Weather
    light: StreetLight
    layout: Int[torch.Tensor, "h w"]

    @classmethod
    def make(
        cls,
        name: str,
        seed: int = 0,
        *,
        weather: str | None = None,
        time: str | datetime.datetime | None = None,
        samples: int = 2,
        half: float | int = HALF,
    ) -> Street:
        """Draws a street.

        Args:
            name: street type.
            seed: of everything.
            weather: one of :data:`~gensat.render.streets.weather.WEATHERS`; drawn when not given.
            time: UTC; a moment of daylight is drawn when not given.
            samples: n x n rays a pixel of the satellite image.
            half: half the side of what is built, metres, above 40; the image ends 28 m before.

        Raises:
            InputError: an unknown street type or weather, or pvlib is not installed.
        """
        if not half > 40:
            raise InputError(f"a street of {2 * half:g} m is too small; give half above 40 m")
        plan = draw_plan(name, seed, float(half))
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), 1])
        west, south, east, north = plan.kind.region
        place = Place(round(float(rng.uniform(west, east)), 5), round(float(rng.uniform(south, north)), 5))
        crs = utm_crs(place.lon, place.lat)
        x, y = (float(v) for v in from_lonlat(crs, place.lon, place.lat))
        frame = SceneFrame(crs, (x, y, 0.0))
        air = Weather.draw(rng, weather, place.lat)
        moment = draw_time(place, rng) if time is None else parse_time(time)
        pixels = round(2 * (half - _RIM) / GSD)
        built = build_scene(plan, frame, Grid.centred(pixels, pixels, GSD))
        sky = SkyLight(air.sky(sun_in(frame, place, moment)))
        dim = 1 - 0.5 * air.snow  # a photographer does not let snow go to plain white
        lit = float(np.clip((8 - sky.sky.elevation) / 14, 0, 0.55)) + (0.12 if air.cloud_cover == 1 else 0.0)
        light = StreetLight(
            sky,
            built.surface,
            replace(built.walls, lit=lit),
            built.roofs,
            air,
            seed=seed,
            key=float(rng.uniform(1.35, 1.9)) * dim,
        )
        grid = built.scene.grid
        above = OrthographicCamera.above((0.0, 0.0, built.scene.ceiling + 10), grid.columns, grid.rows, grid.step)
        clear = StreetLight(
            sky,
            built.surface,
            replace(built.walls, lit=0.0),
            built.roofs,
            replace(air, visibility=30_000.0),
            seed=seed,
            key=1.6,
        )
        picture = render(built.scene, above, light=clear, samples=samples)
        provenance = {
            "synthetic": True,
            "generator": "gensat streets",
            "street_type": name,
            "seed": seed,
            "weather": air.name,
            "time": moment.isoformat(),
        }
        scene = replace(built.scene, image=picture.rgb.clamp(0, 1), provenance=provenance)
        light.remember(scene, clear.sky_view(built.scene))
        return cls(plan, scene, place, moment, air, light, picture.classes)

    def lit_by(self, light: Light, key: float | int = 1.0) -> Street:
        """The same street in another light, such as a :class:`~gensat.render.environment.PanoramaLight`; its satellite image stays as it is.

        Args:
            light: sun and sky; of a panorama, what stands above the horizon is seen behind the street.
            key: exposure, see :func:`gensat.render.light.exposure`.
        """
        old = self.light
        new = StreetLight(light, old.ground, old.walls, old.roofs, self.weather, seed=old.seed, key=key)
        new.remember(self.scene, old.sky_view(self.scene))
        return replace(self, light=new)

    def satellite(self, size: int = SIZE) -> GeoImage:
        """The middle of the image from above: ``size`` x ``size`` pixels of 0.5 m, uint8, in the UTM zone of the place."""
        rgb, grid = self._middle(self.scene.image, size)
        x, y, _ = self.scene.frame.origin
        transform = Affine(GSD, 0, x + grid.left, 0, -GSD, y + grid.top)
        return GeoImage(
            (rgb * 255).round().to(torch.uint8).numpy(),
            crs=self.scene.frame.crs,
            transform=transform,
            acquisition=Acquisition(gsd=GSD, date=self.time.date()),
            provenance=self.scene.provenance,
        )

    def classes(self, size: int = SIZE) -> UInt8[np.ndarray, "{size} {size}"]:
        """Layout classes of the pixels of :meth:`satellite`."""
        return self._middle(self.layout, size)[0].to(torch.uint8).numpy()

    def _middle(self, values: torch.Tensor, size: int) -> tuple[torch.Tensor, Grid]:
        margin = (self.scene.grid.rows - size) // 2
        if margin < 0:
            raise InputError(
                f"a satellite image of {size} pixels is more than the street has; give {self.scene.grid.rows} or less"
            )
        return values[margin : margin + size, margin : margin + size], Grid.centred(size, size, GSD)

    def view(self, camera: Camera | Panorama | OrthographicCamera, samples: int = 1) -> View:
        """What a camera sees, with all buffers. ``seen`` says which surfaces the satellite sees too."""
        return render(self.scene, camera, light=self.light, samples=samples)

    @cached_property
    def _stands(self) -> list[tuple[float, float, float]]:
        """(x, y, azimuth of the street) of places on carriageways and pavements that are free, in the satellite image."""
        reach = min(SIZE * GSD, self.scene.grid.columns * GSD) / 2 * 0.8
        inside = shapely.box(-reach, -reach, reach, reach)
        walls = shapely.STRtree([b.footprint for b in self.plan.buildings])
        rng = np.random.default_rng([self.plan.seed, 2])
        things = self.scene.objects
        low = (
            things.centre[:, 2] - things.half[:, 2] - self.scene.height_at(things.centre[:, 0], things.centre[:, 1])
        ) < 2.2
        person = part_of(things.label)[0] == PARTS.index("skin")  # nobody stands in front of the camera
        reach_out = things.half[:, :2].amax(1) + torch.where(person, 3.5, 0.0)
        low = low | person
        solid = torch.cat([things.centre[:, :2], reach_out[:, None]], dim=1)[low].double().numpy()
        found = []
        for line, road, pavement in self.plan.walks:
            for s in np.arange(0, line.length, 4.0):
                here, ahead = line.interpolate(s), line.interpolate(s + 0.5)
                azimuth = math.degrees(math.atan2(ahead.x - here.x, ahead.y - here.y))
                side = rng.choice([-1, 1])
                offset = side * (road * 0.45 if rng.random() < 0.6 or pavement < 1.2 else road + pavement * 0.55)
                right = math.radians(azimuth + 90)
                x, y = here.x + offset * math.sin(right), here.y + offset * math.cos(right)
                if not inside.contains(shapely.Point(x, y)) or len(
                    walls.query(shapely.Point(x, y), predicate="dwithin", distance=0.6)
                ):
                    continue
                if (np.hypot(solid[:, 0] - x, solid[:, 1] - y) < solid[:, 2] + 0.7).any():
                    continue
                if self.plan.kind.water and int(self.scene.class_at(torch.tensor(x), torch.tensor(y))) == 4:
                    continue
                found.append((float(x), float(y), azimuth))
        if not found:
            raise InputError(
                f"street {self.plan.kind.name} of seed {self.plan.seed} has no free place to stand; take another seed"
            )
        return found

    def cameras(
        self,
        count: int,
        *,
        seed: int = 0,
        width: int = 256,
        height: int = 256,
        panorama: bool = False,
        fov: float | int | None = None,
    ) -> list[Camera | Panorama]:
        """Cameras at eye height in the street, most looking along it."""
        rng = np.random.default_rng([self.plan.seed, seed, 3])
        order = rng.permutation(len(self._stands))
        made: list[Camera | Panorama] = []
        for k in range(count):
            x, y, azimuth = self._stands[order[k % len(order)]]
            ground = float(self.scene.height_at(torch.tensor(x), torch.tensor(y))) + EYE
            turn = (
                azimuth
                + float(rng.choice([0, 180]))
                + float(rng.normal(0, 18) if rng.random() < 0.75 else rng.uniform(-180, 180))
            )
            heading = self.scene.frame.heading(turn, x, y)
            if panorama:
                made.append(
                    Panorama.looking(self.scene.frame, (x, y, ground), heading=heading, width=width, height=height)
                )
            else:
                angle = float(rng.uniform(60, 90)) if fov is None else fov
                made.append(
                    Camera.looking(
                        self.scene.frame,
                        (x, y, ground),
                        heading=heading,
                        pitch=float(rng.uniform(-2, 9)),
                        fov=angle,
                        width=width,
                        height=height,
                    )
                )
        return made


@dataclass(frozen=True)
class StreetScenes:
    """Endless training pairs: item ``i`` is (satellite image, views), a function of the seed and ``i`` alone.

    Args:
        seed: of all of them.
        types: street types to draw from; by default those that are not held out.
        views: how many views a scene has.
        width: of a view, pixels.
        height: of a view, pixels.
        panorama: equirectangular views instead of perspective ones; then width is 2 x height as a rule.
        weather: one kind for all; drawn when None.

    Raises:
        InputError: an unknown street type.
    """

    seed: int = 0
    types: Sequence[str] | None = None
    views: int = 4
    width: int = 256
    height: int = 256
    panorama: bool = False
    weather: str | None = None

    def __post_init__(self) -> None:
        for name in self.types or ():
            street_type(name)

    @property
    def names(self) -> tuple[str, ...]:
        """Street types in use."""
        return tuple(self.types or (name for name, kind in STREET_TYPES.items() if not kind.held_out))

    def street(self, index: int) -> Street:
        """The street of an item."""
        rng = np.random.default_rng([self.seed, index])
        return Street.make(str(rng.choice(self.names)), int(rng.integers(2**31)), weather=self.weather)

    def __getitem__(self, index: int) -> tuple[GeoImage, list[View]]:
        if index < 0:
            raise IndexError(f"item {index}: there is no end to count from; give 0 or more")
        street = self.street(index)
        cameras = street.cameras(self.views, seed=index, width=self.width, height=self.height, panorama=self.panorama)
        return street.satellite(), [street.view(camera) for camera in cameras]
