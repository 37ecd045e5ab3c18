"""The nodes keep ComfyUI's contract, and the example workflows run."""

import inspect
import json
import sys
import types
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import rasterio
import torch
from comfy_executor import WIDGETS, EmptyImage, ImageCompositeMasked, PreviewImage, execute, outputs, problems
from pyproj import Transformer
from saved_toy import toy_folder
from toys import toy_pipeline

from gensat import Acquisition, Canvas, GeoImage, Place
from gensat.cli import run
from gensat.comfy import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from gensat.comfy.node import standing
from gensat.comfy.nodes import to_pixels
from gensat.comfy.values import Geo, camera_at
from gensat.errors import InputError
from gensat.geo.classes import COLOURS, WATER, WOODLAND
from gensat.geo.crs import utm_crs

TYPES = {
    "GENSAT_MODEL",
    "GENSAT_PLACE",
    "GENSAT_ACQUISITION",
    "GENSAT_LAYOUT",
    "GENSAT_GEO",
    "GENSAT_SCENE",
    "IMAGE",
    "MASK",
    *WIDGETS,
}
NODES = {
    **NODE_CLASS_MAPPINGS,
    "EmptyImage": EmptyImage,
    "ImageCompositeMasked": ImageCompositeMasked,
    "PreviewImage": PreviewImage,
}
WORKFLOWS = sorted(path for path in Path(str(files("gensat.assets") / "workflows")).glob("*.json"))


def workflow(path: Path) -> dict:
    """An example workflow on the toy model, at a quarter of its size."""
    graph = json.loads(path.read_text())
    for node in graph.values():
        inputs = node["inputs"]
        if node["class_type"] == "GensatLoadModel":
            inputs["model"] = str(toy_folder())
        for side in {"width", "height", "x", "y"} & set(inputs):
            inputs[side] //= 4
    return graph


@pytest.fixture
def in_folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_node_has_a_name_and_no_name_is_left_over():
    assert set(NODE_DISPLAY_NAME_MAPPINGS) == set(NODE_CLASS_MAPPINGS)
    assert len(set(NODE_DISPLAY_NAME_MAPPINGS.values())) == len(NODE_CLASS_MAPPINGS)


@pytest.mark.parametrize("node", NODE_CLASS_MAPPINGS.values(), ids=list(NODE_CLASS_MAPPINGS))
def test_a_node_is_what_comfyui_takes_for_one(node):
    inputs = node.INPUT_TYPES()
    assert set(inputs) <= {"required", "optional", "hidden"}
    json.dumps(inputs)  # /object_info sends it to the browser
    parameters = inspect.signature(getattr(node, node.FUNCTION)).parameters
    named = {**inputs["required"], **inputs.get("optional", {})}
    own = [name for name in named if "stand" not in parameters or name not in standing()]
    assert [name for name in parameters if name not in ("self", "stand")] == own
    for name in inputs.get("optional", {}):
        assert parameters[name].default is not inspect.Parameter.empty
    for name, (kind, *rest) in named.items():
        extra = rest[0] if rest else {}
        if isinstance(kind, list):
            assert extra.get("default", kind[0]) in kind
            continue
        assert kind in TYPES, name
        if kind in WIDGETS:
            assert isinstance(extra["default"], WIDGETS[kind]), name
        if kind in ("INT", "FLOAT"):
            assert extra["min"] <= extra["default"] <= extra["max"]
            assert abs(extra["max"]) < 2**53  # what a browser can hold
        if "seed" in name:
            assert extra["min"] == 0 and extra["control_after_generate"] is True
    assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES)
    assert set(node.RETURN_TYPES) <= TYPES
    assert node.CATEGORY == "gensat" and node.DESCRIPTION


def test_a_camera_takes_what_the_widgets_of_standing_say():
    assert set(inspect.signature(camera_at).parameters) == {"scene", *standing()}


