"""A stand-in for onnxruntime on a machine with TensorRT: its "engines" are the graphs themselves, run on the CPU."""

from pathlib import Path

import onnxruntime

TENSORRT, CPU = "TensorrtExecutionProvider", "CPUExecutionProvider"


class Session:
    """A session of onnxruntime that says it runs on other providers."""

    def __init__(self, real, running):
        self._real, self.get_providers = real, lambda: running
        self.get_inputs, self.get_outputs, self.run = real.get_inputs, real.get_outputs, real.run


class TensorrtOnCpu:
    """onnxruntime as far as the node knows it.

    Args:
        available: what it says it has.
        running: what its sessions say they run on.
        refuses: what opening a session raises.
        leaves: whether building leaves an engine.
    """

    def __init__(self, *, available=(TENSORRT, CPU), running=(TENSORRT, CPU), refuses=None, leaves=True):
        self._available, self._running, self._refuses, self._leaves = list(available), list(running), refuses, leaves
        self.opened = []
        self.__version__ = onnxruntime.__version__

    def __getattr__(self, name):
        return getattr(onnxruntime, name)

    def get_available_providers(self):
        return self._available

    def InferenceSession(self, content, options, *, providers, enable_fallback):  # noqa: N802 - onnxruntime's name
        ((name, given),) = providers
        self.opened.append((name, given, options, enable_fallback))
        if self._refuses:
            raise self._refuses
        if given.get("trt_dump_ep_context_model") == "1" and self._leaves:
            Path(given["trt_ep_context_file_path"]).write_bytes(content)
        return Session(onnxruntime.InferenceSession(content, providers=[CPU]), self._running)
