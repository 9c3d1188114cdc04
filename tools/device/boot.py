"""`make device-boot`: a node on a Debian with systemd as its first process, cut off in the middle of its work.

The quick form runs it in a container (minutes), `--full` in an emulated computer of 512 MB with a TPM, a hardware
watchdog and a video device (half an hour or more). Both install Homeplate as the package does, provision it with a
custodian's own commands under a production root, let it read a clip and deliver to mosquitto at another address, cut it
off while it works, and go through what its units promise. The last line is one JSON object of figures.
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from tools.device import root, walk
from tools.device.machines import Computer, Container, Machine, put
from tools.device.node import computer
from tools.device.site import CONFIG, NODE, PREFIX_LENGTH, Site, say

SAMPLER = "/usr/local/lib/homeplate-sampler.py"
WATCHDOG_S, SLOW_WATCHDOG_S = 8, 40
VIVID = CONFIG[: CONFIG.index("[[source]]")] + (
    '[[source]]\nname = "test-pattern"\nkind = "v4l2"\npath = "/dev/video0"\n'
    "[source.camera]\nwidth = 640\nheight = 480\nfps = 10\n"
)


NEEDED = {
    "mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "mosquitto": "mosquitto",
    "nsenter": "util-linux",
}  # fmt: skip
NEEDED_FULL = {
    "mmdebstrap": "mmdebstrap", "qemu-system-x86_64": "qemu-system-x86", "swtpm": "swtpm", "mke2fs": "e2fsprogs",
    "mosquitto": "mosquitto", "ssh": "openssh-client",
}  # fmt: skip
"""Programs and the Debian packages that have them."""


def main() -> int:
    """Run one form; return the exit code."""
    parser = argparse.ArgumentParser(prog="make device-boot", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--full", action="store_true", help="in an emulated computer")
    parser.add_argument("--cache", type=Path, default=root.CACHE, help="where the Debian root is kept (2 GB)")
    parser.add_argument("--keep", type=Path, help="leave everything in this folder, which is made")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="with --full: --keep is of a run that got past the cut; go on",
    )
    asked = parser.parse_args()
    if asked.resume and not (asked.full and asked.keep):
        parser.error("--resume goes with --full and --keep")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begun = time.perf_counter()
    folder = (asked.keep or Path(tempfile.mkdtemp(prefix="homeplate-boot-", dir="/var/tmp"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        require_programs(NEEDED_FULL if asked.full else NEEDED)
        figures = full(folder, asked.cache, resume=asked.resume) if asked.full else quick(folder, asked.cache)
    except root.DeviceError as error:
        print(f"error: {error}\nthe logs are in {folder}", file=sys.stderr)
        return 1
    if not asked.keep:
        shutil.rmtree(folder)
    print(json.dumps({**figures, "seconds": round(time.perf_counter() - begun, 1)}))
    return 0


def require_programs(needed: Mapping[str, str]) -> None:
    """Refuse to begin without root or a program.

    Raises:
        DeviceError: what is missing, and how to get it.
    """
    if os.geteuid() != 0:
        raise root.DeviceError("this needs root: network namespaces, mounts")
    missing = [
        package for name, package in needed.items() if shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") is None
    ]
    if missing:
        raise root.DeviceError(f"not installed: apt-get install --no-install-recommends {' '.join(missing)}")


def quick(folder: Path, cache: Path) -> dict[str, object]:
    """Run the container's form."""
    base = root.debian(cache)
    data = folder / "data"
    data.mkdir()
    with root.layered(base, folder / "layer") as mine, Site(folder) as site:
        root.install(mine)
        root.machine(mine, address=f"{NODE}/{PREFIX_LENGTH}")
        say("the container's root is made")
        clip = prepared(site)
        node = Container(root=mine, data=data, site=site)
        booted_s = node.boot()
        try:
            figures = cut_in_the_middle(node, site, clip)
            figures |= promises(node, site)
            node.cut()
            again_s = node.boot()
            figures |= kept(node, site)
        finally:
            node.cut()
    return {"form": "container", "booted_s": round(booted_s, 1), "booted_again_s": round(again_s, 1), **figures}


