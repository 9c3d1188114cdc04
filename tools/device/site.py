"""Everything that is not the node: custodian, broker, receiver and a stranger, in a network namespace of their own.

The custodian's side is made with the commands that a custodian types (docs/operations.md): a production root, two
bodies, a posted policy, a hot list. The broker is mosquitto with mutual TLS at one address; at the stranger's address
something listens that a node must never reach.
"""

import datetime as dt
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from homeplate.clock import NANOSECONDS, WallClock
from tools.broker import MOSQUITTO_CONF, mosquitto_path
from tools.device.root import DeviceError, call
from tools.render.clip import render_clip

NODE, GATEWAY, BROKER, STRANGER = "192.0.2.2", "192.0.2.1", "192.0.2.10", "192.0.2.66"
PREFIX_LENGTH, PORT = 24, 8883
AGENCY, TLS_NAME, PURPOSE = "example-pd", "broker.example", "stolen vehicles"
BIN = Path(sys.executable).parent
PATIENCE_S = 1800.0
SEED = 7
POLICY = """\
purposes = "Recover stolen vehicles."
users = "Detectives"
training = "Eight hours a year"
monitoring = "A review a quarter"
sharing = "With the agencies below"
custodian_title = "Records Supervisor"
accuracy = "A person looks at each hit"
retention = "The device destroys it"
url = "https://city.example/alpr"
meeting_on = "2026-01-10"
meeting_address = "1 Main Street"
"""
CONFIG = """\
[node]
data_dir = "/var/lib/homeplate"
runtime_dir = "/run/homeplate"

[[source]]
name = "lane-1"
kind = "video"
path = "/srv/clips/lane-1.avi"
"""


