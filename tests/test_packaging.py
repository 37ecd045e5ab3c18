"""What is listed for the wheel is what lies on disk, and a wheel works on its own."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import gensat

tomllib = pytest.importorskip("tomllib", reason="the standard library reads TOML from Python 3.11 on")
ROOT = Path(gensat.__file__).resolve().parent.parent
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="installed, not a checkout")
MAPPED = ("assets", "conditioning", "pipelines", "train")


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_packages_are_the_folders_on_disk(project):
    found = set()
    for base, name in ((ROOT / "gensat", "gensat"), *((ROOT / name, f"gensat.{name}") for name in MAPPED)):
        for file in base.rglob("*.py"):
            inner = file.parent.relative_to(base).parts
            found.add(".".join([name, *inner]))
    listed = project["tool"]["setuptools"]["packages"]
    assert found == set(listed) and len(listed) == len(set(listed))


def test_every_package_can_be_found_by_its_mapping(project):
    mapping = project["tool"]["setuptools"]["package-dir"]
    assert mapping == {"gensat": "gensat", **{f"gensat.{name}": name for name in MAPPED}}
    for name in project["tool"]["setuptools"]["packages"]:
        head = max((key for key in mapping if name == key or name.startswith(key + ".")), key=len)
        folder = ROOT / mapping[head] / name.removeprefix(head).lstrip(".").replace(".", "/")
        assert (folder / "__init__.py").is_file(), name


def test_version_is_that_of_the_project(project):
    assert project["project"]["version"] == gensat.__version__


def test_every_third_party_import_is_declared(project):
    """The core, conditioning and pipelines import nothing that a plain installation lacks, but for kernels, which are loaded when they run."""
    declared = {d.split(">")[0].split("=")[0].strip().lower() for d in project["project"]["dependencies"]}
    names = {"PIL": "pillow", "omegaconf": "omegaconf", "controlnet_aux": "controlnet-aux", "yaml": "omegaconf"}
    # these come with a declared one: affine with rasterio, tokenizers and huggingface_hub with transformers, rich's click with typer
    brought = {"affine", "tokenizers", "huggingface_hub", "packaging", "click", "gensat"}
    code = (
        "import ast, sys, pathlib\n"
        "for f in sys.argv[1:]:\n"
        "    tree = ast.parse(pathlib.Path(f).read_text(encoding='utf-8'))\n"
        "    for n in tree.body:\n"
        "        names = [a.name for a in n.names] if isinstance(n, ast.Import) else "
        "[n.module] if isinstance(n, ast.ImportFrom) and not n.level else []\n"
        "        print(*{m.split('.')[0] for m in names} - sys.stdlib_module_names)\n"
    )
    files = [str(f) for base in ("gensat", "conditioning", "pipelines") for f in (ROOT / base).rglob("*.py")]
    files = [f for f in files if not f.endswith("_kernels.py")]  # numba, of the extra flood
    out = subprocess.run([sys.executable, "-c", code, *files], capture_output=True, text=True, check=True).stdout
    used = set(out.split())
    missing = {m for m in used if names.get(m, m.replace("_", "-")).lower() not in declared and m not in brought}
    assert "torch" in used and not missing


def test_a_wheel_works_outside_the_checkout(tmp_path):
    """Built and installed without a network: setuptools is here because torch needs it."""
    source = tmp_path / "source"
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in ("gensat", *MAPPED):
        shutil.copytree(ROOT / name, source / name, ignore=skip)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    quiet = {"check": True, "capture_output": True, "text": True}
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, source], **quiet)
    (wheel,) = tmp_path.glob("gensat-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
    assert "gensat/py.typed" in files and "gensat/train/splits.json" in files and any("recipes/" in f for f in files)
    assert not [f for f in files if f.endswith(".pyc") or f.startswith("tests/")]
    site = tmp_path / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", site, wheel], **quiet)

    work = tmp_path / "work"
    work.mkdir()
    shutil.copy(Path(__file__).with_name("toys.py"), work / "toys.py")
    code = (
        "import gensat, gensat.train, gensat.assets, gensat.cli\n"
        f"assert gensat.__file__.startswith({str(site)!r}), gensat.__file__\n"
        "from toys import toy_pipeline\n"
        "toy_pipeline().save_pretrained('toy')\n"
        "pipe = gensat.load('toy', device='cpu')\n"
        "place = gensat.Place(lon=-95.36, lat=29.76)\n"
        "out = pipe('a harbor', place=place, gsd=0.5, width=32, height=32, num_inference_steps=1, seed=7)\n"
        "out.scenes[0].save('x.tif')\n"
        "print(gensat.GeoImage.open('x.tif').provenance['seed'])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    ran = subprocess.run([sys.executable, "-c", code], cwd=work, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0 and ran.stdout.strip() == "7", ran.stderr
