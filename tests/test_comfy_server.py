"""The example workflows in a real ComfyUI, headless on the CPU; only where ``GENSAT_COMFYUI_DIR`` names a checkout of it.

``GENSAT_COMFYUI_PYTHON`` is the Python that has ComfyUI's requirements and gensat (default: this one).
"""

import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from saved_toy import FOUND
from test_comfy_nodes import WORKFLOWS, workflow

from gensat import GeoImage
from gensat.cli.comfy import PACK
from gensat.comfy import NODE_CLASS_MAPPINGS

COMFYUI = os.environ.get("GENSAT_COMFYUI_DIR")
PYTHON = os.environ.get("GENSAT_COMFYUI_PYTHON", sys.executable)
pytestmark = pytest.mark.skipif(not COMFYUI, reason="GENSAT_COMFYUI_DIR names no ComfyUI")


class Server:
    """A running ComfyUI and the folder it works in."""

    def __init__(self, base: Path, port: int, process: subprocess.Popen):
        self.base, self.url, self.process = base, f"http://127.0.0.1:{port}", process

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(self.url + path, timeout=60) as answer:
            return answer.read()

    def post(self, graph: dict) -> tuple[int, dict]:
        body = json.dumps({"prompt": graph}).encode()
        request = urllib.request.Request(f"{self.url}/prompt", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def run(self, graph: dict) -> dict:
        """History of a graph that was queued and has finished."""
        status, answer = self.post(graph)
        assert status == 200, answer
        for _ in range(600):
            history = json.loads(self.get(f"/history/{answer['prompt_id']}"))
            if history:
                return history[answer["prompt_id"]]
            time.sleep(0.5)
        raise AssertionError("the graph did not finish")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    for name in ("custom_nodes/gensat", "input", "output", "temp", "models", "user"):
        (base / name).mkdir(parents=True)
    (base / "custom_nodes" / "gensat" / "__init__.py").write_text(PACK)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--cpu", "--listen", "127.0.0.1", "--port", str(port), "--base-directory", str(base)]
    options += ["--disable-auto-launch", "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
    with (base / "log.txt").open("w") as log:
        command = [PYTHON, str(Path(str(COMFYUI)) / "main.py"), *options]
        process = subprocess.Popen(command, cwd=str(COMFYUI), stdout=log, stderr=subprocess.STDOUT, env=FOUND)
        running = Server(base, port, process)
        try:
            for _ in range(600):
                assert process.poll() is None, (base / "log.txt").read_text()[-3000:]
                try:
                    running.get("/system_stats")
                    break
                except OSError:
                    time.sleep(0.5)
            yield running
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.mark.slow
def test_all_nodes_are_there(server):
    known = json.loads(server.get("/object_info"))
    for name, node in NODE_CLASS_MAPPINGS.items():
        assert known[name]["output"] == list(node.RETURN_TYPES)
        assert known[name]["category"] == "gensat"


@pytest.mark.slow
@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_an_example_workflow_runs(server, path):
    graph = workflow(path)
    history = server.run(graph)
    assert history["status"]["status_str"] == "success", history["status"]
    (shown,) = (output for output in history["outputs"].values() if "geotiffs" in output)
    assert shown["geotiffs"]
    for file, preview in zip(shown["geotiffs"], shown["images"], strict=True):
        scene = GeoImage.open(server.base / "output" / file["subfolder"] / file["filename"])
        assert scene.provenance["synthetic"] is True and scene.crs is not None
        assert server.get(f"/view?filename={preview['filename']}&type=temp").startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_scene_is_seen_and_exported(server):
    """From words to a view from the ground and a glTF: both come back over HTTP, and the glTF opens."""
    trimesh = pytest.importorskip("trimesh")
    history = server.run(workflow(next(path for path in WORKFLOWS if path.stem == "stand_in_it")))
    assert history["status"]["status_str"] == "success", history["status"]
    (preview,) = history["outputs"]["7"]["images"]
    picture = server.get(
        f"/view?filename={preview['filename']}&subfolder={preview['subfolder']}&type={preview['type']}"
    )
    shown = np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(float)
    assert shown.shape == (192, 256, 3) and shown[:60, :, 2].mean() > shown[:60, :, 0].mean()  # the sky is above
    (path,) = history["outputs"]["8"]["text"]
    low, high = trimesh.load(path).bounds
    np.testing.assert_allclose(high - low, [32, 0, 32], atol=0.01)  # 64 pixels of 0.5 m on level ground


@pytest.mark.slow
def test_a_value_out_of_range_is_refused(server):
    graph = workflow(next(path for path in WORKFLOWS if path.stem == "place_and_date"))
    graph["2"]["inputs"]["lat"] = 95
    status, answer = server.post(graph)
    assert status == 400
    (error,) = answer["node_errors"]["2"]["errors"]
    assert (error["type"], error["extra_info"]["input_name"]) == ("value_bigger_than_max", "lat")


@pytest.mark.slow
def test_an_error_of_ours_reaches_the_user(server):
    graph = workflow(next(path for path in WORKFLOWS if path.stem == "place_and_date"))
    graph["3"]["inputs"]["date"] = "2017-02-30"
    history = server.run(graph)
    assert history["status"]["status_str"] == "error"
    assert "the day must be 1 to 28" in json.dumps(history["status"]["messages"])
