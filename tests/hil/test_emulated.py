"""The emulated node's side: its settings are settings, its plug is pulled by signal, its clip goes on."""

import os
import signal
import threading

import cv2
import pytest

from tools.device.node import PowerButton
from tools.hil.emulated import settings
from tools.hil.settings import load
from tools.render.clip import repeat_clip

FACTS = {"ssh_port": 2222, "key": "/site/login", "known_hosts": "/site/known_hosts", "namespace": "site-1", "pid": 4711}


@pytest.mark.parametrize("computer", [False, True])
def test_what_the_emulated_node_says_of_itself_becomes_settings(tmp_path, computer):
    (tmp_path / "hil.toml").write_text(settings(FACTS, computer=computer))
    read = load(tmp_path / "hil.toml")
    assert read.node.ssh_port == 2222
    assert read.network.cut[:3] == ["ip", "-netns", "site-1"]
    assert (read.power.off, read.power.on) == (["kill", "-USR1", "4711"], ["kill", "-USR2", "4711"])


class Plugged:
    """A machine that notes what is done with its plug; the last boot ends the test."""

    def __init__(self):
        self.done = []

    def boot(self):
        self.done.append("boot")
        if self.done.count("boot") == 2:
            raise KeyboardInterrupt
        return 0.0

    def cut(self):
        self.done.append("cut")

    def run(self, *words, given=b"", ok=True):
        raise NotImplementedError


@pytest.fixture
def handlers():
    """The signals as they were, afterwards."""
    numbers = (signal.SIGUSR1, signal.SIGUSR2)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
def test_the_plug_is_pulled_by_one_signal_and_put_in_by_another():
    machine = Plugged()
    power = PowerButton(machine)
    power.on()
    for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGUSR1):  # on while it is on, off while it is off: nothing
        os.kill(os.getpid(), number)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR2)).start()
    with pytest.raises(KeyboardInterrupt):
        power.obey()
    power.off()
    assert machine.done == ["boot", "cut", "boot", "cut"]


def test_a_clip_again_and_again_has_as_many_times_its_frames(rendered, tmp_path):
    repeat_clip(rendered[0], tmp_path / "again.avi", 2)
    one, two = (
        cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) for path in (rendered[0], tmp_path / "again.avi")
    )
    assert two == 2 * one > 0
    (tmp_path / "none.avi").write_bytes(b"")
    with pytest.raises(ValueError, match="no frame can be read"):
        repeat_clip(tmp_path / "none.avi", tmp_path / "again.avi", 2)
