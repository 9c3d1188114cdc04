"""Reads firmware_configs/ as a reviewer would: `python -m tools.firmware_lint`. Prints what it finds.

Every setting has to be in the table below, with a value that its source allows on that board, and has a comment right
above it that gives a reason and, in brackets, a source. Then every choice of options that a person can make is put
together, and what contradicts itself is named. It says nothing about whether a board starts with it: that needs one.
"""

import itertools
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from firmware_configs import homeplate_board as board_tool

ROOT = Path(__file__).resolve().parents[1] / "firmware_configs"
LONGEST_LINE = 98
"""Of config.txt: the rest is not read (raspberrypi.com/documentation/computers/config_txt.html, File format)."""
LONGEST_WATCHDOG_S = 15
"""PM_WDOG_TIME_SET, 20 bits of 1/65536 s (linux/drivers/watchdog/bcm2835_wdt.c)."""
PI, PI4, PI5, ZERO = "raspberry-pi/", "raspberry-pi/pi4", "raspberry-pi/pi5", "raspberry-pi/zero2w"
NANO = "jetson/orin-nano"

CONFIG_TXT = "raspberrypi.com/documentation/computers/config_txt.html"
OVERLAYS = "github.com/raspberrypi/firmware, boot/overlays/README"
BOOTLOADER = "raspberrypi.com/documentation/computers/raspberry-pi.html#raspberry-pi-bootloader-configuration"
KERNEL = "kernel.org/doc/html/latest/admin-guide/kernel-parameters.html"
L4T = "docs.nvidia.com/jetson, Jetson Linux Developer Guide"


@dataclass(frozen=True, slots=True)
class Known:
    """A setting that may be there: in which kind of file, its lines (a pattern), where it works, and who says so."""

    kind: str
    line: str
    source: str
    boards: tuple[str, ...] = (PI,)


