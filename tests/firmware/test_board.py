"""homeplate-board on root file systems as the boards have them: by the device tree, idempotent, taken back whole."""

import io
import json
import os
import re
import subprocess
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_configs import homeplate_board as board_tool

PROGRAM = Path(board_tool.__file__)
COMPATIBLE = {
    "raspberry-pi/pi4": ("raspberrypi,4-model-b", "brcm,bcm2711"),
    "raspberry-pi/pi5": ("raspberrypi,5-model-b", "brcm,bcm2712"),
    "raspberry-pi/zero2w": ("raspberrypi,model-zero-2-w", "brcm,bcm2837"),
    "jetson/orin-nano": ("nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"),
}
STOCK_CONFIG = """# For more options and information see
# http://rptl.io/configtxt
dtparam=audio=on
camera_auto_detect=1
auto_initramfs=1
dtoverlay=vc4-kms-v3d

[cm4]
otg_mode=1
"""
STOCK_CMDLINE = (
    "console=serial0,115200 console=tty1 root=PARTUUID=4c4e106f-02 rootfstype=ext4 fsck.repair=yes rootwait\n"
)
STOCK_EXTLINUX = """TIMEOUT 30
DEFAULT primary

MENU TITLE L4T boot options

LABEL primary
      MENU LABEL primary kernel
      LINUX /boot/Image
      INITRD /boot/initrd
      APPEND ${cbootargs} root=PARTUUID=0a1b rw rootwait

LABEL backup
      MENU LABEL backup kernel
      LINUX /boot/Image.backup
      APPEND ${cbootargs} root=PARTUUID=0a1b rw rootwait
"""


def device_tree(root, compatible, model):
    tree = root / "proc/device-tree"
    tree.mkdir(parents=True)
    (tree / "compatible").write_bytes("".join(f"{name}\0" for name in compatible).encode())
    (tree / "model").write_bytes(model.encode() + b"\0")


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def system(tmp_path, board, disk="mmcblk0p2"):
    """A root as the board's system has it, as far as it matters here."""
    root = tmp_path / "root"
    device_tree(root, COMPATIBLE[board], f"A {board}")
    write(root, "etc/fstab", "proc /proc proc defaults 0 0\n")
    if board.startswith("raspberry-pi"):
        write(root, "boot/firmware/config.txt", STOCK_CONFIG)
        write(root, "boot/firmware/cmdline.txt", STOCK_CMDLINE)
        link, name = root / "dev/disk/by-partuuid/4c4e106f-02", f"../../{disk}"
    else:
        write(root, "boot/extlinux/extlinux.conf", STOCK_EXTLINUX)
        write(root, "boot/tegra234-p3767-camera-p3768-imx219-dual.dtbo", "dtbo")
        link, name = root / "dev/disk/by-partuuid/0a1b", "../../nvme0n1p1"
    link.parent.mkdir(parents=True)
    link.symlink_to(name)
    return root


@pytest.fixture(params=COMPATIBLE)
def root(request, tmp_path):
    return system(tmp_path, request.param)


