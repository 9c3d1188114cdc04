"""What is done with a node's machine and shown of it, the same in a container and in an emulated computer.

A step raises `DeviceError` where the node does not do what is promised, and returns figures.
"""

import base64
import json
import shlex
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from homeplate.store.ledger import read_rows
from tools.device.machines import Machine, get, put, put_folder
from tools.device.root import DeviceError, call
from tools.device.site import BIN, BROKER, CONFIG, PORT, STRANGER, Site, say

DATA = "/var/lib/homeplate"
UNITS = "/usr/lib/systemd/system"
RUNTIME = "/run/systemd/system"
PROBE = "/usr/local/lib/homeplate-probe.py"
LEFT_OUT = (
    "ExecStart=", "Type=", "WatchdogSec=", "Restart", "Requires=", "Wants=", "After=", "Before=", "Condition",
    "PartOf=", "WantedBy=", "[Install]", "TimeoutStartSec=",
)  # fmt: skip
"""Lines of a unit that do not belong to its sandbox."""
LOCAL = ("spool/local", "spool/staging/local", "slots/local.slots", "slots/held.slots", "held")
SECRETS = ("keys/capture/record.pem", "keys/capture/hot-list.key", "keys/ledger/ledger.pem", "credentials")


def require(holds: bool, what: str) -> None:
    """Refuse what was found.

    Raises:
        DeviceError: where it does not hold.
    """
    if not holds:
        raise DeviceError(what)


def provision(machine: Machine, site: Site, clip: Path, config: str = CONFIG) -> None:
    """Make the node, have it enrolled, install its bundle and start it: what a technician and a custodian type."""
    put(machine, "/etc/homeplate/homeplate.toml", config.encode())
    put(machine, "/srv/clips/lane-1.avi", clip.read_bytes())
    put(machine, "/root/root.json", (site.custody / "root.json").read_bytes())
    put(machine, PROBE, Path(__file__).with_name("probe.py").read_bytes())
    typed(machine, "homeplate init --root /root/root.json --request /root/request.json")
    certificate, bundle = site.enrol(get(machine, "/root/request.json"))
    site.receive()
    put(machine, "/media/stick/client.crt", certificate.read_bytes())
    put_folder(machine, "/media/stick/bundle", bundle)
    typed(machine, "systemctl start homeplate-bundle.service")
    typed(machine, "homeplate bundle install /media/stick/bundle --certificate /media/stick/client.crt")
    typed(machine, "systemctl restart --no-block homeplate.target")


def typed(machine: Machine, line: str) -> str:
    """Type a line on the node."""
    say(f"# {line}")
    return machine.run(*shlex.split(line))


def rows(machine: Machine, process: str, event: str) -> int:
    """Count a ledger's rows of an event, without starting anything of ours."""
    text = machine.run("sh", "-c", f"cat {DATA}/ledger/{process}.log 2>/dev/null | grep -c '\"{event}\"'", ok=False)
    return int(text.strip() or 0)


def is_active(machine: Machine, unit: str) -> bool:
    """Tell whether a unit runs."""
    return machine.run("systemctl", "is-active", unit, ok=False).strip() == "active"


def start(machine: Machine, unit: str) -> None:
    """Start a unit; where it fails, what it said is in the error."""
    machine.run("sh", "-c", f"systemctl start {unit} || {{ journalctl --no-pager -n 20 -u {unit}; exit 1; }}")


