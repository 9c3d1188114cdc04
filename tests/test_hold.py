"""Evidence holds over real slot files, a real spool, real ledgers and the real purge; time is simulated."""

import pytest

from homeplate.capture.committing import SEALED as COMMITTED
from homeplate.clock import NANOSECONDS, Quarantine
from homeplate.domain.record import StorageClass
from homeplate.errors import ClockError, LedgerError, StoreError, TrustError
from homeplate.hold import SEALED
from homeplate.sealing.keys import generate_signing_key
from homeplate.store.held import HeldRecords
from homeplate.store.ledger import scan
from tests.capturing import Film, traffic
from tests.capturing import Node as CapturingNode
from tests.holding import CONTENT, NOW_S, HoldingNode, a_hold, released, signed
from tests.sightings import START_NS


@pytest.fixture
def node(tmp_path):
    return HoldingNode(tmp_path)


def test_a_hold_reads_the_rows_that_capture_commits_with(tmp_path):
    assert SEALED == COMMITTED
    capturing = CapturingNode(tmp_path)
    capturing.run(Film(script=traffic("7ABC123"), count=60).feed())
    [row] = capturing.rows(SEALED)
    assert row.fields["captured_s"] == START_NS // NANOSECONDS
    assert row.fields["source"] == "road"


@pytest.mark.parametrize("storage", StorageClass)
def test_what_a_hold_names_opens_past_its_slot_until_the_holds_expiry_and_not_after(node, storage):
    record_id = node.record(storage=storage)
    applied = node.apply()
    assert (applied.records, applied.gone) == (1, 0)
    certificate = node.purge(NOW_S + 500)
    assert node.readable_originals() == set()  # the slot key died on time
    assert node.spool.released(storage) == ()
    assert node.readable_copies() == {record_id}
    assert (certificate.holds, certificate.held_records, certificate.held_cases) == (1, 1, "26-1234")
    node.purge(NOW_S + 99_999)
    assert node.readable_copies() == {record_id}
    certificate = node.purge(NOW_S + 100_000)
    assert node.live_hold_keys() == ()
    assert node.held.holds() == ()
    assert (certificate.holds, certificate.holds_ended, certificate.held_files) == (0, 1, 1)
    [ended] = node.rows("purge", "hold.ended")
    assert (ended.fields["case"], ended.fields["reason"]) == ("26-1234", "expired")


def test_nothing_of_a_holds_key_is_left_in_its_file(node):
    node.record()
    node.apply()
    assert any((node.root / "held.slots").read_bytes()[512:])
    node.purge(NOW_S + 100_000)
    assert not any((node.root / "held.slots").read_bytes()[512:])


def test_a_hold_names_one_camera_and_its_window_and_nothing_else(node):
    named = {node.record(captured_s=NOW_S - 600), node.record(captured_s=NOW_S - 1)}
    node.record(camera="yard")
    node.record(captured_s=NOW_S - 601)
    node.record(captured_s=NOW_S)
    assert node.apply().records == 2
    assert node.readable_copies() == named


def test_what_was_delivered_or_purged_before_is_counted_as_gone(node):
    delivered, _ = node.record(storage=StorageClass.OUTGOING), node.record()
    node.record(keep_s=-1)  # over, and purge has not run yet
    node.spool.remove(delivered)
    applied = node.apply()
    assert (applied.records, applied.gone) == (1, 2)


def test_a_held_copy_outlives_the_delivery_of_its_original(node):
    record_id = node.record(storage=StorageClass.OUTGOING)
    node.apply()
    node.spool.remove(record_id)
    node.purge()
    assert node.readable_copies() == {record_id}


def test_a_release_ends_a_hold_and_leaves_the_original_to_its_own_time(node):
    record_id = node.record()
    node.apply()
    node.release()
    certificate = node.purge()
    assert (certificate.holds, certificate.holds_ended, certificate.keys_left) == (0, 1, 1)
    assert node.live_hold_keys() == ()
    assert node.readable_originals() == {record_id}
    [ended] = node.rows("purge", "hold.ended")
    assert ended.fields["reason"] == "released"
    assert [row.event for row in node.rows("hold")] == ["hold.accepted", "hold.applied", "hold.released"]


def test_two_holds_of_one_record_end_each_on_its_own(node):
    record_id = node.record()
    other = a_hold(hold_id=b"i" * 16, case="26-9999", expires_s=NOW_S + 200_000)
    node.apply()
    node.apply(other)
    assert node.purge(NOW_S + 501).held_cases == "26-1234,26-9999"
    node.release()
    assert node.purge().held_cases == "26-9999"
    assert node.readable_copies() == {record_id}
    node.purge(NOW_S + 200_000)
    assert node.readable_copies() == set()


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("other-node", {"node": bytes(16)}),
        ("expired", {"expires_s": NOW_S}),
        ("window-in-future", {"to_s": NOW_S + 1}),
        ("count-exceeded", {"most_records": 1}),
        ("nothing-to-hold", {"camera": "nowhere"}),
    ],
)
def test_a_refused_hold_holds_nothing_and_its_reason_is_in_the_ledger(node, code, changed):
    node.record(), node.record()
    with pytest.raises(TrustError, match=f"^{code}:"):
        node.apply(a_hold(**changed))
    assert node.live_hold_keys() == ()
    assert node.held.holds() == ()
    [row] = node.rows("hold")
    assert row.event == "hold.refused"
    assert row.fields["reason"].startswith(f"{code}: ")