def call(root, *words, status=0):
    """Run the program's own way through its words; return what it printed."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said), arguments("homeplate-board", *words, "--root", root):
        assert board_tool.main() == status, said.getvalue()
    return said.getvalue()


@contextmanager
def arguments(*words):
    before, sys.argv = sys.argv, [str(word) for word in words]
    try:
        yield
    finally:
        sys.argv = before


def contents(root, without=()):
    """Everything below a root: files with their bytes and modes, links with where they lead."""
    found = {}
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[inside] = str(path.readlink())
        elif path.is_file() and not inside.startswith(tuple(without)):
            found[inside] = (path.read_bytes(), path.stat().st_mode & 0o777)
    return found


def test_the_program_runs_by_itself_outside_of_the_project(tmp_path):
    root = system(tmp_path, "raspberry-pi/pi4")
    words = [sys.executable, "-I", PROGRAM, "detect", "--root", root]
    done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "raspberry-pi/pi4 (A raspberry-pi/pi4)\n"


@pytest.mark.parametrize("board", COMPATIBLE)
def test_a_board_is_found_by_its_device_tree(board, tmp_path):
    assert call(system(tmp_path, board), "detect") == f"{board} (A {board})\n"


@pytest.mark.parametrize(
    "compatible",
    [
        ("raspberrypi,4-compute-module", "brcm,bcm2711"),
        ("raspberrypi,400", "brcm,bcm2711"),
        ("nvidia,p3768-0000+p3767-0000", "nvidia,p3767-0000", "nvidia,tegra234"),
        ("nvidia,p3767-00051", "nvidia,tegra234"),
        ("xraspberrypi,4-model-b",),
        (),
    ],
)
@pytest.mark.parametrize("verb", ["detect", "options", "install", "eeprom"])
def test_nothing_is_written_on_an_unknown_board(compatible, verb, tmp_path):
    root = system(tmp_path, "raspberry-pi/pi4")
    (root / "proc/device-tree/compatible").write_bytes("".join(f"{name}\0" for name in compatible).encode())
    before = contents(root)
    assert "unknown board" in call(root, verb, status=board_tool.UNKNOWN_BOARD)
    assert contents(root) == before


def test_a_machine_without_a_device_tree_is_no_board(tmp_path):
    assert "no board" in call(tmp_path, "install", status=board_tool.UNKNOWN_BOARD)
    assert list(tmp_path.iterdir()) == []


def test_a_second_install_changes_nothing(root):
    assert "restart" in call(root, "install")
    once = contents(root)
    assert "nothing changed" in call(root, "install")
    assert contents(root) == once


def test_removing_puts_back_every_byte(root):
    before = contents(root)
    call(root, "install")
    assert contents(root) != before
    call(root, "remove")
    after = contents(root, without=("var/backups/", "etc/homeplate/homeplate.toml"))
    assert after == before


def test_a_system_without_an_fstab_gets_none(root):
    (root / "etc/fstab").unlink()
    call(root, "install")
    call(root, "install")
    assert not (root / "etc/fstab").exists()


UNITS = "etc/systemd/system"
GADGET = f"{UNITS}/nv-l4t-usb-device-mode.service"
RUNTIME = f"{UNITS}/nv-l4t-usb-device-mode-runtime.service"
BLUETOOTH = f"{UNITS}/bluetooth.service"


def test_a_unit_of_the_system_is_masked_and_comes_back_as_it_was(tmp_path):
    root = system(tmp_path, "jetson/orin-nano")
    (root / UNITS).mkdir(parents=True)
    (root / GADGET).symlink_to("/opt/nvidia/l4t-usb-device-mode/nv-l4t-usb-device-mode.service")
    write(root, RUNTIME, "[Service]\nExecStart=/bin/true\n")
    (root / RUNTIME).chmod(0o640)
    (root / BLUETOOTH).symlink_to("/dev/null")
    before = contents(root)
    for _ in range(2):
        call(root, "install")
        assert {str((root / path).readlink()) for path in (GADGET, RUNTIME, BLUETOOTH)} == {"/dev/null"}
        assert not {BLUETOOTH} & set(json.loads((root / board_tool.STATE).read_text())["links"])
    call(root, "remove")
    assert contents(root, without=("var/backups/", "etc/homeplate/homeplate.toml")) == before


def test_a_unit_that_somebody_put_in_place_of_a_mask_stays(tmp_path):
    root = system(tmp_path, "jetson/orin-nano")
    call(root, "install")
    (root / GADGET).unlink()
    (root / GADGET).symlink_to("/opt/nvidia/newer.service")
    call(root, "remove")
    assert str((root / GADGET).readlink()) == "/opt/nvidia/newer.service"
    assert not os.path.lexists(root / RUNTIME)


def test_what_was_there_is_kept_once(root):
    edited = "boot/firmware/config.txt" if (root / "boot/firmware").is_dir() else "boot/extlinux/extlinux.conf"
    before = (root / edited).read_text()
    call(root, "install")
    call(root, "install", "--with", "usb-on") if (root / "boot/extlinux").is_dir() else call(root, "install")
    assert (root / board_tool.BACKUPS / edited).read_text() == before


def test_a_configuration_that_is_there_stays(root):
    write(root, board_tool.CONFIGURATION, "# mine\n")
    call(root, "install")
    assert (root / board_tool.CONFIGURATION).read_text() == "# mine\n"


def test_ours_comes_after_the_systems_own_settings_and_for_all_boards(tmp_path):
    root = system(tmp_path, "raspberry-pi/pi5")
    call(root, "install")
    text = (root / "boot/firmware/config.txt").read_text()
    assert text.startswith(STOCK_CONFIG)
    ours = text.removeprefix(STOCK_CONFIG).split()
    assert ours.index("[all]") < ours.index("dtparam=audio=off")
    assert "dtoverlay=disable-wifi-pi5" in ours


def test_the_command_line_stays_one_line_with_each_key_once(tmp_path):
    root = system(tmp_path, "raspberry-pi/pi4")
    write(
        root, "boot/firmware/cmdline.txt", STOCK_CMDLINE.replace("rootwait", "panic=30 cgroup_disable=memory rootwait")
    )
    before = contents(root)
    call(root, "install")
    line = (root / "boot/firmware/cmdline.txt").read_text()
    assert line.count("\n") == 1
    words = line.split()
    assert [word for word in words if word.startswith("panic=")] == ["panic=10"]
    assert "cgroup_enable=memory" in words
    assert "cgroup_disable=memory" not in words
    call(root, "remove")
    kept = (root / "boot/firmware/cmdline.txt").read_text().split()
    assert sorted(kept) == sorted(before["boot/firmware/cmdline.txt"][0].decode().split())


@pytest.mark.parametrize("disk", ["sda2", None])
def test_usb_stays_on_where_the_root_may_be_on_it(disk, tmp_path):
    root = system(tmp_path, "raspberry-pi/pi4", disk or "mmcblk0p2")
    if disk is None:
        (root / "dev/disk/by-partuuid/4c4e106f-02").unlink()
    assert "USB stays on" in call(root, "install")
    assert "usbcore" not in (root / "boot/firmware/cmdline.txt").read_text()


def test_usb_is_off_where_the_root_is_on_a_card(tmp_path):
    root = system(tmp_path, "raspberry-pi/pi4")
    call(root, "install")
    assert "usbcore.authorized_default=0" in (root / "boot/firmware/cmdline.txt").read_text().split()


def test_a_choice_is_remembered_and_replaced(tmp_path):
    root = system(tmp_path, "raspberry-pi/pi5")
    config = root / "boot/firmware/config.txt"
    call(root, "install", "--with", "camera-imx296", "--with", "rtc-battery")
    ours = config.read_text().removeprefix(STOCK_CONFIG)
    assert "dtoverlay=imx296\n" in ours
    assert "dtparam=rtc_bbat_vchg=3000000" in ours
    assert "camera_auto_detect=1" not in ours
    assert "nothing changed" in call(root, "install")
    call(root, "install", "--with", "camera-imx708")
    ours = config.read_text().removeprefix(STOCK_CONFIG)
    assert "imx296" not in ours
    assert "rtc_bbat_vchg" not in ours
    assert "dtoverlay=imx708\n" in ours


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["camera-imx296", "camera-imx708"], "choose one of"),
        (["rtc-battery"], "has no option rtc-battery"),
        (["../pi5/options/rtc-battery"], "has no option"),
    ],
)
def test_a_choice_that_cannot_be_is_refused_and_nothing_written(options, told, tmp_path):
    root = system(tmp_path, "raspberry-pi/pi4")
    before = contents(root)
    words = [word for option in options for word in ("--with", option)]
    assert told in call(root, "install", *words, status=2)
    assert contents(root) == before


def ready_for_read_only(root):
    (root / "dev/disk/by-label").mkdir(parents=True)
    (root / board_tool.DATA_LABEL).symlink_to("../../mmcblk0p3")
    write(root, board_tool.OVERLAYROOT, "")


@pytest.mark.parametrize("missing", ["partition", "overlayroot", "moved data"])
def test_a_read_only_root_without_a_place_for_the_data_is_refused(missing, tmp_path):
    root = system(tmp_path, "raspberry-pi/zero2w")
    ready_for_read_only(root)
    if missing == "partition":
        (root / board_tool.DATA_LABEL).unlink()
    elif missing == "overlayroot":
        (root / board_tool.OVERLAYROOT).unlink()
    else:
        write(root, "var/lib/homeplate/spool/record", "sealed")
    before = contents(root)
    assert "read-only-root: " in call(root, "install", "--with", "read-only-root", status=2)
    assert contents(root) == before


def test_a_read_only_root_leaves_the_data_on_its_partition(tmp_path):
    root = system(tmp_path, "raspberry-pi/zero2w")
    ready_for_read_only(root)
    call(root, "install", "--with", "read-only-root")
    assert "overlayroot=tmpfs:recurse=0" in (root / "boot/firmware/cmdline.txt").read_text().split()
    mounts = [line.split() for line in (root / "etc/fstab").read_text().splitlines() if line[:1] != "#"]
    assert ["LABEL=homeplate-data", "/var/lib/homeplate", "ext4"] in [mount[:3] for mount in mounts]
    assert "Storage=volatile" in (root / "etc/systemd/journald.conf.d/50-homeplate.conf").read_text()
    call(root, "install", "--with", "camera-auto")
    assert "homeplate-data" not in (root / "etc/fstab").read_text()
    assert not (root / "etc/systemd/journald.conf.d/50-homeplate.conf").exists()


def test_a_mount_for_the_data_that_is_there_is_not_doubled(tmp_path):
    root = system(tmp_path, "raspberry-pi/pi4")
    ready_for_read_only(root)
    write(root, "etc/fstab", "LABEL=mine /var/lib/homeplate ext4 rw 0 2\n")
    call(root, "install", "--with", "read-only-root")
    assert (root / "etc/fstab").read_text().count("/var/lib/homeplate") == 1


def test_an_overlay_goes_into_the_entry_that_starts(tmp_path):
    root = system(tmp_path, "jetson/orin-nano")
    call(root, "install", "--with", "camera-imx219")
    primary, backup = (root / "boot/extlinux/extlinux.conf").read_text().split("\nLABEL backup")
    assert re.search(r"OVERLAYS /boot/tegra234-p3767-camera-p3768-imx219-dual.dtbo\n.*\n *APPEND", primary)
    assert "OVERLAYS" not in backup
    assert all("panic=10" in entry for entry in (primary, backup))
    assert "is missing" in call(root, "install", "--with", "camera-imx477", status=2)


def test_an_overlay_of_somebody_else_is_not_replaced(tmp_path):
    root = system(tmp_path, "jetson/orin-nano")
    own = STOCK_EXTLINUX.replace("      APPEND", "      OVERLAYS /boot/mine.dtbo\n      APPEND", 1)
    write(root, "boot/extlinux/extlinux.conf", own)
    assert "OVERLAYS of its own" in call(root, "install", "--with", "camera-imx219", status=2)
    call(root, "install")
    assert "OVERLAYS /boot/mine.dtbo" in (root / "boot/extlinux/extlinux.conf").read_text()


TABLE = "< POWER_MODEL ID=0 NAME=15W >\n< POWER_MODEL ID=1 NAME=25W >\n< PM_CONFIG DEFAULT=1 >\n"


def test_a_power_mode_is_set_by_its_name():
    wanted = {"POWER_MODE_P3767_0005": "25W", "FIXED_CLOCKS": "yes"}
    assert board_tool.power_commands(wanted, "0005", TABLE, "NV Power Mode: 15W\n0\n") == [
        ["nvpmodel", "-m", "1"],
        ["jetson_clocks"],
    ]
    wanted = {"POWER_MODE_P3767_0003": "15W"}
    assert board_tool.power_commands(wanted, "0003", TABLE, "NV Power Mode: 15W\n0\n") == []
    with pytest.raises(board_tool.BoardError, match="no power mode 40W"):
        board_tool.power_commands({"POWER_MODE_P3767_0003": "40W"}, "0003", TABLE, "")


@pytest.mark.parametrize(("module", "mode"), [("0003", "15W"), ("0004", "10W"), ("0005", "15W")])
def test_each_module_has_a_power_mode_of_its_own(module, mode, tmp_path):
    root = system(tmp_path, "jetson/orin-nano")
    names = (f"nvidia,p3768-0000+p3767-{module}", f"nvidia,p3767-{module}", "nvidia,tegra234")
    (root / "proc/device-tree/compatible").write_bytes("".join(f"{name}\0" for name in names).encode())
    call(root, "install")
    assert board_tool.module_of(root) == module
    wanted = board_tool.settings([root / "etc/homeplate"], "power.conf")
    assert board_tool.power_commands(wanted, module, f"< POWER_MODEL ID=3 NAME={mode} >", "") == [
        ["nvpmodel", "-m", "3"]
    ]


def test_a_module_that_is_not_known_keeps_its_power(tmp_path):
    root = system(tmp_path, "jetson/orin-nano")
    call(root, "install")
    (root / "proc/device-tree/compatible").write_bytes(b"nvidia,p3767-0001\0nvidia,tegra234\0")
    assert "names no mode for the module 0001" in call(root, "power")


def test_the_boot_loaders_other_settings_stay(tmp_path):
    root = system(tmp_path, "raspberry-pi/pi5")
    present = tmp_path / "present.conf"
    present.write_text("[all]\nBOOT_ORDER=0xf41\nPSU_MAX_CURRENT=5000\n")
    made = call(root, "eeprom", present).splitlines()
    assert "PSU_MAX_CURRENT=5000" in made
    assert [line for line in made if line.startswith("BOOT_ORDER")] == ["BOOT_ORDER=0xf1"]
    assert "no boot loader" in call(system(tmp_path / "zero", "raspberry-pi/zero2w"), "eeprom", status=2)


def test_an_install_that_dies_at_any_write_is_finished_or_taken_back_by_the_next(tmp_path):
    board = "raspberry-pi/pi5"
    whole = system(tmp_path / "whole", board)
    before = contents(whole)
    call(whole, "install")
    done = contents(whole)
    for death in range(1, 40):
        root = system(tmp_path / str(death), board)
        died = dying(root, death)
        if not died:
            assert death > 5
            break
        if death % 2:
            call(root, "install")
            assert contents(root) == done
        else:
            call(root, "remove")
            assert contents(root, without=("var/backups/", "etc/homeplate/homeplate.toml")) == before
    else:
        pytest.fail("it never came to its end")


DYING = """
import os, sys
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
import homeplate_board as tool
left, real = int(sys.argv[2]), Path.replace
def replace(self, target):
    global left
    left -= 1
    if left == 0:
        os._exit(9)
    return real(self, target)
