"""What stands in firmware_configs/ is known, has its reason and source, and no choice of options contradicts itself."""

import re
import shutil
import subprocess
import sys

import pytest

from firmware_configs import homeplate_board as board_tool
from tools import firmware_lint


def test_what_we_ship_has_no_findings():
    assert firmware_lint.findings() == []


def test_every_board_that_is_detected_has_choices():
    for _, board in board_tool.BOARDS:
        assert len(list(firmware_lint.choices(board))) > 1, board


@pytest.fixture
def files(tmp_path):
    """A copy that may be spoilt."""
    return shutil.copytree(firmware_lint.ROOT, tmp_path / "files", ignore=shutil.ignore_patterns("__pycache__"))


WATCHDOG = "common/root/etc/systemd/system.conf.d/50-homeplate-watchdog.conf"
SPOILT = {
    "an unknown option": ("raspberry-pi/pi4/config.txt", "# Why not (somewhere).\nover_voltage=6\n", "is not known"),
    "an option of another board": (
        "raspberry-pi/pi4/config.txt",
        "# The cell (raspberry-pi.html).\ndtparam=rtc_bbat_vchg=3000000\n",
        "is not known on raspberry-pi/pi4",
    ),
    "a value that the source does not allow": (
        "raspberry-pi/pi5/config.txt",
        "# The cell (raspberry-pi.html).\ndtparam=rtc_bbat_vchg=5000000\n",
        "is not known on raspberry-pi/pi5",
    ),
    "no comment": ("raspberry-pi/pi4/config.txt", "\ndtparam=audio=off\n", "has no comment"),
    "no source": (
        "raspberry-pi/pi4/config.txt",
        "# Nobody listens to it anyway.\ndtparam=audio=off\n",
        "names no source",
    ),
    "a contradiction": ("raspberry-pi/pi4/config.txt", "# Loud (overlays/README).\ndtparam=audio=on\n", "audio twice"),
    "an unknown file": ("raspberry-pi/pi4/usercfg.txt", "gpu_mem=16\n", "no such file is known"),
    "a camera both named and guessed": (
        "raspberry-pi/pi4/config.txt",
        "# It moves (overlays/README).\ndtoverlay=imx296\n",
        "do not go together",
    ),
    "a board that nothing reaches": (
        "raspberry-pi/zero2w/config.txt",
        "# Radio off (overlays/README).\ndtoverlay=disable-wifi\n",
        "disable-wifi and usbcore.authorized_default=0 do not go together",
    ),
    "a swap file": (
        "raspberry-pi/common/root/etc/rpi/swap.conf.d/50-homeplate.conf",
        "# More room (swap.conf(5)).\nMechanism=swapfile\n",
        "is not known",
    ),
    "an overlay on the root without a place for the data": (
        "raspberry-pi/pi4/cmdline.txt",
        "# Read only (overlayroot(8)).\noverlayroot=tmpfs:recurse=0\n",
        "come together or not at all",
    ),
}


@pytest.mark.parametrize("what", SPOILT)
def test_the_lint_finds(what, files):
    inside, added, told = SPOILT[what]
    path = files / inside
    path.write_text((path.read_text() if path.exists() else "") + added)
    found = firmware_lint.findings(files)
    assert any(told in line for line in found), found


@pytest.mark.parametrize("seconds", ["16s", "0s", "2min"])
@pytest.mark.parametrize("key", ["RuntimeWatchdogSec", "RebootWatchdogSec"])
def test_a_watchdog_beyond_fifteen_seconds_is_found(files, key, seconds):
    path = files / WATCHDOG
    path.write_text(path.read_text().replace(f"{key}=15s", f"{key}={seconds}"))
    assert any(f"{key} has to be 1 to 15 seconds" in line for line in firmware_lint.findings(files))


def test_an_option_that_a_comment_or_page_names_is_one(files):
    texts = {path: path.read_text() for path in files.rglob("*") if path.is_file() and path.suffix != ".py"}
    for _, board in board_tool.BOARDS:
        for name in board_tool.option_folders(files, board):
            last = name.partition("-")[2]
            for path, text in texts.items():
                assert not re.search(rf"option {re.escape(last)}\b", text), f"{path}: {name} is meant"


def test_a_line_of_config_txt_that_is_cut_off_is_found(files):
    known = firmware_lint.Known("config.txt", r"dtoverlay=imx296,.*", "a test")
    long = "dtoverlay=imx296," + "x" * firmware_lint.LONGEST_LINE
    assert known.line
    assert any(
        "longer than 98" in fault for fault in firmware_lint.setting_faults("raspberry-pi/pi4/x", "config.txt", long)
    )


def test_systemd_has_nothing_to_say_of_the_boards_units(tmp_path):
    analyze = shutil.which("systemd-analyze", path="/usr/bin:/bin")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed: apt install systemd")
    for unit in firmware_lint.ROOT.rglob("*.service"):
        copy = tmp_path / unit.name
        copy.write_text(unit.read_text().replace("/opt/homeplate/libexec/homeplate-board", sys.executable))
        done = subprocess.run([analyze, "verify", "--man=no", copy], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), unit
