"""Cars with known plates: rendered here, read by the node in a simulation's folder of its own, opened here.

The folder has a throw-away root marked `demo`, made on this machine, so nothing of the node's own records, keys or
bundle is touched; it is removed at the end. What the node sealed is brought back and opened with the throw-away key.
"""

import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from homeplate.domain.record import Part, StorageClass
from homeplate.sealing.envelope import decode
from homeplate.sealing.facts import decode_facts
from homeplate.sealing.keys import load_sealing_key
from homeplate.sealing.seal import open_sealed
from homeplate.sealing.slots import SlotStore
from homeplate.store.spool import FileSpool
from homeplate_custodian import provision
from tools import stage
from tools.hil.remote import Remote, RemoteError
from tools.hil.settings import Node, Target
from tools.render.clip import render_clip

ON_DISK, IN_MEMORY = "/var/tmp/homeplate-hil.XXXXXXXX", "/dev/shm/homeplate-hil.XXXXXXXX"  # noqa: S108 - mktemp's
CONFIG = '[node]\ndata_dir = "{folder}/node"\nruntime_dir = "{runtime}"\n'


class _Simulated(msgspec.Struct, frozen=True, kw_only=True):
    """What is used of `homeplate simulate --json`; the rest is passed over."""

    frames: int
    passages: int
    sealed_records: int
    milliseconds_a_frame: dict[str, float]
    models: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of one play of the target: counts, milliseconds a frame by stage, and what ran the models."""

    frames: int
    passages: int
    sealed: int
    stages_ms: dict[str, float]
    models: dict[str, str]


def played(text: str) -> Played:
    """Read the last line of `homeplate simulate --json`.

    Raises:
        RemoteError: where it is none.
    """
    line = text.strip().splitlines()[-1:] or [""]
    try:
        one = msgspec.json.decode(line[0], type=_Simulated)
    except msgspec.MsgspecError as error:
        raise RemoteError(f"`homeplate simulate --json` said what is not understood: {error}") from error
    return Played(
        frames=one.frames,
        passages=one.passages,
        sealed=one.sealed_records,
        stages_ms=one.milliseconds_a_frame,
        models=one.models,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """A rendered clip and the plates that pass in it."""

    path: Path
    plates: tuple[str, ...]


def render(folder: Path, target: Target) -> Clip:
    """Render the clip into a folder; equal settings give equal clips."""
    path = folder / "target.avi"
    rng = np.random.default_rng(target.seed)
    return Clip(path=path, plates=tuple(render_clip(path, rng, seconds=target.seconds, plates=target.plates)))


class Simulation:
    """A simulation's folder on the node, enrolled and with a bundle."""

    def __init__(self, remote: Remote, node: Node, target: Target, clip: Clip, here: Path) -> None:
        self._remote, self._node, self._target, self._here = remote, node, target, here
        self._clip = clip
        self._custody = here / "custody"
        self._folder = self._runtime = ""

    def set_up(self) -> None:
        """Make the node there, enrol it here, bring it its bundle and the clip.

        Raises:
            RemoteError: a command on the node fails.
        """
        self._folder, self._runtime = _made(self._remote, ON_DISK), _made(self._remote, IN_MEMORY)
        stage.found(self._custody)
        self._put("homeplate.toml", CONFIG.format(folder=self._folder, runtime=self._runtime).encode())
        self._put("root.json", (self._custody / "root.json").read_bytes())
        request = f"{self._folder}/request.json"
        self._homeplate("init", "--root", f"{self._folder}/root.json", "--request", request, "--simulation")
        now_s = stage.now_s()
        asked = self._remote.tell("cat", request).out
        self._put("client.crt", provision.enrol(self._custody, asked, now_s=now_s).encode())
        bundle = provision.publish_bundle(self._custody, now_s=now_s)
        self._remote.tell("mkdir", f"{self._folder}/bundle")
        self._remote.tell("tar", "-C", f"{self._folder}/bundle", "-xf", "-", given=_packed(bundle))
        self._homeplate("bundle", "install", f"{self._folder}/bundle", "--certificate", f"{self._folder}/client.crt")
        self._put("target.avi", self._clip.path.read_bytes())

    def play(self) -> Played:
        """Let the node read the clip once.

        Raises:
            RemoteError: it fails, or takes longer than the target's deadline.
        """
        return played(self._homeplate("simulate", "--no-publish", "--json", f"{self._folder}/target.avi"))

    def read(self) -> set[str]:
        """Bring back what the node sealed, open it, and return the plates.

        Raises:
            RemoteError: nothing comes back.
        """
        copy = self._here / "fetched"
        for name, parts in ((self._folder, ("node/spool", "node/slots")), (self._runtime, (".",))):
            archive = self._remote.tell("tar", "-C", name, "-cf", "-", *parts, deadline_s=self._target.deadline_s).out
            _unpacked(archive, copy if name == self._folder else copy / "runtime")
        return set(opened(self._custody, copy))

    def forget(self) -> None:
        """Remove the records of the plays so far; a long run would fill the node's disk."""
        self._remote.tell("find", f"{self._folder}/node/spool/outgoing", "-type", "f", "-delete")

    def remove(self) -> None:
        """Remove the folder from the node."""
        made = [folder for folder in (self._folder, self._runtime) if folder]
        if made:
            self._remote.ask("rm", "-rf", "--", *made)

    def _put(self, name: str, content: bytes) -> None:
        deadline_s = self._target.deadline_s
        self._remote.tell(
            "dd", f"of={self._folder}/{name}", "bs=1M", "status=none", given=content, deadline_s=deadline_s
        )

    def _homeplate(self, *words: str) -> str:
        command = [self._node.homeplate, "--config", f"{self._folder}/homeplate.toml", *words]
        return self._remote.tell(*command, deadline_s=self._target.deadline_s).text


