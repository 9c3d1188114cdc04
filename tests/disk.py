"""A small ext4 in a file, mounted through a loop device: what lies on it can be looked for in the raw image."""

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MEBIBYTE = 1 << 20
CLONE_NEWNS = 0x00020000


class Disk:
    """An ext4 in a file."""

    def __init__(self, folder: Path) -> None:
        self.image, self.mount_point = folder / "image", folder / "mount"
        self.mount_point.mkdir()
        with self.image.open("wb") as file:
            file.truncate(16 * MEBIBYTE)
        # A journal of its own: ext4 without one could not leak a key through it.
        subprocess.run(["mkfs.ext4", "-q", "-F", "-J", "size=4", str(self.image)], check=True)

    def mount(self, options: str = "loop") -> bool:
        command = ["mount", "-o", options, str(self.image), str(self.mount_point)]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.mount_point)], check=True)

    def raw(self) -> bytes:
        """Return every byte of the image, which should not be mounted: free blocks and journal included."""
        return self.image.read_bytes()

    def holds(self, secret: bytes) -> bool:
        """Tell whether the unmounted image holds these bytes anywhere."""
        return secret in self.raw()

    def fill(self) -> None:
        """Write until there is no space left."""
        with (self.mount_point / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(MEBIBYTE))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def mounted(folder: Path, kind: type[Disk] = Disk) -> Iterator[Disk]:
    """Yield a mounted disk in `folder`; skip where this machine allows none."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux") or shutil.which("mkfs.ext4") is None:
        pytest.skip("a file system of one's own needs root on Linux and mkfs.ext4")
    disk = kind(folder)
    with own_mounts():
        if not disk.mount():
            pytest.skip("this machine allows no loop mounts")
        yield disk
        subprocess.run(["umount", "-q", str(disk.mount_point)], check=False)


@contextmanager
def own_mounts() -> Iterator[None]:
    """Let this thread and what it starts have mounts of their own: they end with it, also where it is killed."""
    libc, here = ctypes.CDLL(None, use_errno=True), Path.cwd()
    outer = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if libc.unshare(CLONE_NEWNS):
            pytest.skip("this machine allows no mount namespaces")
        try:
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            yield
        finally:
            if libc.setns(outer, CLONE_NEWNS):
                raise OSError(ctypes.get_errno(), "the namespace before cannot be entered again")
            os.chdir(here)
    finally:
        os.close(outer)
