"""Seals open for their recipient under their own header, and for nothing else."""

import hashlib
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeplate.domain.agency import KemKind, SealingKey
from homeplate.domain.record import DAY_SECONDS, HitKind, Part, RecordId
from homeplate.errors import SealingError
from homeplate.sealing.envelope import decode, encode, signed_bytes
from homeplate.sealing.errors import (
    ContentsError,
    RecipientError,
    SignatureError,
    UnopenedError,
    VersionError,
)
from homeplate.sealing.facts import CROP_BYTES, decode_facts, encode_facts, pad_crop
from homeplate.sealing.keys import SealingPrivateKey, generate_sealing_key, generate_signing_key, key_id
from homeplate.sealing.seal import HOT_LIST_LABEL, open_hot_list, open_sealed, seal_hot_list, verify
from tests.sealing.samples import (
    KEEP_UNTIL_S,
    KEYS,
    NODE_KEY,
    NODE_PUBLIC,
    PLATE,
    X25519,
    make_facts,
    make_record,
)

each_kem = pytest.mark.parametrize("private", KEYS.values(), ids=str)
slow = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def signed_again(record, key=NODE_KEY):
    public = key.public_key().public_bytes_raw()
    return replace(record, signature=key.sign(signed_bytes(record.header, record.ciphertext, public)))


@each_kem
def test_facts_open_with_the_recipients_key(private):
    facts = make_facts()
    record = decode(encode(make_record(encode_facts(facts), to=private)))
    part, plaintext = open_sealed(record, private, NODE_PUBLIC)
    assert part is Part.FACTS
    assert decode_facts(plaintext) == facts


@each_kem
def test_a_crop_is_known_as_a_crop_though_the_header_does_not_say_so(private):
    padded = pad_crop(b"picture")
    record = make_record(padded, to=private, part=Part.CROP)
    assert open_sealed(record, private, NODE_PUBLIC) == (Part.CROP, padded)


@each_kem
def test_the_recipients_key_alone_decides_the_length_of_a_record(private):
    lengths = {
        len(encode(make_record(encode_facts(make_facts(plate=plate, ambiguity=tuple(plate))), to=private)))
        for plate in ("A", "ABCDEFGH12")
    }
    assert len(lengths) == 1


def test_a_hit_and_a_non_hit_differ_in_random_bytes_only():
    none, *hits = (
        encode(make_record(encode_facts(make_facts(hit=hit)), record_id=RecordId(bytes(16)))) for hit in HitKind
    )
    assert {len(hit) for hit in hits} == {len(none)}
    assert {hit[:69] for hit in hits} == {none[:69]}


def test_the_header_rounds_the_date_down_to_its_day():
    for second in (0, 1, DAY_SECONDS - 1):
        record = make_record(keep_until_s=20_000 * DAY_SECONDS + second)
        assert record.header.keep_until_day == 20_000


def test_any_flipped_bit_of_a_record_is_refused():
    data = encode(make_record())
    for position in range(len(data)):
        for bit in range(8) if position < 100 or position >= len(data) - 80 else (position % 8,):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises(SealingError):
                open_sealed(decode(bytes(changed)), X25519, NODE_PUBLIC)


def test_the_bit_of_an_encapsulated_key_that_x25519_ignores_is_not_ignored():
    record = make_record()
    ciphertext = record.ciphertext[:31] + bytes([record.ciphertext[31] ^ 0x80]) + record.ciphertext[32:]
    with pytest.raises(UnopenedError):
        open_sealed(signed_again(replace(record, ciphertext=ciphertext)), X25519, NODE_PUBLIC)


