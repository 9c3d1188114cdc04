"""The access record: on disk before a key is read, plates in it sealed to the reviewer, signed by a key of its own."""

import base64
import shutil
from dataclasses import replace

import pytest

from homeplate.clock import SimulatedClock
from homeplate.domain.plate import PlateText
from homeplate.errors import ConfigError, LedgerError, SealingError, StoreError
from homeplate.sealing.keys import load_sealing_key
from homeplate.store.ledger import read_rows
from homeplate_custodian import access, audit
from homeplate_custodian.access import OPENED, SHOWN, Query, make_keys, plates_of, record_access, require_apart
from homeplate_custodian.commands_access import verified
from homeplate_custodian.records import Accessor, Inbox, Opener, Opening
from tests.custodian.sealed_kit import NOW_S, PLATE, Node, new_key

WHO = Accessor(user="badge 12", organisation="City of Somewhere", purpose="stolen-vehicle", case="26-1234")
OTHER = "8XYZ999"


class Desk:
    """A custody in which records are opened."""

    def __init__(self, folder):
        self.folder = folder
        self.clock = SimulatedClock(NOW_S * 10**9)
        self.node, self.key, self.inbox = Node(), new_key(), Inbox(folder / "received")
        self.opens = 0

    def keep(self, *plates, **changes):
        records = [self.node.facts(self.key, plate=plate, **changes) for plate in plates]
        for record in records:
            self.inbox.store(*record)
        return [record_id for record_id, _ in records]

    def open(self, who=WHO, **changes):
        files = self.inbox.files()
        query = Query(**{"text": "all", "records": [file.record_id for file in files]} | changes)

        def open_now():
            self.opens += 1
            keys = {self.key.key_id: self.key}
            return Opener(self.inbox, keys, [self.node.entry()], self.clock).open(files)

        return record_access(self.folder, self.clock, who, query, open_now)

    def rows(self, event=None):
        return [row for row in read_rows(self.folder / "access.log") if event in {None, row.event}]

    @property
    def reviewer(self):
        return load_sealing_key(self.folder / "access" / "reviewer.key")


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_civil_code_1798_90_52_the_access_record_has_the_laws_five_fields_and_the_case(desk):
    (record_id,) = desk.keep(PLATE)
    desk.open()
    opened, shown = desk.rows()
    assert (opened.event, shown.event) == (OPENED, SHOWN)
    assert opened.fields == {
        "date_time": "2026-09-21T14:13:20Z",
        "records": str(record_id),
        "query": "all",
        "user": "badge 12",
        "organisation": "City of Somewhere",
        "purpose": "stolen-vehicle",
        "case": "26-1234",
    }
    assert shown.fields["records"] == str(record_id)
    assert shown.fields["opening"] == opened.number


def test_the_record_is_on_disk_when_opening_begins_and_what_was_shown_before_it_is_returned(desk):
    desk.keep(PLATE)
    seen = []

    def open_now():
        seen.extend(row.event for row in desk.rows())
        return Opening(opened=(), unopened=())

    record_access(desk.folder, desk.clock, WHO, Query(text="all", records=[]), open_now)
    assert seen == [OPENED]
    assert [row.event for row in desk.rows()] == [OPENED, SHOWN]


def test_where_the_record_cannot_be_written_nothing_is_opened(desk):
    desk.keep(PLATE)
    (desk.folder / "access.log").mkdir()
    with pytest.raises(StoreError):
        desk.open()
    assert desk.opens == 0


def test_plates_are_sealed_inside_the_record_and_the_reviewer_alone_reads_them(desk):
    desk.keep(PLATE, OTHER)
    opening = desk.open()
    (shown,) = desk.rows(SHOWN)
    plates = [plate.reveal() for plate in plates_of(shown, desk.reviewer)]
    assert plates == [one.facts.plate for one in opening.opened]
    assert set(plates) == {PLATE, OTHER}
    for path in (path for path in desk.folder.rglob("*") if path.is_file()):
        assert PLATE.encode() not in path.read_bytes(), path
    with pytest.raises(SealingError):
        plates_of(shown, desk.key)


@pytest.mark.parametrize("changed", [{"case": "8xy-z 99"}, {"user": "Unit 8XYZ99"}, {"organisation": "8 XYZ 99"}])
def test_the_plate_that_is_searched_for_stands_in_no_other_field_of_the_record(desk, changed):
    """8XYZ99 has no Californian form; it is known before anything is decrypted."""
    desk.keep(PLATE)
    with pytest.raises(ConfigError, match=rf"^--{next(iter(changed))} is the plate that is searched for") as refused:
        desk.open(who=replace(WHO, **changed), plate=PlateText("8XYZ99"))
    assert "XYZ" not in str(refused.value).upper()
    assert desk.opens == 0
    assert not desk.rows()
    assert not desk.open(plate=PlateText("26")).opened  # a part of the case number is no plate


def test_a_search_by_plate_shows_that_plate_alone_and_its_record_seals_it(desk):
    desk.keep(PLATE, OTHER)
    opening = desk.open(plate=PlateText(OTHER))
    assert [one.facts.plate for one in opening.opened] == [OTHER]
    opened, shown = desk.rows()
    assert [plate.reveal() for plate in plates_of(opened, desk.reviewer)] == [OTHER]
    assert [plate.reveal() for plate in plates_of(shown, desk.reviewer)] == [OTHER]
    assert len(str(opened.fields["records"]).split(",")) == 2
    desk.open(plate=PlateText("NONE"))
    assert plates_of(desk.rows(SHOWN)[1], desk.reviewer) == []


