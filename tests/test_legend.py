import itertools
import json

import numpy as np
import pytest

from gensat.errors import InputError
from gensat.geo.attributes import OPENSTREETMAP, AttributeLegend
from gensat.geo.classes import CLASSES, COLOURS, class_code, colourise, from_colours
from gensat.geo.legend import LEGENDS, Legend, load_legend


def test_the_classes_are_a_contract():
    assert CLASSES == (
        "unknown", "other ground", "building", "road", "water", "woodland", "low vegetation", "cropland", "bare",
        "wetland", "snow",
    )  # fmt: skip


def test_colours_can_be_told_apart():
    for a, b in itertools.combinations(COLOURS.astype(int), 2):
        assert np.linalg.norm(a - b) > 50


def test_class_map_to_colours_and_back():
    class_map = np.arange(11, dtype=np.uint8).reshape(1, 11).repeat(2, axis=0)
    picture = colourise(class_map)
    assert picture.shape == (2, 11, 3) and picture.dtype == np.uint8
    assert picture[0, 4].tolist() == COLOURS[4].tolist()
    np.testing.assert_array_equal(from_colours(picture), class_map)


def test_colours_and_classes_outside_the_legend_are_refused():
    with pytest.raises(InputError, match="#010203"):
        from_colours(np.array([[[1, 2, 3]]], np.uint8))
    with pytest.raises(InputError, match="0 to 11"):
        colourise(np.array([[0, 11]], np.uint8))


@pytest.mark.parametrize(
    ("name", "code", "meaning"),
    [
        ("gensat", 9, "wetland"),
        ("landcover.ai", 0, "other ground"),
        ("landcover.ai", 2, "woodland"),
        ("landcover.ai", 4, "road"),
        ("worldcover", 10, "woodland"),
        ("worldcover", 40, "cropland"),
        ("worldcover", 50, "building"),
        ("worldcover", 95, "wetland"),
        ("dynamic-world", 0, "water"),
        ("dynamic-world", 8, "snow"),
        ("esri", 11, "low vegetation"),
        ("esri", 9, "snow"),
        ("sites", 7, "snow"),
        ("sites", 9, "low vegetation"),
        ("sites", 8, "unknown"),
        ("uganda", 0, "unknown"),
        ("uganda", 1, "building"),
    ],
)
def test_foreign_codes_mean(name, code, meaning):
    codes = np.array([[code]], dtype=np.int32)
    assert CLASSES[LEGENDS[name].to_classes(codes)[0, 0]] == meaning


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("worldcover", {0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100}),
        ("dynamic-world", set(range(9))),
        ("landcover.ai", set(range(5))),
        ("sites", set(range(10))),
    ],
)
def test_tables_are_complete(name, codes):
    assert set(LEGENDS[name].codes) == codes
    assert set(LEGENDS[name].codes.values()) <= set(range(11))


def test_codes_that_the_legend_does_not_know_are_listed_with_the_way_out():
    with pytest.raises(InputError, match=r"codes 7, 255 .*'landcover.ai'.*--legend FILE.*worldcover"):
        LEGENDS["landcover.ai"].to_classes(np.array([[0, 255, 7]], np.uint8))
    with pytest.raises(InputError, match=r"codes -1 "):
        LEGENDS["gensat"].to_classes(np.array([[-1]], np.int16))
    assert Legend("mine", {1: 2}, default=0).to_classes(np.array([1, 9])).tolist() == [2, 0]


def test_classes_by_name_and_number():
    assert class_code("Low_Vegetation") == class_code("low-vegetation") == class_code(6) == class_code("6") == 6
    assert class_code("ground") == 1
    for wrong in ("forest", 11, -1, "11", ""):
        with pytest.raises(InputError, match="is not a layout class"):
            class_code(wrong)


def test_legend_by_name():
    assert load_legend("WorldCover") is LEGENDS["worldcover"]
    assert load_legend("openstreetmap") is OPENSTREETMAP
    only = load_legend("building")
    assert isinstance(only, AttributeLegend) and only.classify({"HEIGHT": 3.0}) == (2, 6.0)
    with pytest.raises(InputError, match=r"'nonsense' is no file; give one, or one of gensat, landcover.ai"):
        load_legend("nonsense")


