"""Several processes make the images of one request together, as accelerate launches them."""

import json
import subprocess
import sys

import pytest
from saved_toy import generate, generate_json, toy_folder

from gensat.team import Team

# on CPUs accelerate's own launcher starts one process only
LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "gensat"]


def test_every_piece_of_work_is_done_once():
    work = list(range(11))
    shares = [list(Team(rank, 3).share(work)) for rank in range(3)]
    assert (
        sorted(piece for share in shares for piece in share) == work
        and max(map(len, shares)) - min(map(len, shares)) <= 1
    )
    assert Team.here() == Team() and Team().share(work) == work and Team().gather([1]) == [1]


def test_two_processes_make_the_files_that_one_makes(tmp_path, capsys):
    request = ["a harbor", "--lon", -95.36, "--lat", 29.76, "--gsd", 0.5, "--width", 32, "--height", 32, "--steps", 2,
               "--seed", 7, "--count", 5, "--batch", 2]  # fmt: skip
    alone = generate_json(capsys, *request, "-o", tmp_path / "alone")
    command = [
        *LAUNCH,
        "generate",
        *map(str, request),
        "-o",
        str(tmp_path / "both"),
        "--json",
        "--model",
        str(toy_folder()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "process 0 of 2 made 3" in done.stderr and "process 1 of 2 made 2" in done.stderr
    both = json.loads(done.stdout)
    names = sorted(path.name for path in (tmp_path / "alone").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "both").iterdir()) and len(names) == 6
    for name in names:
        assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "both" / name).read_bytes(), name
    assert [one["seed"] for one in both["outputs"]] == [one["seed"] for one in alone["outputs"]] == [7, 8, 9, 10, 11]
    assert both["notes"] == alone["notes"]


def test_processes_have_to_agree_on_the_seed(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert generate("a harbor", "-o", tmp_path / "out") == 2
    assert "2 processes make these images together; give --seed" in capsys.readouterr().err


@pytest.mark.parametrize("rank", [0, 1])
def test_an_interrupted_process_says_how_to_go_on(rank):
    from gensat.cli.generate import _interrupted

    assert _interrupted(3, [5, 6, 7, 8], Team(rank, 2)) == (
        f"interrupted, process {rank} after 3 images; run it again with --overwrite"
    )
    assert "--seed 8 --count 1 makes the rest" in _interrupted(3, [5, 6, 7, 8], Team())
