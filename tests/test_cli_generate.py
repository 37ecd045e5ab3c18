"""``gensat generate`` end to end on a toy model: what lies where, what the tags say, and that every option does something."""

import io
import json
import re
import sys

import numpy as np
import pytest
import rasterio
from PIL import Image
from pyproj import CRS, Transformer
from rasterio.enums import ColorInterp
from saved_toy import generate, generate_json, toy_folder
from toys import toy_unet

from gensat import GeoImage
from gensat.cli import run
from gensat.cli._request import SCHEDULERS
from gensat.geo.classes import COLOURS, WATER, WOODLAND

HOUSTON = ("--lon", -95.36, "--lat", 29.76)
SMALL = ("--width", 32, "--height", 32, "--steps", 2)


def pixels(path) -> np.ndarray:
    return GeoImage.open(path).array.astype(int)


@pytest.mark.parametrize(
    ("lon", "lat", "gsd", "epsg"),
    [
        (-95.36, 29.76, 0.5, 32615),
        (5.32, 60.39, 0.5, 32632),  # Bergen: zone 32, not 31
        (32.58, 0.31, 10, 32636),
        (179.9, -16.5, 0.3, 32760),
        (10.0, 85.0, 10, 5041),
        (100.0, -85.0, 30, 5042),
    ],
)
def test_a_place_is_the_centre_of_the_tif(tmp_path, capsys, lon, lat, gsd, epsg):
    size = ("--gsd", gsd, "--width", 64, "--height", 32, "--steps", 1)
    assert generate("", "--lon", lon, "--lat", lat, *size, "-o", tmp_path / "a.tif") == 0
    with rasterio.open(tmp_path / "a.tif") as image:
        assert image.crs.to_epsg() == epsg
        assert image.res == (gsd, gsd)
        assert (image.width, image.height) == (64, 32)
        assert image.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        x, y = Transformer.from_crs(4326, epsg, always_xy=True).transform(lon, lat)
        column, row = ~image.transform * (x, y)
    assert abs(column - 32) < 0.01 and abs(row - 16) < 0.01
    assert "note:" not in capsys.readouterr().err


def test_a_crs_can_be_chosen(tmp_path):
    assert generate("", *HOUSTON, *SMALL, "--gsd", 1, "--crs", "EPSG:5070", "-o", tmp_path / "a.tif") == 0
    with rasterio.open(tmp_path / "a.tif") as image:
        x, y = Transformer.from_crs(4326, 5070, always_xy=True).transform(-95.36, 29.76)
        assert image.crs.to_epsg() == 5070
        assert np.allclose(~image.transform * (x, y), (16, 16), atol=0.01)


def test_gsd_is_on_the_ground_in_a_crs_that_stretches_and_a_note_says_so(tmp_path, capsys):
    for crs, lon, lat in (("EPSG:3857", 10, 65), ("EPSG:3413", 20, 60)):
        where = ("--lon", lon, "--lat", lat, "--crs", crs, "--overwrite")
        made = generate_json(capsys, "", *where, *SMALL, "-o", tmp_path / "a.tif")
        assert made["outputs"][0]["gsd"] == pytest.approx(0.5) and any(crs in note for note in made["notes"])
        assert GeoImage.open(tmp_path / "a.tif").acquisition.gsd == pytest.approx(0.5)


def test_json_names_a_crs_that_can_be_read_and_heights_are_dropped(tmp_path, capsys):
    own = "+proj=tmerc +lon_0=-95 +ellps=WGS84 +units=m +type=crs"
    for given, expected in ((own, own), ("EPSG:32615+5703", "EPSG:32615")):
        asked = ("", *HOUSTON, *SMALL, "--gsd", 1, "--crs", given, "--overwrite", "-o", tmp_path / "a.tif")
        (one,) = generate_json(capsys, *asked)["outputs"]
        assert CRS(one["crs"]) == CRS(expected)
        with rasterio.open(tmp_path / "a.tif") as image:
            assert CRS(image.crs.to_wkt()) == CRS(expected) and not any(image.units)
    assert generate("", *HOUSTON, *SMALL, "--crs", own, "--seed", 1, "-o", tmp_path / "b.tif") == 0
    assert ", own CRS, seed 1" in capsys.readouterr().out


