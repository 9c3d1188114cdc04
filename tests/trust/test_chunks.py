"""A bundle in chunks: whatever order, losses, repeats and crashes, what is handed in is what was sent, or nothing."""

import hashlib
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.errors import TrustError
from homeplate.trust import chunks
from homeplate.trust.chunks import MAX_MESSAGE_BYTES, Arrivals, Chunk, List, decode, split
from homeplate.trust.packed import MAX_PACKED_BYTES, pack
from homeplate.trust.reasons import NamedTrustError
from tests.trust import forge
from tests.trust.saying import says


def handed_in(inbox):
    return sorted(path.read_bytes() for path in inbox.glob("*.bundle"))


def taken(arrivals, message):
    """Give a message to a node and forget its refusal, as uplink does; return the refusal's name."""
    try:
        arrivals.take(message)
    except NamedTrustError as error:
        return error.reason
    return None


def test_a_real_bundle_arrives_as_it_was_packed(tmp_path):
    packed = pack(forge.published(forge.custody(tmp_path / "custody")))
    arrivals = Arrivals(tmp_path / "inbox")
    done = [arrivals.take(message) for message in split(packed, 1000)]
    assert done == [False] * (len(done) - 1) + [True]
    assert handed_in(tmp_path / "inbox") == [packed]


@given(
    data=st.data(),
    packed=st.binary(min_size=1, max_size=60),
    other=st.binary(min_size=1, max_size=60),
    size=st.integers(3, 20),
)
def test_whatever_comes_in_whatever_order_only_what_was_sent_is_handed_in(data, packed, other, size):
    sent, others = list(split(packed, size)), list(split(other, size))
    noise = st.binary(max_size=40)
    flipped = st.sampled_from(sent).map(lambda one: bytes([one[0]]) + one[1:-1] + bytes([one[-1] ^ 1]))
    step = st.sampled_from([*sent, *others]) | noise | flipped | st.none()
    with TemporaryDirectory() as folder:
        inbox = Path(folder) / "inbox"
        arrivals = Arrivals(inbox)
        for message in data.draw(st.lists(step, max_size=40)):
            if message is None:  # a crash, or a new start
                arrivals = Arrivals(inbox)
            else:
                taken(arrivals, message)
            assert set(handed_in(inbox)) <= {packed, other}
            kept = inbox / ".arriving"
            assert sum(path.stat().st_size for path in kept.glob("[0-9]*")) <= 60
            for path in inbox.glob("*.bundle"):
                path.unlink()  # the service took it
        arrived = data.draw(st.permutations(sent[1:]))
        before = (inbox / ".arriving" / "handed-in").exists() and (
            (inbox / ".arriving" / "handed-in").read_text() == hashlib.sha256(packed).hexdigest()
        )
        for message in [sent[0], *arrived]:
            taken(arrivals, message)
        assert handed_in(inbox) == ([] if before else [packed])
        assert [path.name for path in Path(folder).iterdir()] == ["inbox"]


def test_a_start_goes_on_with_what_was_there_and_a_chunk_that_was_damaged_meanwhile_is_asked_for_again(tmp_path):
    sent = list(split(b"0123456789", 3))
    first = Arrivals(tmp_path)
    for message in sent[:4]:
        first.take(message)
    (tmp_path / ".arriving" / "1").write_bytes(b"xxx")
    second = Arrivals(tmp_path)
    assert not second.take(sent[4])
    assert second.take(sent[2])
    assert handed_in(tmp_path) == [b"0123456789"]


def test_a_bundle_that_was_handed_in_is_not_gathered_again(tmp_path):
    sent = list(split(b"0123456789", 3))
    for _ in range(2):
        arrivals = Arrivals(tmp_path)
        for message in sent:
            arrivals.take(message)
        for path in tmp_path.glob("*.bundle"):
            path.unlink()
        assert [path.name for path in (tmp_path / ".arriving").iterdir()] == ["handed-in"]
    assert handed_in(tmp_path) == []


def test_a_second_bundle_waits_until_the_first_was_judged(tmp_path):
    arrivals = Arrivals(tmp_path)
    for message in [*split(b"first", 3), *split(b"second", 3)]:
        arrivals.take(message)
    assert handed_in(tmp_path) == [b"first"]
    assert not arrivals.hand_in()
    next(tmp_path.glob("*.bundle")).unlink()
    assert arrivals.hand_in()
    assert handed_in(tmp_path) == [b"second"]


