"""Runs the whole capture on a camera of the real libcamera, in a Debian root; `tools.device.camera` starts it there.

The camera is libcamera's virtual one, which shows a folder of pictures. What a Raspberry Pi has and it lacks is
answered here and nowhere else: a display library that picamera2 imports, raw modes, an allocator, and a pace. All that
is tested is the node's own: `camera/picamera.py` and what it calls, up to the sealed record, opened with the agency's
key.
"""

# ruff: noqa: E402 - a stand-in comes before picamera2 is imported

import argparse
import json
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any, ClassVar

PIXELS = (
    "RGB888 BGR888 XRGB8888 XBGR8888 YUV420 YVU420 MJPEG NV12 NV21 ARGB8888 ABGR8888".split()  # noqa: SIM905 - one line
)
kms = types.ModuleType("pykms")
kms.PixelFormat = types.SimpleNamespace(**{name: name for name in PIXELS})  # type: ignore[attr-defined]
sys.modules["pykms"] = kms

import picamera2
from picamera2.allocators import LibcameraAllocator

from homeplate.app.capture import build_capture
from homeplate.app.check import findings
from homeplate.clock import SystemClock
from homeplate.config import source_settings
from homeplate.domain.record import Part, StorageClass
from homeplate.sealing.envelope import decode
from homeplate.sealing.facts import decode_facts
from homeplate.sealing.keys import load_sealing_key, load_signing_key
from homeplate.sealing.seal import open_sealed
from homeplate.sealing.slots import SlotStore
from homeplate.store.ledger import read_rows
from homeplate.store.spool import FileSpool
from tools import stage

FPS = 15
LOSS_AT, LONGEST_S = 30, 100.0


class VirtualCamera(picamera2.Picamera2):  # type: ignore[misc]
    """picamera2, and what a Raspberry Pi's camera has besides."""

    opened: ClassVar[list["VirtualCamera"]] = []

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.allocator = LibcameraAllocator(self.camera)
        self.due = time.monotonic()
        VirtualCamera.opened.append(self)

    def _get_raw_modes(self) -> list[dict[str, Any]]:
        return [{"format": "SRGGB8", "size": (1280, 720)}]

    @property
    def sensor_modes(self) -> list[dict[str, Any]]:
        """It has no sensor."""
        return []

    def create_video_configuration(self, **asked: Any) -> dict[str, Any]:
        """Ask for one buffer: the virtual camera then waits until a picture was taken, and none is skipped."""
        return super().create_video_configuration(**{**asked, "buffer_count": 1})  # type: ignore[no-any-return]

    def capture_request(self, wait: float) -> Any:
        """Hand over a picture when a camera of 15 a second would."""
        self.due = max(self.due + 1 / FPS, time.monotonic() - 1)
        time.sleep(max(0.0, self.due - time.monotonic()))
        return super().capture_request(wait=wait)


def lose(device: VirtualCamera) -> None:
    """Stop what hands pictures over, as a driver that locks up does: the next one never comes."""
    device.stop_preview()


def opened_plates(node: stage.Stage) -> list[str]:
    """Open every record that was sealed, as the agency would."""
    slots = SlotStore.open_existing(*node.paths.slots(StorageClass.OUTGOING))
    private = load_sealing_key(node.agency_key)
    public = load_signing_key(node.paths.record_key).public_key().public_bytes_raw()
    spool = FileSpool(node.paths.spool)
    plates = []
    for record_id in spool.pending():
        sealed = slots.unwrap(spool.get(record_id))
        assert sealed is not None
        part, plaintext = open_sealed(decode(sealed), private, public)
        if part is Part.FACTS:
            plates.append(decode_facts(plaintext).plate)
    slots.close()
    return plates


def run(folder: Path, truth: list[str]) -> dict[str, Any]:
    """Run capture until the camera was lost, came back, and all pictures were seen again; return the figures."""
    picamera2.Picamera2 = VirtualCamera
    node = stage.build(folder, sources=[{"name": "lane-1", "kind": "picamera"}])
    with node.config.open("a") as file:
        file.write('[source.camera]\nmodel = "virt"\nfps = 15\ndistance_m = 8\n')
    config = node.load()
    checked = "; ".join(f"{f.mark:<5} {f.text}" for f in findings(config) if f.thing == "sources")
    stop, seen = threading.Event(), []
    enough = LOSS_AT + 2 * FPS * 4  # all pictures twice more

    def progress(_: str, index: int) -> None:
        seen.append(index)
        if len(seen) == LOSS_AT:
            lose(VirtualCamera.opened[-1])
        if len(seen) >= enough:
            stop.set()

    clock = SystemClock(node.paths.clock, "capture")
    process = build_capture(config, [source_settings(s) for s in config.source], clock, progress=progress)
    threading.Timer(LONGEST_S, stop.set).start()
    report = process.run(stop)
    figures = report.figures()
    rows = [row.event for row in read_rows(node.paths.log("capture"))]
    plates = opened_plates(node)
    node.runtime.cleanup()
    source = report.summary.sources[0]
    return {
        "check": checked,
        "frames": source.counters.frames,
        "overwritten": source.overwritten,
        "restarts": rows.count("capture.camera-back"),
        "losses": rows.count("capture.camera-lost"),
        "opened_cameras": len(VirtualCamera.opened),
        "passages": source.counters.passages,
        "plates": len(set(truth)),
        "read_exactly": len(set(plates) & set(truth)),
        "read_otherwise": len(set(plates) - set(truth)),
        "milliseconds_a_frame": figures["milliseconds_a_frame"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--plates", required=True, help="what the pictures show, with commas")
    given = parser.parse_args()
    print(json.dumps(run(given.folder, given.plates.split(","))), flush=True)


if __name__ == "__main__":
    main()
