"""What a run asks, from a TOML file; an unknown key is an error. docs/hardware-in-the-loop.md explains each."""

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

MAX_BYTES = 64 * 1024
_NODE = re.compile(r"([a-z_][a-z0-9_.-]{0,31}@)?([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9a-fA-F:.]{2,45}\])\Z")
UNITS = ("homeplate-capture.service", "homeplate-uplink.service", "homeplate-bundle.service")
MOST_MB = {"homeplate-capture.service": 160.0, "homeplate-uplink.service": 60.0}

Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Command = Annotated[list[str], msgspec.Meta(min_length=1, max_length=64)]
"""A program and its words, without a shell. It may hold a password, so neither it nor its output is ever reported."""


class HilError(Exception):
    """What keeps a run from beginning, in words."""


class Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[node]`: how it is reached, and what has to run there."""

    ssh_port: Annotated[int, msgspec.Meta(ge=1, le=65_535)] = 22
    identity_file: str | None = None
    known_hosts: str | None = None
    homeplate: str = "/opt/homeplate/bin/homeplate"
    config: str = "/etc/homeplate/homeplate.toml"
    data_dir: str = "/var/lib/homeplate"
    sudo: bool = True
    version: str | None = None
    units: list[str] = msgspec.field(default_factory=lambda: list(UNITS))
    answer_s: Seconds = 60
    """Deadline of a short command."""


class Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[target]`: cars with known plates."""

    seconds: Seconds = 8
    plates: Annotated[int, msgspec.Meta(ge=1, le=40)] = 4
    seed: int = 7
    least_read: Share = 0.75
    deadline_s: Seconds = 600
    most_ms_a_frame: dict[str, float] = {}
    """Stage (motion, detect, crop, read, track) to the most milliseconds a frame."""
    show: Command | None = None
    """`display`: shows `{clip}` full-screen before the camera until it is ended."""
    source: str | None = None
    """`display`: the source that looks at the display; all where left out."""
    watch_s: Seconds = 30
    stop: Command | None = None
    """`display`, on the node: gives the camera free (capture reads it), as `["systemctl", "stop", ...]`."""
    start: Command | None = None


class Network(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[network]`: how the way to the broker is cut, and mended."""

    where: Literal["here", "node"] = "here"
    cut: Command
    mend: Command
    feed: Command | None = None
    """On the node, while it is cut: makes capture read something."""
    cut_s: Seconds = 20
    deliver_s: Seconds = 120


class Power(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[power]`: the switch, as commands of this machine."""

    off: Command
    on: Command
    off_s: Seconds = 5
    boot_s: Seconds = 180


class Soak(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`[soak]`: what heat and memory may come to."""

    minutes: Annotated[float, msgspec.Meta(ge=0, le=7 * 24 * 60)] = 60
    every_s: Seconds = 10
    load: bool = True
    """Play the target again and again meanwhile."""
    most_celsius: float = 80
    most_mb: dict[str, float] = msgspec.field(default_factory=lambda: dict(MOST_MB))
    """Unit to the most memory of its main process, by its proportional share (PSS)."""
    most_growth_mb: float = 10
    """Between the first and the last quarter of the time, for each unit."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole file."""

    node: Node = Node()
    target: Target = Target()
    network: Network | None = None
    power: Power | None = None
    soak: Soak = Soak()


def load(path: Path | None) -> Settings:
    """Return the settings of a file, or the defaults.

    Raises:
        HilError: where it cannot be read or says what is not known.
    """
    if path is None:
        return Settings()
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise HilError(f"{path}: larger than {MAX_BYTES} bytes; that is no configuration of ours")
        return msgspec.toml.decode(raw, type=Settings)
    except OSError as error:
        raise HilError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HilError(f"{path}: {error}") from error


def checked_node(text: str) -> str:
    """Return `user@host` as it was given; what begins with a hyphen would be an option of ssh.

    Raises:
        HilError: where it is none.
    """
    if _NODE.fullmatch(text) is None:
        raise HilError(f"--node: USER@HOST or HOST, not {text!r}")
    return text
