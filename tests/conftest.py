"""What several packages' tests stand on: a whole throw-away deployment, a rendered clip, and the shared pictures."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, settings

from tools import stage
from tools.render.clip import render_clip

# Times are measured by benchmarks; a busy machine must not fail a property.
settings.register_profile("homeplate", deadline=None)
settings.register_profile("fuzz", deadline=None, max_examples=20_000)
# For mutants: the same inputs each time, fewer, and never made smaller. A verdict must not hang on luck.
settings.register_profile(
    "mutation", deadline=None, derandomize=True, max_examples=25, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile("homeplate")

MEMORY = Path("/dev/shm")
ROOM_BYTES = 2 * 1024**3

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_configure():
    """Keep the tests' folders in memory where there is room: on a disk the suite mostly waits for its syncs.

    What is shown stays the same: a killed process's writes are the kernel's in both places, failed and cut calls are
    injected, and a raw disk is an image that the test formats and mounts. TMPDIR names another place.
    """
    if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM_BYTES:
        os.environ["TMPDIR"], tempfile.tempdir = str(MEMORY), None


@pytest.fixture
def simulation_node(tmp_path):
    """A node that is made, enrolled and has a bundle, under a demo root."""
    built = stage.build(tmp_path / "stage")
    yield built
    built.runtime.cleanup()


@pytest.fixture(scope="session")
def rendered(tmp_path_factory):
    """A clip of our own rendering: its path, and the plates that pass in it."""
    path = tmp_path_factory.mktemp("clip") / "cars.avi"
    return path, render_clip(path, np.random.default_rng(11), seconds=8.0, plates=4)


@pytest.fixture(scope="session")
def eval_data():
    """The folder of evaluation pictures beside the project; the tests that need it skip where it is absent."""
    folder = SHARED / "data" / "eval"
    if not folder.is_dir():
        pytest.skip("the evaluation pictures (../shared/data/eval) are not on this machine")
    return folder
