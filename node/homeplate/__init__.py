"""Homeplate: the licence plate reader (ALPR) node that keeps plates home."""

import os

__version__ = "0.1.0"

# onnxruntime's own builds report to their maker: on import they make a device id and an event store in the user's home
# and start an uploader. Only this variable, set before that import, keeps all of it from being made; its call to switch
# telemetry off comes too late. https://github.com/microsoft/onnxruntime/blob/main/docs/Privacy.md
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