def _made(remote: Remote, pattern: str) -> str:
    folder = remote.tell("mktemp", "-d", pattern).text.strip()
    if not folder.startswith(pattern.rstrip("X")) or "/" in folder[len(pattern.rstrip("X")) :]:
        raise RemoteError("`mktemp` on the node returned no folder of ours")
    return folder


def _packed(folder: Path) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        archive.add(folder, arcname=".")
    return made.getvalue()


def _unpacked(archive: bytes, folder: Path) -> None:
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as opened_archive:
            opened_archive.extractall(folder, filter="data")
    except tarfile.TarError as error:
        raise RemoteError(f"what the node sent back is no archive: {error}") from error


def opened(custody: Path, copy: Path) -> Iterator[str]:
    """Yield the plates of the facts records in a copy of a simulation's folder."""
    [key] = (custody / "agencies" / stage.AGENCY).glob("*.key")
    private = load_sealing_key(key)
    request = json.loads((custody / "operator" / "nodes.json").read_text("utf-8"))
    node_public = bytes.fromhex(request["nodes"][0]["record_public"])
    name = f"{StorageClass.OUTGOING}.slots"
    slots, spool = (
        SlotStore.open_existing(copy / "node/slots" / name, copy / "runtime" / name),
        FileSpool(copy / "node/spool"),
    )
    for record_id in spool.released(StorageClass.OUTGOING):
        sealed = slots.unwrap(spool.get(record_id))
        if sealed is None:
            continue
        part, plaintext = open_sealed(decode(sealed), private, node_public)
        if part is Part.FACTS:
            yield decode_facts(plaintext).plate
    slots.close()


@contextmanager
def kept_busy(simulation: Simulation, *, load: bool) -> Iterator[list[Played | RemoteError]]:
    """Play the target again and again while the context lasts; yield what came of each play, a list that grows."""
    plays: list[Played | RemoteError] = []
    done = threading.Event()

    def go_on() -> None:
        while not done.is_set():
            try:
                plays.append(simulation.play())
                simulation.forget()
            except RemoteError as error:
                plays.append(error)
                done.wait(5)

    thread = threading.Thread(target=go_on, name="load")
    if load:
        thread.start()
    try:
        yield plays
    finally:
        done.set()
        if load:
            thread.join()
