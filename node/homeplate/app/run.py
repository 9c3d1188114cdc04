"""Builds capture and uplink in one process, which breaks the sentence that holds the design: demo roots only."""

import threading

from homeplate.app.capture import Report, build_capture
from homeplate.app.node import Paths
from homeplate.app.uplink import build_uplink
from homeplate.clock import SystemClock
from homeplate.config import Config, source_settings
from homeplate.errors import TrustError
from homeplate.trust.bundle import load_bundle


def require_demo(paths: Paths, now_ns: int) -> None:
    """Refuse to put plates and the network into one process, unless the root is marked `demo`.

    Raises:
        TrustError: where it is not, or no bundle is in force.
    """
    if not load_bundle(paths.bundle, now_ns).demo:
        raise TrustError(
            "the root is not marked demo: run `homeplate capture` and `homeplate uplink` as two processes, because the "
            "one that sees plates has no network (`simulate --no-publish` needs no demo root)"
        )


def run_together(config: Config, stop: threading.Event) -> Report:
    """Run both until the sources end or `stop` is set, then deliver what is left, once.

    Raises:
        TrustError: under a root that is not marked `demo`.
    """
    paths = Paths.of(config)
    clock = SystemClock(paths.clock, "capture")
    require_demo(paths, clock.now_ns())
    capture = build_capture(config, [source_settings(section) for section in config.source], clock)
    uplink = build_uplink(config, clock)
    done = threading.Event()
    sender = threading.Thread(target=uplink.run, args=(done, lambda: None), name="uplink")
    sender.start()
    try:
        report = capture.run(stop)
    finally:
        done.set()
        sender.join()
    last = uplink.drain()
    return Report(
        summary=report.summary, running=report.running, published={"left": last.refused + last.failed + last.waiting}
    )
