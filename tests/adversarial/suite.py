"""Runs cases and judges them: what reached somebody that the bundle does not name, and whether the capture can tell."""

import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.adversarial import families
from tests.adversarial.estate import Estate, Site
from tests.adversarial.net import BROKER_ADDRESS, OTHER_ADDRESS, World
from tests.adversarial.peers import Impostor, forward, subscribed

QUIET_S, MOST_QUIET_LOOKS = 0.2, 25


@dataclass
class Report:
    """The figures of a run; `failures` names each case that leaked or did not end as it should."""

    cases: int = 0
    leaked_bytes: int = 0
    other_packets: int = 0
    allowed_bytes: int = 0
    families: Counter = field(default_factory=Counter)
    failures: list = field(default_factory=list)
    left_out: dict = field(default_factory=dict)


@contextmanager
def sited():
    """Have the two namespaces, a deployment and its broker."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="homeplate-adversarial-")))
        folder.chmod(0o755)  # uplink's user reads its own folder below
        world = stack.enter_context(World())
        site = stack.enter_context(Site(world, Estate.make(folder / "base"), folder))
        stack.enter_context(subscribed(site))  # or the broker would throw everything away
        yield site


def controls(site):
    """Return what the instruments see where there is something to see; each has to be above zero.

    allowed: bytes on the wire to a peer that is named. stranger: the same, had the bundle not named it. decrypted: what
    an impostor gets whose key *is* pinned. trap: bytes to an address that nobody named, from a process without rules.
    """
    _reset(site)
    estate = families.spoiled(site)
    families.expect(site.run(estate), confirmed=1)
    seen = site.world.capture.take(site.world.node)
    figures = {
        "allowed": seen.payload[families.GOOD_PEER],
        "stranger": seen.bytes_to_others(families.NOBODY),
    }
    estate = families.spoiled(site)
    server = estate.server()
    estate.move_good(pins=[server.pin])
    estate.install()
    impostor = Impostor(families.context_of(server.certificate, server.key), site.world, families.BROKER_PORT)
    site.world.handlers[BROKER_ADDRESS] = impostor
    site.run(estate)
    site.world.settle()
    figures["decrypted"] = impostor.decrypted
    site.world.capture.take(site.world.node)
    families.probe(site, *families.FORBIDDEN)
    site.world.settle()
    seen = site.world.capture.take(site.world.node)
    figures["trap"] = seen.bytes_to_others({families.GOOD_PEER})
    figures["trapped_peers"] = len(seen.payload)
    assert all(figures.values()), f"the instruments are blind: {figures}"
    assert figures["trapped_peers"] == len(families.FORBIDDEN), seen.payload
    return figures


def container_control(site):
    """Return the bytes that a service under a real systemd sends where it has no drop-in.

    Raises:
        LeftOutError: where no container can be booted here.
    """
    _reset(site)
    families.boot_probe(site, site.estate(), "", families.FORBIDDEN)
    sent = sum(site.world.capture.take(site.world.node).payload.values())
    assert sent, "the instruments are blind: a service without a drop-in sent nothing"
    return sent


def judge(site, case, report):
    """Run one case and add what came of it to the report."""
    _reset(site)
    problem, outcome = "", families.Outcome(named=families.NOBODY)
    try:
        outcome = case.act(site)
    except families.LeftOutError as reason:
        report.left_out[f"{case.family}: {case.name}"] = str(reason)
        return ""
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"
    site.world.settle()
    seen = site.world.capture.take(site.world.node)
    others = 0 if problem else seen.bytes_to_others(outcome.named)
    leaked = others + outcome.decrypted + outcome.late
    packets = 0 if problem else seen.packets_to_others(outcome.named)
    if leaked or packets:
        problem = f"{leaked} bytes and {packets} packets leaked: {dict(seen.packets)} {outcome}"
    report.cases += 1
    report.families[case.family] += 1
    report.leaked_bytes += leaked
    report.other_packets += packets
    report.allowed_bytes += sum(seen.payload.values()) - others
    if problem:
        report.failures.append(f"{case.family}: {case.name}: {problem}")
    return problem


def _reset(site):
    site.world.handlers.update(
        {address: forward(site.world, families.BROKER_PORT) for address in (BROKER_ADDRESS, OTHER_ADDRESS)}
    )
    site.world.settle()
    site.world.dns_queries.clear()
    # A connection of the case before says its last a moment later, on a busy machine after its threads are done.
    site.world.capture.take(site.world.node)
    for _ in range(MOST_QUIET_LOOKS):
        time.sleep(QUIET_S)
        if not site.world.capture.take(site.world.node).packets:
            return