def full(folder: Path, cache: Path, *, resume: bool) -> dict[str, object]:
    """Run the computer's form, or what of it comes after the cut."""
    with Site(folder) as site:
        if resume:
            node = kept_computer(site)
            site.serve()
            site.receive()
        else:
            node = computer(site, cache)
            clip = prepared(site)
        booted_s = node.boot()
        say(f"booted in {booted_s:.0f} s")
        try:
            figures = {"resumed": True} if resume else cut_in_the_middle(node, site, clip)
            if resume:
                node.run("systemd-run", "--quiet", "--unit=sampler", "/usr/bin/python3", SAMPLER)
            figures |= promises(node, site)
            figures |= sees_a_camera(node)
            figures |= reset_by_hardware(node, site)
            figures |= another_tpm(node, site)
        finally:
            node.cut()
    return {"form": "computer", "memory_mb": node.memory_mb, "booted_s": round(booted_s, 1), **figures}


def kept_computer(site: Site) -> Computer:
    """Return the computer of an earlier run, with what is on its disk."""
    (kernel,), (initramfs,) = site.folder.glob("vmlinuz*"), site.folder.glob("initrd*")
    return Computer(disk=site.folder / "disk.ext4", kernel=(kernel, initramfs), site=site, key=site.folder / "login")


def prepared(site: Site) -> Path:
    """Make custody and broker; return the clip."""
    site.found()
    clip = site.render(seconds=8.0, plates=4)
    site.wants(site.wanted)
    site.serve()
    return clip


def cut_in_the_middle(node: Machine, site: Site, clip: Path) -> dict[str, object]:
    """Provision, cut the node off once the first passage is sealed, boot, and let it finish."""
    put(node, SAMPLER, Path(__file__).with_name("sampler.py").read_bytes())
    begun = time.perf_counter()
    walk.provision(node, site, clip)
    provisioned_s = time.perf_counter() - begun
    sealed = lambda: walk.rows(node, "capture", "capture.sealed") > 0  # noqa: E731
    Site.until(sealed, "the first passage", every_s=0.05)
    first_s = time.perf_counter() - begun
    say("a passage is sealed: power off")
    node.cut()
    booted_s = node.boot()
    say(f"on again, in {booted_s:.1f} s")
    before = walk.rows(node, "capture", "capture.source-finished")
    node.run("systemd-run", "--quiet", "--unit=sampler", "/usr/bin/python3", SAMPLER)
    walk.require(walk.rows(node, "capture", "capture.started") >= 1, "capture had not started before the cut")
    figures = walk.finish(node, site)
    say(f"all delivered: {figures}")
    return {
        "provisioned_s": round(provisioned_s, 1), "first_read_s": round(first_s, 1),
        "after_cut_booted_s": round(booted_s, 1),
        "cut_before_the_end": before == 0, **figures,
    }  # fmt: skip


def promises(node: Machine, site: Site) -> dict[str, object]:
    """Go through what the units promise, from inside."""
    walk.capture_has_no_network(node)
    walk.capture_reads_no_other_s_keys(node)
    say("capture: no network, its own keys")
    refused = walk.uplink_reads_no_secret(node)
    stranger = walk.uplink_reaches_the_broker_alone(node)
    walk.require(not site.stranger_heard(), "somebody reached the stranger with a request")
    say(f"uplink: {refused} paths refused, the stranger {stranger}")
    emulated = isinstance(node, Computer)  # it has ssh, and is slow
    walk.nothing_listens(node, allowed=[22] if emulated else [])
    watchdog_s = walk.watchdog_restarts_uplink(node, SLOW_WATCHDOG_S if emulated else WATCHDOG_S)
    say(f"watchdog: another uplink after {watchdog_s:.0f} s")
    node.run("/opt/homeplate/libexec/homeplate-seal-keys")
    left = node.run("sh", "-c", "find /var/lib/homeplate/keys -type f").split()
    walk.require([Path(path).name for path in left] == ["tls.crt"], f"keys are left in clear: {left}")
    node.run("systemctl", "stop", "homeplate-uplink.service")
    walk.start(node, "homeplate-uplink.service")
    walk.require(walk.is_active(node, "homeplate-uplink.service"), "uplink does not start with its key sealed")
    rows = walk.verified(node, site)
    say(f"keys sealed, {rows} rows of the ledgers verify")
    return {
        "paths_refused_to_uplink": refused, "stranger": stranger, "watchdog_restart_s": round(watchdog_s, 1),
        "keys_sealed": 4, "ledger_rows": rows, "processes_mb": memory(node),
    }  # fmt: skip


