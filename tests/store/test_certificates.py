"""Purge certificates: written from a purge's row and from no other, and read back as they were."""

import re

import msgspec
import pytest

from homeplate.errors import LedgerError, StoreError
from homeplate.store.certificates import (
    MAXIMUM_BYTES,
    Certificate,
    Position,
    certificate_of,
    certificate_path,
    read_certificate,
    write_certificate,
)
from homeplate.store.rows import Line, Row

FIELDS = {
    "purged_at_s": 1_790_000_000, "keys_destroyed": 3, "outgoing_files": 1, "local_files": 2, "malformed_files": 0,
    "unreadable_files": 0, "keys_left": 4, "resumed": False,
}  # fmt: skip
ROOT = "ab" * 32


def line(event="purge.done", **changes):
    fields = {name: value for name, value in (FIELDS | changes).items() if value is not None}
    return Line(root=ROOT, row=Row(number=12, time_ns=5, event=event, fields=fields), salt="00" * 16)


def says(kind, message):
    """Expect a refusal with exactly this message."""
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


def test_a_certificate_says_what_the_row_says_and_where_it_stands():
    expected = Certificate(version=1, oldest_expiry_s=None, ledger=Position(row=12, root=ROOT), **FIELDS)
    assert certificate_of(line()) == expected
    more = {"oldest_expiry_s": 7, "holds": 1, "held_records": 2, "held_cases": "a,b", "holds_ended": 3,
            "held_files": 4, "keys_destroyed_early": 5}  # fmt: skip
    assert certificate_of(line(**more)) == msgspec.structs.replace(expected, **more)


def test_a_row_that_is_no_purges_makes_no_certificate():
    with says(LedgerError, "purge.log, row 12: slot.expired is no purge's row"):
        certificate_of(line(event="slot.expired"))
    for changes in ({"keys_left": None}, {"keys_left": "four"}, {"surprise": 1}):
        with says(LedgerError, "purge.log, row 12: it lacks what a purge's row says"):
            certificate_of(line(**changes))


def test_a_certificate_comes_back_from_its_file_which_is_named_after_its_row(tmp_path):
    certificate = certificate_of(line())
    path = write_certificate(certificate, tmp_path / "certificates")
    assert path == certificate_path(tmp_path / "certificates", 12)
    assert path.name == "purge-000000000012.json"
    assert read_certificate(path) == certificate
    text = path.read_text()
    assert text.startswith('{\n  "held_cases": ""')
    assert text.endswith("}\n")
    assert list(msgspec.json.decode(text)) == sorted(msgspec.json.decode(text))


def test_what_is_no_certificate_is_refused_by_name(tmp_path):
    path = tmp_path / "purge-1.json"
    with says(StoreError, f"the certificate {path} cannot be read: No such file or directory"):
        read_certificate(path)
    whole = write_certificate(certificate_of(line()), tmp_path).read_bytes()
    for data in (b"", b"{}", b"\xff", whole[:-3], whole.replace(b'"version": 1', b'"version": "1"')):
        path.write_bytes(data)
        with says(LedgerError, f"{path} is no purge certificate"):
            read_certificate(path)
    path.write_bytes(whole.ljust(MAXIMUM_BYTES))
    assert read_certificate(path) == certificate_of(line())
    path.write_bytes(whole.rjust(MAXIMUM_BYTES + 2))  # cut off at the bound, it is none
    with says(LedgerError, f"{path} is no purge certificate"):
        read_certificate(path)
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with says(LedgerError, f"{path} is no purge certificate"):
        read_certificate(path)