def test_importing_the_nodes_imports_no_comfyui():
    assert not {"comfy", "folder_paths", "nodes", "comfy_api"} & set(sys.modules)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_an_example_workflow_is_valid_and_runs(path, in_folder):
    assert problems(json.loads(path.read_text()), NODES) == []
    graph = workflow(path)
    assert problems(graph, NODES) == []
    returned = execute(graph, NODES)
    generated = next(key for key, node in graph.items() if node["class_type"] == "GensatGenerate")
    image = outputs(returned[generated])[0]
    asked = graph[generated]["inputs"]
    assert (image.shape, image.dtype, image.device.type) == ((asked["count"], 64, 64, 3), torch.float32, "cpu")
    assert 0 <= image.min() and image.max() <= 1 and image.std() > 0
    saved = next(key for key, node in graph.items() if node["class_type"] == "GensatSaveGeoTIFF")
    prefix = graph[saved]["inputs"]["filename_prefix"].split("/")[1]
    made = sorted((in_folder / "output" / "gensat").iterdir())
    assert [file.name for file in made] == [f"{prefix}_{i + 1:05d}_.tif" for i in range(asked["count"])]
    assert outputs(returned[saved]) == ("\n".join(map(str, made)),)
    assert [file["filename"] for file in returned[saved]["ui"]["geotiffs"]] == [file.name for file in made]
    place = graph[asked["place"][0]]["inputs"]
    for number, file in enumerate(made):
        with rasterio.open(file) as written:
            to_utm = Transformer.from_crs(4326, utm_crs(place["lon"], place["lat"]), always_xy=True)
            assert np.allclose(~written.transform * to_utm.transform(place["lon"], place["lat"]), (32, 32), atol=0.01)
            assert written.tags()["GENSAT_SYNTHETIC"] == "yes"
            assert int(written.tags()["GENSAT_SEED"]) == asked["seed"] + number
            assert np.array_equal(np.moveaxis(written.read(), 0, 2), to_pixels(image)[number])


def test_the_painted_layout_is_in_legend_colours_and_changes_the_picture(in_folder):
    path = next(path for path in WORKFLOWS if path.stem == "painted_layout")
    graph = workflow(path)
    returned = execute(graph, NODES)
    (layout,) = outputs(returned["5"])
    assert np.array_equal(np.unique(layout.source.reshape(-1, 3), axis=0), np.sort(COLOURS[[WOODLAND, WATER]], axis=0))
    del graph["7"]["inputs"]["layout"]
    without = execute(graph, NODES)
    assert not torch.equal(outputs(returned["7"])[0], outputs(without["7"])[0])


def test_the_nodes_make_what_a_python_user_gets(in_folder):
    import gensat

    path = next(path for path in WORKFLOWS if path.stem == "place_and_date")
    image, geo = outputs(execute(workflow(path), NODES)["4"])
    pipe = gensat.load(toy_folder())
    place = Place(-95.36, 29.76)
    asked = {"place": place, "gsd": 0.5, "date": "2017-08-31", "cloud_cover": 0, "width": 64, "height": 64}
    made = pipe("a harbor with boats", **asked, seed=7, num_images_per_prompt=2)
    for mine, theirs in zip(geo.scenes, made.scenes, strict=True):
        assert np.array_equal(mine.array, theirs.array) and mine.provenance == theirs.provenance
    assert np.array_equal(np.stack(to_pixels(image)), np.stack([scene.array for scene in made.scenes]))


def test_the_validator_finds_what_comfyui_would():
    graph = workflow(next(path for path in WORKFLOWS if path.stem == "place_and_date"))
    graph["2"]["inputs"]["lat"] = 95
    graph["4"]["inputs"] |= {"seed": -1, "model": ["2", 0], "place": 3}
    del graph["4"]["inputs"]["prompt"]
    graph["1"]["inputs"]["dtype"] = "int8"
    found = problems(graph, NODES)
    assert [line.split(" ")[1] for line in found] == ["dtype", "lat", "prompt", "model", "seed", "place"]


