"""The glTF of a scene in viewers that others wrote: Assimp reads it, VTK draws it."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from solid_toys import FRAME, village

from gensat.render.cameras import Camera
from gensat.render.export.scene import save_scene
from gensat.render.gbuffers import render
from gensat.render.triangles import scene_mesh

SIZE, SCALE = (240, 160), 8
DRAW = """
import sys
import numpy as np
import vtk
from vtk.util.numpy_support import vtk_to_numpy

file, out = sys.argv[1:]
def drawn(size, look):
    window, renderer = vtk.vtkRenderWindow(), vtk.vtkRenderer()
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    window.SetSize(*size)
    renderer.SetBackground(1.0, 0.0, 1.0)
    window.AddRenderer(renderer)
    reader = vtk.vtkGLTFImporter()
    reader.SetFileName(file)
    reader.SetRenderWindow(window)
    reader.Update()
    look(renderer.GetActiveCamera())
    renderer.ResetCameraClippingRange()
    window.Render()
    grab = vtk.vtkWindowToImageFilter()
    grab.SetInput(window)
    grab.ReadFrontBufferOff()
    grab.Update()
    picture = grab.GetOutput()
    return vtk_to_numpy(picture.GetPointData().GetScalars()).reshape(size[1], size[0], -1)[::-1, :, :3]

def down(camera):  # orthographic, north up, on the pixels of the image
    camera.ParallelProjectionOn()
    camera.SetParallelScale(16)
    camera.SetPosition(0, 100, 0)
    camera.SetFocalPoint(0, 0, 0)
    camera.SetViewUp(0, 0, -1)

def north(camera):  # from 20 m south and 12 m up, 60 degrees across
    camera.SetPosition(0, 12, 20)
    camera.SetFocalPoint(0, 12 - 10 * np.tan(np.radians(25)), 10)
    camera.SetViewUp(0, 1, 0)
    camera.UseHorizontalViewAngleOn()
    camera.SetViewAngle(60)

np.savez(out, above=drawn((SCALE * 32, SCALE * 32), down), view=drawn(SIZE, north))
"""


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    made = village()
    file = tmp_path_factory.mktemp("viewers") / "village.glb"
    save_scene(made, file)
    return made, file


@pytest.mark.slow
def test_assimp_reads_every_triangle(scene):
    assimp = pytest.importorskip("assimp_py")
    made, file = scene
    read = assimp.import_file(str(file), assimp.Process_Triangulate | assimp.Process_PreTransformVertices)
    area, low, high = 0.0, np.full(3, np.inf), np.full(3, -np.inf)
    for part in read.meshes:
        vertices = np.asarray(part.vertices, np.float64).reshape(-1, 3)
        corners = vertices[np.asarray(part.indices).reshape(-1, 3)]
        area += np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
        low, high = np.minimum(low, vertices.min(0)), np.maximum(high, vertices.max(0))
    own = scene_mesh(made)
    assert area == pytest.approx(own.areas.sum(), rel=0.02)
    np.testing.assert_allclose(low, [-16, own.vertices[:, 2].min(), -16], atol=0.01)
    np.testing.assert_allclose(high, [16, own.vertices[:, 2].max(), 16], atol=0.01)
    names = {material["NAME"]: material for material in read.materials if "NAME" in material}
    assert "TEXTURE_BASE" in names["seen from above"]


@pytest.mark.slow
def test_vtk_draws_what_we_draw(scene, tmp_path):
    """From above the image comes back; from the side houses, trees and the edge of the ground are where our renderer has them."""
    pytest.importorskip("vtk")
    made, file = scene
    program = DRAW.replace("SCALE", str(SCALE)).replace("SIZE", str(SIZE))
    done = subprocess.run(
        [sys.executable, "-c", program, str(file), str(tmp_path / "drawn.npz")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    if not (tmp_path / "drawn.npz").exists():
        pytest.skip(f"VTK cannot draw here: {done.stderr[-200:]}")
    drawn = np.load(tmp_path / "drawn.npz")
    middle = np.s_[SCALE // 2 :: SCALE, SCALE // 2 :: SCALE]
    x, y = made.grid.centres()
    open_ground = (torch.hypot(x - 11, y - 9) > 4).numpy()  # not under the tree
    error = np.abs(drawn["above"][middle] / 255 - made.image.numpy()).max(-1)[open_ground]
    assert np.median(error) < 0.01 and (error < 0.03).mean() > 0.9  # half a pixel from the middle, at edges of the roof
    camera = Camera.looking(
        FRAME, (0.0, -20.0, 12.0), heading=FRAME.heading(0.0), pitch=-25, fov=60, width=SIZE[0], height=SIZE[1]
    )
    view = render(made, camera)
    theirs = (drawn["view"] == (255, 0, 255)).all(-1)
    assert 0.1 < theirs.mean() < 0.5 and (theirs == view.sky.numpy()).mean() > 0.998
    ground = view.seen.numpy() & ~theirs
    assert np.median(np.abs(drawn["view"] / 255 - view.rgb.numpy()).max(-1)[ground]) < 0.02
