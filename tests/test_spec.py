"""gensat.json: round trip, schema, and messages that name the entry or the models."""

import copy
import json

import pytest
from toys import toy_spec

from gensat.errors import InputError, ModelError
from gensat.hub.spec import FILE, SIGNALS, Defaults, ModelSpec, Signal, Value, schema

BROKEN = [
    (("licence",), 3, "ModelSpec.licence is 3"),
    (("native_size",), "256", "ModelSpec.native_size is '256'"),
    (("native_size",), 256.5, "ModelSpec.native_size is 256.5"),
    (("native_size",), True, "ModelSpec.native_size is True"),
    (("size_limits",), [128], r"ModelSpec.size_limits is \[128\]"),
    (("bands",), "rgb", "ModelSpec.bands is 'rgb'"),
    (("bands", 1), 5, r"ModelSpec.bands\[1\] is 5"),
    (("signals",), [], r"ModelSpec.signals is \[\]"),
    (("signals", "place", "route"), "telepathy", "ModelSpec.signals.place.route is 'telepathy'; use one of tokens"),
    (("signals", "place", "values", 0, "divisor"), "180", r"ModelSpec.signals.place.values\[0\].divisor is '180'"),
    (("signals", "layout", "range"), [0, 1, 2], r"ModelSpec.signals.layout.range is \[0, 1, 2\]"),
    (("defaults",), 7, "ModelSpec.defaults is 7"),
    (("defaults", "gsd"), None, "ModelSpec.defaults.gsd is None"),
    (("signals", "place", "colour"), 1, r"ModelSpec.signals.place has unknown entries \['colour'\]"),
    (("zoom",), 1, r"ModelSpec has unknown entries \['zoom'\]"),
]


@pytest.fixture
def jsonschema():
    return pytest.importorskip("jsonschema", reason="jsonschema is not installed: it comes with gensat[dev]")


def plain(spec):
    return json.loads(json.dumps(spec.to_dict()))


def changed(path, value):
    data = copy.deepcopy(plain(toy_spec()))
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return data


def test_round_trip_through_json():
    for spec in (toy_spec(), ModelSpec(name="bare"), toy_spec(defaults=Defaults(place_guidance_scale=2.0))):
        assert ModelSpec.from_dict(plain(spec)) == spec


def test_round_trip_through_a_folder(tmp_path):
    spec = toy_spec(description="Zürich, 京都")
    spec.save(tmp_path)
    assert ModelSpec.load(tmp_path) == spec
    assert (tmp_path / FILE).read_text(encoding="utf-8").endswith("}\n")


def test_whole_numbers_stand_for_floats():
    spec = ModelSpec.from_dict(changed(("defaults", "gsd"), 1))
    assert spec.defaults.gsd == 1.0 and isinstance(spec.defaults.gsd, float)


def test_schema_is_valid_and_accepts_specs(jsonschema):
    jsonschema.Draft202012Validator.check_schema(schema())
    for spec in (toy_spec(), ModelSpec(name="bare")):
        jsonschema.validate(plain(spec), schema())


@pytest.mark.parametrize(("path", "value", "message"), BROKEN)
def test_what_is_wrong_is_refused_by_name(path, value, message):
    with pytest.raises(ModelError, match=f"{FILE}: {message}"):
        ModelSpec.from_dict(changed(path, value))


@pytest.mark.parametrize(("path", "value"), [broken[:2] for broken in BROKEN])
def test_what_is_wrong_is_refused_by_the_schema(path, value, jsonschema):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed(path, value), schema())


def test_missing_entries_are_named():
    data = plain(toy_spec())
    del data["name"]
    with pytest.raises(ModelError, match=r"ModelSpec is incomplete .*'name'"):
        ModelSpec.from_dict(data)
    assert schema()["required"] == ["name"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"signals": {"smell": Signal("tokens")}}, r"unknown signals \['smell'\]; use some of prompt"),
        ({"window_stride": 128}, "not above 0 and in order"),
        ({"size_limits": (128, 64)}, "not above 0 and in order"),
        ({"multiple": 0}, "not above 0 and in order"),
        ({"window": 72}, "no multiples of 16"),
        ({"native_size": 100}, "no multiples of 16"),
        ({"gsd_range": (1.0, 2.0)}, "default gsd 0.5 m"),
    ],
)
def test_specs_that_contradict_themselves_are_refused(changes, message):
    with pytest.raises(ModelError, match=message):
        toy_spec(**changes)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe\x00", b"[1, 2]", b"3"])
def test_damaged_files_are_refused(tmp_path, content):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ModelError, match=FILE):
        ModelSpec.load(tmp_path)


def test_folder_without_a_spec_is_refused(tmp_path):
    with pytest.raises(ModelError, match=f"holds no {FILE}; give the folder"):
        ModelSpec.load(tmp_path)


def test_a_signal_that_a_model_cannot_take_names_those_that_can():
    spec = ModelSpec(name="words", signals={"prompt": Signal("tokens")})
    spec.require(["prompt"])
    able = {"layout": ["words", "toy", "other"]}
    with pytest.raises(
        InputError, match=r"words cannot take layout; use toy or other, or leave it out \(it takes prompt\)"
    ):
        spec.require(["prompt", "layout"], able)
    with pytest.raises(InputError, match="no known model here takes it; leave it out"):
        spec.require(["mask"], able)


def test_signals_are_those_of_the_design():
    assert {"prompt", "place", "acquisition", "layout", "edges", "references", "mask", "elevation"} <= set(SIGNALS)


def test_values_say_how_a_model_sees_them():
    value = Value("lon", "degrees", offset=180.0, divisor=360.0, scale=1000.0)
    signal = Signal("time_vector", values=(value,))
    data = plain(ModelSpec(name="metadata", signals={"place": signal}))
    assert ModelSpec.from_dict(data).signals["place"].values == (value,)