@pytest.fixture
def scene() -> GeoImage:
    rng = np.random.default_rng(0)
    canvas = Canvas.around(Place(-95.36, 29.76), 0.5, 64, 48)
    array = rng.integers(0, 256, (48, 64, 3), np.uint8)
    return canvas.image(array, acquisition=Acquisition(0.5, "2017"), provenance={"synthetic": True, "seed": 1})


def test_a_picture_left_alone_is_saved_as_generated(scene):
    (image,) = Geo((scene,)).images([scene.array.copy()])
    assert image is scene


def test_a_changed_picture_says_so(scene):
    (image,) = Geo((scene,)).images([255 - scene.array])
    assert image.provenance == {**scene.provenance, "edited": "pixels changed after generation"}
    assert image.transform == scene.transform and np.array_equal(image.array, 255 - scene.array)


@pytest.mark.parametrize("factor", [0.5, 2, 1.37])
def test_a_scaled_picture_keeps_its_place(scene, factor):
    size = (round(48 * factor), round(64 * factor), 3)
    (image,) = Geo((scene,)).images([np.zeros(size, np.uint8)])
    assert image.bounds == pytest.approx(scene.bounds, abs=1e-6)
    assert image.acquisition.gsd == pytest.approx(0.5 / factor, rel=0.02)
    assert image.acquisition.date == scene.acquisition.date
    assert image.provenance["edited"] == "scaled from 64 x 48 after generation"


def test_a_cropped_picture_or_another_batch_is_refused(scene):
    with pytest.raises(InputError, match="its place is lost by cropping"):
        Geo((scene,)).images([np.zeros((48, 48, 3), np.uint8)])
    with pytest.raises(InputError, match="holds 2 pictures and the GENSAT_GEO 1"):
        Geo((scene,)).images([scene.array, scene.array])


def test_saving_never_overwrites_and_stays_in_the_output_folder(scene, in_folder):
    node = NODE_CLASS_MAPPINGS["GensatSaveGeoTIFF"]()
    image = torch.from_numpy(scene.array)[None].float() / 255
    for number in (1, 2):
        (text,) = node.save(image, Geo((scene,)), "city/a")["result"]
        assert text == str(in_folder / "output" / "city" / f"a_{number:05d}_.tif")
    with pytest.raises(InputError, match="NUL character"):
        node.save(image, Geo((scene,)), "a\0b")
    for prefix in ("../a", str(in_folder.parent / "a"), "", "."):
        with pytest.raises(InputError, match="outside the output folder"):
            node.save(image, Geo((scene,)), prefix)


@pytest.mark.parametrize(
    ("of_place", "of_acquisition", "made"), [(0.0, 2.0, 2.0), (2.0, 0.0, 2.0), (2.0, 2.0, 2.0), (0.0, 0.0, 0.5)]
)
def test_the_gsd_comes_from_the_place_or_the_acquisition(of_place, of_acquisition, made):
    assert generated_gsd(of_place, of_acquisition) == pytest.approx(made)


def test_two_different_gsds_are_refused():
    with pytest.raises(InputError, match=r"place says 0.5 m per pixel and the acquisition 2; set one of them to 0"):
        generated_gsd(0.5, 2.0)


def generated_gsd(of_place: float, of_acquisition: float) -> float:
    """Of an image made by the nodes; the toy model's default is 0.5 m."""
    (place,) = NODE_CLASS_MAPPINGS["GensatPlace"]().make(-95.36, 29.76, of_place)
    (taken,) = NODE_CLASS_MAPPINGS["GensatAcquisition"]().make("", -1.0, "", of_acquisition)
    node = NODE_CLASS_MAPPINGS["GensatGenerate"]()
    _, geo = node.generate(toy_pipeline(), "", "", 32, 32, 1, -1.0, 0, 1, place=place, acquisition=taken)
    return geo.scenes[0].gsd


