"""Builds a simulation: the whole node on files, in one process, in its own data folder and its own time.

A clip of one second is one second of node time. No mark of node time is written, and a folder that is not a
simulation's is refused, so a provisioned node's clock is never touched.
"""

import itertools
import secrets
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from homeplate.app.capture import Report, build_capture
from homeplate.app.node import Paths, load_identity
from homeplate.app.run import require_demo
from homeplate.app.uplink import build_uplink
from homeplate.camera import expected_frames
from homeplate.camera import identity as identity_of
from homeplate.clock import SimulatedClock, WallClock
from homeplate.config import Config, source_settings
from homeplate.domain.source import MINIMUM_PLATE_WIDTH, SourceKind, SourceSettings
from homeplate.errors import ConfigError, TrustError
from homeplate.uplink import Drained

ATTEMPTS = 3
"""How often the spool is drained before what is left is reported as failed."""


def run_simulation(
    config: Config,
    clips: Sequence[Path],
    *,
    stills: bool,
    realtime_fps: float | None,
    publish: bool,
    progress: Callable[[int, int], None],
) -> Report:
    """Run the node on `clips` and return what came of it.

    Args:
        config: a simulation's node.
        clips: video files and folders of pictures.
        stills: each picture of a folder is its own sighting.
        realtime_fps: imitate a live camera at this rate.
        publish: deliver what was sealed; needs a root marked `demo`, because one process does both.
        progress: told frames done and frames expected (0 where that is not known).

    Raises:
        ConfigError: where the folder is not a simulation's, or nothing can be made of the clips.
    """
    paths = Paths.of(config)
    if not load_identity(paths).simulation:
        raise ConfigError(f"{paths.data} is a node's folder, not a simulation's: make one with `init --simulation`")
    clock = SimulatedClock(WallClock().now_ns())
    if publish:
        require_demo(paths, clock.now_ns())
    sources = [_settings(config, clip, number, stills, realtime_fps) for number, clip in enumerate(clips, 1)]
    run = secrets.token_hex(4)  # a simulation may be run again on the same files, so each run's files are new ones

    def identify(settings: SourceSettings) -> str:
        return f"{identity_of(settings)}.{run}"

    process = build_capture(
        config, sources, clock, identify=identify, advance=clock.advance_to, progress=_counting(sources, progress)
    )
    report = process.run(threading.Event())
    if not publish:
        return report
    return Report(summary=report.summary, running=report.running, published=_published(config, clock))


def _counting(sources: Sequence[SourceSettings], progress: Callable[[int, int], None]) -> Callable[[str, int], None]:
    """Return what counts the frames of all sources and tells how many are done and expected."""
    total = sum(expected_frames(settings) for settings in sources)
    done = itertools.count(1)
    return lambda _source, _index: progress(next(done), total)


def _settings(
    config: Config,
    clip: Path,
    number: int,
    stills: bool,  # noqa: FBT001 - all are passed on by position
    realtime_fps: float | None,
) -> SourceSettings:
    """Return a clip as a source. Its name is a number: a file's name may hold a plate, and names go to the ledger."""
    kind = SourceKind.FOLDER if clip.is_dir() else SourceKind.VIDEO
    if stills and kind is SourceKind.VIDEO:
        raise ConfigError(f"{clip}: --stills is for folders of pictures")
    template = source_settings(config.source[0]) if config.source else None
    return SourceSettings(
        name=f"clip-{number:03}",
        kind=kind,
        path=clip.absolute(),
        region=template.region if template else None,
        tiles=template.tiles if template else 1,
        masks=template.masks if template else (),
        minimum_plate_width=template.minimum_plate_width if template else MINIMUM_PLATE_WIDTH,
        directions=template.directions if template else frozenset(),
        stills=stills,
        realtime_fps=realtime_fps,
    )


def _published(config: Config, clock: SimulatedClock) -> dict[str, int]:
    """Drain the spool until it is empty or nothing more goes out; return the counts."""
    uplink = build_uplink(config, clock)
    done = Drained()
    for _ in range(ATTEMPTS):
        step = uplink.drain()
        done += step
        if step.halted:
            raise TrustError(f"nothing was published: {step.halted}")
        if not step.confirmed:
            break
    return {"confirmed": done.confirmed, "refused": done.refused, "failed": done.failed, "forgotten": done.forgotten}
