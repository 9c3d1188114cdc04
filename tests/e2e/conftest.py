"""The whole node as a person runs it: its commands, in processes of their own, against a real broker."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from homeplate.domain.record import StorageClass
from homeplate.store.spool import FileSpool
from tools import stage
from tools.broker import mosquitto_path
from tools.stage import AGENCY, PURPOSE

BIN = Path(sys.executable).parent
PATIENCE_S = 120


@dataclass
class Deployment:
    """A built stage, with the commands that people run on it."""

    stage: stage.Stage

    def node_command(self, *words):
        return [str(BIN / "homeplate"), "--config", str(self.stage.config), *map(str, words)]

    def node(self, *words, code=0):
        return run(self.node_command(*words), code)

    def custodian(self, *words, code=0):
        return run([str(BIN / "homeplate-custodian"), *map(str, words)], code)

    def start(self, *words):
        return subprocess.Popen(self.node_command(*words), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def receiver(self):
        log = self.stage.folder / "receive.log"
        command = [str(BIN / "homeplate-custodian"), "receive", str(self.stage.custody), "--agency", AGENCY]
        with log.open("w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file)
        wait_until(lambda: "receiving for" in log.read_text() or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        return process

    def open(self):
        """Open all that was received; return the facts."""
        who = ["--user", "u", "--organisation", "o", "--purpose", PURPOSE, "--case", "26-1"]
        text = self.custodian("open", self.stage.custody, "--agency", AGENCY, *who, "--json")
        return [json.loads(line) for line in text.splitlines()]

    def pending(self):
        return FileSpool(self.stage.paths.spool).pending()

    def local(self):
        return FileSpool(self.stage.paths.spool).released(StorageClass.LOCAL)


def run(command, code=0):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == code, f"{command[1:]} ended with {done.returncode}: {done.stdout} {done.stderr}"
    return done.stdout + done.stderr if code else done.stdout


def wait_until(condition, patience_s=PATIENCE_S):
    give_up = time.perf_counter() + patience_s
    while not condition():
        assert time.perf_counter() < give_up, "waited in vain"
        time.sleep(0.05)


def end(process):
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    if process.stdout is not None:
        process.stdout.close()


@pytest.fixture
def deploy(tmp_path):
    """Return a function that builds a deployment; all are taken down at the end."""
    if mosquitto_path() is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    built = []

    def make(**options):
        built.append(stage.build(tmp_path / f"stage-{len(built)}", **options))
        return Deployment(built[-1])

    yield make
    for one in built:
        one.runtime.cleanup()