def memory(node: Machine) -> dict[str, object]:
    """Return the most memory of each process, in MB: all that was resident, and of that what no file backs."""
    found: dict[str, dict[str, int]] = json.loads(node.run("cat", "/run/sampler.json"))
    return {
        name: {"resident": round(one["VmHWM"] / 1024), "anonymous": round(one["RssAnon"] / 1024)}
        for name, one in sorted(found.items())
    }


def kept(node: Machine, site: Site) -> dict[str, object]:
    """Show after one more boot that nothing came again and nothing is gone."""
    Site.until(lambda: walk.is_active(node, "homeplate-uplink.service"), "uplink to start again", 900)
    opened = len(site.opened("26-1234"))
    sealed, local = walk.committed(node)
    left = set(node.run("sh", "-c", f"ls {walk.DATA}/spool/local | sed 's/.rec$//'").split())
    walk.require(2 * opened == len(sealed), f"{len(sealed)} records were sealed, {2 * opened} are at the agency")
    walk.require(left == local, f"{len(local)} local records were sealed, {len(left)} are there")
    return {"kept_after_boot": True}


def sees_a_camera(node: Machine) -> dict[str, object]:
    """Let capture look at the kernel's virtual video device, in its unit; return how many frames it took."""
    node.run("modprobe", "vivid")
    put(node, "/etc/homeplate/homeplate.toml", VIVID.encode())
    node.run("systemctl", "restart", "homeplate-capture.service")
    say("capture looks at /dev/video0")
    time.sleep(30)
    node.run("systemctl", "stop", "homeplate-capture.service")
    last = node.run("sh", "-c", f"grep 'test-pattern' {walk.DATA}/ledger/capture.log | tail -n 1")
    walk.require('"frames":' in last, f"capture took no frame of /dev/video0: {last}")
    frames = int(last.split('"frames":')[1].split(",")[0].split("}")[0])
    walk.require(frames > 0, f"capture took no frame of /dev/video0: {last}")
    put(node, "/etc/homeplate/homeplate.toml", CONFIG.encode())
    return {"video_device_frames": frames}


def reset_by_hardware(node: Computer, site: Site) -> dict[str, object]:
    """Let the kernel die; the hardware watchdog that systemd feeds has to start the machine again."""
    put(node, "/etc/systemd/system.conf.d/watchdog.conf", b"[Manager]\nRuntimeWatchdogSec=30\n")
    node.run("systemctl", "daemon-reexec")
    before = node.run("cat", "/proc/sys/kernel/random/boot_id")
    node.run("sh", "-c", "sync; (sleep 2; echo c > /proc/sysrq-trigger) >/dev/null 2>&1 &")
    say("the kernel panics")
    time.sleep(5)
    node.hang_up()

    def again() -> bool:
        return node.is_up() and node.run("cat", "/proc/sys/kernel/random/boot_id") != before

    took = Site.until(again, "the hardware watchdog to reset the machine", 1800, every_s=3.0)
    say(f"up again after {took:.0f} s")
    return {"hardware_reset_s": round(took, 1), **kept(node, site)}


def another_tpm(node: Computer, site: Site) -> dict[str, object]:
    """Start the disk in a computer with another TPM: no key opens, so nothing is read or sent; purge goes on."""
    node.cut()
    shutil.rmtree(site.folder / "tpm")
    node.boot()
    states = {
        name: node.run("systemctl", "is-active", f"homeplate-{name}.service", ok=False).strip()
        for name in ("capture", "uplink")
    }
    walk.require("active" not in states.values(), f"a process runs with keys of another TPM: {states}")
    said = node.run("journalctl", "-b", "--no-pager", "-u", "homeplate-uplink.service", "-o", "cat")
    walk.require("CREDENTIALS" in said, f"uplink did not fail for its credentials: {said[-500:]}")
    node.run("systemctl", "start", "homeplate-purge.service")
    return {"other_tpm": states}


if __name__ == "__main__":
    raise SystemExit(main())