@dataclass(slots=True)
class Site:
    """A site; use it as a context, which ends what it started.

    Attributes:
        folder: custody, broker, what was received.
        name: of its network namespace.
        plates: that pass in the clip.
        wanted: that are on the hot list.
    """

    folder: Path
    name: str = field(default_factory=lambda: f"homeplate-{os.getpid()}")
    plates: list[str] = field(default_factory=list)
    wanted: list[str] = field(default_factory=list)
    _undo: ExitStack = field(default_factory=ExitStack)
    _broker: "subprocess.Popen[bytes] | None" = None

    def __enter__(self) -> Self:
        """Make the namespace."""
        call("ip", "netns", "add", self.name)
        self._undo.callback(lambda: call("ip", "netns", "delete", self.name))
        self.ip("link", "set", "lo", "up")
        for address in (BROKER, STRANGER):  # of no cable, so that they stay when the node's is pulled
            self.ip("address", "add", f"{address}/32", "dev", "lo")
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes, remove the namespace."""
        self._undo.close()

    def ip(self, *words: str) -> None:
        """Run `ip` in the namespace."""
        call("ip", "-netns", self.name, *words)

    def here(self, *words: object) -> list[str]:
        """Return a command that runs in the namespace."""
        return ["ip", "netns", "exec", self.name, *map(str, words)]

    def start(self, log: str, *words: object) -> "subprocess.Popen[bytes]":
        """Start a process in the namespace; its output goes to a file of the site's folder."""
        with (self.folder / log).open("ab") as file:
            process = subprocess.Popen(self.here(*words), stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        self._undo.callback(_end, process)
        return process

    def answer_at(self, interface: str) -> None:
        """Take the site's end of the node's cable into use."""
        self.ip("address", "add", f"{GATEWAY}/{PREFIX_LENGTH}", "dev", interface)
        self.ip("link", "set", interface, "up")

    def cable(self, node: str) -> None:
        """Make a cable to another namespace, in which its end is `host0`."""
        self.ip("link", "add", "node0", "type", "veth", "peer", "name", "host0", "netns", node)
        self.answer_at("node0")

    # Custodian

    def custodian(self, *words: object, log: bool = True) -> str:
        """Run a command of the custodian."""
        if log:
            say("$ homeplate-custodian " + " ".join(str(word).replace(f"{self.folder}/", "") for word in words))
        return call(BIN / "homeplate-custodian", *words)

    @property
    def custody(self) -> Path:
        """The custodian's folder."""
        return self.folder / "custody"

    def found(self) -> None:
        """Make custody, agency, grant, rules, the broker's certificate and a policy."""
        custody = self.custody
        self.folder.mkdir(parents=True, exist_ok=True)
        self.custodian("init", custody, "--registry-body", "State registry", "--operator-body", "City of Example")
        self.custodian("broker", custody, TLS_NAME, "--address", BROKER)
        certificate = custody / "authority/servers" / f"{TLS_NAME}.crt"
        who = ("--name", "Example Police Department", "--kind", "city_agency")
        where = ("--network", BROKER, "--port", PORT, "--tls-name", TLS_NAME, "--broker-certificate", certificate)
        self.custodian("bundle", "agency", "add", custody, AGENCY, *who, *where)
        self.custodian("bundle", "purpose", custody, PURPOSE)
        why = ("--need", "find stolen cars", "--purpose", PURPOSE, "--approver", "Chief of police", "--attest")
        self.custodian("bundle", "grant", custody, AGENCY, *why)
        for name, trigger, storage, life in (("hits", "hit", "outgoing", "30d"), ("seen", "non-hit", "local", "2d")):
            kept = ("--trigger", trigger, "--to", AGENCY, "--storage", storage, "--retention", life)
            self.custodian("bundle", "rule", "add", custody, name, *kept, "--purpose", PURPOSE)
        (self.folder / "policy.toml").write_text(POLICY)
        self.custodian("policy", "set", custody, self.folder / "policy.toml")

    def wants(self, plates: Sequence[str]) -> None:
        """Put plates on the hot list."""
        day = dt.datetime.fromtimestamp(WallClock().now_ns() / NANOSECONDS + 5 * 86_400, tz=dt.UTC).date()
        lines = [f"{plate},US-CA,passenger,state-stolen,stolen-vehicle,{day}" for plate in plates]
        (self.folder / "wanted.csv").write_text("\n".join(lines) + "\n")
        self.custodian("bundle", "hot-list", self.custody, self.folder / "wanted.csv")

    def enrol(self, request: bytes) -> tuple[Path, Path]:
        """Take the node in; return its certificate and the published bundle, with the policy posted."""
        (self.folder / "request.json").write_bytes(request)
        certificate, posted = self.folder / "client.crt", self.folder / "policy.html"
        self.custodian("enrol", self.custody, self.folder / "request.json", "--out", certificate, "--yes")
        self.custodian("bundle", "publish", self.custody)
        self.custodian("policy", "render", self.custody, "--format", "html", "--out", posted)
        self.custodian("policy", "posted", self.custody, posted)
        self.custodian("bundle", "publish", self.custody)
        return certificate, self.custody / "bundle"

    def render(self, seconds: float, plates: int) -> Path:
        """Render the clip; every second plate of it is wanted."""
        clip = self.folder / "lane-1.avi"
        self.plates = render_clip(clip, np.random.default_rng(SEED), seconds=seconds, plates=plates)
        self.wanted = self.plates[::2]
        return clip

    # Broker, receiver, stranger

    def serve(self) -> None:
        """Start the broker and the stranger; return once they listen."""
        broker = self.folder / "broker"
        broker.mkdir(mode=0o700, exist_ok=True)
        server = self.custody / "authority/servers" / TLS_NAME
        for name, source in (
            ("authority.pem", self.custody / "authority/ca.crt"),
            ("server.pem", server.with_name(f"{TLS_NAME}.crt")),
            ("server.key", server.with_name(f"{TLS_NAME}.key")),
        ):
            (broker / name).write_bytes(source.read_bytes())
        acl = "pattern write homeplate/%u/records\npattern read homeplate/bundles\n\n"
        acl += f"user receiver-{AGENCY}\ntopic read homeplate/+/records\n"
        (broker / "acl").write_text(acl)
        text = MOSQUITTO_CONF.format(folder=broker, port=PORT, tls="tlsv1.3").replace("127.0.0.1", BROKER)
        (broker / "mosquitto.conf").write_text(text + "user root\n")
        program = mosquitto_path()
        if program is None:
            raise DeviceError("mosquitto is not installed: apt install mosquitto")
        self.start("broker.log", program, "-c", broker / "mosquitto.conf")
        for number in (PORT, 80):
            self.start("stranger.log", sys.executable, "-m", "http.server", "--bind", STRANGER, number)
        self.until(lambda: self._listens(BROKER, PORT) and self._listens(STRANGER, 80), "the broker to listen", 60)

    def receive(self) -> None:
        """Start the agency's receiver, which needs a published bundle; return once it is connected."""
        self.start("receive.log", BIN / "homeplate-custodian", "receive", self.custody, "--agency", AGENCY)
        self.until(lambda: "receiving for" in (self.folder / "receive.log").read_text(), "the receiver to connect", 60)

    def _listens(self, address: str, port: int) -> bool:
        return f"{address}:{port}" in call(*self.here("ss", "-Hlnt"))

    def stranger_heard(self) -> bool:
        """Tell whether anybody ever reached the stranger: its server says each request, `ss` each connection."""
        return "HTTP" in (self.folder / "stranger.log").read_text().replace("Serving HTTP", "")

    def opened(self, case: str) -> list[dict[str, object]]:
        """Open all that was received, with the agency's key."""
        who = (
            "--agency",
            AGENCY,
            "--user",
            "4711",
            "--organisation",
            "Example PD",
            "--purpose",
            PURPOSE,
            "--case",
            case,
        )
        lines = self.custodian("open", self.custody, *who, "--json", log=False).splitlines()
        return [json.loads(line) for line in lines]

    @staticmethod
    def until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S, every_s: float = 0.5) -> float:
        """Wait for a condition; return the seconds that it took.

        Raises:
            DeviceError: where it does not come.
        """
        begun = time.perf_counter()
        while not condition():
            if time.perf_counter() - begun > seconds:
                raise DeviceError(f"waited {seconds:.0f} s in vain for {what}")
            time.sleep(every_s)
        return time.perf_counter() - begun


def say(text: str) -> None:
    """Tell what happens, with the seconds since the start."""
    print(f"[{time.perf_counter() - _BEGUN:7.1f}] {text}", file=sys.stderr, flush=True)


_BEGUN = time.perf_counter()


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    if process.poll() is None:
        process.kill()
        process.wait(10)