def listed(**changed):
    return msgspec.msgpack.encode(
        List(**({"bundle": bytes(32), "size": 10, "chunk_bytes": 5, "chunks": [bytes(32)] * 2} | changed))
    )


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (listed(size=MAX_PACKED_BYTES + 1, chunk_bytes=65536, chunks=[bytes(32)] * 1025), "not-a-message"),
        (listed(size=MAX_PACKED_BYTES + 1), "not-a-message"),
        (listed(size=11), "not-a-message"),
        (listed(size=0, chunks=[]), "not-a-message"),
        (listed(chunk_bytes=0), "not-a-message"),
        (listed(chunk_bytes=65537), "not-a-message"),
        (listed(bundle=b"short"), "not-a-message"),
        (b"", "not-a-message"),
        (bytes(MAX_MESSAGE_BYTES + 1), "too-large"),
        (msgspec.msgpack.encode(Chunk(bundle=bytes(32), number=0, data=b"x")), "not-listed"),
    ],
)
def test_what_is_no_part_of_a_bundle_is_refused_by_name_and_writes_nothing(tmp_path, message, reason):
    assert taken(Arrivals(tmp_path), message) == reason
    assert list(tmp_path.rglob("*")) == []


def test_the_largest_list_and_the_largest_chunk_fit_a_message():
    chunk = Chunk(bundle=bytes(32), number=chunks.MAX_CHUNKS - 1, data=bytes(chunks.CHUNK_BYTES))
    whole = listed(size=MAX_PACKED_BYTES, chunk_bytes=chunks.CHUNK_BYTES, chunks=[bytes(32)] * chunks.MAX_CHUNKS)
    for message in (whole, msgspec.msgpack.encode(chunk)):
        decode(message)


def test_chunks_that_are_listed_and_not_the_whole_are_dropped(tmp_path):
    piece = b"12345"
    arrivals = Arrivals(tmp_path)
    arrivals.take(listed(size=5, chunks=[hashlib.sha256(piece).digest()]))
    assert taken(arrivals, msgspec.msgpack.encode(Chunk(bundle=bytes(32), number=0, data=piece))) == "other-whole"
    assert handed_in(tmp_path) == []
    assert list((tmp_path / ".arriving").iterdir()) == []


@given(message=st.binary(max_size=300))
def test_bytes_of_any_shape_are_a_message_or_a_reason(message):
    with suppress(TrustError):
        decode(message)


def chunk_of(packed, number, data, size=3):
    bundle = hashlib.sha256(packed).digest()
    return msgspec.msgpack.encode(Chunk(bundle=bundle, number=number, data=data))


def test_a_refused_message_says_what_is_wrong_with_it(tmp_path):
    arrivals = Arrivals(tmp_path)
    with says(f"a message of {MAX_MESSAGE_BYTES + 1} bytes; one has {MAX_MESSAGE_BYTES} at most", "too-large"):
        arrivals.take(bytes(MAX_MESSAGE_BYTES + 1))
    for message in (bytes(MAX_MESSAGE_BYTES), b"\xff", b"\xa1\xff"):
        with pytest.raises(NamedTrustError) as caught:
            arrivals.take(message)
        assert str(caught.value) == f"a message is no part of a bundle: {caught.value.__cause__}"
        assert caught.value.reason == "not-a-message"
    with says("a list of chunks has another number of them than its size asks for", "not-a-message"):
        arrivals.take(listed(size=11))
    first, *_ = split(b"0123456789", 3)
    arrivals.take(first)
    not_listed = "a chunk of no bundle that a list has announced; send the bundle again"
    for message in (chunk_of(b"0123456789", 4, b"9"), chunk_of(b"another", 0, b"012")):
        with says(not_listed, "not-listed"):
            arrivals.take(message)
    with says("a chunk is not the one that its list names", "altered"):
        arrivals.take(chunk_of(b"0123456789", 0, b"01x"))
    piece = b"12345"
    arrivals.take(listed(size=5, chunks=[hashlib.sha256(piece).digest()]))
    with says("the chunks of a list are not the bundle that it names; it was dropped", "other-whole"):
        arrivals.take(msgspec.msgpack.encode(Chunk(bundle=bytes(32), number=0, data=piece)))


def test_a_whole_that_is_shorter_or_longer_than_its_list_says_is_dropped(tmp_path):
    packed = b"012345"
    whole, hashes = hashlib.sha256(packed).digest(), [hashlib.sha256(part).digest() for part in (b"012", b"345")]
    arrivals = Arrivals(tmp_path)
    arrivals.take(listed(bundle=whole, size=8, chunk_bytes=4, chunks=hashes))
    arrivals.take(chunk_of(packed, 0, b"012"))
    with says("the chunks of a list are not the bundle that it names; it was dropped", "other-whole"):
        arrivals.take(chunk_of(packed, 1, b"345"))


