"""A node's side of bundles for tests: a bundler over a custody of `forge`, at a time that the test sets."""

import re
import threading
from dataclasses import dataclass, field
from pathlib import Path

from homeplate.bundler import BundleLog, Bundler, EgressFiles
from homeplate.clock import NANOSECONDS, Readers, SystemClock
from homeplate.store.ledger import read_rows
from homeplate.trust.bundle import load_bundle
from homeplate_custodian import provision
from tests.trust import forge
from tests.trust.forge import NOW_S, PSEUDONYM


def openings_in(rules):
    """Return the addresses and ports of an nftables file."""
    return set(re.findall(r"([0-9a-f.:/]+) \. (\d+)", rules))


@dataclass
class Place:
    """A node's data folder with a pinned root, and what puts bundles in force there."""

    folder: Path
    custody: Path
    now_s: int = NOW_S
    wait_s: float = 10.0
    user: str = "0"
    bundler: Bundler = field(init=False)

    def __post_init__(self):
        self.installed, self.inbox = self.folder / "bundle", self.folder / "inbox"
        self.egress = self.folder / "egress"
        self.log = self.folder / "ledger" / "bundle.log"
        self.inbox.mkdir(parents=True, exist_ok=True)
        forge.node(self.installed, self.custody)
        self.restart()

    def restart(self):
        """Start the service anew, as after a crash."""
        readers = Readers(
            boot_id=lambda: "boot", boot_ns=lambda: (self.now_s - NOW_S + 1) * NANOSECONDS, wall_ns=self.wall
        )
        self.clock = SystemClock(self.folder / "clock", "bundle", readers=readers)
        self.bundler = self.made(BundleLog(self.log, self.clock))

    def made(self, ledger):
        return Bundler(
            installed=self.installed,
            inbox=self.inbox,
            egress=EgressFiles(self.egress, applied=self.egress / "applied", user=self.user, wait_s=self.wait_s),
            pseudonym=PSEUDONYM,
            clock=self.clock,
            ledger=ledger,
        )

    def wall(self):
        return self.now_s * NANOSECONDS

    def version(self):
        """Return the version that is in force."""
        return load_bundle(self.installed, self.now_s * NANOSECONDS).version

    def opened(self):
        """Return the openings that the nftables file on the disk names."""
        return openings_in((self.egress / "uplink.nft").read_text())

    def rows(self, *events):
        return [row for row in read_rows(self.log) if not events or row.event in events]


HOME, OLD, NEW = ("192.0.2.7", "8883"), ("192.0.2.8", "8883"), ("192.0.2.9", "8883")


def change_recipient(custody, gone, come, address):
    """Let the next bundle name another second recipient than the last one."""
    if gone:
        provision.revoke_grant(custody, gone)
    forge.add_agency(custody, come, f"{come} Police Department", network=address)
    forge.add_grant(custody, come)


def wait_until(condition):
    """Wait for another thread's work."""
    pause = threading.Event()
    for _ in range(1000):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not happen in time")
