"""Runs in the emulated machine as root: the node's V4L2 camera on the kernel's `vivid`, lost in the ways cameras are.

`python3 -m tools.device.vivid` loads the modules that lie in /modules; it works in any machine that has a vivid device.
"""

import fcntl
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path, PurePath
from struct import Struct

from homeplate.camera.errors import SourceError
from homeplate.camera.live import LiveSource
from homeplate.camera.v4l2 import open_v4l2
from homeplate.clock import perf_ns
from homeplate.domain.passage import CameraChange, ChangeKind, Frame
from homeplate.domain.source import CameraSettings, SourceKind, SourceSettings

DEVICE = Path("/dev/video0")
# linux/videodev2.h: VIDIOC_QUERYCTRL and VIDIOC_S_CTRL, each an _IOWR of 'V'.
QUERY, CONTROL = Struct("=II32siiiiIII"), Struct("=Ii")
QUERY_NUMBER = 0xC0000000 | QUERY.size << 16 | ord("V") << 8 | 36
CONTROL_NUMBER = 0xC0000000 | CONTROL.size << 16 | ord("V") << 8 | 28
NEXT = 0x80000000
LONGEST_S = 120


def load() -> None:
    """Load vivid and what it needs; a device for capture alone."""
    for path in sorted(Path("/modules").glob("*.ko*")):
        options = ["n_devs=1", "node_types=0x1"] if "vivid" in path.name else []
        subprocess.run(["/usr/sbin/insmod", str(path), *options], check=True)
    until = time.monotonic() + 30
    while not DEVICE.exists() and time.monotonic() < until:
        time.sleep(0.1)


def controls() -> dict[str, int]:
    """Return the device's controls by name."""
    found, last = {}, 0
    with DEVICE.open("rb") as device:
        while True:
            try:
                raw = fcntl.ioctl(device, QUERY_NUMBER, QUERY.pack(last | NEXT, 0, b"", 0, 0, 0, 0, 0, 0, 0))
            except OSError:
                return found
            last, _, name, *_ = QUERY.unpack(raw)
            found[name.rstrip(b"\0").decode()] = last


def put(control: int, value: int) -> None:
    with DEVICE.open("rb") as device:
        fcntl.ioctl(device, CONTROL_NUMBER, CONTROL.pack(control, value))


def settings(path: str) -> SourceSettings:
    camera = CameraSettings(width=320, height=180, fps=15)
    return SourceSettings(name="lane", kind=SourceKind.V4L2, path=PurePath(path), camera=camera)


class Look:
    """One look at the camera, over all of its losses."""

    def __init__(self) -> None:
        self.source = LiveSource(
            settings(str(DEVICE)), lambda: open_v4l2(settings(str(DEVICE))), now_ns=time.time_ns, perf_ns=perf_ns
        )
        self.items = self.source.frames()
        self.came: list[Frame | CameraChange] = []

    def until(self, wanted: Callable[[Frame | CameraChange], bool]) -> Frame | CameraChange:
        """Go on until something wanted comes."""
        give_up = time.monotonic() + LONGEST_S
        for item in self.items:
            self.came.append(item)
            if wanted(item):
                return item
            if time.monotonic() > give_up:
                break
        raise SystemExit(f"waited in vain; what came last: {[type(c).__name__ for c in self.came[-5:]]}")

    def frames(self, count: int) -> Frame:
        """Go on for some frames and return the last."""
        left = iter(range(count))
        got = self.until(lambda item: isinstance(item, Frame) and next(left) == count - 1)
        assert isinstance(got, Frame)
        return got

    def change(self, kind: ChangeKind) -> CameraChange:
        """Go on until the camera is lost or back."""
        got = self.until(lambda item: isinstance(item, CameraChange) and item.kind is kind)
        assert isinstance(got, CameraChange)
        return got


def refused(path: str) -> str:
    try:
        open_v4l2(settings(path)).close()
    except SourceError as error:
        return error.reason.value
    return "opened"


def main() -> None:
    load()
    known = controls()
    look = Look()
    first = look.frames(10)
    put(known["Percentage of Dropped Buffers"], 100)
    begun = time.monotonic()
    stalled = look.change(ChangeKind.LOST)
    stall_s = time.monotonic() - begun
    put(known["Percentage of Dropped Buffers"], 0)
    look.change(ChangeKind.BACK)
    look.frames(10)
    put(known["Disconnect"], 1)
    gone = look.change(ChangeKind.LOST)
    look.change(ChangeKind.BACK)
    last = look.frames(10)
    look.source.close()
    list(look.items)  # until its thread is at its end
    paths = {path: refused(path) for path in ("/dev/null", "/init", "/dev/video9", "http://127.0.0.1/")}
    times = [item.captured_ns for item in look.came if isinstance(item, Frame)]
    expected = {
        "a picture of the asked size with something in it": first.image.shape == (180, 320, 3)
        and first.image.std() > 20,
        "a camera that stalls is lost by its deadline": stalled.reason == "stalled",
        "one that is pulled out is lost": gone.reason in {"missing", "stalled"},
        "times go on": times == sorted(times) and last.index > first.index,
        "what is no camera is refused": list(paths.values()) == ["refused", "refused", "missing", "missing"],
    }
    figures = {
        "frames": len(times),
        "losses": [stalled.reason, gone.reason],
        "stall_s": round(stall_s, 1),
        "refused": paths,
        "wrong": [what for what, holds in expected.items() if not holds],
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