def test_a_hold_of_an_unknown_signer_an_altered_one_and_one_without_a_bundle_are_refused(node):
    node.record()
    with pytest.raises(TrustError, match="unknown-signer"):
        node.holding(lambda holder: holder.apply(signed(a_hold(), generate_signing_key())))
    with pytest.raises(TrustError, match="unreadable"):
        node.holding(lambda holder: holder.apply(signed(a_hold())[:-2]))

    class NoBundle:
        def __iter__(self):
            raise TrustError("it is over")

    node.keys = NoBundle()
    with pytest.raises(TrustError):
        node.apply()
    assert node.live_hold_keys() == ()


def test_a_hold_is_applied_once_also_after_it_was_released(node):
    node.record()
    node.apply()
    with pytest.raises(TrustError, match="replayed"):
        node.apply()
    node.release()
    node.purge()
    with pytest.raises(TrustError, match="replayed"):
        node.apply()
    assert node.readable_copies() == set()


def test_a_release_of_another_case_or_signer_ends_nothing(node):
    node.record()
    node.apply()
    with pytest.raises(TrustError, match="no-such-hold"):
        node.release(a_hold(case="27-1"))
    with pytest.raises(TrustError, match="unknown-signer"):
        node.holding(lambda holder: holder.release(released(a_hold(), generate_signing_key())))
    assert node.purge().holds == 1


def test_in_quarantine_nothing_is_held_and_what_is_held_ends_on_powered_on_time(node):
    node.record()
    node.apply()

    class Quarantined:
        quarantine = Quarantine(mark_s=1, wall_s=2, step_s=3, unconfirmed_s=4)
        damaged = ()
        now = NOW_S

        def now_ns(self):
            raise ClockError("quarantined")

        def least_ns(self):
            return self.now * NANOSECONDS

    node.clock = Quarantined()
    with pytest.raises(ClockError):
        node.apply(a_hold(hold_id=b"i" * 16))
    node.purge()
    assert len(node.readable_copies()) == 1
    node.clock.now = NOW_S + 100_000
    node.purge()
    assert node.readable_copies() == set()


def test_a_hold_that_cannot_be_written_is_undone_and_said(node, monkeypatch):
    record_id = node.record()

    def full(*_):
        raise StoreError("No space left on device")

    monkeypatch.setattr(HeldRecords, "put", full)
    with pytest.raises(StoreError):
        node.apply()
    assert node.live_hold_keys() == ()
    assert node.held.holds() == ()
    assert [row.event for row in node.rows("hold")] == ["hold.accepted", "hold.refused"]
    monkeypatch.undo()
    assert node.apply().records == 1  # it never came into force, so it is no replay
    assert node.readable_copies() == {record_id}


def test_a_capture_ledger_that_does_not_verify_names_no_record(node):
    node.record()
    log = node.root / "capture.log"
    log.write_bytes(log.read_bytes().replace(b"road", b"yard"))
    with pytest.raises(LedgerError):
        node.apply()
    assert node.live_hold_keys() == ()


def test_an_export_hands_out_sealed_bytes_after_it_was_told(node):
    record_id = node.record()
    node.apply()
    written = {}

    def write(name, data):
        assert node.rows("hold")[-1].event == "hold.exported"
        written[name] = data

    assert node.holding(lambda holder: holder.export(a_hold().hold_id, write)) == 1
    assert written == {"hold.txt": signed(a_hold()), f"{record_id}.rec": CONTENT}
    node.release()
    with pytest.raises(TrustError, match="no-such-hold"):
        node.holding(lambda holder: holder.export(a_hold().hold_id, write))


def test_purge_leaves_a_hold_alone_that_is_being_applied_and_still_destroys_what_is_over(node):
    node.record()
    node.apply(a_hold(hold_id=b"o" * 16, expires_s=NOW_S + 10))
    node.apply()
    (node.root / "held" / (b"h" * 16).hex() / "hold.txt").unlink()  # as while its copies are made
    with node.held.locked(wait=True):
        node.purge(NOW_S + 20)
        assert [info.expiry_s for info in node.live_hold_keys()] == [NOW_S + 100_000]
    node.record()
    node.purge(NOW_S + 4000)
    assert node.live_hold_keys() == ()
    assert node.held.holds() == ()
    assert [row.fields["reason"] for row in node.rows("purge", "hold.ended")] == ["expired", "unfinished"]


def test_the_ledgers_hold_the_case_and_the_counts_and_verify(node):
    node.record()
    node.apply()
    node.purge(NOW_S + 100_000)
    assert scan(node.root / "hold.log").bad is None
    assert scan(node.root / "purge.log").bad is None
    accepted = node.rows("hold", "hold.accepted")[0].fields
    assert accepted["case"] == "26-1234"
    assert (accepted["camera"], accepted["most_records"], accepted["records"]) == ("road", 4, 1)
