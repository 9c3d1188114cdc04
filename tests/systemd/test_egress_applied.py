"""What the kernel does once rules are applied, in a network of its own: closed before, opened after, closed in time."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from homeplate.bundler import Looked
from homeplate.policy.egress import CLOSE_EARLY_S
from tests.trust import forge
from tests.trust.bundling import HOME, NEW, OLD, Place, change_recipient
from tests.trust.forge import NOW_S

SCRIPT = Path(__file__).parents[2] / "systemd" / "homeplate-egress"
UPLINK = "54321"
ADDRESSES = [HOME[0], OLD[0], NEW[0]]
SERVE = """
import socket, sys
servers = [socket.create_server((address, port)) for address in sys.argv[1:] for port in (8883, 8884)]
print("ready", flush=True)
sys.stdin.read()
"""
CONNECT = """
import socket, sys
for address in sys.argv[2:]:
    try:
        socket.create_connection((address, int(sys.argv[1])), timeout=0.3).close()
        print(address)
    except OSError:
        pass
"""


class Network:
    """A network namespace with three brokers on loopback, and what applies rules in it."""

    def __init__(self, place, folder):
        self.place, self.folder = place, folder
        setup = "ip link set lo up; " + "; ".join(f"ip addr add {one}/32 dev lo" for one in ADDRESSES)
        self.process = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", f'{setup}; exec "$@"', "sh", sys.executable, "-c", SERVE, *ADDRESSES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def inside(self, *command):
        words = ["nsenter", "--net", "-t", str(self.process.pid), *map(str, command)]
        return subprocess.run(words, check=False, capture_output=True, text=True)

    def apply(self):
        return self.inside(SCRIPT, self.place.egress, self.place.egress, self.folder / "drop-in")

    def reached(self, user=UPLINK, port=8883):
        """Return the brokers that a user reaches."""
        who = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"]
        done = self.inside(*who, "/usr/bin/python3", "-c", CONNECT, port, *ADDRESSES)
        assert done.returncode == 0, done.stderr
        return {(address, "8883") for address in done.stdout.split()}

    def close(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def network(tmp_path):
    if os.geteuid() != 0 or any(shutil.which(name) is None for name in ("unshare", "nsenter", "setpriv", "nft", "ip")):
        pytest.skip("a network of its own needs root, util-linux, iproute2 and nftables")
    if subprocess.run(["unshare", "--net", "nft", "list", "tables"], check=False, capture_output=True).returncode:
        pytest.skip("this machine allows no network namespace with nftables")
    custody = forge.custody(tmp_path / "custody")
    change_recipient(custody, None, "Oldtown", OLD[0])
    forge.published(custody)
    place = Place(tmp_path / "node", custody, user=UPLINK)
    place.custody = custody
    place.bundler.take(custody / "bundle")
    made = Network(place, tmp_path)
    yield made
    made.close()


def test_uplink_s_user_reaches_the_recipients_brokers_and_their_port_and_others_are_not_concerned(network):
    assert network.reached() == {HOME, OLD, NEW}
    assert network.apply().returncode == 0
    assert network.reached() == {HOME, OLD}
    assert network.reached(port=8884) == set()
    assert network.reached(user="54322") == {HOME, OLD, NEW}
    conf = (network.folder / "drop-in" / "50-egress.conf").read_text()
    assert conf == (network.place.egress / "uplink.conf").read_text()


class Applying(threading.Thread):
    """The path unit: applies rules when they change; notes what uplink reaches then, and the bundle in force."""

    def __init__(self, network):
        super().__init__()
        self.network, self.seen, self.ended = network, [], threading.Event()

    def run(self):
        place = self.network.place
        while not self.ended.wait(0.001):
            if (place.egress / "uplink.nft").read_bytes() != (place.egress / "applied").read_bytes():
                done = self.network.inside(SCRIPT, place.egress, place.egress / "in-force", self.network.folder / "d")
                assert done.returncode == 0, done.stderr
                self.seen.append((self.network.reached(), place.version()))
                shutil.copy(place.egress / "in-force" / "uplink.nft", place.egress / ".applied")
                (place.egress / ".applied").rename(place.egress / "applied")


@contextlib.contextmanager
def applying(network):
    thread = Applying(network)
    shutil.copy(network.place.egress / "uplink.nft", network.place.egress / "applied")
    thread.start()
    yield thread.seen
    for _ in range(1000):
        if (network.place.egress / "uplink.nft").read_bytes() == (network.place.egress / "applied").read_bytes():
            break
        threading.Event().wait(0.01)
    thread.ended.set()
    thread.join(10)


def test_the_kernel_closes_what_a_new_bundle_removes_before_it_is_in_force_and_opens_what_it_adds_after(network):
    assert network.apply().returncode == 0
    change_recipient(network.place.custody, "Oldtown", "Newtown", NEW[0])
    forge.published(network.place.custody, NOW_S + 1)
    shutil.copytree(network.place.custody / "bundle", network.place.inbox / "next")
    with applying(network) as seen:
        assert network.place.bundler.look() == Looked(installed=1)
    assert seen == [({HOME}, 1), ({HOME, NEW}, 2)]


def test_the_kernel_closes_a_grant_before_it_ends_and_everything_before_the_bundle_does(network):
    place = network.place
    forge.add_grant(place.custody, "Oldtown", expires_s=NOW_S + 1000)
    forge.published(place.custody, NOW_S + 1)
    place.bundler.take(place.custody / "bundle")
    assert network.apply().returncode == 0
    assert network.reached() == {HOME, OLD}
    place.now_s = NOW_S + 1000 - CLOSE_EARLY_S
    place.bundler.look()
    assert network.apply().returncode == 0
    assert network.reached() == {HOME}
    place.now_s = NOW_S + 1 + 30 * 86400 - CLOSE_EARLY_S
    place.bundler.look()
    assert network.apply().returncode == 0
    assert network.reached() == set()


def test_rules_that_somebody_flushed_are_there_again_after_the_next_run(network):
    assert network.apply().returncode == 0
    network.inside("nft", "flush", "ruleset")
    assert network.reached() == {HOME, OLD, NEW}
    assert network.apply().returncode == 0
    assert network.reached() == {HOME, OLD}


FORGED = {
    "uplink.nft": [
        'include "/etc/shadow"',
        "flush ruleset",
        "table inet other {",
        "\t\tmeta skuid 0 accept",
        "\t\taccept",
        "\t\telements = { 192.0.2.9 . 8883 } ; flush ruleset",
    ],
    "uplink.conf": ["ExecStart=/bin/sh", "User=root", "IPAddressAllow=any", "[Unit]", "IPAddressAllow=192.0.2.9 any"],
}


def test_a_line_that_the_bundle_service_never_writes_is_refused_and_the_rules_in_force_stay(network):
    assert network.apply().returncode == 0
    for name, line in ((name, line) for name, lines in FORGED.items() for line in lines):
        path = network.place.egress / name
        good = path.read_text()
        path.write_text(good + line + "\n")
        done = network.apply()
        assert done.returncode == 1, line
        assert "does not write; the rules in force stay" in done.stderr, line
        path.write_text(good)
    assert network.reached() == {HOME, OLD}
    assert network.apply().returncode == 0


def test_a_link_a_pipe_or_nothing_in_place_of_the_rules_is_refused(network):
    assert network.apply().returncode == 0
    for name in FORGED:
        path = network.place.egress / name
        good = path.read_text()
        path.unlink()
        assert network.apply().returncode == 1
        path.symlink_to("/etc/passwd")
        assert "cannot be read" in network.apply().stderr
        path.unlink()
        os.mkfifo(path)
        assert network.apply().returncode == 1
        path.unlink()
        path.write_text(good)
    assert network.reached() == {HOME, OLD}
