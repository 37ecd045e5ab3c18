"""Tests marked ``data`` or ``gpu`` are left out where there is neither, and the run says how many."""

import os
from pathlib import Path

if os.environ.get(
    "PYTEST_XDIST_WORKER"
):  # workers share the cores: threads that wait for each other's take several times as long
    SHARE = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    os.environ.setdefault("OMP_NUM_THREADS", str(SHARE))

import pytest
import torch
from accelerate.state import AcceleratorState

DATA = Path(os.environ.get("GENSAT_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
HERE = {"data": (DATA / "scenes").is_dir(), "gpu": torch.cuda.is_available()}
WHY = {"data": "the full data set is not here (GENSAT_DATA)", "gpu": "there is no CUDA device here"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine has not got."""
    for item in items:
        for name, here in HERE.items():
            if not here and item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=WHY[name]))


@pytest.fixture(autouse=True)
def _fresh_accelerate():
    """accelerate keeps one state a process: a test that trains in float32 must not decide for the next one."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def pytest_terminal_summary(terminalreporter) -> None:
    """Say how many tests need the data set and were skipped."""
    skipped = terminalreporter.stats.get("skipped", [])
    for name, why in WHY.items():
        count = sum(why in str(report.longrepr) for report in skipped)
        if count:
            terminalreporter.write_line(f"{count} tests marked '{name}' were skipped: {why}")