Path.replace = replace
sys.argv = ["homeplate-board", "install", "--root", sys.argv[3]]
raise SystemExit(tool.main())
"""


def dying(root, death):
    """Install and end without a word before the rename of that number; tell whether it came to that."""
    done = subprocess.run([sys.executable, "-I", "-c", DYING, PROGRAM, str(death), root], check=False)
    for left in root.rglob("*.homeplate-new"):
        left.unlink()
    return done.returncode == 9


WORDS = st.lists(st.from_regex(r"[a-z]{1,3}(=[a-z0-9]{1,3})?", fullmatch=True), max_size=6)


@given(WORDS, WORDS)
def test_words_are_in_the_line_once_added_and_gone_once_taken_out(present, wanted):
    wanted = list({word.partition("=")[0]: word for word in wanted}.values())
    line, changes = board_tool.with_words(" ".join(present), wanted)
    assert set(wanted) <= set(line.split(" "))
    assert board_tool.with_words(line, wanted) == (line, [])
    if len({word.partition("=")[0] for word in present}) == len(present):
        assert board_tool.without_words(line, changes).split() == present


def test_the_state_that_is_damaged_is_named(tmp_path):
    root = system(tmp_path, "raspberry-pi/pi4")
    call(root, "install")
    (root / board_tool.STATE).write_text(json.dumps({"oops": 1}))
    assert "is damaged" in call(root, "install", status=2)
    assert os.path.lexists(root / board_tool.BACKUPS / "boot/firmware/config.txt")
