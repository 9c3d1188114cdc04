"""Runs a command in another architecture's root file system, shut off from this machine.

The command is root in user, mount, process and network namespaces of its own: it has a loopback and nothing else. Other
architectures are run by qemu's user emulation through a binfmt_misc of the room's own, so that programs which start
programs work; this machine's own register stays as it is. Needs root, Linux 6.7 and util-linux.
"""

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

MAGIC = (
    r":room:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:"
    r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
)
"""An ELF file of AArch64 (Linux, Documentation/admin-guide/binfmt-misc)."""
SET_UP = r"""
set -e
read -r go
exec sh -ec '
root=$1 emulator=$2; shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
for pair; do
    [ "$pair" = -- ] && break
    mkdir -p "$root/${pair#*:}"
    mount --bind "${pair%%:*}" "$root/${pair#*:}"
done
while [ "$1" != -- ]; do shift; done
shift
if [ "$emulator" ]; then
    mount -t binfmt_misc binfmt_misc "$root/proc/sys/fs/binfmt_misc"
    printf %s "$emulator" > "$root/proc/sys/fs/binfmt_misc/register"
fi
ip link set lo up
# Not chroot: a program that leaves its mounts for others and comes back would find itself outside.
mkdir -p "$root/mnt"
cd "$root"
pivot_root . mnt
cd /
umount -l /mnt
exec /usr/bin/env -i "$@"
' sh "$@"
"""


class RoomError(Exception):
    """The room cannot be made."""


def run(
    root: Path,
    words: Sequence[str],
    *,
    emulator: Path | None,
    environment: Mapping[str, str],
    shared: Mapping[Path, str] | None = None,
    timeout_s: float = 3600,
) -> subprocess.CompletedProcess[str]:
    """Run a command in the root and return how it ended, with what it printed.

    Args:
        root: a root file system.
        words: the command, as it is called there.
        emulator: qemu's statically linked program for AArch64 on this machine; None for this machine's own kind.
        environment: all that the command sees of one.
        shared: folders of this machine by where they are in the root, without the slash at the beginning.
        timeout_s: seconds after which it is ended.

    Raises:
        RoomError: the room cannot be made.
        subprocess.TimeoutExpired: the command takes longer.
    """
    register = "" if emulator is None else f"{MAGIC}{emulator}:F"
    pairs = [f"{here}:{there}" for here, there in (shared or {}).items()]
    named = [f"{key}={value}" for key, value in environment.items()]
    room = ["unshare", "--user", "--mount", "--pid", "--net", "--fork", "--kill-child", "--propagation", "private"]
    command = [*room, "sh", "-c", SET_UP, "sh", str(root), register, *pairs, "--", *named, *words]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            _map_users(process.pid)
            printed, _ = process.communicate("go\n", timeout=timeout_s)
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(command, process.returncode, printed)


def _map_users(pid: int) -> None:
    """Give a process's new user namespace this one's first users under their own numbers."""
    ours = Path("/proc/self/ns/user").readlink()
    for _ in range(500):
        if Path(f"/proc/{pid}/ns/user").readlink() != ours:
            break
        time.sleep(0.01)
    try:
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{pid}/{kind}").write_text("0 0 65536\n", encoding="ascii")
    except OSError as error:
        raise RoomError(f"a user namespace cannot be set up: {error}; this needs root") from error
