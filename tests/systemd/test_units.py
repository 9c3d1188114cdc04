"""The units as systemd reads them, and the folders and users that they ask for, as the processes then see them."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

from homeplate.clock import NANOSECONDS, RESERVE_NS
from homeplate.trust.bundle import load_bundle
from homeplate_custodian import provision
from tools import stage

FOLDER = Path(__file__).parents[2] / "systemd"
UNITS = sorted(path for path in FOLDER.iterdir() if path.suffix in {".service", ".path", ".timer", ".target"})
# What systemd 252 says, rounded up to a tenth; the promise is 1.5, and 2.5 for what has a camera or root's rights.
EXPOSURE = {
    "homeplate-capture.service": 0.9,
    "homeplate-uplink.service": 1.2,
    "homeplate-purge.service": 0.5,
    "homeplate-bundle.service": 0.5,
    "homeplate-signer.service": 0.5,
    "homeplate-grabber@lane-1.service": 1.2,
    "homeplate-egress.service": 2.5,
    "homeplate-prepare.service": 2.5,
}


def tool(name):
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed: apt install systemd util-linux strace")
    return found


def run(*command):
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture
def units(tmp_path):
    """The units, with programs that are there: systemd looks for them."""
    folder = tmp_path / "units"
    folder.mkdir()
    for path in UNITS:
        text = path.read_text().replace("/opt/homeplate/bin/homeplate", sys.executable)
        # A template is judged as one of its instances.
        (folder / path.name.replace("@.", "@lane-1.")).write_text(text.replace("/opt/homeplate/libexec", str(FOLDER)))
    return folder


def test_systemd_has_nothing_to_say_of_the_units(units):
    assert run(tool("systemd-analyze"), "verify", "--man=no", *units.iterdir()) == ""
    broken = units / "homeplate-bundle.service"
    broken.write_text(broken.read_text().replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in run(tool("systemd-analyze"), "verify", "--man=no", broken)


@pytest.mark.parametrize("name", EXPOSURE)
def test_a_unit_is_no_more_exposed_than_it_was(units, name):
    lines = run(tool("systemd-analyze"), "security", "--offline=true", units / name).splitlines()
    (overall,) = [line for line in lines if "Overall exposure level" in line]
    assert float(overall.split(": ")[1].split()[0]) <= EXPOSURE[name]


def test_the_bundle_service_has_no_network_and_writes_where_only_it_has_to():
    lines = (FOLDER / "homeplate-bundle.service").read_text().splitlines()
    for line in ("PrivateNetwork=yes", "RestrictAddressFamilies=AF_UNIX", "User=homeplate-bundle"):
        assert line in lines
    writable = {word for line in lines if line.startswith("ReadWritePaths=") for word in line.split("=")[1].split()}
    folders = ("bundle", "inbox", "egress", "clock", "ledger")
    assert writable == {f"/var/lib/homeplate/{name}" for name in folders}


@pytest.fixture
def public():
    """A folder that every user may enter; pytest's own it closes again whenever another run begins."""
    with tempfile.TemporaryDirectory(prefix="homeplate-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def owned(public, simulation_node):
    """A node whose folders belong to whom sysusers and tmpfiles say, and each user's number."""
    if os.geteuid() != 0:
        pytest.skip("making files of other users needs root")
    root = public / "root"
    data = root / "var" / "lib" / "homeplate"
    data.parent.mkdir(parents=True)
    (root / "etc").mkdir()
    shutil.copytree(simulation_node.paths.data, data, symlinks=True)
    run(tool("systemd-sysusers"), f"--root={root}", FOLDER / "homeplate.sysusers.conf")
    run(tool("systemd-tmpfiles"), f"--root={root}", "--create", FOLDER / "homeplate.tmpfiles.conf")
    config = public / "owned.toml"
    config.write_text(f'[node]\ndata_dir = "{data}"\nruntime_dir = "{public}"\n')
    lines = [line.split(":") for line in (root / "etc" / "passwd").read_text().splitlines()]
    groups = [line.split(":") for line in (root / "etc" / "group").read_text().splitlines()]
    numbers = {line[0]: int(line[2]) for line in lines}
    return data, config, numbers, {line[0]: int(line[2]) for line in groups}


def as_user(owned, name, *words):
    """Run a command as a user of the node, without a network."""
    _, _, users, groups = owned
    command = [tool("unshare"), "--net", tool("setpriv"), f"--reuid={users[name]}", f"--regid={groups[name]}"]
    command += [f"--groups={groups['homeplate']}", "--bounding-set=-all", "--no-new-privs"]
    return subprocess.run([*command, *map(str, words)], check=False, capture_output=True, text=True, cwd=FOLDER.parent)


def as_root(root):
    """Root, who finds the node's users by their names."""
    mounts = " && ".join(f"mount --bind {root}/etc/{name} /etc/{name}" for name in ("passwd", "group"))
    return [tool("unshare"), "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh"]


def python():
    """An interpreter that every user can read, with the packages of this one."""
    if not all(path.stat().st_mode & 0o005 for path in Path(os.path.realpath(sys.executable)).parents):
        version = subprocess.run(["/usr/bin/python3", "--version"], check=False, capture_output=True, text=True).stdout
        if version.split(".")[:2] != f"Python {sys.version}".split(".")[:2]:
            pytest.skip("other users cannot read this interpreter")
        paths = ":".join([sysconfig.get_path("purelib"), str(FOLDER.parent / "node")])
        return ["env", f"PYTHONPATH={paths}", "/usr/bin/python3"]
    return [sys.executable]


def homeplate(owned, *words):
    return [*python(), "-m", "homeplate.cli", "--config", owned[1], *words]


def require_readable(owned):
    done = as_user(owned, "homeplate-bundle", *python(), "-c", "import homeplate.bundler")
    if done.returncode != 0:
        pytest.skip("another user cannot read this project's folder")


def test_the_service_s_user_puts_a_bundle_in_force_that_uplink_s_user_left_and_can_read_no_key(
    owned, public, simulation_node
):
    data, _, users, _ = owned
    require_readable(owned)
    before = load_bundle(data / "bundle", stage.now_s() * 10**9).version
    folder = shutil.copytree(provision.publish_bundle(simulation_node.custody, now_s=stage.now_s()), public / "stick")
    leave = "import sys; from pathlib import Path; from homeplate.trust import inbox, packed; "
    leave += "inbox.hand_in(Path(sys.argv[1]), packed.pack(Path(sys.argv[2])), 'arrived-x')"
    left = as_user(owned, "homeplate-uplink", *python(), "-c", leave, data / "inbox", folder)
    assert left.returncode == 0, left.stderr
    served = as_user(owned, "homeplate-bundle", *homeplate(owned, "bundle", "serve", "--once"))
    assert served.stdout == "1 put in force, 0 refused\n", served.stderr
    assert load_bundle(data / "bundle", stage.now_s() * 10**9).version == before + 1
    assert list((data / "inbox").iterdir()) == []
    for name in ("capture/record.pem", "capture/hot-list.key", "uplink/tls.pem", "ledger/ledger.pem"):
        peek = as_user(owned, "homeplate-bundle", "cat", data / "keys" / name)
        assert "Permission denied" in peek.stderr
    for path in (data / "bundle" / "timestamp.json", data / "egress" / "uplink.nft", data / "ledger" / "bundle.log"):
        assert path.stat().st_uid == users["homeplate-bundle"]


def test_uplink_s_user_changes_neither_the_bundle_nor_the_rules_nor_another_s_mark_or_ledger(owned):
    data = owned[0]
    require_readable(owned)
    served = as_user(owned, "homeplate-bundle", *homeplate(owned, "bundle", "serve", "--once"))
    assert served.returncode == 0, served.stderr
    for path in ("bundle/timestamp.json", "egress/uplink.nft", "clock/bundle.mark", "ledger/bundle.log"):
        for command in (["rm", "-f"], ["truncate", "-s", "0"]):
            assert as_user(owned, "homeplate-uplink", *command, data / path).returncode != 0
        assert (data / path).stat().st_size > 0


def test_root_installs_a_bundle_and_leaves_nothing_that_the_service_cannot_replace(owned, simulation_node):
    data, _, users, _ = owned
    require_readable(owned)
    before = load_bundle(data / "bundle", stage.now_s() * 10**9).version
    for _ in range(2):
        folder = provision.publish_bundle(simulation_node.custody, now_s=stage.now_s())
        folder.chmod(0o700)  # a stick that root alone reads
        run(*as_root(data.parents[2]), *homeplate(owned, "bundle", "install", folder))
        again = as_user(owned, "homeplate-bundle", *homeplate(owned, "bundle", "serve", "--once"))
        assert again.returncode == 0, again.stderr
    assert load_bundle(data / "bundle", stage.now_s() * 10**9).version == before + 2
    for path in [*(data / "bundle").rglob("*"), data / "clock" / "bundle.mark", data / "ledger" / "bundle.log"]:
        assert path.stat().st_uid == users["homeplate-bundle"], path


def calls_of(name):
    """Return the system calls of a set of systemd's, those of the sets in it too."""
    found = set()
    for line in run(tool("systemd-analyze"), "syscall-filter", name).splitlines()[1:]:
        word = line.strip()
        if word.startswith("@"):
            found |= calls_of(word)
        elif word and not word.startswith("#"):
            found.add(word)
    return found


def test_the_bundle_service_makes_no_call_for_which_its_unit_would_end_it(simulation_node, tmp_path):
    bundle = provision.publish_bundle(simulation_node.custody, now_s=stage.now_s())
    shutil.copytree(bundle, simulation_node.paths.inbox / "next")
    trace = tmp_path / "trace"
    command = [sys.executable, "-m", "homeplate.cli", "--config", simulation_node.config, "bundle", "serve", "--once"]
    assert "1 put in force" in run(tool("strace"), "-f", "-qq", "-o", trace, *command)
    # The beginnings alone: a call that another thread interrupted ends in a line of its own.
    made = set(re.findall(r"^\d+ +(\w+)\(", trace.read_text(), re.MULTILINE))
    assert {"openat", "fsync", "rename", "flock"} <= made
    filters = [
        line.split("=")[1]
        for line in (FOLDER / "homeplate-bundle.service").read_text().splitlines()
        if line.startswith("SystemCallFilter=")
    ]
    assert filters == ["@system-service", "~@privileged"]
    assert made - calls_of("@system-service") == set()
    assert made & calls_of("@privileged") == set()


def lines_of(path):
    return path.read_text().splitlines()


def of_the_project(suffix=".service"):
    return [path for path in UNITS if path.suffix == suffix]


def test_uplink_and_the_grabber_alone_have_a_network_and_nothing_opens_what_their_units_close():
    with_network = {path.name for path in of_the_project() if "PrivateNetwork=yes" not in lines_of(path)}
    assert with_network == {"homeplate-uplink.service", "homeplate-grabber@.service", "homeplate-egress.service"}
    assert "RestrictAddressFamilies=AF_UNIX AF_NETLINK" in lines_of(FOLDER / "homeplate-egress.service")
    for path in of_the_project():
        assert not any(line.startswith("IPAddressAllow=") for line in lines_of(path)), path.name
    for name in ("homeplate-uplink.service", "homeplate-grabber@.service"):
        lines = lines_of(FOLDER / name)
        assert {"IPAddressDeny=any", "SocketBindDeny=any"} <= set(lines)
        filters = [line for line in lines if line.startswith("SystemCallFilter=")]
        # The first one decides whether the list allows or forbids.
        assert filters[0] == "SystemCallFilter=@system-service"
        assert "SystemCallFilter=~bind:EPERM listen:EPERM accept:EPERM accept4:EPERM" in filters


def test_no_unit_leaves_a_core_or_swaps_and_each_has_a_bound_on_its_memory():
    for path in of_the_project():
        if path.name != "homeplate-egress.service":
            assert {"LimitCORE=0", "MemorySwapMax=0"} <= set(lines_of(path)), path.name
        if path.name.removeprefix("homeplate-").split(".")[0] not in {"egress", "prepare"}:
            assert any(line.startswith("MemoryMax=") for line in lines_of(path)), path.name


def test_the_target_starts_every_unit_but_the_grabber_and_what_timers_start():
    lines = lines_of(FOLDER / "homeplate.target")
    wanted = {word for line in lines if line.startswith("Wants=") for word in line.split("=")[1].split()}
    others = {"homeplate-grabber@.service", "homeplate-signer.service", "homeplate.target"}
    assert wanted == {path.name for path in UNITS} - others
    for path in UNITS:
        assert path.name == "homeplate.target" or "PartOf=homeplate.target" in lines_of(path), path.name


def test_purge_comes_before_what_reads_and_sends_and_again_within_the_reserve_of_the_clock():
    assert "Before=homeplate-capture.service homeplate-uplink.service" in lines_of(FOLDER / "homeplate-purge.service")
    (period,) = [line for line in lines_of(FOLDER / "homeplate-purge.timer") if line.startswith("OnUnitActiveSec=")]
    assert period == "OnUnitActiveSec=60s"
    assert RESERVE_NS == 90 * NANOSECONDS


def test_the_sandbox_names_every_secret_that_is_not_its_own():
    own = {
        "capture": {"keys/capture", "slots", "spool"},
        "uplink": {"keys/uplink", "slots", "spool", "uplink", "inbox"},
        "purge": {"slots", "spool", "held"},
        "signer": {"keys/ledger"},
        "grabber@": set(),
    }
    every = {"credentials", "keys/capture", "keys/uplink", "keys/ledger", "slots", "spool", "held", "uplink", "inbox"}
    for name, mine in own.items():
        lines = lines_of(FOLDER / f"homeplate-{name}.service")
        hidden = {
            word for line in lines if line.startswith("InaccessiblePaths=") for word in line.split("=")[1].split()
        }
        for secret in every - mine:
            assert f"-/var/lib/homeplate/{secret}" in hidden, (name, secret)


def test_uplink_s_user_reads_no_local_record_no_slot_key_of_theirs_and_no_other_s_key(owned, simulation_node):
    data = owned[0]
    record = data / "spool" / "local" / f"{'0' * 32}.rec"
    made = as_user(owned, "homeplate-capture", "sh", "-c", f"umask 027; echo sealed > {record}; chmod 600 {record}")
    assert made.returncode == 0, made.stderr
    secrets = ["keys/capture/record.pem", "keys/capture/hot-list.key", "keys/ledger/ledger.pem", "slots/local.slots"]
    for path in [record, *(data / name for name in secrets)]:
        assert path.exists()
        assert "Permission denied" in as_user(owned, "homeplate-uplink", "cat", path).stderr, path
    for name in ("spool/local", "spool/staging/local", "spool/staging/outgoing", "held", "credentials"):
        assert "Permission denied" in as_user(owned, "homeplate-uplink", "ls", data / name).stderr, name
    for name in ("keys/uplink/tls.pem", "slots/outgoing.slots"):
        assert as_user(owned, "homeplate-uplink", "cat", data / name).returncode == 0, name
    assert as_user(owned, "homeplate-uplink", "truncate", "-s", "0", data / "slots/outgoing.slots").returncode != 0


def test_a_record_that_capture_releases_uplink_may_read_and_remove(owned):
    data = owned[0]
    require_readable(owned)
    write = "import sys; from pathlib import Path; from homeplate.store.spool import FileSpool, StorageClass; "
    write += "from homeplate.domain.record import RecordId; spool = FileSpool(Path(sys.argv[1])); "
    put = write + "spool.stage(RecordId(bytes(16)), b'x', StorageClass.OUTGOING); spool.release([RecordId(bytes(16))])"
    take = (
        write
        + "assert spool.pending(); assert spool.get(RecordId(bytes(16))) == b'x'; spool.remove(RecordId(bytes(16)))"
    )
    for user, words in (("homeplate-capture", put), ("homeplate-uplink", take)):
        done = as_user(owned, user, *python(), "-c", words, data / "spool")
        assert done.returncode == 0, done.stderr
    assert list((data / "spool" / "outgoing").iterdir()) == []
