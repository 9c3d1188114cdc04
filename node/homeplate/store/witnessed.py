"""The node's side of its witnesses: what it asks of them, what it takes back, and when they saw each log last."""

from collections.abc import Collection, Mapping
from pathlib import Path

from homeplate.domain.witness import Witness
from homeplate.errors import LedgerError
from homeplate.store.checkpoints import (
    checkpoint_files,
    origin_of,
    parse_signatures,
    read_note,
    verify,
    write_durably,
)
from homeplate.store.cosignatures import Request, cosignatures
from homeplate.store.merkle import Frontier, consistency_proof
from homeplate.store.reading import scan


def requests(
    logs: Mapping[str, Path], checkpoints: Path, witnesses: Collection[Witness], since: Mapping[str, int]
) -> list[tuple[str, Request]]:
    """Return what each witness is asked: each log's newest checkpoint, with the proof from the one it saw last.

    Args:
        logs: path of each log by name.
        checkpoints: the node's.
        witnesses: the bundle's.
        since: for a log, what size a witness says that it saw last, where the node knows another.

    Raises:
        LedgerError: where a log does not verify or is not what its checkpoint says.
        StoreError: where a file cannot be read.
    """
    found: list[tuple[str, Request]] = []
    for name, path in sorted(logs.items()):
        notes = checkpoint_files(checkpoints, name)
        if notes:
            found += [
                (witness.name, _request(path, notes[-1], since.get(name, _seen(notes, witness))))
                for witness in witnesses
            ]
    return found


def _seen(notes: list[Path], witness: Witness) -> int:
    """Return the size of the largest checkpoint that the witness cosigned; 0 where there is none."""
    for path in reversed(notes):
        note = read_note(path)
        if cosignatures(note, [witness]):
            return parse_signatures(note)[0].size
    return 0


def _request(path: Path, file: Path, old_size: int) -> Request:
    note = read_note(file)
    point = parse_signatures(note)[0]
    leaves: list[bytes] = []
    state = scan(path, {old_size, point.size}, lambda _, leaf: leaves.append(leaf), after=old_size)
    if state.bad:
        raise LedgerError(f"ledger {path.name}, row {state.bad.number}: {state.bad.reason}; nothing was asked")
    if point.size not in state.points or state.points[point.size][0] != point.root:
        raise LedgerError(f"ledger {path.name} is not what {file.name} signed; nothing was asked")
    old = state.trees.get(old_size, Frontier() if not old_size else None)
    if old is None or old_size > point.size:
        raise LedgerError(f"ledger {path.name} has no tree of {old_size} rows here: no proof from there can be made")
    proof = consistency_proof(old, leaves[old_size - state.start : point.size - state.start])
    return Request(old_size=old_size, proof=tuple(proof), note=_own(note))


def _own(note: bytes) -> bytes:
    """Return the note with its first signature alone, the node's: a witness is told no other witness's word."""
    head, _, signatures = note.decode().rpartition("\n\n")
    return f"{head}\n\n{signatures.splitlines()[0]}\n".encode()


def take(
    notes: Collection[bytes], checkpoints: Path, witnesses: Collection[Witness], *, pseudonym: bytes, public: bytes
) -> list[str]:
    """Add cosignatures to the node's own checkpoints; return what was taken, a line each.

    Raises:
        LedgerError: where one is not of this node, not cosigned by a witness that the bundle names, or not signed here.
        StoreError: where a file cannot be read or written.
    """
    taken: list[str] = []
    for note in notes:
        point = verify(note, public)
        name = point.origin.rpartition("/")[2]
        if not (name.isascii() and name.isalpha() and point.origin == origin_of(pseudonym, name)):
            raise LedgerError(f"{point.origin} is no log that is kept here")
        said = cosignatures(note, witnesses)
        if not said:
            raise LedgerError(f"{point.origin}: no witness that the bundle names has cosigned it")
        path = next((one for one in checkpoint_files(checkpoints, name) if int(one.stem[-12:]) == point.size), None)
        if path is None or verify(read_note(path), public) != point:
            raise LedgerError(f"{point.origin}: {checkpoints} keeps no such checkpoint of {point.size} rows")
        known = read_note(path).decode()
        lines = [line for line in note.decode().rpartition("\n\n")[2].splitlines() if line not in known]
        write_durably(path, (known + "".join(f"{line}\n" for line in lines)).encode())
        taken += [f"{name}: {point.size} rows cosigned by {one.name}" for one in said]
    return taken


def last_cosigned_s(checkpoints: Path, name: str, witnesses: Collection[Witness]) -> int | None:
    """Return when a witness cosigned a log last, seconds since 1970; None where none has.

    Raises:
        LedgerError: where a cosignature is wrong.
        StoreError: where a file cannot be read.
    """
    times = [
        said.time_s for path in checkpoint_files(checkpoints, name) for said in cosignatures(read_note(path), witnesses)
    ]
    return max(times, default=None)
