"""A real sshd on a high port of loopback, with its own host key and a key that may log in; the node is this machine."""

import getpass
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tools.do import find_program

BIN = Path(sys.executable).parent
SSHD = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/client.pub
PidFile {folder}/sshd.pid
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowStreamLocalForwarding yes
PrintMotd no
"""


@dataclass
class Server:
    """A running sshd, and how it is reached."""

    folder: Path
    port: int
    process: subprocess.Popen | None = None

    @property
    def node(self):
        return f"{getpass.getuser()}@127.0.0.1"

    @property
    def key(self):
        return self.folder / "client"

    @property
    def known_hosts(self):
        return self.folder / "known_hosts"

    def start(self):
        Path("/run/sshd").mkdir(exist_ok=True)
        command = [find_program("sshd"), "-D", "-e", "-f", str(self.folder / "sshd.conf")]
        with (self.folder / "sshd.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        give_up = time.perf_counter() + 20
        while time.perf_counter() < give_up:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, (self.folder / "sshd.log").read_text()
            time.sleep(0.02)
        pytest.fail("sshd does not listen")

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


def make_key(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text().strip()


@pytest.fixture
def server(tmp_path):
    """A running sshd; its host key is known."""
    if find_program("sshd") is None:
        pytest.skip("sshd is not installed: apt install openssh-server")
    if os.geteuid() != 0:
        pytest.skip("sshd makes its sessions as root")
    folder = tmp_path / "sshd"
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = Server(folder=folder, port=port)
    make_key(folder / "client")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {make_key(folder / 'host')}\n")
    (folder / "sshd.conf").write_text(SSHD.format(port=port, folder=folder))
    made.start()
    yield made
    made.stop()