def test_a_layout_needs_exactly_one_source(in_folder):
    node = NODE_CLASS_MAPPINGS["GensatLayout"]()
    picture = torch.zeros(1, 8, 8, 3)
    with pytest.raises(InputError, match="exactly one"):
        node.make("", "")
    with pytest.raises(InputError, match="exactly one"):
        node.make("a.tif", "", picture)
    with pytest.raises(InputError, match="holds 2 pictures"):
        node.make("", "", torch.zeros(2, 8, 8, 3))
    with pytest.raises(InputError, match="shape"):
        node.make("", "", torch.zeros(8, 8, 3))
    assert node.make("a.tif", "uganda")[0].source == Path("a.tif")


def test_a_layout_file_saved_again_is_read_again(in_folder):
    node = NODE_CLASS_MAPPINGS["GensatLayout"]
    file = in_folder / "a.png"
    file.write_bytes(b"1")
    before = node.IS_CHANGED(file="a.png", legend="uganda")
    assert node.IS_CHANGED(file="a.png", legend="uganda") == before
    file.write_bytes(b"12")
    assert node.IS_CHANGED(file="a.png", legend="uganda") != before


def test_inside_comfyui_progress_is_shown_cancelling_works_and_its_folders_are_used(in_folder, monkeypatch, scene):
    class Cancelled(Exception):
        pass

    bars: list = []

    class ProgressBar:
        def __init__(self, total):
            self.total, self.seen = total, []
            bars.append(self)

        def update_absolute(self, value):
            self.seen.append(value)

    stop = [False]

    def check():
        if stop[0]:
            raise Cancelled

    comfy, management, utils = (types.ModuleType(name) for name in ("comfy", "comfy.model_management", "comfy.utils"))
    management.throw_exception_if_processing_interrupted = check
    management.intermediate_device = lambda: torch.device("cpu")
    utils.ProgressBar = ProgressBar
    folders = types.ModuleType("folder_paths")
    for kind in ("input", "output", "temp"):
        (in_folder / kind).mkdir()
        setattr(folders, f"get_{kind}_directory", lambda kind=kind: str(in_folder / kind))
    for module in (comfy, management, utils, folders):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    path = next(path for path in WORKFLOWS if path.stem == "place_and_date")
    returned = execute(workflow(path), NODES)
    assert (bars[0].total, bars[0].seen) == (3, [1, 2, 3])
    (preview, _) = returned["5"]["ui"]["images"]
    assert preview["type"] == "temp" and (in_folder / "temp" / preview["filename"]).is_file()
    assert len(list((in_folder / "output" / "gensat").glob("*.tif"))) == 2
    (in_folder / "input" / "map.png").write_bytes(b"x")
    assert NODE_CLASS_MAPPINGS["GensatLayout"]().make("map.png", "")[0].source == in_folder / "input" / "map.png"
    stop[0] = True
    with pytest.raises(Cancelled):
        execute(workflow(path), NODES)
    assert bars[1].seen == [1]


def fake_comfyui(folder: Path) -> Path:
    for name in ("comfy", "custom_nodes"):
        (folder / name).mkdir(parents=True)
    for name in ("main.py", "nodes.py"):
        (folder / name).write_text("")
    return folder


def test_install_writes_a_pack_that_comfyui_would_find(tmp_path, capsys):
    comfyui = fake_comfyui(tmp_path / "ComfyUI")
    assert run(["comfy", "install", "--to", str(comfyui), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    file = comfyui / "custom_nodes" / "gensat" / "__init__.py"
    assert answer == {"path": str(file), "changed": True}
    space: dict = {}
    exec(compile(file.read_text(), file, "exec"), space)  # as ComfyUI imports a pack: by its path
    assert space["NODE_CLASS_MAPPINGS"] is NODE_CLASS_MAPPINGS
    assert space["NODE_DISPLAY_NAME_MAPPINGS"] is NODE_DISPLAY_NAME_MAPPINGS
    assert run(["comfy", "install", "--to", str(comfyui)]) == 0  # again: nothing to do
    assert "up to date" in capsys.readouterr().out
    file.write_text("something else")
    assert run(["comfy", "install", "--to", str(comfyui)]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(["comfy", "install", "--to", str(comfyui), "--overwrite"]) == 0
    assert "NODE_CLASS_MAPPINGS" in file.read_text()
