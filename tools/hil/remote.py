"""Reaches the node: the system's ssh, without a local shell, host keys always checked, a deadline for every command."""

import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tools.hil.settings import Node

CONNECT_S = 15
LOST = 255
"""What ssh itself ends with; a command that ends so looks the same."""
MOST_BYTES = 256 * 1024 * 1024
SHOWN = 600
"""Characters of an error that are shown."""


class RemoteError(Exception):
    """The node was not reached, or a command there failed or took too long; the message says which."""


class UnreachableError(RemoteError):
    """ssh did not get to the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a command came to: exit code, standard output, standard error."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Its standard output as text."""
        return self.out.decode(errors="replace")


class Remote:
    """A node. One connection is shared by all commands; use it as a context.

    Args:
        node: `user@host`, checked.
        settings: how it is reached.
    """

    def __init__(self, node: str, settings: Node) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hil-")
        self._node = node
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ConnectTimeout": str(CONNECT_S),
            "ServerAliveInterval": "5",
            "ServerAliveCountMax": "3",
            "ControlMaster": "auto",
            "ControlPath": str(Path(self._folder.name) / "ssh"),
            "ControlPersist": "60",
            "LogLevel": "ERROR",
        }
        if settings.known_hosts is not None:
            options["UserKnownHostsFile"] = str(Path(settings.known_hosts).expanduser())
        if settings.identity_file is not None:
            options |= {"IdentityFile": str(Path(settings.identity_file).expanduser()), "IdentitiesOnly": "yes"}
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        self._ssh = ["ssh", "-T", "-p", str(settings.ssh_port), *words]
        self._sudo = ["sudo", "-n", "--"] if settings.sudo else []
        self._answer_s = settings.answer_s

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        self._folder.cleanup()

    def ask(self, *words: str, given: bytes = b"", deadline_s: float | None = None, root: bool = False) -> Answer:
        """Run a command on the node and return what it came to.

        Args:
            words: the program and its words.
            given: its standard input.
            deadline_s: after which it is given up; the settings' `answer_s` where left out.
            root: as root, by sudo where the settings say so.

        Raises:
            UnreachableError: ssh does not get there, or the connection breaks.
            RemoteError: the deadline is over.
        """
        deadline_s = self._answer_s if deadline_s is None else deadline_s
        command = shlex.join([*(self._sudo if root else []), *words])
        try:
            done = subprocess.run(
                [*self._ssh, "--", self._node, command],
                input=given,
                capture_output=True,
                timeout=deadline_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise RemoteError(
                f"`{shown(words)}` on the node: no end within its deadline of {deadline_s:g} s"
            ) from error
        except FileNotFoundError as error:
            raise UnreachableError("ssh is not installed here: apt install openssh-client") from error
        err = done.stderr.decode(errors="replace").strip()
        if done.returncode == LOST:
            raise UnreachableError(f"ssh does not reach {self._node}: {err[-SHOWN:] or 'the connection broke off'}")
        return Answer(code=done.returncode, out=done.stdout[:MOST_BYTES], err=err)

    def tell(self, *words: str, given: bytes = b"", deadline_s: float | None = None, root: bool = False) -> Answer:
        """Run a command on the node that has to succeed; see `ask`.

        Raises:
            RemoteError: where it does not.
        """
        answer = self.ask(*words, given=given, deadline_s=deadline_s, root=root)
        if answer.code != 0:
            said = (answer.err or answer.text).strip()[-SHOWN:]
            raise RemoteError(f"`{shown(words)}` on the node ended with {answer.code}: {said}")
        return answer

    def hang_up(self) -> None:
        """Close the shared connection, if there is one: the next command makes a new one."""
        command = [*self._ssh, "-O", "exit", "--", self._node]
        subprocess.run(command, capture_output=True, check=False, timeout=CONNECT_S)


def shown(words: Sequence[str]) -> str:
    """Return a command as a message names it: its first words only."""
    return " ".join(words)[:120]
