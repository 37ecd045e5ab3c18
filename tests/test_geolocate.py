"""PLONK and GeoCLIP as geolocators: the networks against a plain reading of their equations, and what is refused."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file
from toys import toy_clip_folder

from gensat.errors import InputError, ModelError
from gensat.metrics.geolocation import great_circle_km
from gensat.models.clip import Clip
from gensat.models.plonk import Plonk, schedule
from gensat.train.evaluation.geolocate import GeoClip, PlonkLocator, check_geolocator, load_geolocator

SMALL = {"cond_dim": 8, "dim": 16, "depth": 2, "expansion": 4, "input_dim": 3}


@pytest.fixture(scope="module")
def plonk():
    torch.manual_seed(0)
    return Plonk(**SMALL).requires_grad_(False).eval()


def test_the_keys_and_shapes_are_the_published_ones():
    shapes = {k: tuple(v.shape) for k, v in Plonk().state_dict().items()}
    assert shapes["time_embedder.encode_time.freqs"] == (64,)
    assert shapes["time_embedder.map_time.0.weight"] == (512, 128)
    assert shapes["cond_mapper.weight"] == (512, 1024) and shapes["initial_mapper.weight"] == (512, 3)
    assert shapes["blocks.11.mlp.0.weight"] == (2048, 512) and shapes["blocks.11.mlp.3.weight"] == (512, 2048)
    assert shapes["blocks.0.ada_map.1.weight"] == (1536, 512)
    assert shapes["final_adaln.1.weight"] == (1024, 512) and shapes["final_linear.weight"] == (3, 512)


def plain(t, x, gamma, picture):
    """The velocity of one point straight from the equations, over the tensors by name."""

    def linear(name, v):
        return v @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def norm(v):
        return (v - v.mean()) / (v.var(unbiased=False) + 1e-5).sqrt()

    def silu(v):
        return v / (1 + (-v).exp())

    wave = 1000 * gamma * t["time_embedder.encode_time.freqs"]
    time = torch.cat([wave.cos(), wave.sin()])
    time = (time - time.mean()) / time.std()
    c = linear("cond_mapper", picture) + linear(
        "time_embedder.map_time.2", silu(linear("time_embedder.map_time.0", time))
    )
    h = linear("initial_mapper", x)
    for i in range(SMALL["depth"]):
        a, b, g = linear(f"blocks.{i}.ada_map.1", silu(c)).chunk(3)
        inner = linear(f"blocks.{i}.mlp.0", (1 + a) * norm(h) + b)
        h = h + g * linear(f"blocks.{i}.mlp.3", inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2))))
    a, b = linear("final_adaln.1", silu(c)).chunk(2)
    return linear("final_linear", (1 + a) * norm(h) + b)


def test_the_network_is_its_equations(plonk):
    g = torch.Generator().manual_seed(1)
    x, picture, gamma = torch.randn(3, 3, generator=g), torch.randn(3, 8, generator=g), torch.tensor([0.0, 0.4, 1.0])
    expected = torch.stack([plain(plonk.state_dict(), *row) for row in zip(x, gamma, picture, strict=True)])
    assert torch.allclose(plonk(x, gamma, picture), expected, atol=1e-5)


def test_the_schedule_runs_from_noise_to_place():
    t = torch.linspace(1, 0, 11)
    values = schedule(t)
    assert values[0] == pytest.approx(1e-9, abs=1e-6) and float(values[-1]) == pytest.approx(1)
    assert bool((values[1:] > values[:-1]).all())


class Toward(Plonk):
    """A field whose flow is known: straight to one point of the sphere."""

    def forward(self, x, gamma, picture):
        target = torch.tensor([0.0, 1.0, 0.0])
        return (target - x) / (1 - gamma[:, None]).clamp_min(1e-3)


def test_sampling_follows_the_velocity_to_the_place():
    found = Toward(**SMALL).sample(torch.zeros(4, 8), torch.randn(4, 3), steps=60)
    assert float(great_circle_km(found, torch.tensor([[90.0, 0.0]]).expand(4, 2)).max()) < 50


def test_a_geolocator_reads_published_folders_and_places_images_alone(tmp_path, plonk):
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    save_file(plonk.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    dino = tmp_path / "dino"
    config = Dinov2WithRegistersConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=28)
    Dinov2WithRegistersModel(config).save_pretrained(dino)
    locator = load_geolocator(f"plonk:{tmp_path},{dino}")
    assert isinstance(locator, PlonkLocator) and locator.name.startswith("plonk (")
    locator.steps = 3
    images = torch.rand(2, 3, 40, 40)
    together = locator.locate(images)
    assert torch.allclose(together[1:], locator.locate(images[1:]), atol=1e-3)
    assert bool((together[:, 1].abs() <= 90).all())
    other = tmp_path / "other"
    Dinov2WithRegistersModel(
        Dinov2WithRegistersConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28)
    ).save_pretrained(other)
    with pytest.raises(ModelError, match="other than 8 features"):
        load_geolocator(f"plonk:{tmp_path},{other}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="does not hold PLONK"):
        Plonk.from_folder(tmp_path)


def test_geoclip_gives_the_place_whose_vector_is_nearest(tmp_path):
    clip = Clip.from_folder(toy_clip_folder(tmp_path / "clip"))
    gallery = torch.tensor([[10.0, 50.0], [-95.0, 30.0], [140.0, -30.0]], dtype=torch.float64)
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        vectors = clip.project(images)

    class Places(torch.nn.Module):
        def forward(self, lonlat, known):
            assert bool(known.all())
            return 3 * vectors[[2, 0, 1]].to(torch.float32)

    locator = GeoClip(clip, torch.nn.Sequential(torch.nn.Identity()), Places(), gallery)
    assert locator.locate(images).tolist() == gallery[[1, 2, 0]].tolist()
    assert locator.name.startswith("geoclip, 3 places, clip-vit-16-16@32")


def test_geolocators_are_chosen_by_name(tmp_path):
    assert check_geolocator(f"geoclip:{tmp_path}") == ("geoclip", [tmp_path])
    for wrong in ("geoclip", "plonk:x", "osv5m:x"):
        with pytest.raises(InputError, match="there is no geolocator"):
            check_geolocator(wrong)
    with pytest.raises(InputError, match="does not exist"):
        check_geolocator(f"geoclip:{tmp_path / 'none'}")
