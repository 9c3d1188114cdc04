"""onnxruntime's telemetry: a node that opens its models leaves nothing of it behind."""

import os
import subprocess
import sys

OPEN_MODELS = """
from homeplate.vision import open_models
from homeplate.vision.model import default_model_dir

open_models(default_model_dir(), threads=1)
"""


def test_opening_the_models_makes_no_device_id_and_no_event_store(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "XDG_DATA_HOME": str(home / ".data")}
    subprocess.run([sys.executable, "-c", OPEN_MODELS], env=environment, check=True, timeout=60)
    assert [path.name for path in home.rglob("*")] == []