def test_legend_files(tmp_path):
    flat = tmp_path / "flat.json"
    flat.write_text(json.dumps({"11": "water", "21": 1, "90": "wetland"}))
    assert load_legend(flat).codes == {11: 4, 21: 1, 90: 9}
    full = tmp_path / "full.json"
    full.write_text(json.dumps({"name": "nlcd", "codes": {"11": "water"}, "default": "unknown"}))
    legend = load_legend(str(full))
    assert (legend.name, legend.codes, legend.default) == ("nlcd", {11: 4}, 0)
    for text in ("code,class\n11,water\n\n21, other ground\n", "11,4\n21,1\n"):
        table = tmp_path / "t.csv"
        table.write_text(text)
        assert load_legend(table).codes == {11: 4, 21: 1}


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("x.json", "{", "cannot be read"),
        ("x.json", "[1]", "not a table"),
        ("x.json", "{}", "x.json"),
        ("x.json", '{"1": "forest"}', "'forest' is not a layout class"),
        ("x.json", '{"a": "water"}', "x.json"),
        ("x.json", '{"codes": [1]}', "not a table of code"),
        ("x.csv", "code\n1\n", "cannot be read"),
        ("x.csv", "", "lists no codes"),
        ("x.json", '{"attribute": "a", "valus": {}}', "unknown keys valus"),
        ("x.json", '{"attribute": "a", "values": {"x": "forest"}}', "'forest' is not a layout class"),
        ("x.json", '{"attribute": "a", "values": [1]}', "no table of attributes"),
        ("x.json", '{"rules": [{"attribute": "a", "colour": 1}]}', "unknown keys colour"),
    ],
)
def test_wrong_legend_files_are_one_sentence(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=says) as info:
        load_legend(tmp_path / name)
    assert "\n" not in str(info.value)


def test_attribute_legend_of_one_attribute():
    legend = load_legend(
        {
            "attribute": "landuse",
            "values": {"residential": "building", "3": "water"},
            "default": "ground",
            "background": 8,
        }
    )
    assert legend.classify({"landuse": "Residential"}) == (2, 6.0)
    assert legend.classify({"landuse": 3.0}) == (4, 6.0)
    assert legend.classify({"landuse": "forest"}) == (1, 6.0)
    assert legend.classify({"landuse": None}) == legend.classify({}) == (1, 6.0)
    assert legend.background == 8


def test_attribute_legend_of_rules_widths_and_what_to_skip():
    legend = load_legend(
        {
            "rules": [
                {"attribute": "kind", "values": {"path": "road"}, "widths": {"path": 1.5}},
                {"attribute": "water", "default": "water", "width": 4},
            ],
            "skip": {"tunnel": ["yes"]},
        }
    )
    assert legend.classify({"kind": "path"}) == (3, 1.5)
    assert legend.classify({"kind": "path", "width": "2.5 m"}) == (3, 2.5)
    assert legend.classify({"kind": "path", "width": "wide"}) == (3, 1.5)
    assert legend.classify({"kind": "path", "tunnel": "yes"}) is None
    assert legend.classify({"kind": "hedge", "water": "lake"}) == (4, 4.0)
    assert legend.classify({"kind": "hedge"}) is None
    assert legend.classify({"kind": float("nan"), "water": ""}) is None


@pytest.mark.parametrize(
    ("tags", "meaning"),
    [
        ({"building": "yes"}, "building"),
        ({"building": "no", "landuse": "grass"}, "low vegetation"),
        ({"highway": "residential"}, "road"),
        ({"highway": "bus_stop"}, None),
        ({"natural": "water", "landuse": "forest"}, "water"),
        ({"natural": "wood"}, "woodland"),
        ({"natural": "wetland"}, "wetland"),
        ({"natural": "sand"}, "bare"),
        ({"natural": "glacier"}, "snow"),
        ({"waterway": "stream", "tunnel": "culvert"}, None),
        ({"waterway": "river"}, "water"),
        ({"landuse": "forest"}, "woodland"),
        ({"landuse": "farmland"}, "cropland"),
        ({"landuse": "residential"}, "other ground"),
        ({"leisure": "park"}, "low vegetation"),
        ({"class": "wetland"}, "wetland"),
        ({"class": 5}, "woodland"),
        ({"name": "Main Street"}, None),
    ],
)
def test_openstreetmap_tags_mean(tags, meaning):
    found = OPENSTREETMAP.classify(tags)
    assert (None if found is None else CLASSES[found[0]]) == meaning


def test_wider_roads_are_wider():
    widths = [OPENSTREETMAP.classify({"highway": kind})[1] for kind in ("motorway", "residential", "footway")]
    assert widths[0] > widths[1] > widths[2] > 0