def shown(machine: Machine, unit: str, *names: str) -> dict[str, str]:
    """Return properties of a unit."""
    text = machine.run("systemctl", "show", unit, *(f"--property={name}" for name in names))
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def sandbox(machine: Machine, unit: str, **asked: object) -> dict[str, object]:
    """Run the probe in a unit's sandbox, with the drop-ins that are in force; return what it found.

    Args:
        machine: the node's.
        unit: such as "homeplate-uplink.service".
        asked: see `probe.py`.
    """
    question = json.dumps({"connect": [], "listen": [], "read": [], "write": [], **asked})
    kept = [line for line in machine.run("cat", f"{UNITS}/{unit}").splitlines() if not line.startswith(LEFT_OUT)]
    at = kept.index("[Service]") + 1
    quoted = question.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    kept[at:at] = [
        "Type=oneshot",
        f'ExecStart=/usr/bin/python3 {PROBE} "{quoted}"',
        "StandardOutput=truncate:/run/probe.json",
    ]
    name = f"probe-{unit}"
    put(machine, f"{RUNTIME}/{name}", ("\n".join(kept) + "\n").encode())
    machine.run("sh", "-c", f"rm -rf {RUNTIME}/{name}.d; cp -r {RUNTIME}/{unit}.d {RUNTIME}/{name}.d 2>/dev/null; true")
    machine.run("systemctl", "daemon-reload")
    start(machine, name)
    found: dict[str, object] = json.loads(machine.run("cat", "/run/probe.json"))
    return found


def paths(*names: str) -> list[str]:
    """Return paths of the node's data."""
    return [f"{DATA}/{name}" for name in names]


def capture_has_no_network(machine: Machine) -> None:
    """Show it from inside: one interface, loopback; nothing can be reached; and the same of the process that runs."""
    found = sandbox(machine, "homeplate-capture.service", connect=[[BROKER, PORT], [STRANGER, 80]], listen=[8080])
    require(found["interfaces"] == ["lo"], f"capture sees {found['interfaces']}")
    answers = {*_answers(found, "connect"), *_answers(found, "listen")}
    require("yes" not in answers, f"capture reached something: {found}")


def capture_reads_no_other_s_keys(machine: Machine) -> None:
    """Show that capture's sandbox holds its own keys and nobody else's."""
    others = paths("keys/uplink/tls.pem", "keys/ledger/ledger.pem", "credentials", "inbox")
    found = sandbox(machine, "homeplate-capture.service", read=[*paths("keys/capture/hot-list.key"), *others])
    yes = [path for path, answer in _items(found, "read") if answer == "yes"]
    require(yes == paths("keys/capture/hot-list.key"), f"capture reads {yes}")


def uplink_reads_no_secret(machine: Machine) -> int:
    """Show that uplink's user reads no local record, no slot key of theirs, no hot list and no signing key.

    Once in uplink's sandbox, and once as its user alone, without what the unit hides: owners and modes have to do.

    Returns:
        How many paths it was refused.
    """
    record = machine.run("sh", "-c", f"ls {DATA}/spool/local/*.rec | head -n 1").strip()
    require(bool(record), "no local record is there to be refused")
    hidden = [record, *paths(*LOCAL, *SECRETS), "/run/homeplate/local.slots"]
    exists = machine.run("sh", "-c", " ".join(f"[ -e {path} ] && echo {path};" for path in hidden) + " true").split()
    mine = paths("keys/uplink/tls.pem", "slots/outgoing.slots", "spool/outgoing")
    found = sandbox(
        machine, "homeplate-uplink.service", read=[*hidden, *mine], write=[*paths("slots/outgoing.slots"), *hidden]
    )
    refused = [path for path in exists if dict(_items(found, "read"))[path] != "yes"]
    require(refused == exists, f"uplink reads {sorted(set(exists) - set(refused))}")
    require("yes" not in _answers(found, "write"), f"uplink writes {found['write']}")
    require(all(dict(_items(found, "read"))[path] == "yes" for path in mine), f"uplink cannot work: {found['read']}")
    user = ["setpriv", "--reuid=homeplate-uplink", "--regid=homeplate-uplink", "--init-groups", "--no-new-privs"]
    for path in (path for path in exists if path != f"{DATA}/credentials"):
        said = machine.run(*user, "sh", "-c", f"(cat {path} || ls {path}/) >/dev/null 2>&1 && echo yes", ok=False)
        require("yes" not in said, f"uplink's user reads {path}")
    return len(exists)