def test_a_seal_tells_nothing_by_its_length_and_does_not_open_in_another_row(desk):
    desk.keep(PLATE)
    desk.open()
    desk.keep(OTHER, "A")
    desk.open()
    one, other = desk.rows(SHOWN)
    assert len(one.fields["sealed"]) == len(other.fields["sealed"])
    moved = type(one)(number=one.number, time_ns=0, event=SHOWN, fields=one.fields | {"sealed": other.fields["sealed"]})
    with pytest.raises(SealingError, match="not of this row"):
        plates_of(moved, desk.reviewer)
    with pytest.raises(LedgerError, match="seals no plate"):
        plates_of(desk.rows(OPENED)[0], desk.reviewer)


def test_many_records_take_several_rows_and_none_is_left_out(desk):
    ids = desk.keep(*["ABCDEFGHIJ"] * 201)
    desk.open()
    for event in (OPENED, SHOWN):
        rows = desk.rows(event)
        assert len(rows) == 3
        named = [name for row in rows for name in str(row.fields["records"]).split(",")]
        assert sorted(named) == sorted(map(str, ids))
    assert sum(len(plates_of(row, desk.reviewer)) for row in desk.rows(SHOWN)) == 201


def test_a_look_that_finds_nothing_is_an_access_too(desk):
    desk.open()
    assert [row.event for row in desk.rows()] == [OPENED, SHOWN]


def test_the_log_is_signed_after_each_access_and_an_altered_one_is_found(desk, tmp_path_factory):
    desk.keep(PLATE)
    desk.open()
    desk.open()
    report = verified(desk.folder, None)
    assert (report.rows, report.signed) == (4, 4)
    copy = tmp_path_factory.mktemp("copy") / "custody"
    shutil.copytree(desk.folder, copy)
    lines = (copy / "access.log").read_bytes().splitlines(keepends=True)
    (copy / "access.log").write_bytes(b"".join(lines[:2]))
    with pytest.raises(LedgerError, match="row 3: it is missing"):
        verified(copy, None)
    (copy / "access.log").write_bytes(b"".join(lines).replace(b"badge 12", b"badge 13"))
    with pytest.raises(LedgerError, match="row 1: "):
        verified(copy, None)


def test_a_log_set_back_with_its_checkpoints_is_found_by_a_checkpoint_that_another_kept(desk, tmp_path):
    desk.open()
    early = tmp_path / "early"
    shutil.copytree(desk.folder, early, ignore=shutil.ignore_patterns("early", "kept"))
    desk.open()
    shutil.copytree(desk.folder / "checkpoints", tmp_path / "kept")
    assert verified(early, None).rows == 2
    with pytest.raises(LedgerError, match="row 3: it is missing"):
        verified(early, None, (tmp_path / "kept",))


def test_a_log_of_another_custody_is_refused_by_the_reviewers_own_copy_of_the_keys(desk, tmp_path_factory):
    desk.open()
    other = Desk(tmp_path_factory.mktemp("other"))
    other.open()
    with pytest.raises(LedgerError, match="not in the bundle"):
        verified(other.folder, desk.folder / "access" / "keys.pub")


def test_signing_sealing_and_access_log_keys_are_apart_and_what_is_not_is_refused(desk):
    keys = make_keys(desk.folder)
    assert make_keys(desk.folder) == keys
    require_apart(keys, sealing=[desk.key.public_bytes], signing=[bytes(32)])
    with pytest.raises(ConfigError, match=r"reviewer\.key is a sealing key of the agency"):
        require_apart(keys, sealing=[desk.key.public_bytes, keys.reviewer_public], signing=[])
    with pytest.raises(ConfigError, match=r"signing\.pem signs bundles"):
        require_apart(keys, sealing=[], signing=[keys.signing_public])
    private = [desk.folder / "access" / name for name in ("signing.pem", "reviewer.key")]
    assert [path.stat().st_mode & 0o777 for path in private] == [0o600, 0o600]


def test_opening_needs_no_key_of_the_reviewer(desk):
    desk.keep(PLATE)
    make_keys(desk.folder)
    (desk.folder / "access" / "reviewer.key").unlink()
    assert len(desk.open().opened) == 1


def test_without_the_key_that_signs_the_log_nothing_is_opened(desk):
    make_keys(desk.folder)
    (desk.folder / "access" / "signing.pem").unlink()
    with pytest.raises(SealingError):
        desk.open()
    assert desk.opens == 0


def test_a_damaged_seal_is_named_and_not_quoted(desk):
    desk.keep(PLATE)
    desk.open()
    (row,) = desk.rows(SHOWN)
    raw = bytearray(base64.b64decode(row.fields["sealed"]))
    raw[-1] ^= 1
    bad = type(row)(
        number=row.number, time_ns=0, event=SHOWN, fields=row.fields | {"sealed": base64.b64encode(raw).decode()}
    )
    with pytest.raises(SealingError, match="does not open") as caught:
        plates_of(bad, desk.reviewer)
    assert PLATE not in str(caught.value)


def test_the_ages_of_what_was_shown_are_counted_without_plates(desk):
    desk.keep(PLATE, OTHER, keep_until_s=NOW_S + 100 * 86_400)
    for days in (0, 1, 6, 59):
        desk.clock.advance_to((NOW_S + days * 86_400) * 10**9)
        desk.open()
    bars = dict(audit.ages(desk.rows()))
    assert bars == {
        "0": 2, "1": 2, "2 to 3": 0, "4 to 7": 2, "8 to 14": 0, "15 to 21": 0, "22 to 30": 0, "31 to 60": 2,
        "61 and more": 0,
    }  # fmt: skip
    assert access.REMINDER.startswith("a read is a lead")