def test_a_bundle_is_handed_in_under_the_first_half_of_its_hash(tmp_path):
    arrivals = Arrivals(tmp_path)
    for message in split(b"0123456789", 3):
        arrivals.take(message)
    digest = hashlib.sha256(b"0123456789").hexdigest()
    assert [path.name for path in tmp_path.glob("*.bundle")] == [f"arrived-{digest[:32]}.bundle"]
    assert (tmp_path / ".arriving" / "handed-in").read_text() == digest


def test_a_crash_between_handing_in_and_saying_so_hands_in_once(tmp_path, monkeypatch):
    *most, last = split(b"0123456789", 3)
    arrivals = Arrivals(tmp_path)
    for message in most:
        arrivals.take(message)
    with monkeypatch.context() as crashing:
        crashing.setattr(Arrivals, "_done", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            arrivals.take(last)
    again = Arrivals(tmp_path)
    assert again.hand_in()
    assert handed_in(tmp_path) == [b"0123456789"]
    assert (tmp_path / ".arriving" / "handed-in").read_text() == hashlib.sha256(b"0123456789").hexdigest()
    assert not again.hand_in()


def test_what_is_gathered_and_waits_for_another_to_be_judged_survives_a_start(tmp_path):
    arrivals = Arrivals(tmp_path)
    for message in [*split(b"first", 3), *split(b"second", 3)]:
        arrivals.take(message)
    next(tmp_path.glob("*.bundle")).unlink()
    assert Arrivals(tmp_path).hand_in()
    assert handed_in(tmp_path) == [b"second"]


def test_a_newer_list_drops_what_was_gathered_of_another_bundle(tmp_path):
    arrivals = Arrivals(tmp_path)
    one, other = list(split(b"0123456789", 3)), list(split(b"abcdef", 3))
    for message in [*one[:3], other[0]]:
        arrivals.take(message)
    assert [path.name for path in (tmp_path / ".arriving").iterdir()] == ["list"]
    assert taken(arrivals, one[3]) == "not-listed"
    assert arrivals.take(other[0]) is False
    arrivals.take(other[2])
    assert arrivals.take(other[1])
    assert handed_in(tmp_path) == [b"abcdef"]


def test_a_list_that_a_crash_damaged_is_forgotten_with_its_chunks(tmp_path):
    sent = list(split(b"0123456789", 3))
    for damage in (b"", sent[1], b"\xff"):
        arrivals = Arrivals(tmp_path)
        for message in sent[:3]:
            arrivals.take(message)
        (tmp_path / ".arriving" / "list").write_bytes(damage)
        Arrivals(tmp_path)
        assert list((tmp_path / ".arriving").iterdir()) == []


def test_a_folder_that_cannot_be_emptied_is_said_when_a_list_comes_and_not_at_the_start(tmp_path):
    (tmp_path / ".arriving" / "folder").mkdir(parents=True)
    arrivals = Arrivals(tmp_path)
    with pytest.raises(NamedTrustError, match=r"\.arriving cannot be emptied: .+; check its owner$") as caught:
        arrivals.take(next(split(b"x", 3)))
    assert caught.value.reason == "not-written"


def test_a_bundle_is_split_into_chunks_of_64_kib_unless_told_otherwise():
    packed = bytes(2 * 65_536 + 1)
    first, *chunks_sent = map(decode, split(packed))
    assert (first.size, first.chunk_bytes, len(first.chunks)) == (len(packed), 65_536, 3)
    assert [len(chunk.data) for chunk in chunks_sent] == [65_536, 65_536, 1]
    assert [chunk.number for chunk in chunks_sent] == [0, 1, 2]


def test_what_was_handed_in_is_taken_for_done_whenever_it_comes_again(tmp_path):
    sent = list(split(b"0123456789", 3))
    assert [Arrivals(tmp_path).take(message) for message in sent][-1]
    next(tmp_path.glob("*.bundle")).unlink()
    again = Arrivals(tmp_path)
    assert [again.take(message) for message in sent] == [False] * len(sent)
    assert handed_in(tmp_path) == []
    other = list(split(b"abcdef", 3))
    assert [again.take(message) for message in other] == [False, False, True]
    assert [again.take(message) for message in sent[:1]] == [False]
    assert (tmp_path / ".arriving" / "list").exists()  # the last one that was handed in is remembered, no earlier one
