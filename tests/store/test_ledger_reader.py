"""A reader that was written from the page on formats agrees with the ledger that a node writes."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.clock import SimulatedClock
from homeplate.store.checkpoints import checkpoint_files, origin_of, sign_checkpoints
from homeplate.store.cosignatures import cosign
from homeplate.store.ledger import MerkleLog, read_lines
from homeplate.store.reading import closed_segments
from homeplate.store.rows import encode, show, withhold
from tests.store import ledger_reader

PSEUDONYM = bytes(range(16))
ROWS = 23


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "uplink.log"
    with MerkleLog(path, SimulatedClock(1_790_000_000 * 10**9), segment_bytes=1_500) as log:
        for number in range(ROWS):
            log.append("delivery.refused", recipient="agency-é", attempt=number, last=number == ROWS - 1)
    return path


def files(path):
    return [*closed_segments(path), path]


def test_it_finds_the_roots_that_the_node_wrote_over_several_files(log):
    assert len(closed_segments(log)) > 2
    roots = ledger_reader.read(files(log))
    assert roots == [line.root for line in read_lines(log)]
    assert len(roots) == ROWS


def test_it_finds_a_changed_row_and_a_missing_file(log):
    with pytest.raises(ValueError, match="after row"):
        ledger_reader.read(files(log)[:1] + files(log)[2:])
    log.write_bytes(log.read_bytes().replace(b'"last":true', b'"last":false'))
    with pytest.raises(ValueError, match=f"row {ROWS}"):
        ledger_reader.read(files(log))


def test_it_verifies_rows_that_an_export_shows_in_part_or_withholds(log, tmp_path):
    lines = list(read_lines(log))
    public = [show(line, {"recipient"}) if line.row.number % 2 else withhold(line) for line in lines]
    export = tmp_path / "uplink.export"
    export.write_bytes(b"".join(encode(line) + b"\n" for line in public))
    assert ledger_reader.read([export]) == [line.root for line in lines]


def test_it_verifies_the_checkpoint_of_the_node_and_of_a_witness(log, tmp_path):
    key, witness = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    folder = tmp_path / "checkpoints"
    sign_checkpoints({"uplink": log}, key=key, pseudonym=PSEUDONYM, folder=folder)
    note = cosign(checkpoint_files(folder, "uplink")[-1].read_bytes(), "witness.example/w1", witness, 1_790_000_100)
    found = ROWS, ledger_reader.read(files(log))[-1]
    public = key.public_key().public_bytes_raw()
    assert ledger_reader.signed(note, origin_of(PSEUDONYM, "uplink"), public, 1) == found
    assert ledger_reader.signed(note, "witness.example/w1", witness.public_key().public_bytes_raw(), 4) == found
    with pytest.raises(ValueError, match="did not sign"):
        ledger_reader.signed(note, "witness.example/w1", public, 4)
