"""The sentence that holds the design, proven from the import graph and from a process without the vision packages."""

import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parent.parent
SEES_PLATES = ("homeplate.capture", "homeplate.pipeline", "homeplate.vision", "homeplate.camera", "homeplate.tracking")
HAS_NETWORK = ("homeplate.uplink", "homeplate.broker")


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("homeplate", "homeplate_custodian", include_external_packages=True, cache_dir=None)


def reached_from(graph, packages):
    own = {m for m in graph.modules if any(m == p or m.startswith(p + ".") for p in packages)}
    assert own, f"none of {packages} exists any more: this test proves nothing"
    return own.union(*(graph.find_upstream_modules(module) for module in own))


@pytest.mark.parametrize("package", SEES_PLATES)
def test_what_sees_plates_imports_nothing_that_has_a_network(graph, package):
    reached = reached_from(graph, (package,))
    assert not {m for m in reached if m.split(".")[0] in {"paho", "ssl", "socket", "urllib", "http"}}
    assert not {m for m in reached if m.startswith(HAS_NETWORK)}


@pytest.mark.parametrize("package", HAS_NETWORK)
def test_what_has_the_network_imports_nothing_that_sees_plates(graph, package):
    reached = reached_from(graph, (package,))
    assert not {m for m in reached if m.split(".")[0] in {"cv2", "onnxruntime", "picamera2"}}
    assert not {m for m in reached if m.startswith(SEES_PLATES)}


def test_decisions_and_values_touch_no_outside_world(graph):
    reached = reached_from(graph, ("homeplate.domain", "homeplate.policy"))
    assert not {m for m in reached if m.split(".")[0] in {"cv2", "sqlite3", "socket", "paho", "os", "time"}}


BLOCKED = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"cv2", "onnxruntime", "numpy"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
try:
    import cv2
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the block does not block")
from homeplate.cli import main
main(["--config", sys.argv[1], "uplink", "--once"])
"""


def test_uplink_starts_without_the_vision_packages(simulation_node):
    """It gets as far as an empty spool, with the real bundle and keys, in a process where none can be imported."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(simulation_node.config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cv2" not in done.stderr
