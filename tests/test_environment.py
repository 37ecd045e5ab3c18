"""Light from panoramas: reading, the sun as the brightest spot, the sky histogram."""

import math

import numpy as np
import pytest
import torch
from conftest import DATA
from PIL import Image

from gensat.errors import InputError
from gensat.geo.sun import SunPosition
from gensat.render.environment import PanoramaLight, histogram_colour, read_panorama, sky_histogram, split_sun
from gensat.render.equirect import equirect_directions, solid_angles
from gensat.render.light import Light, SkyLight, exposure
from gensat.render.sky import SUN_SOLID_ANGLE, Sky


def drawn(elevation=40, azimuth=250, **options):
    """The analytic sky as a panorama, its sun spread over a disc of 1 degree that holds the same light."""
    sky = Sky(SunPosition(azimuth, elevation), **options)
    directions = equirect_directions(256, 512)
    light = sky.luminance(directions)
    radius = math.radians(1)
    inside = directions @ torch.tensor(sky.sun) > math.cos(radius)
    area = (inside * solid_angles(256, 512)[:, None]).sum()
    return sky, light + inside[..., None] * torch.tensor(sky.sun_illuminance) / area


def test_the_sun_of_a_panorama_is_found_and_taken_out():
    sky, panorama = drawn()
    direction, power, without = split_sun(panorama)
    assert math.degrees(math.acos(min(1.0, float(torch.tensor(direction) @ torch.tensor(sky.sun))))) < 0.3
    assert power == pytest.approx(sky.sun_illuminance, rel=0.03)
    assert without.max() < panorama.max() / 20


def test_no_sun_under_cloud():
    direction, power, without = split_sun(drawn(cloud_cover=1.0)[1])
    assert direction is None and power == (0, 0, 0) and without.shape == (256, 512, 3)


def test_light_of_a_drawn_sky_is_the_light_of_the_sky():
    sky, panorama = drawn(cloud_cover=0.0)
    ours, model = PanoramaLight(panorama), SkyLight(sky)
    assert isinstance(ours, Light) and isinstance(model, Light)
    normals = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
    assert torch.allclose(ours.ambient(normals), model.ambient(normals), rtol=0.1)
    assert exposure(ours) == pytest.approx(exposure(model), rel=0.03)


def test_heading_turns_the_light():
    _, panorama = drawn(azimuth=90)
    turned = PanoramaLight(panorama, heading=90).sun_direction
    assert math.degrees(math.atan2(turned[0], turned[1])) % 360 == pytest.approx(180, abs=0.5)
    south = PanoramaLight(panorama, heading=90).luminance(torch.tensor([[0.0, -0.7660, 0.6428]]))
    assert torch.allclose(south, PanoramaLight(panorama).luminance(torch.tensor([[0.7660, 0.0, 0.6428]])), rtol=1e-3)


def test_histogram_by_hand():
    """Two sky pixels of 0.505 (doubled 1.01, bin 50, 40 after the drop) and 0.255, one ground pixel that is not counted."""
    picture = torch.tensor([[[0.505, 0.255, 0.95], [0.505, 0.305, 0.95], [0.9, 0.9, 0.9]]])
    sky = torch.tensor([[True, True, False]])
    code = sky_histogram(picture, sky)
    assert (
        code.shape == (270,)
        and code[40] == 1.0
        and code[90 + 15] == 0.5
        and code[90 + 20] == 0.5
        and code[180 + 85] == 1.0
    )
    assert float(code.sum()) == pytest.approx(3.0)
    assert torch.allclose(histogram_colour(code), torch.tensor([0.505, 0.28, 0.955]), atol=0.006)


def test_histogram_does_not_depend_on_size_or_on_the_ground():
    generator = torch.Generator().manual_seed(1)
    picture = torch.rand(16, 32, 3, generator=generator)
    sky = torch.zeros(16, 32, dtype=torch.bool)
    sky[:8] = True
    other = torch.where(sky[..., None], picture, torch.rand(16, 32, 3, generator=generator))
    assert torch.equal(sky_histogram(picture, sky), sky_histogram(other, sky))
    big = picture.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.allclose(
        sky_histogram(big, sky.repeat_interleave(2, 0).repeat_interleave(2, 1)), sky_histogram(picture, sky)
    )


def test_histogram_of_dark_and_missing_skies():
    dark = sky_histogram(torch.full((2, 2, 3), 0.05), torch.ones(2, 2, dtype=torch.bool))
    assert dark.abs().sum() == 0  # below the bins that count: zeros, not a shorter vector
    with pytest.raises(InputError, match="no sky"):
        sky_histogram(torch.rand(2, 2, 3), torch.zeros(2, 2, dtype=torch.bool))


def test_pictures_are_read_through_the_inverse_of_srgb(tmp_path):
    Image.fromarray(np.full((4, 8, 3), 188, np.uint8)).save(tmp_path / "a.png")
    assert read_panorama(tmp_path / "a.png")[0, 0, 0].item() == pytest.approx(0.503, abs=0.002)


def test_panoramas_that_cannot_be_read(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "square.png")
    (tmp_path / "cut.exr").write_bytes(b"\x76\x2f\x31\x01 nothing")
    (tmp_path / "cut.png").write_bytes(b"\x89PNG")
    for name, word in (
        ("square.png", "twice as wide"),
        ("cut.exr", "OpenEXR"),
        ("cut.png", "cannot be read"),
        ("none.exr", "does not exist"),
    ):
        with pytest.raises(InputError, match=word):
            read_panorama(tmp_path / name)


def test_exr_round_trip(tmp_path):
    openexr = pytest.importorskip("OpenEXR")
    values = np.random.default_rng(0).random((4, 8, 3), dtype=np.float32) * 50
    header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
    with openexr.File(header, {"RGB": values}) as file:
        file.write(str(tmp_path / "a.exr"))
    assert np.array_equal(read_panorama(tmp_path / "a.exr").numpy(), values)
    values[0, 0, 0] = np.nan
    with openexr.File(header, {"RGB": values}) as file:
        file.write(str(tmp_path / "b.exr"))
    with pytest.raises(InputError, match="1 pixels that are not finite"):
        read_panorama(tmp_path / "b.exr")


@pytest.mark.data
def test_real_panoramas_have_their_sun_where_it_is_seen():
    """Looked up by eye in the pictures: column and row of the sun as shares of width and height."""
    pytest.importorskip("OpenEXR")
    for name, column, row in (("sunrise", 0.599, 0.455), ("sunset", 0.602, 0.46)):
        light = PanoramaLight.open(DATA / "panoramas" / f"{name}.exr")
        x, y, z = light.sun_direction
        assert math.degrees(math.atan2(x, y)) / 360 + 0.5 == pytest.approx(column, abs=0.03)
        assert 0.5 - math.degrees(math.asin(z)) / 180 == pytest.approx(row, abs=0.03)
        assert light.sun_illuminance[0] > light.sun_illuminance[2] and math.isfinite(exposure(light))
    assert SUN_SOLID_ANGLE == pytest.approx(6.8e-5, rel=0.01)