def test_a_bbox_is_its_utm_envelope_padded_and_cropped(tmp_path, capsys):
    box = (-95.37, 29.75, -95.3695, 29.7506)
    made = generate_json(capsys, "", "--bbox", *box, "--gsd", 1, "--steps", 1, "-o", tmp_path / "a.tif")
    along = np.linspace(0, 1, 101)
    lon, lat = box[0] + along * (box[2] - box[0]), box[1] + along * (box[3] - box[1])
    edges = [(lon, lat * 0 + box[1]), (lon, lat * 0 + box[3]), (lon * 0 + box[0], lat), (lon * 0 + box[2], lat)]
    to_utm = Transformer.from_crs(4326, 32615, always_xy=True)
    x, y = (np.concatenate(part) for part in zip(*(to_utm.transform(*edge) for edge in edges), strict=True))
    with rasterio.open(tmp_path / "a.tif") as image:
        assert abs(image.bounds.left - x.min()) < 0.01 and abs(image.bounds.top - y.max()) < 0.01
        assert 0 <= image.bounds.right - x.max() < 1 and 0 <= y.min() - image.bounds.bottom < 1
        assert image.width % 16 and image.height % 16  # the model works in multiples of 16
        assert made["outputs"][0]["bounds"] == pytest.approx(list(image.bounds), abs=1e-6)
        assert (made["outputs"][0]["width"], made["outputs"][0]["crs"]) == (image.width, "EPSG:32615")


def test_the_gsd_of_a_bbox_follows_from_its_width(tmp_path):
    box = ("--bbox", -95.37, 29.75, -95.3695, 29.7506)
    assert generate("", *box, "--width", 48, "--steps", 1, "-o", tmp_path / "a.tif") == 0
    with rasterio.open(tmp_path / "a.tif") as image:
        assert image.width == 48 and image.height % 16
        assert image.res[0] == pytest.approx(49.5 / 48, rel=0.02)
    assert generate("", *box, "--gsd", 1, "--width", 50, "--steps", 1, "-o", tmp_path / "b.tif") == 0
    assert GeoImage.open(tmp_path / "b.tif").width == 50


def test_no_place_means_no_crs_and_the_tag_says_so(tmp_path, capsys):
    made = generate_json(capsys, "a harbor", *SMALL, "-o", tmp_path / "a.tif")
    assert (made["outputs"][0]["crs"], made["outputs"][0]["bounds"]) == (None, None)
    with rasterio.open(tmp_path / "a.tif") as image:
        assert image.crs is None
        assert image.tags()["GENSAT_PLACE"] == "null"


def test_tags_say_what_was_asked_and_are_the_same_in_every_format(tmp_path, capsys):
    asked = ["a harbor", *HOUSTON, *SMALL, "--date", "2017-08", "--cloud", 0.25, "--sensor", "aerial", "--seed", 7]
    asked += ["--negative", "houses", "--guidance", 1.5, "--place-guidance", 3]
    found = {}
    for suffix in ("tif", "png", "jpg"):
        made = generate_json(capsys, *asked, "-o", tmp_path / f"a.{suffix}")
        found[suffix] = GeoImage.open(tmp_path / f"a.{suffix}")
    with rasterio.open(tmp_path / "a.tif") as image:
        tags = image.tags()
    assert tags["GENSAT_SYNTHETIC"] == "yes"
    assert (tags["GENSAT_SEED"], tags["GENSAT_PROMPT"], tags["GENSAT_NEGATIVE_PROMPT"]) == ("7", "a harbor", "houses")
    assert json.loads(tags["GENSAT_PLACE"]) == {"lon": -95.36, "lat": 29.76}
    assert (tags["ACQUISITION_DATE"], tags["ACQUISITION_CLOUD_COVER"]) == ("2017-08", "0.25")
    assert (tags["ACQUISITION_SENSOR"], tags["ACQUISITION_GSD"]) == ("aerial", "0.5")
    about = found["tif"].provenance
    assert (about["steps"], about["guidance_scale"], about["place_guidance_scale"]) == (2, 1.5, 3)
    assert (about["model"], about["model_licence"]) == ("toy", "Apache-2.0")
    assert re.fullmatch("[0-9a-f]{16}", about["model_hash"])
    for suffix in ("png", "jpg"):
        assert found[suffix].provenance == about
        assert found[suffix].acquisition == found["tif"].acquisition
        assert found[suffix].transform == found["tif"].transform and found[suffix].crs == found["tif"].crs
    assert np.array_equal(found["png"].array, found["tif"].array)
    assert made["model"] == {"name": "toy", "version": "1", "licence": "Apache-2.0"}
    assert made["outputs"][0]["seed"] == 7 and made["seconds"] > 0
    assert any("0.5 m" in note for note in made["notes"])  # no gsd was given


