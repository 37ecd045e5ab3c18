"""Sat3DGen: what the original program computes, its published file, and panoramas, views, heights and meshes in true coordinates."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights
from affine import Affine
from parity_fill import drawn, drawn_field, drawn_sat3dgen
from published_toys import GEN, GEN_SETTINGS, gen_checkpoint, gen_model
from safetensors.torch import load_file, save_file

import gensat
from gensat.cli import run
from gensat.errors import InputError, ModelError
from gensat.hub.convert import convert, read_model
from gensat.hub.convert_sat3dgen import renamed
from gensat.models.sat3dgen import LARGE, Planes, Sat3DGen, sample_sky
from gensat.models.sat3dgen_views import colours, densities, from_above, into_cube, look
from gensat.pipelines.density import DensityGroundPipeline
from gensat.pipelines.density_field import image_field, tile_field
from gensat.render.cameras import Camera, Panorama
from gensat.render.frame import SceneFrame
from gensat.types import GeoImage, Place

CRS, LEFT, TOP, GSD = "EPSG:32631", 705_900.0, 5_765_900.0, 0.56  # where the grid is turned by 2.36 degrees
GOLDEN = np.load(Path(__file__).parent / "data" / "sat3dgen.npz")
HISTOGRAM = np.linspace(0, 0.02, 270)


def georeferenced(rows=200, cols=200):
    array = np.random.default_rng(3).integers(0, 256, (rows, cols, 3), dtype=np.uint8)
    return GeoImage(array, crs=CRS, transform=Affine(GSD, 0, LEFT, 0, -GSD, TOP))


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    (folder / "config.json").write_text(json.dumps(GEN_SETTINGS))
    save_file({k: v.contiguous() for k, v in gen_checkpoint().items()}, folder / "diffusion_pytorch_model.safetensors")
    return folder


def test_the_published_folder_becomes_the_network_that_it_was(published, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert run(["models", "convert", str(published), "-o", out, "--json"]) == 0
    said = capsys.readouterr()
    data = json.loads(said.out)
    assert data["model"] == "sat3dgen" and data["notes"] == [] and "DINOv3" in data["licence"]
    assert data["left_out"] == {"constants of the program": ["point_representer.oneplane_axes"]}
    pipe = gensat.load(out)
    expected = gen_model().state_dict()
    assert set(pipe.model.state_dict()) == set(expected)
    for name, value in pipe.model.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert {k: pipe.model.config[k] for k in GEN} == GEN
    # the frequencies of the rotary embedding are in no file
    own, other = (m.backbone.rope_embeddings.inv_freq for m in (pipe.model, gen_model()))
    assert torch.equal(own, other)
    tile = torch.rand(1, 3, 256, 256)
    assert torch.equal(pipe.model.encode(tile)[0].ground, gen_model().encode(tile)[0].ground)


def test_names_of_another_release_of_transformers_load(tmp_path):
    """transformers 4 has ``layer`` where 5 has ``model.layer``."""
    gen_model().save_pretrained(tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    other = {
        n.replace("backbone.model.layer", "backbone.layer")
        if "backbone.model.layer" in n
        else n.replace("backbone.layer", "backbone.model.layer"): t
        for n, t in tensors.items()
    }
    assert set(other) != set(tensors)
    save_file(other, file)
    again = Sat3DGen.from_pretrained(tmp_path)
    for name, value in again.state_dict().items():
        assert torch.equal(value, gen_model().state_dict()[name]), name


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t, o: t.pop("mlp.net0.bias"), r"1 missing and 0 unexpected.*mlp\.net0\.bias"),
        (lambda t, o: t.update(extra=torch.zeros(1)), "0 missing and 1 unexpected.*extra"),
        (lambda t, o: t.pop("unet_model.dino_model.norm.weight"), r"1 missing.*backbone\.norm\.weight"),
        (lambda t, o: o.update(representation_type="triplane"), "representation_type 'triplane', which is not built"),
        (lambda t, o: o.update(backbone="dinov2-base"), "backbone 'dinov2-base'"),
        (
            lambda t, o: o["network"]["ray_marching_kwargs"].update(density_clamp_mode="relu"),
            "density_clamp_mode 'relu'",
        ),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, words):
    tensors, settings = gen_checkpoint(), json.loads(json.dumps(GEN_SETTINGS))
    change(tensors, settings["opt"])
    (tmp_path / "config.json").write_text(json.dumps(settings))
    save_file({k: v.contiguous() for k, v in tensors.items()}, tmp_path / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ModelError, match=words):
        convert(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_its_settings_what_is_assumed_is_said(published, tmp_path):
    (tmp_path / "model.safetensors").write_bytes((published / "diffusion_pytorch_model.safetensors").read_bytes())
    made = read_model(tmp_path)
    assert len(made.notes) == 5 and made.model.config.coarse == made.model.config.fine == 48


# ---- against the original program: tests/data/sat3dgen.md says how the numbers were made ----


@pytest.fixture(scope="module")
def original():
    """Sat3DGen as published but for the encoder and the decoder of its planes, which are not run here."""
    model = Sat3DGen(GEN["dino"], (32,) * 5).requires_grad_(False).eval()
    for part in ("mlp", "sky_mapping", "sr_module"):
        module = model.get_submodule(part)
        module.load_state_dict(
            {n: drawn_sat3dgen(f"{part}.{n}", tuple(t.shape)) for n, t in module.state_dict().items()}
        )
    names = {n: tuple(map(int, shape.split())) for n, _, shape in (line.partition(" ") for line in GOLDEN["tensors"])}
    sky = {n: drawn_sat3dgen(n, shape) for n, shape in names.items() if n.startswith("sky_decoder.")}
    missing = model.load_state_dict(renamed(sky), strict=False).unexpected_keys
    assert not missing
    ground, heights = drawn_field()
    return model, Planes(ground, heights)


def golden(name):
    return torch.from_numpy(GOLDEN[name])


def close(found, expected, tolerance):
    assert found.shape == expected.shape
    assert float((found.double() - expected.double()).abs().max()) < tolerance


def test_every_tensor_of_the_original_has_its_place():
    listed = {n: tuple(map(int, shape.split())) for n, _, shape in (line.partition(" ") for line in GOLDEN["tensors"])}
    with init_empty_weights():
        model = Sat3DGen({**LARGE, "num_hidden_layers": 1})
    tensors = renamed({n: torch.empty(shape, device="meta") for n, shape in listed.items()})
    model._fix_state_dict_keys_on_load(tensors)
    assert {n: tuple(t.shape) for n, t in tensors.items()} == {n: tuple(t.shape) for n, t in model.state_dict().items()}
    assert len(listed) == len(tensors) + 1  # the axes


def test_the_light_the_sky_and_the_upscaler_of_the_original(original):
    model, _ = original
    light = model.light(golden("hist")[None])
    close(light[0], golden("light"), 1e-4)
    close(model.sky(light)[0, ::6, ::37, ::37], golden("sky"), 1e-4)
    features = torch.sigmoid(10 * drawn("upscaled.bias", (1, 24, 16, 64))[0])
    close(model.upscale(features)[:, ::3, ::5], golden("upscaled"), 1e-4)


def test_the_views_of_the_original(original):
    model, planes = original
    light = model.light(golden("hist")[None])
    sky, half = model.sky(light)[0], model.config.tile_metres / 2
    eye = np.array([-0.2 * half, -0.3 * half, 0.15 * half])  # (h, w, z) = (0.3, -0.2, -0.85)
    panorama = Panorama(64, 16, eye)
    view = Camera.looking(SceneFrame(None), eye, heading=33.0, fov=120, width=32, height=32)
    for name, camera in (("pano", panorama), ("view", view)):
        seen = look(model, planes, camera, light[0], sky, edges=True)
        close(seen.features[::5, ::3, ::3], golden(f"{name}_features"), 2e-4)
        close(seen.opacity[::3, ::3], golden(f"{name}_opacity"), 2e-4)
        close(seen.depth[::3, ::3] * model.shrink, golden(f"{name}_depth"), 2e-4)
        close(seen.blended[::5, ::3, ::3], golden(f"{name}_blended"), 5e-4)
        # these weights make differences of the features 200 times as large
        close(seen.picture[:, ::5, ::5], golden(f"{name}_picture"), 2e-2)
    down = from_above(model, planes, 12)
    close(down.values[..., ::5].movedim(-1, 0), golden("sat_features"), 2e-4)
    close(down.opacity, golden("sat_opacity"), 2e-4)
    close(down.distance * model.shrink, golden("sat_depth"), 2e-4)


def test_the_field_of_the_original(original):
    model, planes = original
    cube, half = golden("points"), model.config.tile_metres / 2
    x, y, z = (cube / model.shrink).unbind(-1)
    places = torch.stack([x, -y, z + 1], -1) * half
    close(into_cube(model, places), cube, 1e-5)
    close(densities(model, planes, places) * half / model.shrink, golden("density"), 1e-3)
    light = model.light(golden("hist")[None])[0]
    close(colours(model, planes, places, light), golden("colour"), 1e-4)
    close(colours(model, planes, places), golden("colour_unlit"), 1e-4)


def test_the_sky_ends_a_hundred_degrees_from_the_zenith():
    sky = torch.ones(2, 512, 512)
    angle = torch.deg2rad(torch.tensor([0.0, 50.0, 99.0, 101.0, 180.0]))
    along = torch.stack([angle.sin(), torch.zeros(5), angle.cos()], -1)
    assert sample_sky(sky, along)[:, 0].tolist() == pytest.approx([1, 1, 1, 0, 0], abs=1e-5)
    rows = torch.arange(512.0).expand(2, 512, 512).transpose(1, 2) / 511 * 360 - 180
    turn = torch.deg2rad(torch.tensor([-90.0, 0.0, 90.0]))  # north, east, south
    level = torch.stack([turn.cos(), turn.sin(), torch.zeros(3)], -1)
    assert sample_sky(rows.contiguous(), level)[:, 0].tolist() == pytest.approx([-90, 0, 90], abs=1e-3)


# ---- geometry ----


@pytest.fixture
def tower():
    """Sat3DGen that sees, whatever the tile, one tower of 4 x 4 m, 12 m high, 15 m north of the centre."""
    model = Sat3DGen(**{**GEN, "coarse": 160, "fine": 16}).requires_grad_(False).eval()
    half = model.config.tile_metres / 2

    def features(planes, points):
        x, y, z = (points / model.shrink * half).unbind(-1)
        inside = (x.abs() < 2) & ((-y - 15).abs() < 2) & (z + half < 12)
        return inside[:, None].float()

    model.features = features
    model.encode = lambda tile: [Planes(torch.zeros(1, 2, 2), torch.zeros(1, 2))]
    model.sky = lambda light: torch.full((1, 5, 8, 8), 0.5)
    model.density = lambda feature: torch.where(feature[:, 0] > 0.5, 4000.0, -50.0)
    model.colour = lambda feature, light=None: torch.full((len(feature), 5), 0.75)
    return DensityGroundPipeline(model)


def test_views_and_panoramas_look_where_they_are_told_by_true_north(tower):
    image = georeferenced()
    tile = tower.read(image)
    for heading in (0.0, 350.0):
        view = tower(tile, image.place, heading=heading, histogram=HISTOGRAM).views[0]
        convergence = tile.frame.convergence()
        assert abs(convergence) > 2
        columns = np.flatnonzero((view.opacity[60] > 0.5).numpy())
        seen = heading + ((columns.mean() + 0.5) / 512 - 0.5) * 360
        assert seen % 360 == pytest.approx(convergence % 360, abs=1.5)
        near = view.distance[60][torch.isfinite(view.distance[60])]
        assert 12.0 < float(near.min()) < 13.5 and view.sky[5].all() and not view.seen.any()
        ahead = tower(tile, image.place, heading=heading, fov=100, histogram=HISTOGRAM).views[0]
        columns = np.flatnonzero((ahead.opacity[126] > 0.5).numpy())
        angle = math.degrees(math.atan((columns.mean() + 0.5 - 128) / 128 * math.tan(math.radians(50))))
        assert (heading + angle) % 360 == pytest.approx(convergence % 360, abs=1.5)
        hit = torch.isfinite(ahead.depth[126])
        assert 12.0 < float(ahead.depth[126][hit].min()) < 13.5
        assert isinstance(ahead.camera, Camera) and ahead.rgb.shape == (256, 256, 3)


def test_from_above_the_tower_stands_where_it_stands(tower):
    out = tower(georeferenced(), histogram=HISTOGRAM, above=True)
    row, col = (0.5 - 15 / 71.68) * 256, 128
    heights = out.heights.array[:, :, 0]
    assert heights[round(row), col] == pytest.approx(12.0, abs=1.0)
    assert not np.isfinite(heights[200, 60]) or heights[200, 60] < 0.5 or heights[200, 60] == -np.inf
    assert out.heights.gsd == pytest.approx(71.68 / 256) and out.above.array[round(row), col, 0] == pytest.approx(
        191, abs=2
    )
    middle = out.heights.transform @ (col, row)
    east, north = (float(v) for v in out.tile.frame.local(*_lonlat(out.heights, middle)))
    assert (east, north) == pytest.approx((0.0, 15.0), abs=0.2)


def _lonlat(image, xy):
    from pyproj import Transformer

    return Transformer.from_crs(image.crs, "EPSG:4326", always_xy=True).transform(*xy)


def test_four_headings_of_one_place_are_four_views():
    pipe = DensityGroundPipeline(gen_model())
    out = pipe(georeferenced(), heading=[0, 90, 180, 270], fov=120, size=(64, 48), histogram=HISTOGRAM)
    assert [v.where()["heading"] for v in out.views] == pytest.approx([0, 90, 180, 270], abs=1e-6)
    assert all(v.rgb.shape == (48, 64, 3) for v in out.views)
    turned = [v.rgb for v in out.views]
    assert not torch.equal(turned[0], turned[2])


def test_a_mesh_is_closed_and_lies_in_its_frame(tower):
    field = tile_field(tower, georeferenced(), cell=1.0)
    mesh = field.mesh(float(field.volume.density.max()) / 2)
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    assert low == pytest.approx([-2.0, 13.0, 0.0], abs=1.1) and high == pytest.approx([2.0, 17.0, 12.0], abs=1.1)
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    assert (np.unique(edges, axis=0, return_counts=True)[1] == 2).all()
    volume = (
        np.einsum(
            "nd,nd->", mesh.vertices[mesh.faces[:, 0]], np.cross(*(mesh.vertices[mesh.faces[:, k]] for k in (1, 2)))
        )
        / 6
    )
    assert volume == pytest.approx(4 * 4 * 12, rel=0.3)
    top = mesh.face_normals[:, 2] > 0.9
    assert mesh.textured[top].all() and not mesh.textured[np.abs(mesh.face_normals[:, 2]) < 0.1].all()
    assert field.provenance["synthetic"] is True
    with pytest.raises(InputError, match="densities reach"):
        field.mesh(1e9)


def test_a_loaded_model_whose_weights_take_gradients_makes_a_mesh_in_the_colours_of_the_network():
    pipe = DensityGroundPipeline(Sat3DGen(**GEN).eval())
    pipe.ground.model.mlp.net1_density.weight.data.mul_(60)
    field = tile_field(pipe, georeferenced(), cell=4.48)
    density = field.volume.density
    mesh = field.mesh(float(density.max() + density.min()) / 2)
    places = torch.from_numpy(mesh.vertices).float()
    with torch.inference_mode():
        told = colours(pipe.ground.model, field.tile.held, places)
    assert np.allclose(mesh.colors, told.numpy(), atol=1e-6) and np.ptp(mesh.colors) > 0
    assert field.heights().array.shape == (16, 16, 1)


def test_windows_of_a_larger_image_are_the_tiles_where_they_do_not_overlap():
    pipe = DensityGroundPipeline(gen_model())
    image = georeferenced(128, 192)  # 71.68 x 107.52 m
    whole = image_field(pipe, image, cell=4.48, stride=0.5)
    assert whole.provenance["windows"] == 2 and whole.volume.density.shape == (18, 16, 24)
    first = pipe.read(image, whole.frame.place(-17.92, 0.0))
    assert first.frame.origin[:2] == pytest.approx((LEFT + 35.84, TOP - 35.84), abs=1e-3)
    tile = tile_field(pipe, first, cell=4.48)
    # the first window alone says what lies west of what the second keeps: 35.84 m and its margin
    alone = int((35.84 + 71.68 / 8) / 4.48)
    assert torch.allclose(whole.volume.density[:, :, : alone - 1], tile.volume.density[:, :, : alone - 1], atol=1e-5)
    assert not torch.allclose(whole.volume.density[:, :, 14], tile.volume.density[:, :, 14], atol=1e-5)
    heights = whole.heights()
    assert heights.array.shape == (16, 24, 1) and heights.transform.c == pytest.approx(LEFT)
    assert heights.transform.f == pytest.approx(TOP) and heights.transform.a == pytest.approx(4.48)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda p: p(georeferenced(), histogram=HISTOGRAM, size=(64, 64)), "give fov too"),
        (lambda p: p(georeferenced(), histogram=HISTOGRAM, fov=90, size=(65, 64)), "even sides"),
        (lambda p: p(georeferenced(), histogram=HISTOGRAM, fov=200), "field of view 200"),
        (lambda p: p(georeferenced(), histogram=HISTOGRAM, at=Place(6.0, 10.0)), "outside"),
        (lambda p: image_field(p, georeferenced(100, 300)), "56.0 m|smaller|larger image"),
        (lambda p: image_field(p, georeferenced(), stride=0.9), "leave gaps"),
        (lambda p: image_field(p, georeferenced(), cell=0.01), "choose a larger cell"),
        (lambda p: tile_field(p, georeferenced(), cell=-1.0), "above 0"),
    ],
)
def test_what_is_wrong_is_said_before_any_network_runs(call, words, monkeypatch):
    pipe = DensityGroundPipeline(gen_model())
    monkeypatch.setattr(pipe.ground, "around", lambda *a: pytest.fail("ran"))
    monkeypatch.setattr(pipe.ground, "densities", lambda *a: pytest.fail("ran"))
    with pytest.raises(InputError, match=words):
        call(pipe)


@pytest.mark.slow
def test_a_file_of_the_published_size_is_read_and_looked_at(tmp_path):
    """All 381 million weights, in the published layout; about 4 GB of memory."""
    listed = {n: tuple(map(int, shape.split())) for n, _, shape in (line.partition(" ") for line in GOLDEN["tensors"])}
    layer = {n: shape for n, shape in listed.items() if ".layer.0." in n}
    listed |= {n.replace(".layer.0.", f".layer.{i}."): shape for n, shape in layer.items() for i in range(1, 24)}
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    save_file({n: drawn_sat3dgen(n, shape) for n, shape in listed.items()}, file)
    settings = json.loads(json.dumps(GEN_SETTINGS))
    settings["opt"]["network"]["point_sampling_kwargs"].update(num_points=48, num_importance=48)
    (tmp_path / "config.json").write_text(json.dumps(settings))
    made = convert(tmp_path, tmp_path / "out")
    file.unlink()
    assert sum(p.numel() for p in made.model.parameters()) == 381_022_223
    del made
    pipe = gensat.load(tmp_path / "out")
    assert pipe.model.config.dino["num_hidden_layers"] == 24 and pipe.model.config.fine == 48
    out = pipe(georeferenced(), histogram=HISTOGRAM)
    view = pipe(out.tile, histogram=HISTOGRAM, fov=120).views[0]
    assert out.views[0].rgb.shape == (128, 512, 3) and float(out.views[0].rgb.std()) > 0.05
    assert view.rgb.shape == (256, 256, 3) and torch.isfinite(view.rgb).all()
