"""What a broker sees of a hit and of another passage: random bytes differ, and nothing else (invariant 9)."""

import collections
import math

import pytest

from homeplate.domain.record import HitKind
from homeplate.sealing.envelope import HEADER_BYTES, VERSION_LINE, decode
from homeplate.uplink import EXPIRY_S, Drained
from tests.integration.conftest import running, wait_until
from tests.integration.watch import watching
from tools.broker import mosquitto_path

PAIRS = 8


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Publish hits and others in turn, with plates of all lengths; return what was seen, whose, and the rows."""
    if mosquitto_path() is None:
        pytest.skip("mosquitto is not installed: apt install mosquitto")
    heard, hits = [], {}
    with running(tmp_path_factory.mktemp("seen"), "mosquitto") as estate:
        with watching(estate, estate.client("watcher"), heard):
            for number in range(PAIRS):
                jpeg = b"\xff\xd8" + bytes(number * 150) + b"\xff\xd9"
                for hit, plate in ((HitKind.EXACT, "A" * (1 + number)), (HitKind.NONE, "7ABC123")):
                    facts_id, crop_id = estate.put_passage(hit=hit, plate=plate, jpeg=jpeg)
                    hits[facts_id] = hits[crop_id] = hit
            assert estate.uplink().drain() == Drained(confirmed=4 * PAIRS)
            wait_until(lambda: len(heard) == 4 * PAIRS)
        return heard, hits, estate.rows("delivery.intended")


def outside(message):
    """Return all that a broker has of a message but the record's own bytes."""
    record = decode(message.payload)
    return {
        "topic": message.topic,
        "qos": message.qos,
        "retain": message.retain,
        "dup": message.dup,
        "properties": message.properties.json(),
        "length": len(message.payload),
        "version": message.payload[: len(VERSION_LINE)],
        "node": record.header.node,
        "recipient": record.header.recipient_key,
        "day": record.header.keep_until_day,
        "ciphertext": len(record.ciphertext),
    }


def test_a_hit_and_another_differ_in_no_property_of_the_message(seen):
    heard, hits, _ = seen
    kinds = {HitKind.EXACT: [], HitKind.NONE: []}
    for message in heard:
        kinds[hits[decode(message.payload).header.record_id]].append(outside(message))
    distinct = {kind: {repr(item) for item in items} for kind, items in kinds.items()}
    assert distinct[HitKind.EXACT] == distinct[HitKind.NONE]
    assert len(distinct[HitKind.NONE]) == 2, "one shape for facts, one for these crops"


def test_the_only_property_is_one_expiry_for_all(seen):
    heard, _, _ = seen
    names = {name for message in heard for name in message.properties.json()}
    assert names == {"MessageExpiryInterval"}
    # The broker counts down whole seconds while it holds a message; here it holds none that long.
    assert {message.properties.MessageExpiryInterval for message in heard} <= {EXPIRY_S, EXPIRY_S - 1}


def test_hits_are_sent_in_their_turn_and_not_before(seen):
    heard, hits, intended = seen
    sent = [decode(message.payload).header.record_id for message in heard]
    rows = [fields["record"] for fields in intended]
    assert [str(record) for record in sent] == rows
    # Released hit, other, hit, other: each facts record and crop in the order of release.
    assert sent == list(hits)


def test_what_differs_looks_random(seen):
    heard, hits, _ = seen
    for kind in (HitKind.EXACT, HitKind.NONE):
        ids = [message for message in heard if hits[decode(message.payload).header.record_id] is kind]
        bodies = b"".join(message.payload[HEADER_BYTES + 4 :] for message in ids)
        counts = collections.Counter(bodies)
        entropy = -sum(n / len(bodies) * math.log2(n / len(bodies)) for n in counts.values())
        # 8 PAIRS records of over 2 KiB: the sample's own bias is below 0.01 bits; plain text has under 5.
        assert entropy > 7.98, kind
    assert len({message.payload[len(VERSION_LINE) : len(VERSION_LINE) + 16] for message in heard}) == len(heard)