KNOWN = (
    Known("config.txt", r"arm_64bit=1", CONFIG_TXT),
    Known("config.txt", r"disable_splash=[01]", CONFIG_TXT),
    Known("config.txt", r"enable_uart=[01]", CONFIG_TXT),
    Known("config.txt", r"auto_initramfs=[01]", CONFIG_TXT),
    Known("config.txt", r"camera_auto_detect=[01]", CONFIG_TXT),
    Known("config.txt", r"dtparam=audio=(on|off)", OVERLAYS),
    Known("config.txt", r"dtparam=watchdog=(on|off)", OVERLAYS),
    Known("config.txt", r"dtparam=rtc_bbat_vchg=(1[3-9]|[23]\d|4[0-3])\d{5}", OVERLAYS, (PI5,)),
    Known("config.txt", r"dtoverlay=disable-wifi", OVERLAYS, (PI4, ZERO)),
    Known("config.txt", r"dtoverlay=disable-bt", OVERLAYS, (PI4, ZERO)),
    Known("config.txt", r"dtoverlay=disable-(wifi|bt)-pi5", OVERLAYS, (PI5,)),
    Known("config.txt", r"dtoverlay=imx(296|477|708)(,cam[01])?", OVERLAYS),
    Known("config.txt", r"dtoverlay=i2c-rtc,(ds3231|pcf85063a|rv3028)", OVERLAYS),
    Known("cmdline.txt", r"cgroup_enable=memory", "github.com/raspberrypi/linux, kernel/cgroup/cgroup.c"),
    Known("cmdline.txt", r"panic=\d+", KERNEL),
    Known("cmdline.txt", r"usbcore\.authorized_default=[012]", KERNEL),
    Known("cmdline.txt", r"overlayroot=tmpfs:recurse=0", "manpages.ubuntu.com, overlayroot(8)"),
    Known("eeprom.conf", r"BOOT_ORDER=0x[ef][1-7]+", BOOTLOADER, (PI4, PI5)),
    Known("eeprom.conf", r"BOOT_WATCHDOG_TIMEOUT=\d+", BOOTLOADER, (PI4, PI5)),
    Known("eeprom.conf", r"(BOOT_UART|DISABLE_HDMI)=[01]", BOOTLOADER, (PI4, PI5)),
    Known("eeprom.conf", r"WAIT_FOR_POWER_BUTTON=[01]", BOOTLOADER, (PI5,)),
    Known("extlinux.txt", r"panic=\d+", KERNEL, (NANO,)),
    Known("extlinux.txt", r"usbcore\.authorized_default=[012]", KERNEL, (NANO,)),
    Known("overlay", r"/boot/tegra234-p3767-camera-p3768-imx(219|477)-dual\.dtbo", L4T, (NANO,)),
    Known("power.conf", r"POWER_MODE_P3767_000[35]=(7W|15W|25W|MAXN_SUPER)", L4T, (NANO,)),
    Known("power.conf", r"POWER_MODE_P3767_0004=(7W|10W)", L4T, (NANO,)),
    Known("power.conf", r"FIXED_CLOCKS=(yes|no)", L4T, (NANO,)),
    Known("fstab", r"LABEL=homeplate-data /var/lib/homeplate ext4 \S+ 0 2", "mount(8), ext4(5)"),
    Known("masked-units", r"(dphys-swapfile|bluetooth|hciuart)\.service", "systemctl(1), mask"),
    Known("masked-units", r"nv-l4t-usb-device-mode(-runtime)?\.service", L4T, (NANO,)),
    Known("masked-units", r"bluetooth\.service", "systemctl(1), mask", (NANO,)),
    Known("system.conf", r"(RuntimeWatchdogSec|RebootWatchdogSec)=\d+(s|min)", "systemd-system.conf(5)", (PI, NANO)),
    Known("swap.conf", r"Mechanism=zram", "swap.conf(5) of rpi-swap"),
    Known("journald.conf", r"(Storage=volatile|RuntimeMaxUse=\d+M)", "journald.conf(5)"),
    Known("modprobe", r"blacklist (rtl8822ce|rtw88_8822ce|btusb)", "modprobe.d(5)", (NANO,)),
)
KINDS = {
    "etc/systemd/system.conf.d": "system.conf",
    "etc/rpi/swap.conf.d": "swap.conf",
    "etc/systemd/journald.conf.d": "journald.conf",
    "etc/modprobe.d": "modprobe",
}
NOT_SETTINGS = {
    "homeplate.toml",
    "defaults",
    "README.md",
    "homeplate_board.py",
    "__init__.py",
    "homeplate-power.service",
    "50-jetson.conf",
}
"""Files that other tests read: the configuration, the units."""
SECTION = re.compile(r"\[(Manager|Main|Journal|all)\]")
BROKEN = (
    ("dtoverlay=disable-wifi", "usbcore.authorized_default=0"),
    ("camera_auto_detect=1", "dtoverlay=imx"),
)
"""What must not come together: a board without Ethernet and with neither radio nor USB; a camera named and guessed."""


def kind_of(path: Path) -> str | None:
    """Return which kind of file it is, None where it is of no kind that is known."""
    for folder, kind in KINDS.items():
        if path.parent.as_posix().endswith(f"root/{folder}"):
            return kind
    kinds = {known.kind for known in KNOWN}
    return path.name if path.name in kinds else None


def boards_of(inside: str) -> tuple[str, ...]:
    """Return the boards that a file, by its path in the folder, is for."""
    every = (PI4, PI5, ZERO, NANO)
    if inside.startswith("common/"):
        return every
    return tuple(board for board in every if inside.startswith((board, f"{board.partition('/')[0]}/common/")))


def file_findings(path: Path, inside: str) -> Iterator[str]:
    """Yield what is wrong with a file of settings: what is not known, or has no reason and source above it."""
    kind, comment = kind_of(path), ""
    if kind is None:
        yield f"{inside}: no such file is known; see tools/firmware_lint.py"
        return
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        if not line or SECTION.fullmatch(line):
            comment = "" if not line else comment
            continue
        if line.startswith("#"):
            comment += line
            continue
        where = f"{inside}:{number}: {line}"
        if not re.search(r"\w.{15}", comment):
            yield f"{where}: has no comment right above it that says why"
        elif not re.search(r"\(.{6,}", comment):
            yield f"{where}: its comment names no source in brackets"
        yield from (f"{where}: {fault}" for fault in setting_faults(inside, kind, line))
        comment = ""


