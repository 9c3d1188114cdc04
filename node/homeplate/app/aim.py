"""Builds `homeplate aim`: it sees plates, so it leaves the network, reads no text and keeps no picture.

A preview is in the ledger, durably, before its socket answers: who asked, for how long, of which cameras; and when it
ended and why. Root becomes capture's user before a camera is opened.
"""

import grp
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Final

import cv2

from homeplate import health
from homeplate.aiming.blackout import LEAST_SCORE
from homeplate.aiming.preview import Preview
from homeplate.aiming.running import Aim, Eye
from homeplate.aiming.screen import BEGIN, END, as_json, line, view
from homeplate.app.models import opened_models
from homeplate.app.node import Paths, groups_of, load_identity
from homeplate.camera import ClaimedSource, open_source
from homeplate.clock import SystemClock, perf_ns
from homeplate.config import Config, source_settings
from homeplate.domain.plate import has_form_of_plate
from homeplate.domain.source import SourceSettings
from homeplate.errors import CameraError, ConfigError
from homeplate.store.ledger import MerkleLog
from homeplate.vision import Models
from homeplate.vision.tiling import looking_at

STARTED, STOPPED = "aim.started", "aim.stopped"
PREVIEW_STARTED, PREVIEW_STOPPED = "aim.preview-started", "aim.preview-stopped"
MINUTES: Final = 10
MOST_MINUTES: Final = 60
EVERY_S = 1.0
CAMERA_GROUPS: Final = ("video", "render")
"""Groups that capture's unit has besides its user's own."""
_WHO = re.compile(r"[\w .-]{1,60}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A preview: who wants it (user name or badge number), and for how many minutes.

    Raises:
        ConfigError: where `who` is none, or has the form of a plate.
    """

    who: str
    minutes: int = MINUTES

    def __post_init__(self) -> None:
        # Neither message holds what was given: it may be a plate.
        if _WHO.fullmatch(self.who) is None:
            raise ConfigError("--by: 1 to 60 letters, digits, spaces, dots, hyphens")
        if has_form_of_plate(self.who):
            raise ConfigError("--by has the form of a plate, and it would stand in the ledger: write no plate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """Where figures go: a function that writes text, whether it is a terminal, and whether JSON is wanted."""

    write: Callable[[str], object] = field(default=sys.stdout.write)
    flush: Callable[[], object] = field(default=sys.stdout.flush)
    terminal: bool = False
    json: bool = False

    def show(self, aim: Aim, note: str | None) -> None:
        """Write what was seen lately."""
        if self.terminal and not self.json:
            columns, rows = shutil.get_terminal_size()
            self.write(view(aim.seen(), note, columns=columns, rows=rows))
        else:
            form = as_json if self.json else line
            self.write("".join(f"{form(one)}\n" for one in aim.seen()))
        self.flush()

    def last(self, aim: Aim) -> None:
        """Write once more what was seen, where no terminal shows it: a short clip has no whole second."""
        if not self.terminal or self.json:
            self.show(aim, None)

    @contextmanager
    def used(self) -> Iterator[None]:
        """Use the terminal's other screen while the context lasts."""
        if not self.terminal or self.json:
            yield
            return
        self.write(BEGIN)
        try:
            yield
        finally:
            self.write(END)
            self.flush()


def run_aim(config: Config, name: str | None, asked: Asked | None, screen: Screen, stop: threading.Event) -> int:
    """Show what the configured sources, or one of them, see until they end or `stop` is set; return the exit code.

    Raises:
        ConfigError: no such source, no node, or a preview where this process has a network.
        HomeplateError: a model, the clock or the ledger cannot be used.
    """
    paths, identity = Paths.of(config), load_identity(Paths.of(config))
    sources = _chosen(config, name)
    alone = health.leave_network()
    if asked is not None and not (alone or identity.simulation):
        raise ConfigError(
            "no preview: this process sees plates and could not leave the network; run `sudo homeplate aim` (inside a "
            "container: give it CAP_SYS_ADMIN)"
        )
    with ExitStack() as stack:
        preview = _preview(paths, sources, asked)
        if preview is not None:
            stack.callback(preview.close)
        _become_captures_user(paths)
        health.harden_process(allow_swap=config.node.allow_swap or identity.simulation)
        ledger = stack.enter_context(MerkleLog(paths.log("aim"), SystemClock(paths.clock, "aim")))
        _settle(ledger)
        cv2.setNumThreads(config.models.threads)
        models = opened_models(config)
        aim = Aim(_eyes(models, sources, paths), preview=preview, perf_ns=perf_ns)
        fields = {**asdict(models.running), "config_sha256": config.sha256, "sources": len(sources), "alone": alone}
        ledger.append(STARTED, **fields)
        stack.callback(ledger.append, STOPPED)
        served = None
        if asked is not None and preview is not None:
            served = _Served(preview, asked, ledger)
            stack.callback(served.end, "ended")
        _show(aim, served, screen, stop)
        return CameraError.exit_code if aim.broken else 0


def _chosen(config: Config, name: str | None) -> list[SourceSettings]:
    """Return the sources to look at."""
    sections = [section for section in config.source if name is None or section.name == name]
    if not sections:
        known = ", ".join(section.name for section in config.source) or "none"
        raise ConfigError(f"no source {name!r} is configured: there is {known}" if name else "no source is configured")
    return [source_settings(section) for section in sections]


def _preview(paths: Paths, sources: Sequence[SourceSettings], asked: Asked | None) -> Preview | None:
    """Make the socket, the person's own where root acts for somebody (sudo), and serve nothing yet."""
    if asked is None:
        return None
    preview = Preview(paths.preview, [one.name for one in sources], minutes=asked.minutes, perf_ns=perf_ns)
    uid, gid = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() == 0 and uid.isdigit() and gid.isdigit():
        preview.give_to(int(uid), int(gid))
    return preview


def _become_captures_user(paths: Paths) -> None:
    """Let root become whoever owns capture's keys, for good: cameras, ledger and clock mark are that user's."""
    owner = paths.record_key.parent.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    cameras = [group.gr_gid for group in grp.getgrall() if group.gr_name in CAMERA_GROUPS]
    os.setgroups([*groups_of(owner.st_uid, owner.st_gid), *cameras])
    os.setresgid(owner.st_gid, owner.st_gid, owner.st_gid)
    os.setresuid(owner.st_uid, owner.st_uid, owner.st_uid)


def _settle(ledger: MerkleLog) -> None:
    """Write the end of a preview whose process was killed, so that each beginning has one."""
    served = False
    for row in ledger.rows():
        if row.event in {PREVIEW_STARTED, PREVIEW_STOPPED}:
            served = row.event == PREVIEW_STARTED
    if served:
        ledger.append(PREVIEW_STOPPED, reason="killed")


def _eyes(models: Models, sources: Sequence[SourceSettings], paths: Paths) -> list[Eye]:
    """Give each source what looks at it; the models are opened once."""
    low = models.detector.asked_for(LEAST_SCORE)
    eyes = []
    for settings in sources:
        # No frame is kept, so none needs its time; the counter only has to go forward.
        source = open_source(settings, 0, now_ns=perf_ns, runtime=paths.runtime)
        looking = looking_at(low, settings)
        eyes.append(
            Eye(
                source=ClaimedSource(source, paths.claims, "aim"),
                settings=settings,
                capture=looking,
                whole=None if looking is low else low,
                believed=models.detector.least_score,
            )
        )
    return eyes


class _Served:
    """A preview while it is served; the ledger hears of it before and after, once each."""

    def __init__(self, preview: Preview, asked: Asked, ledger: MerkleLog) -> None:
        self._preview, self._ledger = preview, ledger
        self._ended = threading.Lock()
        ledger.append(PREVIEW_STARTED, who=asked.who, minutes=asked.minutes, sources=",".join(preview.names))
        preview.start()

    def note(self) -> str:
        """Return how long it lasts; end it where its time is over."""
        if self._preview.over:
            self.end("time-out")
            return "the preview is over"
        left = round(self._preview.left_s)
        return f"a preview is served for {left // 60}:{left % 60:02} more, {self._preview.watching} watching"

    def end(self, reason: str) -> None:
        """Let every viewer go, then write so. Idempotent."""
        if self._ended.acquire(blocking=False):
            self._preview.close()
            counts = {"viewers": self._preview.viewers, "pictures": self._preview.pictures}
            self._ledger.append(PREVIEW_STOPPED, reason=reason, **counts)


def _show(aim: Aim, served: _Served | None, screen: Screen, stop: threading.Event) -> None:
    """Look until the sources end or `stop` is set, and write what is seen once a second, by a thread of its own."""
    done, failed = threading.Event(), list[BaseException]()

    def write() -> None:
        try:
            while not done.wait(EVERY_S):
                screen.show(aim, served.note() if served else None)
        except BaseException as error:  # noqa: BLE001 - a thread's top: it ends the process, below
            failed.append(error)
            stop.set()

    thread = threading.Thread(target=write, name="screen")
    with screen.used():
        thread.start()
        try:
            aim.run(stop)
        finally:
            done.set()
            thread.join()
    if failed and not isinstance(failed[0], BrokenPipeError):
        raise failed[0]
    if not failed:
        screen.last(aim)
