"""For which releases and architectures packages are built, and which wheels of a lock each of them takes."""

import re
from dataclasses import dataclass

from packaging.markers import Marker


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release of Debian or Ubuntu: what its packages' versions end in, and its Python."""

    name: str
    suffix: str
    python: str
    glibc_minor: int
    architectures: tuple[str, ...] = ("amd64", "arm64")

    @property
    def depends(self) -> str:
        """Return the dependency on this release's Python: the wheels inside are for it alone."""
        major, minor = self.python.split(".")
        return f"python3 (>= {self.python}~), python3 (<< {major}.{int(minor) + 1})"


RELEASES = (
    Release(name="bookworm", suffix="+deb12", python="3.11", glibc_minor=36),
    Release(name="trixie", suffix="+deb13", python="3.13", glibc_minor=41),
    # JetPack 7 is Ubuntu 24.04.
    Release(name="noble", suffix="+ubuntu24.04", python="3.12", glibc_minor=39, architectures=("arm64",)),
)
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One package's release and architecture."""

    release: Release
    architecture: str

    @property
    def name(self) -> str:
        """Return its name, as `bookworm-arm64`."""
        return f"{self.release.name}-{self.architecture}"

    @property
    def pip_options(self) -> list[str]:
        """Return what makes pip choose this target's wheels on any machine."""
        digits, machine = self.release.python.replace(".", ""), MACHINES[self.architecture]
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(self.release.glibc_minor, 16, -1)]
        options = ["--implementation", "cp", "--python-version", self.release.python]
        options += [f"--abi={abi}" for abi in (f"cp{digits}", "abi3", "none")]
        return options + [f"--platform={platform}" for platform in (*platforms, f"manylinux2014_{machine}")]


TARGETS = tuple(Target(release=release, architecture=a) for release in RELEASES for a in release.architectures)


def requirements_of(lock: str, target: Target) -> str:
    """Return the requirements of a lock that count on a target, with their hashes and without markers.

    pip judges markers by the Python that runs it, also where it downloads for another one.
    """
    python = f"{target.release.python}.0"
    environment = {
        "implementation_name": "cpython",
        "os_name": "posix",
        "platform_machine": MACHINES[target.architecture],
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": python,
        "python_version": target.release.python,
        "sys_platform": "linux",
    }
    kept = []
    for block in re.split(r"\n(?=\S)", lock):
        if block.startswith("#") or not block.strip():
            continue
        head, _, hashes = block.partition("\\\n")
        pin, _, marker = head.partition(";")
        if not marker.strip() or Marker(marker.strip()).evaluate(environment):
            kept.append(f"{pin.strip()} \\\n{hashes.strip()}\n")
    return "".join(kept)