def uplink_reaches_the_broker_alone(machine: Machine) -> dict[str, str]:
    """Show that each of the kernel's two locks alone closes the stranger, and both together let the broker through.

    Returns:
        What the stranger's address answers: with both, with the unit's address list alone, with nftables alone.
    """
    asked = {"connect": [[BROKER, PORT], [STRANGER, PORT], [STRANGER, 80]], "listen": [8080]}
    both = sandbox(machine, "homeplate-uplink.service", **asked)
    answers = dict(_items(both, "connect"))
    require(answers.pop(f"{BROKER}:{PORT}") == "yes", f"uplink does not reach the broker: {both}")
    require("yes" not in answers.values(), f"uplink reaches the stranger: {both}")
    require("yes" not in _answers(both, "listen"), "uplink may listen")
    machine.run("nft", "delete", "table", "inet", "homeplate_egress")
    unit = dict(_items(sandbox(machine, "homeplate-uplink.service", **asked), "connect"))
    machine.run("systemctl", "start", "homeplate-egress.service")
    question = json.dumps({"read": [], "write": [], **asked})
    user = ["setpriv", "--reuid=homeplate-uplink", "--regid=homeplate-uplink", "--init-groups"]
    rules = json.loads(machine.run(*user, "/usr/bin/python3", PROBE, question))["connect"]
    root = json.loads(machine.run("/usr/bin/python3", PROBE, question))["connect"]
    require(root[f"{STRANGER}:80"] == "yes", f"the stranger does not answer anybody, so nothing is shown: {root}")
    for which, found in (("its unit", unit), ("nftables", rules)):
        require(found[f"{BROKER}:{PORT}"] == "yes", f"{which} closes the broker: {found}")
        require(found[f"{STRANGER}:80"] != "yes", f"{which} alone lets uplink reach the stranger: {found}")
    return {"both": answers[f"{STRANGER}:80"], "unit": unit[f"{STRANGER}:80"], "nftables": rules[f"{STRANGER}:80"]}


def nothing_listens(machine: Machine, allowed: Sequence[int] = ()) -> None:
    """Show that the node has no open port."""
    lines = machine.run("ss", "-Hlntu").splitlines()
    ports = {int(line.split()[4].rsplit(":", 1)[1]) for line in lines}
    require(ports <= set(allowed), f"something listens on {sorted(ports - set(allowed))}")


def watchdog_restarts_uplink(machine: Machine, seconds: int) -> float:
    """Stop uplink's process as a hang would; return the seconds until another runs and has said that it is up."""
    unit, drop_in = "homeplate-uplink.service", f"{RUNTIME}/homeplate-uplink.service.d/90-test.conf"
    # Stopped meanwhile: a shorter watchdog is in force for what runs at once, and would kill it on a slow machine.
    machine.run("systemctl", "stop", unit)
    put(machine, drop_in, f"[Service]\nWatchdogSec={seconds}\nRestartSec=1\n".encode())
    machine.run("systemctl", "daemon-reload")
    start(machine, unit)
    before = shown(machine, unit, "MainPID", "NRestarts")
    machine.run("kill", "-STOP", before["MainPID"])

    def restarted() -> bool:
        now = shown(machine, unit, "MainPID", "NRestarts", "ActiveState")
        return now["NRestarts"] != before["NRestarts"] and now["ActiveState"] == "active" and now["MainPID"] != "0"

    took = Site.until(restarted, "the watchdog to restart uplink", 40 * seconds)
    said = machine.run("journalctl", "--no-pager", "-u", unit, "-o", "cat")
    require("Watchdog timeout" in said, "uplink was restarted, but not by its watchdog")
    machine.run("systemctl", "stop", unit)
    machine.run("rm", drop_in)
    machine.run("systemctl", "daemon-reload")
    start(machine, unit)
    return took


