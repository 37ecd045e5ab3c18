"""The house: imports point one way, the start is light, and saved class paths cannot be mistaken for diffusers' own."""

import ast
import subprocess
import sys
from pathlib import Path

import diffusers.pipelines
import pytest

import gensat

ROOT = Path(gensat.__file__).resolve().parent.parent
MAPPED = ("conditioning", "pipelines", "train", "assets")
# level of each part of gensat; a module may import its own level and those below
LEVELS = {"conditioning": 1, "pipelines": 2, "train": 3, "cli": 3, "__main__": 3, "comfy": 3, "web": 3}
TABLE = "gensat.hub.load"  # resolves pipeline class names lazily: the one upward edge, as text

in_checkout = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="installed, not a checkout")


def modules():
    for folder, prefix in ((ROOT / "gensat", "gensat"), *((ROOT / name, f"gensat.{name}") for name in MAPPED)):
        for file in sorted(folder.rglob("*.py")):
            parts = [prefix, *file.relative_to(folder).with_suffix("").parts]
            yield ".".join(parts).removesuffix(".__init__"), file


def imported(name, file):
    """Absolute names of the gensat modules that a file imports anywhere, and where the import statement stands."""
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    tree = ast.parse(file.read_text(encoding="utf-8"))
    guarded = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in guarded:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def level(name):
    parts = name.split(".")
    return LEVELS.get(parts[1], 0) if len(parts) > 1 else 0


@in_checkout
def test_there_is_something_to_check():
    names = [name for name, _ in modules()]
    assert len(names) > 40 and {"gensat.diffusion.loop", "gensat.pipelines.satellite", TABLE} <= set(names)
    assert "gensat.diffusion.loop" in set(imported("gensat.pipelines.satellite", ROOT / "pipelines" / "satellite.py"))


@in_checkout
def test_imports_point_one_way():
    wrong = []
    for name, file in modules():
        for target in imported(name, file):
            if target.split(".")[0] == "gensat" and level(target) > level(name) and name != "gensat":
                wrong.append(f"{name} imports {target}")
            if {level(target), level(name)} == {3} and target.split(".")[1] != name.split(".")[1]:
                allowed = {
                    ("cli", "train"),
                    ("cli", "comfy"),
                    ("cli", "web"),
                    ("__main__", "cli"),
                }  # the command line starts the others
                if (name.split(".")[1], target.split(".")[1]) not in allowed:
                    wrong.append(f"{name} imports {target}")
    assert not wrong


@in_checkout
def test_core_imports_are_absolute_and_mapped_folders_relative():
    for name, file in modules():
        mapped = file.relative_to(ROOT).parts[0] in MAPPED
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and not mapped:
                assert node.level == 0, f"{name} has a relative import"


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    "statement",
    [
        "import gensat",
        "from gensat import Place, GeoImage, Acquisition, Canvas, ModelSpec, PartialDate, Band",
        "import gensat.types, gensat.geo.canvas, gensat.hub.spec, gensat.hub.request, gensat.hub.registry, gensat.errors",
        "import gensat.cli, gensat.geo.raster, gensat.geo.layout",
    ],
)
def test_light_parts_import_no_torch(statement):
    heavy = run(
        f"import sys; {statement}; print(*(m for m in ('torch', 'diffusers', 'transformers') if m in sys.modules))"
    )
    assert heavy == []


def test_public_names_resolve():
    assert set(gensat.__all__) <= set(dir(gensat))
    for name in gensat.__all__:
        assert getattr(gensat, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        gensat.nothing  # noqa: B018


@in_checkout
def test_component_modules_cannot_be_taken_for_pipelines_of_diffusers():
    """diffusers saves a class as its own if the folder right above its module is called like one of diffusers' pipelines."""
    for name, _ in modules():
        parts = name.split(".")
        if len(parts) > 2:
            assert not hasattr(diffusers.pipelines, parts[-2]), f"{name} would be saved as diffusers' {parts[-2]}"


def test_class_paths_of_saved_models_stay():
    """Saved models hold these; a module or class that moves breaks every one of them."""
    from gensat.conditioning.acquisition import AcquisitionEncoder
    from gensat.conditioning.place import GeoClipPlaceEncoder, SirenPlaceEncoder
    from gensat.models.autoencoder import ConvAutoencoder
    from gensat.models.controlnet import LayoutControlNet
    from gensat.models.denoiser import LatentDenoiser
    from gensat.models.sat2density import Sat2Density
    from gensat.models.sat2density_plus import Sat2DensityPlus

    kinds = (
        AcquisitionEncoder,
        GeoClipPlaceEncoder,
        SirenPlaceEncoder,
        ConvAutoencoder,
        LayoutControlNet,
        LatentDenoiser,
        Sat2Density,
        Sat2DensityPlus,
    )
    assert [kind.__module__ for kind in kinds] == [
        "gensat.conditioning.acquisition",
        "gensat.conditioning.place",
        "gensat.conditioning.place",
        "gensat.models.autoencoder",
        "gensat.models.controlnet",
        "gensat.models.denoiser",
        "gensat.models.sat2density",
        "gensat.models.sat2density_plus",
    ]
