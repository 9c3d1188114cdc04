"""Builds the bundle service: the process that puts bundles in force. It has no network, no key and no plate."""

import threading
from collections.abc import Callable, Iterator

from homeplate.app.node import Paths, build_bundler
from homeplate.bundler import BundleLog, openings_of
from homeplate.clock import NANOSECONDS, SystemClock, utc_text
from homeplate.config import Config
from homeplate.errors import ClockError, TrustError
from homeplate.policy.egress import Opening, nftables, systemd_drop_in
from homeplate.store.ledger import Row, read_rows
from homeplate.trust.bundle import load_bundle

_SETTLES = frozenset({"bundle.installed", "bundle.unchanged"})


def run_bundle_service(config: Config, stop: threading.Event, beat: Callable[[], None], *, once: bool) -> str:
    """Take what lies in the inbox until `stop` is set, or once; return what that one look came to, in a line.

    Raises:
        ConfigError: where the folder holds no node.
        StoreError: where the ledger cannot be written.
    """
    paths = Paths.of(config)
    paths.inbox.mkdir(parents=True, exist_ok=True)
    clock = SystemClock(paths.clock, "bundle")
    bundler = build_bundler(config, clock)
    if not once:
        log = BundleLog(paths.log("bundle"), clock)
        log.append("bundle.started", config_sha256=config.sha256)
        bundler.run(stop, beat)
        log.append("bundle.stopped")
        return ""
    looked = bundler.look()
    return f"{looked.installed} put in force, {looked.refused} refused"


def egress_text(config: Config, *, form: str, user: str | None) -> tuple[str, str | None]:
    """Return the kernel's rules for uplink at this moment, and why they allow nothing where no bundle is in force.

    Args:
        config: the node's.
        form: "systemd" or "nftables".
        user: uplink's; None takes the configuration's.
    """
    paths = Paths.of(config)
    opened: frozenset[Opening] = frozenset()
    why: str | None = None
    try:
        now_ns = SystemClock(paths.clock, "check").now_ns()
        opened = openings_of(load_bundle(paths.bundle, now_ns), now_ns // NANOSECONDS)
    except (TrustError, ClockError) as error:
        why = str(error)
    if form == "systemd":
        return systemd_drop_in(opened), why
    return nftables(opened, user=user or config.node.uplink_user), why


def last_refusal(paths: Paths) -> Iterator[str]:
    """Yield why the newest candidate was refused, where it was.

    Raises:
        LedgerError: where a row of the bundle's log does not verify.
    """
    refusal: Row | None = None
    for row in read_rows(paths.log("bundle")):
        if row.event in _SETTLES:
            refusal = None
        elif row.event == "bundle.refused":
            refusal = row
    if refusal is not None:
        reason = refusal.fields.get("reason")
        yield f"a candidate was refused at {utc_text(refusal.time_ns)}, the bundle in force stays: {reason}"
