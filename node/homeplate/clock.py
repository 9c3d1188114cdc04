"""Node time: the only module that reads a clock. It decides what time it is; what follows from that is others' affair.

Within a boot node time is CLOCK_BOOTTIME and nothing else, so a jump of the wall clock changes no age. Across boots the
time off is the wall clock minus the high-water mark, believed only within `PLAUSIBLE_OFF_NS`, and summed over all boots
within `UNCONFIRMED_OFF_NS` past what a custodian's signature confirms; a longer step is quarantined, a step back counts
as no time off (ARCHITECTURE 3, docs/decisions/0051-node-time.md).

The rule that keeps lives short: node time is never handed out beyond what a mark on disk already covers. After a power
cut the next boot starts at that mark, so powered-on time is counted in full and node time never goes back.
"""

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from homeplate.errors import ClockError

NANOSECONDS = 1_000_000_000

# No node existed before 2026: a wall clock that says otherwise was never set (1970, a firmware's build date).
EARLIEST_NS = 1_767_225_600 * NANOSECONDS

# How long a node may have been off on the word of an unauthenticated wall clock. A week covers a repair; what is
# longer needs a custodian's signature, because whoever spoofs the time server could else expire every record at once.
PLAUSIBLE_OFF_NS = 7 * 86_400 * NANOSECONDS

# How far a mark runs ahead of the time handed out. It must exceed the purge timer's period (one minute), so that
# powered-on time is covered even with the other processes down; each boot may shorten a life by this much, no more.
RESERVE_NS = 90 * NANOSECONDS

# How much time off, summed over boots, may rest on the wall clock alone: node time is never further than this past what
# powered-on time and custodians' signatures confirm. Two such weeks bring a node that is off half of each day to its
# next bundle, which is due every 30 days anyway; summed, because each boot of a spoofed clock would else take a week.
UNCONFIRMED_OFF_NS = 2 * PLAUSIBLE_OFF_NS

