"""Counts what networks cost where it runs: `python -m tools.emulated.networks FILE...`, one line of JSON each.

In the emulated machine a nanosecond is an instruction. One thread, a batch of one, the least of `RUNS` runs after a
first one; the input is noise, which no network finds easier or harder than a picture.
"""

import json
import sys
import time

import numpy as np
import onnxruntime

RUNS = 3
TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


def count(path: str) -> int:
    """Return the nanoseconds, here instructions, of one run of a network."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [side if isinstance(side, int) else 1 for side in given.shape]
    noise = np.random.default_rng(1).integers(0, 256, shape).astype(np.float64)
    batch = {given.name: (noise if given.type == "tensor(uint8)" else noise / 255).astype(TYPES[given.type])}
    session.run(None, batch)
    spent = []
    for _ in range(RUNS):
        begun = time.perf_counter_ns()
        session.run(None, batch)
        spent.append(time.perf_counter_ns() - begun)
    return min(spent)


if __name__ == "__main__":
    for file in sys.argv[1:]:
        print(json.dumps({"file": file, "count": count(file)}), flush=True)
