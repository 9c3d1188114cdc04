"""`make device-walk`: the five commands of a deployment page, from the page itself, in a booted Debian that was bare.

The board stands in a network of its own with one wire to a city, where a real broker and the agency's receiver run.
What the commands need from a board that is none is replaced: the package's architecture, and a clip in place of the
camera. Debian's packages come from a folder, so that no time is the network's. Ends with one JSON line of figures.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tools.packaging.build import DIST, ROOT, project_version
from tools.packaging.provisioning import ADDRESS, AGENCY, DESK, TLS_NAME, make_custody, render
from tools.packaging.roots import Machine, expect, machine, root, run, tarball, why_not
from tools.packaging.trial import APT, package

BARE = ("ca-certificates", "systemd", "systemd-sysv", "udev", "sudo", "dbus", "iproute2")
RELEASE = "trixie"
MOSQUITTO = """\
per_listener_settings false
listener 8883 {address}
cafile {folder}/ca.crt
certfile {folder}/broker.crt
keyfile {folder}/broker.key
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {folder}/acl
persistence true
persistence_location {folder}/
max_inflight_messages 0
max_packet_size 1100000
retain_available false
user root
"""
ACL = """\
pattern write homeplate/%u/records
pattern read homeplate/bundles

user receiver-{agency}
topic read homeplate/+/records
"""
SOURCE = '[[source]]\nname = "lane-1"\nkind = "video"\npath = "/srv/lane-1.avi"\n'
WAIT_S = 240


def main() -> int:
    """Walk the page; print one JSON line last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "deploy-raspberry-pi.md")
    arguments = parser.parse_args()
    if (reason := why_not()) is not None:
        parser.error(reason)
    with tempfile.TemporaryDirectory(prefix="homeplate-walk-", dir="/var/tmp") as folder:
        figures = walk(steps_of(arguments.page.read_text("utf-8")), Path(folder))
    print(json.dumps({"page": arguments.page.name, "ok": True} | figures), flush=True)
    return 0


def steps_of(page: str) -> list[str]:
    """Return the five commands of a page: the first block of shell below each numbered heading."""
    found = re.findall(r"^## (\d)\. .*?^```sh\n(.*?)\n```$", page, re.MULTILINE | re.DOTALL)
    if [number for number, _ in found] != ["1", "2", "3", "4", "5"] or any("\n" in command for _, command in found):
        raise SystemExit("error: the page has to have five numbered headings with one command each")
    return [command for _, command in found]


def walk(commands: list[str], work: Path) -> dict[str, object]:
    """Do what a technician and a custodian do; return the seconds of each step, and what came of it."""
    stick, custody = work / "stick", make_custody(work / "custody")
    stick.mkdir()
    shutil.copy(custody / "root.json", stick)
    deb = package(DIST, f"{RELEASE}-amd64", project_version())
    shutil.copy(deb, stick)
    archive = archive_of(work, stick, deb)
    shutil.copy(render(work / "clip"), stick / "lane-1.avi")
    with wire() as (board, city), broker(work / "broker", custody, city), receiver(custody, city):
        tar = tarball(RELEASE, "amd64", BARE, name="bare")
        with machine(work / "root", tar, stick=stick, network=board) as place:
            shutil.copytree(archive, place / "srv/archive")
            (place / "etc/apt/sources.list").write_text("deb [trusted=yes] file:/srv/archive ./\n")
            place.call(*APT, "update")
            seconds = [follow(command, place, stick, custody, deb) for command in commands]
            figures: dict[str, object] = {"step_s": seconds}
            began = time.monotonic()
            delivered = wait_for_delivery(place)
            figures |= {"start_to_first_delivered_s": round(time.monotonic() - began, 1)}
            figures |= {"commands_and_delivery_s": round(sum(seconds) + time.monotonic() - began, 1)}
            wait_until_all(place)
            time.sleep(2)  # the receiver writes what the broker has confirmed
            figures |= {"records_delivered": delivered_rows(place), "reads_opened": (reads := opened(custody))}
            shown = place.call("homeplate", "ledger", "show", "uplink", code=None)
            expect(delivered and 2 * reads == figures["records_delivered"], f"{reads} reads opened of\n{shown}")
            checked = place.call("homeplate", "check", code=None)
            figures["wrong_after"] = checked.count("WRONG")
            units = place.call("systemctl", "list-units", "--failed", "--no-legend", code=None)
            expect("homeplate" not in units, units)
    return figures


def archive_of(work: Path, stick: Path, deb: Path) -> Path:
    """Return a folder with the Debian packages that the first command takes from the archive, as an apt source."""
    archive = work / "archive"
    archive.mkdir()
    with root(work / "fetch", tarball(RELEASE, "amd64", BARE, name="bare")) as place:
        shutil.copy(stick / deb.name, place / "root")
        place.call(*APT, "update", online=True)
        only = ("--download-only", "-o", "Dir::Cache::archives=/srv", "--no-install-recommends")
        (place / "srv/partial").mkdir()
        place.call(*APT, *only, "install", f"/root/{deb.name}", online=True)
        for file in (place / "srv").glob("*.deb"):
            shutil.copy(file, archive)
    (archive / "Packages").write_text(run("apt-ftparchive", "packages", ".", cwd=archive))
    return archive