def setting_faults(inside: str, kind: str, line: str) -> Iterator[str]:
    """Yield why a setting may not stand in a file."""
    fitting = [known for known in KNOWN if known.kind == kind and re.fullmatch(known.line, line)]
    for board in boards_of(inside):
        if not any(board.startswith(known.boards) for known in fitting):
            yield f"is not known on {board}"
    if kind == "config.txt" and len(line) > LONGEST_LINE:
        yield f"is longer than {LONGEST_LINE} characters, and the rest is not read"


def choices(board: str, files: Path = ROOT) -> Iterator[list[str]]:
    """Yield every choice of options that can be made for a board."""
    groups: dict[str, list[str | None]] = {}
    for option in board_tool.option_folders(files, board):
        groups.setdefault(option.partition("-")[0], [None]).append(option)
    for picked in itertools.product(*groups.values()):
        yield board_tool.chosen(files, board, [option for option in picked if option is not None])


def choice_findings(board: str, options: Sequence[str], files: Path = ROOT) -> Iterator[str]:
    """Yield what contradicts itself in a board's configuration with these options."""
    folders = board_tool.layers(files, board, list(options))
    told = f"{board} with {', '.join(options) or 'nothing chosen'}"
    config, cmdline, fstab = (lines(folders, name) for name in ("config.txt", "cmdline.txt", "fstab"))
    for kind, found in (("config.txt", config), ("cmdline.txt", cmdline + lines(folders, "extlinux.txt"))):
        for key, values in values_by_key(found).items():
            if len(values) > 1:
                yield f"{told}: {kind}: {key} twice: {', '.join(values)}"
    for one, other in BROKEN if board == ZERO else BROKEN[1:]:
        if any(line.startswith(one) for line in config) and any(line.startswith(other) for line in config + cmdline):
            yield f"{told}: {one} and {other} do not go together"
    if any(line.startswith("overlayroot=") for line in cmdline) != bool(fstab):
        yield f"{told}: a read-only root and a partition for the data come together or not at all"
    for folder in folders:
        for path in (folder / "root/etc/systemd/system.conf.d").glob("*.conf"):
            for key in ("RuntimeWatchdogSec", "RebootWatchdogSec"):
                seconds = re.search(rf"^{key}=(\d+)s$", path.read_text("utf-8"), flags=re.MULTILINE)
                if seconds is None or not 0 < int(seconds[1]) <= LONGEST_WATCHDOG_S:
                    yield f"{told}: {path.name}: {key} has to be 1 to {LONGEST_WATCHDOG_S} seconds"


def lines(folders: Sequence[Path], name: str) -> list[str]:
    """Return the settings of the files of that name, in the order of the folders."""
    return [line for folder in folders for line in board_tool.lines_of(folder / name)]


def values_by_key(found: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each setting that can be given once; an overlay is one with its own parameters."""
    by_key: dict[str, list[str]] = {}
    for line in found:
        key, _, value = line.partition("=")
        if key == "dtparam":
            key, _, value = value.partition("=")
        elif key == "dtoverlay":
            key, _, value = value.partition(",")
        by_key.setdefault(key, []).append(value)
    return by_key


def findings(files: Path = ROOT) -> list[str]:
    """Return all that is wrong, nothing where all is well."""
    found: list[str] = []
    for path in sorted(files.rglob("*")):
        if path.is_file() and path.name not in NOT_SETTINGS and "__pycache__" not in path.parts:
            found += file_findings(path, path.relative_to(files).as_posix())
    for _, board in board_tool.BOARDS:
        for options in choices(board, files):
            found += choice_findings(board, options, files)
    return sorted(set(found))


def main() -> int:
    """Print what is wrong."""
    found = findings()
    for line in found:
        print(line)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