def test_the_same_request_again_is_bit_identical_and_another_seed_is_not(tmp_path):
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        assert generate("a harbor", *HOUSTON, *SMALL, "--seed", seed, "-o", tmp_path / f"{name}.tif") == 0
    assert np.array_equal(pixels(tmp_path / "a.tif"), pixels(tmp_path / "b.tif"))
    assert not np.array_equal(pixels(tmp_path / "a.tif"), pixels(tmp_path / "c.tif"))


def test_a_folder_gets_numbered_files_and_a_contact_sheet(tmp_path, capsys):
    made = generate_json(capsys, "", *HOUSTON, *SMALL, "--count", 3, "--seed", 5, "--batch", 2, "-o", tmp_path / "out")
    names = ["000000-5.tif", "000001-6.tif", "000002-7.tif", "contact_sheet.png"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert [(one["path"], one["seed"]) for one in made["outputs"]] == [
        (str(tmp_path / "out" / name), seed) for name, seed in zip(names, (5, 6, 7), strict=False)
    ]
    assert made["contact_sheet"] == str(tmp_path / "out" / "contact_sheet.png")
    sheet = GeoImage.open(tmp_path / "out" / "contact_sheet.png")
    assert sheet.provenance["synthetic"] is True and sheet.provenance["seeds"] == [5, 6, 7]
    first = pixels(tmp_path / "out" / names[0])
    assert np.array_equal(sheet.array[1:33, 1:33], first)
    # each of them is what its seed alone makes
    assert generate("", *HOUSTON, *SMALL, "--seed", 6, "-o", tmp_path / "alone.tif") == 0
    assert np.abs(pixels(tmp_path / "alone.tif") - pixels(tmp_path / "out" / names[1])).max() <= 1


def test_one_image_into_an_existing_folder_in_another_format(tmp_path):
    assert generate("", *SMALL, "--seed", 3, "--format", "png", "-o", f"{tmp_path}/") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000-3.png", "contact_sheet.png"]


def test_random_seeds_are_reported_and_repeat_the_image(tmp_path, capsys):
    one = generate_json(capsys, "", *SMALL, "-o", tmp_path / "a.tif")["outputs"][0]["seed"]
    two = generate_json(capsys, "", *SMALL, "-o", tmp_path / "b.tif")["outputs"][0]["seed"]
    assert one != two
    assert generate("", *SMALL, "--seed", one, "-o", tmp_path / "c.tif") == 0
    assert np.array_equal(pixels(tmp_path / "a.tif"), pixels(tmp_path / "c.tif"))


def test_lines_for_people_go_where_they_belong(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gensat.hub.load._told", set())
    assert generate("", *HOUSTON, *SMALL, "--seed", 1, "-o", tmp_path / "a.tif") == 0
    out, err = capsys.readouterr()
    assert out == f"{tmp_path / 'a.tif'}  32 x 32 at 0.5 m, EPSG:32615, seed 1\n"
    assert err.splitlines() == [
        "model toy: licence Apache-2.0",
        "note: no gsd was given: made at the model's default of 0.5 m per pixel",
    ]
    monkeypatch.setattr("gensat.hub.load._told", set())
    assert generate("", *HOUSTON, *SMALL, "--quiet", "-o", tmp_path / "b.tif") == 0
    assert capsys.readouterr() == ("", "")


def test_a_bar_is_drawn_on_a_terminal_only(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for quiet, drawn in (((), True), (("--quiet",), False)):
        screen = Terminal()
        monkeypatch.setattr(sys, "stderr", screen)
        assert generate("", *SMALL, *quiet, "--overwrite", "-o", tmp_path / "a.tif") == 0
        assert ("generating" in screen.getvalue()) is drawn


@pytest.mark.parametrize(
    "option",
    [
        ("--negative", "houses"),
        ("--date", "2017-08-31"),
        ("--cloud", 0.9),
        ("--sensor", "sentinel-2"),
        ("--gsd", 5),
        ("--steps", 3),
        ("--guidance", 6),
        ("--place-guidance", 6),
        ("--seed", 2),
    ],
    ids=lambda option: option[0],
)
def test_every_option_changes_the_picture(tmp_path, option):
    plain = ["a harbor", *HOUSTON, "--width", 32, "--steps", 2, "--seed", 1]
    assert generate(*plain, "-o", tmp_path / "plain.tif") == 0
    assert generate(*plain, *option, "-o", tmp_path / "other.tif") == 0
    assert not np.array_equal(pixels(tmp_path / "plain.tif"), pixels(tmp_path / "other.tif"))


def test_a_layout_and_its_scale_change_the_picture_and_the_tags(tmp_path, capsys):
    codes = np.full((32, 32), WOODLAND, np.uint8)
    codes[16:] = WATER
    Image.fromarray(COLOURS[codes]).save(tmp_path / "map.png")
    Image.fromarray(codes).save(tmp_path / "codes.png")
    plain = ["", *HOUSTON, *SMALL, "--seed", 1]
    runs = {
        "none": [],
        "map": ["--layout", tmp_path / "map.png"],
        "codes": ["--layout", tmp_path / "codes.png"],
        "weak": ["--layout", tmp_path / "map.png", "--controlnet-scale", 0],
        "other": ["--layout", tmp_path / "codes.png", "--legend", "sites"],
        "edges": ["--edges", tmp_path / "codes.png"],
    }
    for name, extra in runs.items():
        generate_json(capsys, *plain, *extra, "-o", tmp_path / f"{name}.tif")
    made = {name: pixels(tmp_path / f"{name}.tif") for name in runs}
    assert np.array_equal(made["map"], made["codes"])
    assert np.array_equal(made["weak"], made["none"])
    assert not np.array_equal(made["other"], made["codes"])
    for name in ("map", "edges"):
        assert not np.array_equal(made[name], made["none"])
    about = GeoImage.open(tmp_path / "weak.tif").provenance
    assert (about["layout"], about["layout_coverage"], about["controlnet_scale"]) == ("map.png", 1.0, 0)


def test_a_layout_with_a_crs_is_warped_and_missing_coverage_is_noted(tmp_path, capsys):
    polygon = [[-95.3601, 29.7600], [-95.3599, 29.7600], [-95.3599, 29.7601], [-95.3601, 29.7601], [-95.3601, 29.7600]]
    feature = {
        "type": "Feature",
        "properties": {"natural": "water"},
        "geometry": {"type": "Polygon", "coordinates": [polygon]},
    }
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    made = generate_json(capsys, "", *HOUSTON, *SMALL, "--layout", tmp_path / "a.geojson", "-o", tmp_path / "a.tif")
    assert any("unknown on" in note for note in made["notes"])
    assert 0 < GeoImage.open(tmp_path / "a.tif").provenance["layout_coverage"] < 1


def test_snapped_requests_share_their_grid(tmp_path):
    assert generate("", *HOUSTON, *SMALL, "--snap", "-o", tmp_path / "a.tif") == 0
    with rasterio.open(tmp_path / "a.tif") as image:
        cells = np.array([image.bounds.left, image.bounds.top]) / (0.5 * 8)  # 8 pixels a latent cell
        assert np.allclose(cells, np.round(cells), atol=1e-6)


def test_a_snapped_box_is_still_covered(tmp_path):
    box = (-95.37, 29.75, -95.3695, 29.7505)
    for name, snap in (("a", ()), ("b", ("--snap",))):
        assert generate("", "--bbox", *box, "--gsd", 1, *snap, "--steps", 1, "-o", tmp_path / f"{name}.tif") == 0
    plain, snapped = (GeoImage.open(tmp_path / f"{name}.tif").bounds for name in "ab")
    assert (np.array([-1, -1, 1, 1]) * (np.array(snapped) - plain) > -0.01).all()
    assert np.allclose(np.array(snapped)[[0, 3]] % 8, 0)


def test_scheduler_names_are_those_of_the_core_and_fit_what_the_model_predicts(tmp_path):
    from gensat.diffusion.schedule import NAMES

    assert set(SCHEDULERS) == set(NAMES)
    assert generate("", *SMALL, "--scheduler", "flow", "-o", tmp_path / "a.tif") == 0
    assert GeoImage.open(tmp_path / "a.tif").provenance["scheduler"] == "FlowMatchEulerDiscreteScheduler"


def test_a_lora_changes_the_picture_and_is_named_in_the_tags(tmp_path, capsys):
    import peft
    import torch
    from peft.utils import get_peft_model_state_dict

    unet = toy_unet()
    linear = [name for name, module in unet.named_modules() if isinstance(module, torch.nn.Linear)]
    unet.add_adapter(peft.LoraConfig(r=2, target_modules=linear[-8:], init_lora_weights=False))
    from gensat.pipelines.satellite import SatellitePipeline

    SatellitePipeline.save_lora_weights(tmp_path / "lora", unet_lora_layers=get_peft_model_state_dict(unet))
    plain = ["a harbor", *SMALL, "--seed", 1]
    assert generate(*plain, "-o", tmp_path / "a.tif") == 0
    for given in (tmp_path / "lora", tmp_path / "lora" / "pytorch_lora_weights.safetensors"):
        generate_json(capsys, *plain, "--lora", given, "--overwrite", "-o", tmp_path / "b.tif")
        assert not np.array_equal(pixels(tmp_path / "a.tif"), pixels(tmp_path / "b.tif"))
        about = GeoImage.open(tmp_path / "b.tif").provenance
        assert list(about["lora"]) == ["lora"]
        assert about["model_hash"] != GeoImage.open(tmp_path / "a.tif").provenance["model_hash"]


def test_models_show_reads_a_spec_without_loading_it(capsys):
    assert run(["models", "show", str(toy_folder()), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["name"], data["native_size"], data["schedulers"]) == ("toy", 64, ["flow"])
    assert data["sensors"] == ["aerial", "sentinel-2"] and set(data["signals"]) >= {"prompt", "place", "layout"}
    assert data["bytes"] == sum(file.stat().st_size for file in toy_folder().rglob("*") if file.is_file())
    assert run(["models", "show", str(toy_folder())]) == 0
    text = capsys.readouterr().out
    assert "Apache-2.0" in text and "lon (degrees), lat (degrees)" in text


def test_models_list_names_what_ships(capsys, monkeypatch):
    monkeypatch.setattr("gensat.hub.registry.shipped", lambda: {"toy": toy_folder()})
    monkeypatch.setattr("gensat.hub.resolve.shipped", lambda: {"toy": toy_folder()})
    assert run(["models", "list", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["models"]
    assert (row["name"], row["licence"]) == ("toy", "Apache-2.0") and "layout" in row["signals"]
    assert run(["models", "list"]) == 0
    assert "takes prompt, place, acquisition, layout, edges" in capsys.readouterr().out
