"""Takes closed segments off the node: copied whole, with the checkpoint that covers them, before they go.

What the processes still read back stays: the newest closed segment, and whatever is younger than any record may be.
"""

import hashlib
from pathlib import Path

from homeplate.errors import LedgerError, StoreError
from homeplate.store.checkpoints import checkpoint_files, read_note, verify, write_durably
from homeplate.store.reading import closed_segments, first_row, scan

CHECKPOINTS = "checkpoints"


def archive(log: Path, folder: Path, *, checkpoints: Path, public: bytes, before_ns: int) -> list[Path]:
    """Move a log's closed segments to `folder`; return where they lie now.

    Args:
        log: its written file.
        folder: where they go, with `checkpoints/` beside them.
        checkpoints: the node's.
        public: the node's ledger key, raw Ed25519.
        before_ns: only segments whose rows are all older than this.

    Raises:
        LedgerError: where the log does not verify, or contradicts its checkpoint; nothing is moved.
        StoreError: where a file cannot be copied; what was not copied stays.
    """
    notes, segments = checkpoint_files(checkpoints, log.stem), closed_segments(log)
    if not notes or len(segments) < 2:  # noqa: PLR2004 - the newest stays
        return []
    note = read_note(notes[-1])
    signed = verify(note, public)
    ends = [first_row(path) - 1 for path in segments[1:]]
    state = scan(log, sizes={*ends, signed.size})
    if state.bad:
        raise LedgerError(f"ledger {log.name}, row {state.bad.number}: {state.bad.reason}; nothing was moved")
    if signed.size not in state.points or state.points[signed.size][0] != signed.root:
        raise LedgerError(f"ledger {log.name} is not what {notes[-1].name} signed; nothing was moved")
    moved = []
    for path, end in zip(segments, ends, strict=False):
        if end > signed.size or state.points[end][1].last >= before_ns:
            break
        moved.append(_move(path, folder))
    if moved:
        write_durably(folder / CHECKPOINTS / notes[-1].name, note)
    return moved


def _move(path: Path, folder: Path) -> Path:
    """Copy a segment, read the copy back, and only then take the original away."""
    target = folder / path.name
    try:
        data = path.read_bytes()
        write_durably(target, data)
        if hashlib.sha256(target.read_bytes()).digest() != hashlib.sha256(data).digest():
            raise StoreError(f"{target} is not what was written; its disk fails, and {path.name} stays")
        path.unlink()
    except OSError as error:
        raise StoreError(f"{path} cannot be moved to {folder}: {error.strerror}") from error
    return target