@slow
@given(st.data())
def test_a_bit_flipped_before_signing_is_refused_too(data):
    record = make_record(to=KEYS[data.draw(st.sampled_from(KemKind))])
    position = data.draw(st.integers(0, 8 * len(record.ciphertext) - 1))
    ciphertext = bytearray(record.ciphertext)
    ciphertext[position // 8] ^= 1 << position % 8
    private = next(key for key in KEYS.values() if key.key_id == record.header.recipient_key)
    with pytest.raises(UnopenedError):
        open_sealed(signed_again(replace(record, ciphertext=bytes(ciphertext))), private, NODE_PUBLIC)


@slow
@given(st.sampled_from(KemKind), st.binary(min_size=1, max_size=1300) | st.integers(1, 1300).map(bytes))
def test_any_ciphertext_that_a_node_signs_opens_or_is_refused_by_name(kem, ciphertext):
    private = KEYS[kem]
    record = signed_again(replace(make_record(to=private), ciphertext=ciphertext))
    with pytest.raises(UnopenedError):
        open_sealed(decode(encode(record)), private, NODE_PUBLIC)


@pytest.mark.parametrize(
    "changes",
    [{"record_id": RecordId(bytes(16))}, {"node": bytes(16)}, {"keep_until_day": 1}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_ciphertext_opens_under_no_other_header_even_when_the_node_signs_it(changes):
    record = make_record()
    moved = signed_again(replace(record, header=replace(record.header, **changes)))
    verify(moved, NODE_PUBLIC)
    with pytest.raises(UnopenedError):
        open_sealed(moved, X25519, NODE_PUBLIC)


def test_a_stripped_record_cannot_be_signed_by_another_key_for_the_same_pseudonym():
    other = generate_signing_key()
    record = signed_again(make_record(), other)
    verify(record, other.public_key().public_bytes_raw())
    with pytest.raises(UnopenedError):
        open_sealed(record, X25519, other.public_key().public_bytes_raw())


def test_a_record_that_the_node_did_not_sign_is_never_opened():
    with pytest.raises(SignatureError):
        open_sealed(replace(make_record(), signature=bytes(64)), X25519, NODE_PUBLIC)
    with pytest.raises(SignatureError):
        open_sealed(make_record(), X25519, generate_signing_key().public_key().public_bytes_raw())
    with pytest.raises(SealingError):
        verify(make_record(), b"no key")


def test_another_recipients_key_is_named_as_such():
    with pytest.raises(RecipientError, match=X25519.key_id.hex()):
        open_sealed(make_record(), generate_sealing_key(KemKind.X25519), NODE_PUBLIC)


def test_an_entry_that_names_a_lesser_kem_for_a_hybrid_key_is_refused():
    hybrid = KEYS[KemKind.MLKEM768_X25519]
    half = hybrid.public_bytes[-32:]
    downgraded = SealingKey(
        key_id=hybrid.key_id, kem=KemKind.X25519, public=half, not_before_s=0, not_after_s=KEEP_UNTIL_S
    )
    with pytest.raises(RecipientError, match="id"):
        make_record(recipient=downgraded)
    with pytest.raises(RecipientError, match="bytes"):
        make_record(recipient=replace(downgraded, kem=KemKind.MLKEM768_X25519))
    assert key_id(KemKind.X25519, half) != hybrid.key_id


def test_a_record_sealed_with_the_lesser_kem_does_not_open_with_a_hybrid_key():
    hybrid = KEYS[KemKind.MLKEM768_X25519]
    expanded = hashlib.shake_256(hybrid.private_bytes).digest(96)
    half = SealingPrivateKey(kem=KemKind.X25519, private_bytes=expanded[64:])
    assert half.public_bytes == hybrid.public_bytes[-32:]
    record = make_record(to=half)
    readdressed = signed_again(replace(record, header=replace(record.header, recipient_key=hybrid.key_id)))
    with pytest.raises(UnopenedError):
        open_sealed(readdressed, hybrid, NODE_PUBLIC)


@pytest.mark.parametrize("public", [bytes(32), b"\1" + bytes(31)])
def test_a_public_key_of_small_order_is_refused(public):
    entry = SealingKey(
        key_id=key_id(KemKind.X25519, public), kem=KemKind.X25519, public=public, not_before_s=0, not_after_s=1
    )
    with pytest.raises(RecipientError):
        make_record(recipient=entry)


@pytest.mark.parametrize(("part", "size"), [(Part.FACTS, 2047), (Part.FACTS, 4096), (Part.CROP, 2048), (Part.CROP, 1)])
def test_a_plaintext_that_is_not_padded_is_not_sealed(part, size):
    with pytest.raises(SealingError, match="padded"):
        make_record(bytes(size), part=part)


def test_a_part_inside_of_a_size_that_it_may_not_have_is_refused():
    from homeplate.sealing.seal import _encrypt, info_bytes

    header = make_record().header
    ciphertext = _encrypt(KemKind.X25519, X25519.public_bytes, bytes(100), info_bytes(Part.FACTS, header, NODE_PUBLIC))
    with pytest.raises(ContentsError):
        open_sealed(signed_again(replace(make_record(), header=header, ciphertext=ciphertext)), X25519, NODE_PUBLIC)


def test_nothing_of_a_record_is_plain():
    data = encode(make_record())
    assert PLATE.encode() not in data
    assert b"gate" not in data
    assert b"hits" not in data


def test_the_crop_sizes_are_few():
    lengths = {len(pad_crop(bytes(size))) for size in range(1, CROP_BYTES[-1] - 4, 997)}
    assert lengths == set(CROP_BYTES)


@pytest.mark.parametrize("length", [0, 1, 4092, 4093, 100_000])
def test_a_hot_list_opens_on_its_node_alone(length):
    plaintext = b"x" * length
    blob = seal_hot_list(plaintext, X25519.public_bytes)
    assert open_hot_list(blob, X25519) == plaintext
    with pytest.raises(UnopenedError):
        open_hot_list(blob, generate_sealing_key(KemKind.X25519))
    with pytest.raises(UnopenedError):
        open_hot_list(blob[:-1], X25519)


def test_hot_lists_of_different_lengths_look_alike():
    assert len(seal_hot_list(b"", X25519.public_bytes)) == len(seal_hot_list(b"x" * 4000, X25519.public_bytes))


def test_a_hot_list_that_is_too_long_or_of_another_kind_is_refused():
    with pytest.raises(SealingError, match="too long"):
        seal_hot_list(bytes(1 << 24), X25519.public_bytes)
    with pytest.raises(UnopenedError):
        open_hot_list(HOT_LIST_LABEL + bytes((1 << 24) + 5000), X25519)
    with pytest.raises(VersionError):
        open_hot_list(b"homeplate/v2/hot-list\n", X25519)
    with pytest.raises(RecipientError):
        open_hot_list(seal_hot_list(b"", X25519.public_bytes), KEYS[KemKind.MLKEM768_X25519])
    with pytest.raises(RecipientError):
        seal_hot_list(b"", b"short")


def test_a_record_is_no_hot_list():
    record = make_record()
    with pytest.raises(UnopenedError):
        open_hot_list(HOT_LIST_LABEL + record.ciphertext, X25519)