def follow(command: str, place: Machine, stick: Path, custody: Path, deb: Path) -> float:
    """Give one command where it is given, as it stands on the page but for what no board means; return its seconds."""
    started = time.monotonic()
    if command.startswith("homeplate-custodian "):
        words = command.replace("/media/stick", str(stick)).replace(" custody ", f" {custody} ").split()
        asked = run(DESK, *words[1:], input="y\n")
        expect(fingerprint(asked) == (stick / "fingerprint").read_text(), "the custodian sees another fingerprint")
        return round(time.monotonic() - started, 1)
    command = re.sub(r"homeplate_\S+\.deb", deb.name, command).replace(" python3-picamera2", "")
    print(f"node$ {command}", flush=True)
    said = place.call("sh", "-c", command)
    print(said[-700:], flush=True)
    if " init " in command:
        (stick / "fingerprint").write_text(fingerprint(said))
    elif "apt-get install" in command:
        expect("next  node: ready for provisioning" in said, said)
        shutil.copy(stick / "lane-1.avi", place / "srv")
        (place / "etc/homeplate/homeplate.toml").write_text(SOURCE)
    return round(time.monotonic() - started, 1)


def fingerprint(said: str) -> str:
    """Return the fingerprint in what a command said."""
    match = re.search(r"fingerprint:? +((?:[0-9a-f]{4} ?){8})", said)
    expect(match, said)
    return match[1].strip() if match else ""


def wait_for_delivery(place: Machine) -> int:
    """Wait until the broker has confirmed a record; return how many."""
    for _ in range(WAIT_S * 2):
        if (count := delivered_rows(place)) > 0:
            return count
        time.sleep(0.5)
    said = "".join(
        place.call(*words, code=None)
        for words in (("systemctl", "--no-pager", "status", "homeplate*"), ("journalctl", "--no-pager", "-n", "80"))
    )
    raise SystemExit(f"error: nothing was delivered within {WAIT_S} s\n{said[-9000:]}")


def wait_until_all(place: Machine) -> None:
    """Wait until nothing waits in the spool."""
    for _ in range(WAIT_S):
        if not list((place / "var/lib/homeplate/spool/outgoing").glob("*.rec")):
            return
        time.sleep(0.5)


def delivered_rows(place: Machine) -> int:
    """Return how many records the broker has confirmed, by uplink's own ledger."""
    return place.call("homeplate", "ledger", "show", "uplink", code=None).count("delivery.confirmed")


def opened(custody: Path) -> int:
    """Open what the agency received; return how many reads opened, each with its crop."""
    said = run(
        DESK, "open", custody, "--agency", AGENCY, "--user", "B-1", "--organisation", "Example Police Department",
        "--purpose", "demonstration", "--case", "26-0001", "--json",
    )  # fmt: skip
    reads = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    expect(all("plate" in read and read["crop"] for read in reads), "a record does not open")
    return len(reads)


@contextlib.contextmanager
def wire() -> Iterator[tuple[str, str]]:
    """Have two networks joined by one wire: the board's and the city's; yield their names."""
    board, city = f"hp-board-{os.getpid()}", f"hp-city-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        for name in (board, city):
            run("ip", "netns", "add", name)
            stack.callback(run, "ip", "netns", "delete", name, code=None)
        run("ip", "-n", board, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", city)
        for name, address in ((board, "192.0.2.20/24"), (city, f"{ADDRESS}/24")):
            run("ip", "-n", name, "address", "add", address, "dev", "eth0")
            for device in ("lo", "eth0"):
                run("ip", "-n", name, "link", "set", device, "up")
        yield board, city


@contextlib.contextmanager
def running(words: list[object], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Have a program running while the context lasts."""
    with log.open("wb") as file:
        process = subprocess.Popen([str(word) for word in words], stdout=file, stderr=file, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


@contextlib.contextmanager
def broker(folder: Path, custody: Path, city: str) -> Iterator[None]:
    """Have the agency's mosquitto running in the city, set up as docs/operations.md says."""
    folder.mkdir()
    servers = custody / "authority" / "servers"
    for source, name in ((custody / "authority/ca.crt", "ca.crt"), (servers / f"{TLS_NAME}.crt", "broker.crt")):
        shutil.copy(source, folder / name)
    shutil.copy(servers / f"{TLS_NAME}.key", folder / "broker.key")
    (folder / "acl").write_text(ACL.format(agency=AGENCY))
    (folder / "acl").chmod(0o600)
    (folder / "mosquitto.conf").write_text(MOSQUITTO.format(address=ADDRESS, folder=folder))
    program = shutil.which("mosquitto", path="/usr/sbin:/usr/bin")
    expect(program, "mosquitto is not installed: apt-get install mosquitto")
    words: list[object] = ["ip", "netns", "exec", city, program, "-c", folder / "mosquitto.conf"]
    with running(words, folder / "log"):
        time.sleep(1)
        yield


@contextlib.contextmanager
def receiver(custody: Path, city: str) -> Iterator[None]:
    """Have the agency's receiver running in the city."""
    run(DESK, "bundle", "publish", custody)
    words: list[object] = ["ip", "netns", "exec", city, DESK, "receive", custody, "--agency", AGENCY]
    with running(words, custody.parent / "receive.log") as process:
        time.sleep(3)
        expect(process.poll() is None, (custody.parent / "receive.log").read_text())
        yield


if __name__ == "__main__":
    raise SystemExit(main())
