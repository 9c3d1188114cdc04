#!/usr/bin/env python3
"""homeplate-board: says which board this is and puts its firmware configuration in place; never an unknown one's.

  homeplate-board detect                        the board, or exit status 3
  homeplate-board options                       what can be chosen for it
  homeplate-board install [--with OPTION]...    idempotent; without --with what was chosen before, else the defaults
  homeplate-board remove                        takes everything out again
  homeplate-board eeprom [PRESENT]              the boot loader's settings, for `rpi-eeprom-config --apply`; no writing
  homeplate-board power                         Jetson: sets the mode and clocks of /etc/homeplate/power.conf

A board's configuration is layers of folders: common, the family's common, the board's own, the chosen options'. Files
that are the system's too get marked lines or single words; others are written whole. What was there is kept once under
/var/backups/homeplate-board. All is read and judged before anything is written; each file is replaced by rename.
Standard library only and Python 3.10, so that it runs before anything else of Homeplate does.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

UNKNOWN_BOARD = 3
STATE, BACKUPS = "etc/homeplate/board.json", "var/backups/homeplate-board"
CONFIGURATION, POWER = "etc/homeplate/homeplate.toml", "etc/homeplate/power.conf"
FIRMWARE, EXTLINUX, FSTAB = "boot/firmware", "boot/extlinux/extlinux.conf", "etc/fstab"
BEGIN, END = "# >>> homeplate-board: written by it; change the rest of the file only", "# <<< homeplate-board"
DATA_LABEL = "dev/disk/by-label/homeplate-data"
OVERLAYROOT = "usr/share/initramfs-tools/scripts/init-bottom/overlayroot"
BOARDS = (
    (re.compile(r"raspberrypi,4-model-b"), "raspberry-pi/pi4"),
    (re.compile(r"raspberrypi,5-model-b"), "raspberry-pi/pi5"),
    (re.compile(r"raspberrypi,model-zero-2-w"), "raspberry-pi/zero2w"),
    (re.compile(r"nvidia,(.*\+)?p3767-000[345](-.*)?"), "jetson/orin-nano"),
)
"""By an entry of the device tree's `compatible` (raspberrypi/linux, arch/arm64/boot/dts; Jetson module P3767: 0003 and
0005 are Orin Nano 8 GB, 0004 is 4 GB)."""
OPPOSITE = {"cgroup_enable=memory": "cgroup_disable=memory"}
REPEATABLE = {"cgroup_enable"}
"""Words that a kernel command line may have several times with different values."""
NEEDS_NO_USB_ROOT = "usbcore.authorized_default=0"


class BoardError(Exception):
    """Something that a person can mend; `status` is the exit status."""

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class State:
    """What is in place: options, files that were written whole, links, words added to lines and what they replaced."""

    board: str = ""
    options: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    words: dict[str, list[list[str]]] = field(default_factory=dict)

    @classmethod
    def load(cls, root: Path) -> "State":
        """Read it; an empty one where nothing was put in place yet."""
        path = root / STATE
        try:
            return cls(**json.loads(path.read_text("utf-8")))
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError) as error:
            raise BoardError(f"{path} is damaged: {error}; compare with /{BACKUPS} and delete it") from error

    def with_all_of(self, other: "State") -> "State":
        """Return a state that names what either of the two names."""
        return State(
            board=self.board or other.board,
            options=self.options,
            files=sorted({*self.files, *other.files}),
            links=sorted({*self.links, *other.links}),
            words={
                path: [*self.words.get(path, []), *other.words.get(path, [])]
                for path in sorted({*self.words, *other.words})
            },
        )


@dataclass
class Plan:
    """What the system has to look like: texts by path, links by path, and the state that says so. None is absent."""

    state: State
    texts: dict[str, str | None] = field(default_factory=dict)
    links: dict[str, str | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def detect(root: Path) -> tuple[str, str]:
    """Return the board's folder and the model's name.

    Raises:
        BoardError: the device tree is missing or names no board that has a folder here.
    """
    tree = root / "proc/device-tree"
    try:
        names = (tree / "compatible").read_bytes().decode("ascii", "replace").split("\0")
        model = (tree / "model").read_bytes().decode("ascii", "replace").strip("\0\n ")
    except OSError as error:
        raise BoardError(
            f"no board: {tree} cannot be read ({error.strerror}); nothing is changed", UNKNOWN_BOARD
        ) from error
    for pattern, board in BOARDS:
        if any(pattern.fullmatch(name) for name in names):
            return board, model
    raise BoardError(f"unknown board: {model or names}; nothing is changed", UNKNOWN_BOARD)


def lines_of(path: Path) -> list[str]:
    """Return a file's lines without comments and empty ones; none where there is no such file."""
    if not path.is_file():
        return []
    lines = (line.strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def option_folders(files: Path, board: str) -> dict[str, Path]:
    """Return the options of a board by name; its own come before its family's of the same name."""
    family = board.partition("/")[0]
    found: dict[str, Path] = {}
    for folder in (files / board / "options", files / family / "common/options"):
        for option in sorted(folder.iterdir()) if folder.is_dir() else []:
            found.setdefault(option.name, option)
    return found


def chosen(files: Path, board: str, asked: list[str] | None) -> list[str]:
    """Return the options with the defaults for groups (the first word of the name) that nobody chose from.

    Raises:
        BoardError: an option is unknown, or two are of one group.
    """
    known = option_folders(files, board)
    options = sorted(set(asked or []))
    for option in options:
        if option not in known:
            raise BoardError(f"{board} has no option {option}; it has: {', '.join(known)}")
    groups = [option.split("-")[0] for option in options]
    for group in groups:
        if groups.count(group) > 1:
            of_group = ", ".join(option for option in options if option.split("-")[0] == group)
            raise BoardError(f"choose one of {of_group}")
    return options + [one for one in lines_of(files / board / "defaults") if one.split("-")[0] not in groups]


def layers(files: Path, board: str, options: list[str]) -> list[Path]:
    """Return the folders that make a board's configuration, later ones over earlier ones."""
    known = option_folders(files, board)
    family = board.partition("/")[0]
    return [files / "common", files / family / "common", files / board, *(known[option] for option in options)]


def settings(folders: list[Path], name: str) -> dict[str, str]:
    """Return the `KEY=value` lines of the files of that name, later ones over earlier ones."""
    found = {}
    for folder in folders:
        for line in lines_of(folder / name):
            key, _, value = line.partition("=")
            found[key] = value
    return found


def without_block(text: str) -> str:
    """Return a text without what stands between our marks."""
    return re.sub(rf"\n?{re.escape(BEGIN)}\n.*?{re.escape(END)}\n", "", text, flags=re.DOTALL)


def with_block(text: str, lines: list[str]) -> str:
    """Return a text with the lines between our marks at its end, in place of those that were there."""
    text = without_block(text)
    if not lines:
        return text
    return text.rstrip("\n") + "\n\n" + "\n".join((BEGIN, *lines, END)) + "\n"


def without_words(line: str, words: list[list[str]]) -> str:
    """Return a kernel command line as it was before `with_words` recorded `words`."""
    parts = line.split(" ")
    for added, replaced in words:
        if added in parts:
            place = parts.index(added)
            parts[place : place + 1] = [replaced] if replaced else []
        elif not added and replaced not in parts:
            parts.append(replaced)
    return " ".join(parts)


def with_words(line: str, wanted: list[str]) -> tuple[str, list[list[str]]]:
    """Return a kernel command line with the words in it, and what was added for what: one value a key."""
    parts, changes = line.split(" "), []
    for word in wanted:
        opposite = OPPOSITE.get(word)
        if opposite in parts:
            parts.remove(opposite)
            changes.append(["", opposite])
        if word in parts:
            continue
        key = word.partition("=")[0]
        same = [part for part in parts if part.partition("=")[0] == key and key not in REPEATABLE]
        if same:
            parts[parts.index(same[0])] = word
        else:
            parts.append(word)
        changes.append([word, same[0] if same else ""])
    return " ".join(parts), changes


def root_may_be_on_usb(root: Path, line: str) -> bool:
    """Tell whether the root of a kernel command line is a disk on USB, or none that can be told."""
    device = next((word[5:] for word in line.split() if word.startswith("root=")), "")
    for kind in ("PARTUUID", "UUID", "LABEL"):
        if device.startswith(f"{kind}="):
            link = root / "dev/disk" / f"by-{kind.lower()}" / device.partition("=")[2]
            device = f"/dev/{link.readlink().name}" if link.is_symlink() else ""
    return re.match(r"/dev/(mmcblk|nvme)\d", device) is None


def plan_of(root: Path, files: Path, board: str, options: list[str]) -> Plan:
    """Return what has to be done, which is nothing where it was done before.

    Raises:
        BoardError: the system lacks what a file needs.
    """
    folders = layers(files, board, options)
    old = State.load(root)
    plan = Plan(state=State(board=board, options=options))
    for path in old.files:
        plan.texts[path] = None
    for path in old.links:
        plan.links[path] = None
    if "read-only-root" in options:
        refuse_unready_data(root)
    plan_whole_files(plan, folders, root, old)
    if board.startswith("raspberry-pi/"):
        plan_raspberry_pi(plan, folders, root, old)
    else:
        plan_jetson(plan, folders, root, old)
    fstab = [line for folder in folders for line in lines_of(folder / "fstab")]
    if fstab or (old.board and (root / FSTAB).exists()):
        plan.texts[FSTAB] = with_block(text_of(root, FSTAB), missing_mounts(text_of(root, FSTAB), fstab))
    return plan


def refuse_unready_data(root: Path) -> None:
    """Refuse a read-only root that would keep records in memory or hide those that are there."""
    if not (root / DATA_LABEL).is_symlink():
        raise BoardError(
            "read-only-root: there is no partition labelled homeplate-data, and records and keys would lie in "
            "memory; make one: mkfs.ext4 -L homeplate-data /dev/PARTITION"
        )
    if not (root / OVERLAYROOT).exists():
        raise BoardError("read-only-root: overlayroot is not installed: apt-get install overlayroot")
    mounted = any(line.split()[1:2] == ["/var/lib/homeplate"] for line in text_of(root, "proc/mounts").splitlines())
    data = root / "var/lib/homeplate"
    if not mounted and data.is_dir() and any(data.iterdir()):
        raise BoardError(
            "read-only-root: /var/lib/homeplate holds data on the root; move it to the homeplate-data partition and "
            "mount that there first"
        )


def missing_mounts(fstab: str, lines: list[str]) -> list[str]:
    """Return the lines of mounts that the rest of an fstab does not have."""
    taken = {line.split()[1] for line in without_block(fstab).splitlines() if len(line.split()) > 1 and line[:1] != "#"}
    return [line for line in lines if line.split()[1] not in taken]


def plan_link(plan: Plan, root: Path, old: State, link: str) -> None:
    """Plan a link; one that was there before without us stays nobody's of ours."""
    plan.links[link] = destination_of(link)
    if link in old.links or not leads_to(root / link, destination_of(link)):
        plan.state.links.append(link)


def plan_whole_files(plan: Plan, folders: list[Path], root: Path, old: State) -> None:
    """Plan the files that are ours alone, the units that are masked or started, and the node's first configuration."""
    for folder in folders:
        for path in sorted((folder / "root").rglob("*")):
            if path.is_file():
                target = path.relative_to(folder / "root").as_posix()
                plan.texts[target] = path.read_text("utf-8")
                plan.state.files.append(target)
                if path.suffix == ".service":
                    units = path.parent.relative_to(folder / "root")
                    plan_link(plan, root, old, f"{units}/multi-user.target.wants/{path.name}")
        for unit in lines_of(folder / "masked-units"):
            plan_link(plan, root, old, f"etc/systemd/system/{unit}")
    power = settings(folders, "power.conf")
    if power:
        plan.texts[POWER] = "".join(f"{key}={value}\n" for key, value in power.items())
        plan.state.files.append(POWER)
    first = [
        path for folder in reversed(folders) for path in (folder, folder.parent) if (path / "homeplate.toml").is_file()
    ]
    if first and not (root / CONFIGURATION).exists():
        plan.texts[CONFIGURATION] = (first[0] / "homeplate.toml").read_text("utf-8")


def plan_raspberry_pi(plan: Plan, folders: list[Path], root: Path, old: State) -> None:
    """Plan config.txt and cmdline.txt."""
    config, cmdline = f"{FIRMWARE}/config.txt", f"{FIRMWARE}/cmdline.txt"
    for path in (config, cmdline):
        if not (root / path).is_file():
            raise BoardError(
                f"/{path} is missing: it takes Raspberry Pi OS bookworm or trixie, the boot partition mounted"
            )
    wanted = [line for folder in folders for line in lines_of(folder / "config.txt")]
    plan.texts[config] = with_block(text_of(root, config), ["[all]", *wanted])
    line = without_words(text_of(root, cmdline).strip("\n"), old.words.get(cmdline, []))
    words = usable_words(plan, folders, "cmdline.txt", root, line)
    line, plan.state.words[cmdline] = with_words(line, words)
    plan.texts[cmdline] = line + "\n"


def usable_words(plan: Plan, folders: list[Path], name: str, root: Path, line: str) -> list[str]:
    """Return the words to add to a kernel command line: all, but for USB where the root may be on it."""
    words = [word for folder in folders for word in lines_of(folder / name)]
    if NEEDS_NO_USB_ROOT in words and root_may_be_on_usb(root, line):
        words.remove(NEEDS_NO_USB_ROOT)
        plan.notes.append(f"USB stays on: the root is not known to be on a card or an NVMe disk ({NEEDS_NO_USB_ROOT})")
    return words


def plan_jetson(plan: Plan, folders: list[Path], root: Path, old: State) -> None:
    """Plan extlinux.conf: words in each APPEND line, overlays in the entry that starts by default."""
    if not (root / EXTLINUX).is_file():
        raise BoardError(f"/{EXTLINUX} is missing: this needs JetPack 6 or 7")
    overlays = [line for folder in folders for line in lines_of(folder / "overlay")]
    for overlay in overlays:
        if not (root / overlay.lstrip("/")).is_file():
            raise BoardError(f"{overlay} is missing: this JetPack has no such overlay; see `config-by-hardware.py -l`")
    lines, changes = [], old.words.get(EXTLINUX, [])
    made: list[list[str]] = []
    for line in text_of(root, EXTLINUX).splitlines():
        head, keyword, words = line.partition("APPEND ")
        if keyword and not head.strip():
            before = without_words(words, changes)
            after, made = with_words(before, usable_words(plan, folders, "extlinux.txt", root, before))
            lines.append(head + keyword + after)
        else:
            lines.append(line)
    plan.state.words[EXTLINUX] = made
    plan.texts[EXTLINUX] = with_overlays("\n".join(lines) + "\n", overlays)
    plan.notes = sorted(set(plan.notes))


def with_overlays(text: str, overlays: list[str]) -> str:
    """Return an extlinux.conf whose default entry has our OVERLAYS line, marked, or none of ours.

    Raises:
        BoardError: the entry has an OVERLAYS line of its own, or there is no default entry.
    """
    text = re.sub(rf"[ \t]*{re.escape(BEGIN)}\n.*?{re.escape(END)}\n", "", text, flags=re.DOTALL)
    if not overlays:
        return text
    default = re.search(r"^DEFAULT[ \t]+(\S+)", text, flags=re.MULTILINE)
    entry = default and re.search(
        rf"^LABEL[ \t]+{re.escape(default[1])}[ \t]*\n(?:(?!LABEL).*\n)*?(?=[ \t]*APPEND)", text, flags=re.MULTILINE
    )
    if not entry:
        raise BoardError(f"/{EXTLINUX} has no default entry with an APPEND line; use config-by-hardware.py instead")
    if "OVERLAYS" in re.split(r"^LABEL", text[entry.start() + 5 :], flags=re.MULTILINE)[0]:
        raise BoardError(
            f"/{EXTLINUX}: its default entry has OVERLAYS of its own; leave the camera out, or take that line out"
        )
    marked = f"      {BEGIN}\n      OVERLAYS {','.join(overlays)}\n      {END}\n"
    return text[: entry.end()] + marked + text[entry.end() :]


def text_of(root: Path, path: str) -> str:
    """Return a file's text, nothing where it is missing."""
    try:
        return (root / path).read_text("utf-8")
    except FileNotFoundError:
        return ""


def apply(plan: Plan, root: Path) -> list[str]:
    """Do what is planned and return the paths that changed.

    What was and what will be in place is noted first: a crash in between leaves nothing that `remove` does not know.
    """
    old = State.load(root)
    write_state(plan.state.with_all_of(old), root)
    changed = [path for path, text in plan.texts.items() if set_text(root, path, text, ours=path in old.files)]
    changed += [path for path, to in plan.links.items() if set_link(root, path, to)]
    write_state(plan.state, root)
    return changed


def write_state(state: State, root: Path) -> None:
    """Note a state, where it is not noted already."""
    text = json.dumps(vars(state), indent=1, sort_keys=True) + "\n"
    if text != text_of(root, STATE):
        replace(root / STATE, text)


def set_text(root: Path, path: str, text: str | None, *, ours: bool) -> bool:
    """Give a file a text, or (None) take it away for what was there before it was ours; tell whether that changed it.

    What is there and not ours is kept, the first time.
    """
    target, kept = root / path, root / BACKUPS / path
    if text is None and ours and kept.is_file():
        text = kept.read_text("utf-8")
    before = text_of(root, path) if target.exists() else None
    if text == before:
        return False
    if before is not None and not ours and not kept.exists():
        replace(kept, before)
    if text is None:
        target.unlink()
    else:
        replace(target, text)
    return True


def destination_of(link: str) -> str:
    """Return where a link of ours leads: to the unit that it starts, or to nothing, which masks one."""
    folder, _, name = link.rpartition("/")
    return f"../{name}" if folder.endswith(".wants") else "/dev/null"


def leads_to(target: Path, destination: str) -> bool:
    """Tell whether a path is a link to that destination."""
    return target.is_symlink() and str(target.readlink()) == destination


def set_link(root: Path, path: str, destination: str | None) -> bool:
    """Make a link, or (None) put back what was in its place; tell whether that changed anything.

    What is in its place is kept first, a file or a link. A link that leads elsewhere than ours is somebody else's.
    """
    target, kept = root / path, root / BACKUPS / path
    ours = leads_to(target, destination_of(path))
    if destination is None:
        if not ours:
            return False
        if os.path.lexists(kept):
            copy(kept, target)
            kept.unlink()
        else:
            target.unlink()
        return True
    if ours:
        return False
    if os.path.lexists(target):
        copy(target, kept)
    else:
        kept.unlink(missing_ok=True)
        target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(target.name + ".homeplate-new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(destination)
    fresh.replace(target)
    return True


def copy(source: Path, target: Path) -> None:
    """Give a path what another has, a file with its mode or a link as it is, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(target.name + ".homeplate-new")
    fresh.unlink(missing_ok=True)
    shutil.copy2(source, fresh, follow_symlinks=False)
    if not fresh.is_symlink():
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
    fresh.replace(target)


def replace(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".homeplate-new")
    with fresh.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    if path.exists():
        fresh.chmod(path.stat().st_mode & 0o7777)
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove(root: Path) -> list[str]:
    """Take everything out again; the node's configuration and the backups stay."""
    old = State.load(root)
    plan = Plan(state=State())
    plan.texts = dict.fromkeys(old.files)
    plan.links = dict.fromkeys(old.links)
    if old.board:
        plan.texts[FSTAB] = without_block(text_of(root, FSTAB)) if (root / FSTAB).exists() else None
    if old.board.startswith("raspberry-pi/"):
        config, cmdline = f"{FIRMWARE}/config.txt", f"{FIRMWARE}/cmdline.txt"
        plan.texts[config] = without_block(text_of(root, config))
        line = text_of(root, cmdline).strip("\n")
        plan.texts[cmdline] = without_words(line, old.words.get(cmdline, [])) + "\n"
    elif old.board:
        plan_jetson(plan, [], root, old)
    changed = apply(plan, root)
    (root / STATE).unlink(missing_ok=True)
    return changed


def eeprom(files: Path, board: str, options: list[str], present: str) -> str:
    """Return the boot loader's present settings with ours in place of those of the same name."""
    ours = settings(layers(files, board, options), "eeprom.conf")
    if not ours:
        raise BoardError(f"{board} has no boot loader that can be set")
    kept = [line for line in present.splitlines() if line.partition("=")[0].strip() not in ours]
    return "\n".join([*kept, "[all]", *(f"{key}={value}" for key, value in ours.items())]) + "\n"


def module_of(root: Path) -> str:
    """Return the number of a Jetson's module (P3767-NNNN), or nothing where the device tree names none."""
    found = re.search(r"nvidia,[^\0]*p3767-(\d{4})", text_of(root, "proc/device-tree/compatible"))
    return found[1] if found else ""


def power_commands(wanted: dict[str, str], module: str, table: str, present: str) -> list[list[str]]:
    """Return the commands that set the wanted power mode and clocks.

    Args:
        wanted: the module's mode by its name, FIXED_CLOCKS yes or no.
        module: the module's number on its part, as 0004.
        table: /etc/nvpmodel.conf.
        present: what `nvpmodel -q` printed.
    """
    modes = {name: number for number, name in re.findall(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>", table)}
    mode = wanted.get(f"POWER_MODE_P3767_{module}", "")
    if mode not in modes:
        raise BoardError(f"/{POWER}: this board has no power mode {mode or '(none named)'}; it has: {', '.join(modes)}")
    commands = [] if f"NV Power Mode: {mode}" in present.splitlines() else [["nvpmodel", "-m", modes[mode]]]
    return [*commands, ["jetson_clocks"]] if wanted.get("FIXED_CLOCKS") == "yes" else commands


def set_power(root: Path) -> None:
    """Set the mode and the clocks, as root on the Jetson itself."""
    wanted, module = settings([root / "etc/homeplate"], "power.conf"), module_of(root)
    if f"POWER_MODE_P3767_{module}" not in wanted:
        print(f"/{POWER} names no mode for the module {module or 'of this device tree'}: its power and clocks stay")
        return
    query = subprocess.run(["nvpmodel", "-q"], capture_output=True, text=True, check=False)
    for command in power_commands(wanted, module, text_of(root, "etc/nvpmodel.conf"), query.stdout):
        done = subprocess.run(command, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise BoardError(f"{' '.join(command)} failed with status {done.returncode}", 1)


def default_files() -> Path:
    """Return the folder of the configurations: beside this file, or the package's."""
    here = Path(__file__).resolve().parent
    return here if (here / "raspberry-pi").is_dir() else here.parent / "firmware_configs"


def parsed(words: list[str]) -> argparse.Namespace:
    """Return the command line's meaning."""
    parser = argparse.ArgumentParser(
        prog="homeplate-board", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("detect", "options", "install", "remove", "eeprom", "power"))
    parser.add_argument("present", nargs="?", type=Path, help="eeprom: what rpi-eeprom-config prints now")
    parser.add_argument("--with", dest="options", action="append", metavar="OPTION", help="install: see `options`")
    parser.add_argument("--root", type=Path, default=Path("/"), help="the system to look at and to change")
    parser.add_argument("--files", type=Path, default=default_files(), help="the folder firmware_configs")
    return parser.parse_args(words)


def run(given: argparse.Namespace) -> None:
    """Do one verb."""
    root, files = given.root, given.files
    if given.verb == "remove":
        for path in remove(root):
            print(f"put back /{path}")
        return
    if given.verb == "power":
        set_power(root)
        return
    board, model = detect(root)
    asked = given.options if given.options is not None else State.load(root).options
    options = chosen(files, board, [one for one in asked if given.options or one in option_folders(files, board)])
    if given.verb == "detect":
        print(f"{board} ({model})")
    elif given.verb == "options":
        for option in option_folders(files, board):
            print(f"{option}{' (chosen)' if option in options else ''}")
    elif given.verb == "eeprom":
        print(eeprom(files, board, options, given.present.read_text("utf-8") if given.present else ""), end="")
    else:
        plan = plan_of(root, files, board, options)
        changed = apply(plan, root)
        print(f"{board} ({model}): {', '.join(options)}")
        for line in (*(f"written /{path}" for path in changed), *plan.notes):
            print(line)
        print("restart the board to apply this" if changed else "nothing changed")


def main() -> int:
    """Run, or say in one line why not."""
    try:
        run(parsed(sys.argv[1:]))
    except BoardError as error:
        print(f"homeplate-board: {error}", file=sys.stderr)
        return error.status
    except OSError as error:
        print(f"homeplate-board: {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