def finish(machine: Machine, site: Site) -> dict[str, object]:
    """Wait until the clip is read and everything delivered; show that nothing was lost and nothing came twice.

    What capture's ledger says it sealed for the agency is what the agency opens; each record once, each wanted plate
    that was read once.
    """
    unit = "homeplate-capture.service"
    done = lambda: rows(machine, "capture", "capture.source-finished") > 0 and not is_active(machine, unit)  # noqa: E731
    waited = Site.until(done, "capture to read its clip", every_s=2.0)
    empty = f"ls {DATA}/spool/outgoing | wc -l"
    waited += Site.until(lambda: machine.run("sh", "-c", empty).strip() == "0", "uplink to deliver", every_s=2.0)
    Site.until(lambda: "done" in machine.run("sh", "-c", "sleep 2; echo done"), "the receiver to write")
    opened = site.opened("26-1234")
    require(bool(opened) and not any("unopened" in record for record in opened), f"records do not open: {opened}")
    counts = Counter(str(record["record"]) for record in opened)
    require(max(counts.values()) == 1, "a record is there twice")
    sealed, local = committed(machine)
    kept = set(machine.run("sh", "-c", f"ls {DATA}/spool/local | sed 's/.rec$//'").split())
    require(kept == local, f"{len(local)} local records were sealed, {len(kept)} are there")
    delivered = {str(record["record"]) for record in opened} | {str(_of(record, "crop")["record"]) for record in opened}
    require(
        delivered == sealed, f"sealed {len(sealed)}, opened {len(delivered)}: {sorted(sealed ^ delivered)[:4]} differ"
    )
    plates = Counter(str(record["plate"]) for record in opened)
    require(
        set(plates) <= set(site.wanted), f"somebody who is not wanted was delivered: {set(plates) - set(site.wanted)}"
    )
    require(max(plates.values()) == 1, f"a passage is there twice: {plates}")
    return {
        "plates_passed": len(site.plates), "wanted": len(site.wanted), "wanted_opened": len(plates),
        "records_delivered": len(delivered), "records_local": len(local), "waited_s": round(waited, 1),
    }  # fmt: skip


def committed(machine: Machine) -> tuple[set[str], set[str]]:
    """Return the ids that capture's ledger says were sealed: for delivery, and to stay on the node."""
    found: dict[str, set[str]] = {"outgoing": set(), "local": set()}
    with tempfile.TemporaryDirectory() as folder:
        fetch(machine, "ledger", Path(folder))
        for row in read_rows(Path(folder) / "ledger/capture.log"):
            if row.event == "capture.sealed":
                (storage,) = set(str(row.fields["storages"]).split(","))  # of our two rules, one alone keeps a passage
                found[storage] |= set(str(row.fields["records"]).split(","))
    return found["outgoing"], found["local"]


def fetch(machine: Machine, name: str, folder: Path) -> None:
    """Copy a folder of the node's data into `folder`."""
    packed = base64.b64decode(machine.run("sh", "-c", f"tar -C {DATA} -cf - {name} | base64 -w0"))
    subprocess.run(["tar", "-C", folder, "-xf", "-"], input=packed, check=True)


def verified(machine: Machine, site: Site) -> int:
    """Sign the ledgers on the node, bring them to the custodian and verify them; return how many rows are good."""
    machine.run("systemctl", "start", "homeplate-signer.service")
    with tempfile.TemporaryDirectory() as folder:
        fetch(machine, "ledger", Path(folder))
        said = call(BIN / "homeplate-custodian", "verify", f"{folder}/ledger", "--custody", site.custody)
    say(said.strip().replace("\n", "; "))
    return sum(int(line.split(": ")[1].split()[0]) for line in said.splitlines() if "rows are good" in line)


def _of(record: dict[str, object], name: str) -> dict[str, object]:
    value = record[name]
    assert isinstance(value, dict)
    return value


def _items(found: dict[str, object], name: str) -> list[tuple[str, str]]:
    value = found[name]
    assert isinstance(value, dict)
    return list(value.items())


def _answers(found: dict[str, object], name: str) -> list[str]:
    return [answer for _, answer in _items(found, name)]