_MARK_VERSION = 2
_MAXIMUM_MARK_BYTES = 4096
_MEND = "restore it, or run `homeplate purge`, which carries on what the others show, then remove it"
_RENEW = (
    "run `homeplate purge`, which goes on by what its ledger shows and writes its own anew, remove the other marks, and"
    " install a newly signed bundle"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """Where a clock reads: the boot's identity, nanoseconds since boot (suspend included), and the wall clock."""

    boot_id: Callable[[], str]
    boot_ns: Callable[[], int]
    wall_ns: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """Why node time is refused: the wall clock claims `step_s` seconds off since the mark at `mark_s`.

    `unconfirmed_s` of the time before that mark was off, too, by the wall clock alone.
    """

    mark_s: int
    wall_s: int
    step_s: int
    unconfirmed_s: int


class Mark(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One process's high-water mark. Attributes in nanoseconds.

    Attributes:
        version: 2.
        boot_id: the boot in which it was written.
        boot_ns: time since boot at which it was written.
        anchor_ns: node time at boot; node time is this plus the time since boot.
        reserved_ns: node time never handed out beyond this; the next boot starts here.
        confirmed_ns: what of `anchor_ns` a custodian's signature or powered-on time vouches for, the reserves included;
            the time off in between rests on wall clocks alone. It never falls: the highest of all marks counts.
        believed: False while the boot's wall clock is quarantined; the anchor then counts no time off.
    """

    version: int
    boot_id: str
    boot_ns: int
    anchor_ns: int
    reserved_ns: int
    confirmed_ns: int
    believed: bool


class _Versioned(msgspec.Struct, frozen=True):
    """What a mark of every version has."""

    version: int


class SystemClock:
    """Node time of a machine, shared by its processes through their marks. Safe to use from several threads.

    A damaged or unreadable mark is an error, never skipped: skipping it could lengthen a life. Purge alone goes on, by
    the time that has certainly passed; it says which marks are damaged, and its own it writes anew.

    Args:
        state_dir: folder of the marks, one file a process (`capture.mark`); every process may read and lock it.
        process: a to z; this process alone writes its mark.
        readers: where to read; the machine's clocks by default.
        witness: for purge: gives a node time that has passed for certain, asked where a mark is damaged.

    Raises:
        ClockError: where the wall clock was never set, or a mark cannot be read.
    """

    def __init__(
        self,
        state_dir: Path,
        process: str,
        *,
        readers: Readers | None = None,
        witness: Callable[[], int] | None = None,
    ) -> None:
        if not (process.isascii() and process.isalpha() and process.islower()):
            raise ClockError(f"a clock mark is named by a process, a to z, not {process!r}")
        self._dir = state_dir
        self._process = process
        self._read = readers or system_readers()
        self._witness = witness
        self._damaged: tuple[str, ...] = ()
        self._lock = threading.Lock()
        self._boot_id = self._read.boot_id()
        self._anchor_ns = 0
        self._confirmed_ns = 0
        self._reserved_ns = 0
        self._quarantine: Quarantine | None = None
        self._settled = True
        with self._lock, self._shared() as folder:
            self._establish()
            with suppress(ClockError):  # a full disk: purge must start all the same; `now_ns` tries again and raises
                self._write(folder)

    @property
    def quarantine(self) -> Quarantine | None:
        """The step that is not believed; None where node time is good. It belongs in the ledger as an alarm."""
        return self._quarantine

    @property
    def damaged(self) -> tuple[str, ...]:
        """The names of damaged marks, where a witness let this clock start all the same."""
        return self._damaged

    @property
    def unconfirmed_ns(self) -> int:
        """How much of node time was time off by wall clocks alone, in nanoseconds; `believe` reduces it."""
        return max(0, self._anchor_ns - self._confirmed_ns)

    def now_ns(self) -> int:
        """Return node time in nanoseconds since 1970.

        Raises:
            ClockError: where the time is quarantined or known from below only, or the mark cannot be written (disk
                full, read-only).
        """
        with self._lock:
            if self._damaged:
                raise ClockError(f"clock marks are damaged ({', '.join(self._damaged)}): only the least time is known")
            if self._quarantine:
                self._judge_again()
            if self._quarantine:
                raise ClockError(_quarantined(self._quarantine))
            now = self._anchor_ns + self._read.boot_ns()
            if now > self._reserved_ns:
                self._save()
            return now

    def least_ns(self) -> int:
        """Return the node time that has certainly passed, also in quarantine and on a full disk: purge's clock."""
        with self._lock:
            return self._anchor_ns + self._read.boot_ns()

    def wall_ahead_ns(self) -> int:
        """Return how far the wall clock is ahead of node time (negative: behind); it changes where somebody sets it."""
        with self._lock:
            return self._read.wall_ns() - self._anchor_ns - self._read.boot_ns()

    def believe(self, signed_ns: int) -> None:
        """Take a time that a custodian signed: the wall clock is believed up to `PLAUSIBLE_OFF_NS` past it.

        It is at least this late, so node time up to here is confirmed, in later boots too. That ends a quarantine after
        a long time off, for the other processes of this boot too. It moves no time by itself, and an old signature that
        is brought again changes nothing.

        Raises:
            ClockError: where the mark cannot be read or written.
        """
        with self._lock:
            confirmed_ns = signed_ns - self._read.boot_ns()
            if confirmed_ns > self._confirmed_ns or self._quarantine:
                self._confirmed_ns = max(self._confirmed_ns, confirmed_ns)
                self._judge_again()

    def save_mark(self) -> None:
        """Write this process's mark now; it covers the next `RESERVE_NS`.

        Raises:
            ClockError: where it cannot be written.
        """
        with self._lock:
            self._save()

    def _judge_again(self) -> None:
        """Read the marks anew and write this one: a quarantine may end, because the wall clock was mended or signed."""
        with self._shared() as folder:
            self._establish()
            self._write(folder)

    def _save(self) -> None:
        with self._shared() as folder:
            self._write(folder)

    @contextmanager
    def _shared(self) -> Iterator[int]:
        """Hold the folder's lock, so that two processes of one boot cannot choose two anchors."""
        try:
            self._dir.mkdir(mode=0o755, parents=True, exist_ok=True)
            folder = os.open(self._dir, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise ClockError(f"the clock's folder {self._dir} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(folder)

    def _establish(self) -> None:
        """Choose this boot's anchor: another process's, if it already did, else by the wall clock."""
        marks, self._settled = self._marks(), True
        boot_ns, wall_ns = self._read.boot_ns(), self._read.wall_ns()
        # A boot clock that went back under one boot id is a restored machine image: another boot for our purposes.
        same = [mark for mark in marks if mark.boot_id == self._boot_id and mark.boot_ns <= boot_ns]
        self._confirmed_ns = max([self._confirmed_ns, EARLIEST_NS - boot_ns, *_confirmed(marks, same)])
        if self._damaged:
            self._count_from_below(marks, same, boot_ns)
            return
        settled = [mark for mark in same if mark.believed]
        if settled:
            self._anchor_ns, self._quarantine = max(mark.anchor_ns for mark in settled), None
            return
        if not marks:
            if wall_ns < EARLIEST_NS:
                raise ClockError(f"the clock says {utc_text(wall_ns)}, so it was never set: set it, then start again")
            self._anchor_ns = wall_ns - boot_ns
            self._confirmed_ns = max(self._confirmed_ns, self._anchor_ns)  # there is no record that it could age
            return
        floor = max(mark.anchor_ns for mark in same) if same else max(mark.reserved_ns for mark in marks)
        self._judge(floor, boot_ns, wall_ns)

    def _marks(self) -> list[Mark]:
        """Return every process's mark; with a witness, those that can be read."""
        marks, damaged = [], []
        for path in sorted(self._dir.glob("*.mark")):
            try:
                marks.append(_read_mark(path))
            except ClockError:
                if self._witness is None:
                    raise
                damaged.append(path.name)
        if self._witness is not None and not marks and not damaged and self._witness() > 0:
            damaged.append("all are gone")  # whoever could write ledgers had a mark
        self._damaged = tuple(damaged)
        return marks

    def _count_from_below(self, marks: list[Mark], same: list[Mark], boot_ns: int) -> None:
        """Choose an anchor that is certainly not too high: node time is at least each of these, and goes on from there.

        The wall clock is judged once every mark is good again, as at a boot; until then it says nothing.
        """
        assert self._witness is not None
        before = [mark.reserved_ns for mark in marks if mark not in same]  # a boot starts at the highest of these
        anchors = [*(mark.anchor_ns for mark in same), *before, self._witness() - boot_ns, EARLIEST_NS - boot_ns]
        self._anchor_ns, self._quarantine = max(anchors), None
        self._settled = any(mark.believed for mark in same)

    def _judge(self, floor_ns: int, boot_ns: int, wall_ns: int) -> None:
        """Decide how long the node was off: `floor_ns` is node time at power-off, so at boot if it was not off."""
        off_ns = max(0, wall_ns - boot_ns - floor_ns)
        one_step_ns = max(floor_ns, self._confirmed_ns) + PLAUSIBLE_OFF_NS
        all_steps_ns = self._confirmed_ns + UNCONFIRMED_OFF_NS
        if off_ns > 0 and floor_ns + off_ns > min(one_step_ns, all_steps_ns):
            self._anchor_ns = floor_ns
            self._quarantine = Quarantine(
                mark_s=floor_ns // NANOSECONDS,
                wall_s=wall_ns // NANOSECONDS,
                step_s=off_ns // NANOSECONDS,
                unconfirmed_s=self.unconfirmed_ns // NANOSECONDS,
            )
        else:
            self._anchor_ns, self._quarantine = floor_ns + off_ns, None

    def _write(self, folder: int) -> None:
        """Replace this process's mark durably. In quarantine too: powered-on time counts, the wall's step does not."""
        boot_ns = self._read.boot_ns()
        reserved_ns = self._anchor_ns + boot_ns + RESERVE_NS
        mark = Mark(
            version=_MARK_VERSION,
            boot_id=self._boot_id,
            boot_ns=boot_ns,
            anchor_ns=self._anchor_ns,
            reserved_ns=reserved_ns,
            confirmed_ns=self._confirmed_ns,
            believed=self._quarantine is None and self._settled,
        )
        path, temporary = self._dir / f"{self._process}.mark", self._dir / f"{self._process}.new"
        try:
            with temporary.open("wb") as file:
                os.fchmod(file.fileno(), 0o644)  # the other processes' users read it; it holds no secret
                file.write(msgspec.json.encode(mark, order="sorted"))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            os.fsync(folder)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink()
            raise ClockError(f"the clock mark {path} cannot be written: {error.strerror}; free its disk") from error
        self._reserved_ns = reserved_ns


class SimulatedClock:
    """Node time that a simulation drives: it stands still until advanced, and never goes back."""

    def __init__(self, start_ns: int) -> None:
        self._now_ns = start_ns
        self._lock = threading.Lock()

    @property
    def quarantine(self) -> None:
        """A simulation has none."""
        return

    @property
    def damaged(self) -> tuple[str, ...]:
        """A simulation has no marks."""
        return ()

    def now_ns(self) -> int:
        """Return the simulated node time, nanoseconds since 1970."""
        return self._now_ns

    def least_ns(self) -> int:
        """Return the same: a simulation has no quarantine."""
        return self._now_ns

    def wall_ahead_ns(self) -> int:
        """Return 0: nobody sets a simulation's wall clock."""
        return 0

    def advance_to(self, now_ns: int) -> None:
        """Move to `now_ns`; an earlier time changes nothing (of several sources the furthest leads)."""
        with self._lock:
            self._now_ns = max(self._now_ns, now_ns)


class WallClock:
    """The wall clock as it is, for tools off the device (custodian, receiver), which keep no mark."""

    def now_ns(self) -> int:
        """Return wall time in nanoseconds since 1970.

        Raises:
            ClockError: where the clock was never set.
        """
        now = time.clock_gettime_ns(time.CLOCK_REALTIME)
        if now < EARLIEST_NS:
            raise ClockError(f"this machine's clock says {utc_text(now)}, so it was never set: set it, then try again")
        return now

    def least_ns(self) -> int:
        """Return the same: there is no mark to fall back on."""
        return self.now_ns()


def perf_ns() -> int:
    """Return a counter for durations of a stage, in nanoseconds; it has no date and no meaning across processes."""
    return time.perf_counter_ns()


def boot_ns() -> int:
    """Return nanoseconds since boot, suspend included: the clock by which sensors stamp and processes may compare."""
    return system_readers().boot_ns()


def utc_text(now_ns: int) -> str:
    """Return `2026-11-22T17:00:00Z` for nanoseconds since 1970, cut to the second."""
    return datetime.fromtimestamp(now_ns // NANOSECONDS, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def system_readers() -> Readers:
    """Return this machine's clocks.

    Raises:
        ClockError: on a system that is neither Linux nor macOS.
    """
    if sys.platform == "linux":
        boot_clock, boot_id = time.CLOCK_BOOTTIME, _linux_boot_id
    elif sys.platform == "darwin":
        boot_clock, boot_id = time.CLOCK_MONOTONIC, _macos_boot_id  # counts sleep there, as CLOCK_BOOTTIME does here
    else:
        raise ClockError(f"no clock that survives suspend is known on {sys.platform}: use Linux or macOS")
    return Readers(
        boot_id=boot_id,
        boot_ns=lambda: time.clock_gettime_ns(boot_clock),
        wall_ns=lambda: time.clock_gettime_ns(time.CLOCK_REALTIME),
    )


def _linux_boot_id() -> str:
    path = Path("/proc/sys/kernel/random/boot_id")
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ClockError(f"{path} cannot be read, so this boot has no name: mount /proc ({error.strerror})") from error


def _macos_boot_id() -> str:
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "kern.bootsessionuuid"], capture_output=True, check=True, text=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise ClockError("sysctl kern.bootsessionuuid failed, so this boot has no name") from error
    return done.stdout.strip()


def _confirmed(marks: Sequence[Mark], same: Sequence[Mark]) -> Iterator[int]:
    """Yield what each mark confirms of the time at this boot: powered-on time goes on, the reserve as in node time."""
    for mark in marks:
        yield mark.confirmed_ns if mark in same else mark.confirmed_ns + mark.reserved_ns - mark.anchor_ns


def _read_mark(path: Path) -> Mark:
    try:
        with path.open("rb") as file:
            content = file.read(_MAXIMUM_MARK_BYTES)
        version = msgspec.json.decode(content, type=_Versioned).version
        mark = msgspec.json.decode(content, type=Mark) if version == _MARK_VERSION else None
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ClockError(f"the clock mark {path} is damaged, so no age can be trusted: {_MEND}") from error
    if mark is None:
        raise ClockError(f"the clock mark {path} is of version {version}, not {_MARK_VERSION}: {_RENEW}")
    if mark.boot_ns < 0 or mark.anchor_ns + mark.boot_ns > mark.reserved_ns:
        raise ClockError(f"the clock mark {path} contradicts itself: {_MEND}")
    return mark


def _quarantined(quarantine: Quarantine) -> str:
    step = f"the clock leapt {quarantine.step_s} s past the last mark"
    most_s = PLAUSIBLE_OFF_NS // NANOSECONDS
    if quarantine.step_s < most_s:
        step += f", and {quarantine.unconfirmed_s} s off before it rest on the clock alone"
        most_s = UNCONFIRMED_OFF_NS // NANOSECONDS
    return (
        f"{step}, more than the {most_s} s that are believed without a signature: mend the clock's source, or install"
        " a newly signed bundle"
    )
