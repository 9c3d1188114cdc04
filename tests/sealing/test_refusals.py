"""Each refusal says what failed, with which input, and what to do next; and nothing is refused a byte too early."""

import os
import re
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from homeplate.domain.agency import KemKind
from homeplate.domain.record import DAY_SECONDS, Part, RecordId, SealedRecord, SlotId
from homeplate.errors import SealingError
from homeplate.sealing import slots as slots_module
from homeplate.sealing.envelope import MAX_RECORD_BYTES, decode, encode, encode_header, signed_bytes
from homeplate.sealing.errors import (
    ContentsError,
    CropError,
    KeyFileError,
    MalformedError,
    RecipientError,
    SignatureError,
    SlotError,
    UnopenedError,
    VersionError,
)
from homeplate.sealing.facts import (
    CROP_BYTES,
    FACTS_BYTES,
    MAX_CROP_BYTES,
    CropReference,
    check_crop,
    check_header,
    decode_facts,
    encode_facts,
    pad,
    pad_crop,
    unpad,
    unpad_crop,
)
from homeplate.sealing.keys import (
    SealingPrivateKey,
    check_sealing_key,
    generate_sealing_key,
    generate_signing_key,
    key_id,
    load_sealing_key,
    load_signing_key,
    save_sealing_key,
    save_signing_key,
    write_new,
)
from homeplate.sealing.seal import (
    HOT_LIST_LABEL,
    MAX_HOT_LIST_BYTES,
    _encrypt,
    info_bytes,
    open_hot_list,
    open_sealed,
    seal_hot_list,
    verify,
)
from homeplate.sealing.slots import (
    CELLS,
    SlotStore,
    filesystem_of,
    require_in_place,
    require_memory_backed,
    slot_of,
)
from tests.sealing.samples import KEYS, NODE_PUBLIC, X25519, make_facts, make_header, make_record
from tests.sealing.test_seal import signed_again

RECORD = RecordId(b"r" * 16)
HYBRID = KEYS[KemKind.MLKEM768_X25519]


def says(kind, message):
    """Expect a refusal of exactly this kind and message."""
    return pytest.raises(kind, match=f"^{re.escape(message)}$")


# The envelope


@pytest.mark.parametrize("changes", [{"node": bytes(15)}, {"recipient_key": bytes(17)}])
def test_a_header_with_an_id_of_another_length_says_how_long_ids_are(changes):
    with says(SealingError, "a record header needs a node pseudonym and a recipient key id of 16 bytes each"):
        encode_header(make_header(**changes))


@pytest.mark.parametrize("day", [-1, 1 << 32])
def test_a_day_that_does_not_fit_is_named(day):
    with says(SealingError, f"the day {day} does not fit a record header"):
        encode_header(make_header(keep_until_day=day))


def test_what_does_not_fit_a_record_is_named_with_its_length():
    def record(ciphertext, signature):
        return SealedRecord(header=make_header(), ciphertext=ciphertext, signature=signature)

    with says(SealingError, "a ciphertext of 0 bytes does not fit a sealed record"):
        encode(record(b"", bytes(64)))
    with says(SealingError, "a signature has 64 bytes, not 65"):
        encode(record(b"x", bytes(65)))
    with says(SealingError, "a node's public key has 32 bytes, not 31"):
        signed_bytes(make_header(), b"x", bytes(31))
    with says(SealingError, "a node's public key has 32 bytes, not 33"):
        info_bytes(Part.FACTS, make_header(), bytes(33))


def test_bytes_that_are_no_record_are_told_apart_by_what_is_wrong_with_them():
    good = encode(SealedRecord(header=make_header(), ciphertext=b"xy", signature=bytes(64)))
    with says(MalformedError, "1048577 bytes are more than a sealed record may have (1048576)"):
        decode(bytes(MAX_RECORD_BYTES + 1))
    with says(MalformedError, "the bytes do not begin as a sealed record does"):
        decode(bytes(MAX_RECORD_BYTES))
    with says(VersionError, "the record is of a version that this program does not know; update the receiver"):
        decode(b"homeplate/v12345678\n")
    with says(MalformedError, "the bytes do not begin as a sealed record does"):
        decode(b"homeplate/v123456789\n")
    with says(MalformedError, "a sealed record of 133 bytes is truncated"):
        decode(good[:133])
    with says(MalformedError, "a sealed record of 134 bytes cannot hold the 2 bytes that it names"):
        decode(good[:134])
    assert decode(good).ciphertext == b"xy"


# Facts and crops


def test_facts_that_do_not_fit_say_how_long_they_are_and_the_last_byte_fits():
    filler = "\0" * 64  # six bytes each in JSON
    longest = {"camera": filler, "rule": filler, "jurisdiction": filler, "recipient": filler}
    left = FACTS_BYTES - 4 - len(msgspec.json.encode(make_facts(purpose="p", **longest), order="sorted"))
    escapes, letters = divmod(left, 6)
    purpose = "p" + "\0" * escapes + "p" * letters
    facts = make_facts(purpose=purpose, **longest)
    assert len(msgspec.json.encode(facts, order="sorted")) == FACTS_BYTES - 4
    assert decode_facts(encode_facts(facts)) == facts
    with says(SealingError, "the facts of a passage take 2045 bytes, more than a record holds"):
        encode_facts(make_facts(purpose=purpose + "p", **longest))


def test_facts_that_are_none_say_what_is_wrong_and_never_what_is_inside():
    def facts(**changes):
        fields = msgspec.to_builtins(make_facts()) | changes
        return pad(msgspec.json.encode(fields, order="sorted"), FACTS_BYTES)

    with says(ContentsError, "facts have 2048 bytes, not 2047"):
        decode_facts(bytes(2047))
    for form in (facts(sequence=0), pad(b"\xff", FACTS_BYTES), pad(b'"\xff"', FACTS_BYTES)):
        with says(ContentsError, "the facts inside the record are not in the form of version 1"):
            decode_facts(form)
    with says(ContentsError, "the facts inside the record are not in their one accepted encoding"):
        decode_facts(pad(unpad(facts()) + b" ", FACTS_BYTES))
    with says(ContentsError, "the confidence inside the record has more decimals than version 1 has"):
        decode_facts(facts(confidence=0.91234))
    for changes in ({"last_captured_ns": 1}, {"ambiguity": ["C"]}):
        with says(ContentsError, "the facts inside the record contradict each other"):
            decode_facts(facts(**changes))
    one_instant = make_facts(first_captured_ns=5, last_captured_ns=5)
    assert decode_facts(encode_facts(one_instant)) == one_instant
    with says(ContentsError, "the padding inside the record is not as version 1 has it"):
        decode_facts(facts()[:-1] + b"\1")


def test_a_day_or_a_crop_that_is_another_is_named_by_its_record():
    header = make_header(record_id=RECORD, keep_until_day=1)
    with says(ContentsError, f"record {RECORD} shows another keep-until day than the date inside"):
        check_header(make_facts(), header)
    with says(CropError, f"the crop in record {RECORD} is not the one that the facts name"):
        check_crop(make_facts(crop=CropReference.of(RECORD, b"one")), RECORD, b"another")


def test_each_crop_takes_the_smallest_size_that_holds_it():
    for size in CROP_BYTES:
        assert len(pad_crop(bytes(size - 4))) == size
        if size != CROP_BYTES[-1]:
            assert len(pad_crop(bytes(size - 3))) == 2 * size
    for length in (0, MAX_CROP_BYTES + 1):
        with says(SealingError, f"a crop has 1 to {MAX_CROP_BYTES} bytes, not {length}; encode it smaller"):
            pad_crop(bytes(length))
    for plaintext in (pad(b"", 4096), pad(b"x", 8192), pad(bytes(MAX_CROP_BYTES + 1), MAX_CROP_BYTES + 5)):
        with says(ContentsError, "the crop inside the record is not padded as version 1 has it"):
            unpad_crop(plaintext)


def test_what_is_shorter_than_its_length_field_is_no_padding():
    for padded in (b"", b"\0\0\0", b"\0\0\0\1"):
        with says(ContentsError, "the padding inside the record is not as version 1 has it"):
            unpad(padded)
    assert unpad(pad(b"", 4)) == b""
    assert unpad(pad(b"xy", 6)) == b"xy"


def test_the_repr_of_facts_says_that_they_are_masked():
    assert repr(make_facts()) == "Facts(<masked>)"


# Keys


def test_a_key_file_that_is_wrong_says_which_it_is_and_what_to_do(tmp_path):
    path = tmp_path / "key"
    missing = f"{path} cannot be read: No such file or directory; check the path and its owner"
    for load in (load_signing_key, load_sealing_key):
        with says(KeyFileError, missing):
            load(path)
    path.touch(mode=0o600)
    path.write_bytes(b"no key")
    with says(KeyFileError, f"{path} holds no key in PEM form; restore it from a copy or make the node anew"):
        load_signing_key(path)
    with says(KeyFileError, f"{path} is not a sealing key file of version 1; restore it from a copy"):
        load_sealing_key(path)
    path.write_bytes(X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with says(KeyFileError, f"{path} holds a key that is not Ed25519; restore it from a copy or make the node anew"):
        load_signing_key(path)
    path.write_bytes(b"x" * 4097)
    for load in (load_signing_key, load_sealing_key):
        with says(KeyFileError, f"{path} is too long for a key file"):
            load(path)
    path.write_bytes(b"x" * 4096)
    with says(KeyFileError, f"{path} is not a sealing key file of version 1; restore it from a copy"):
        load_sealing_key(path)


def test_a_file_that_is_far_too_long_is_not_read_whole(tmp_path):
    (tmp_path / "key").touch(mode=0o600)
    os.truncate(tmp_path / "key", 1 << 40)  # sparse; to read it all would take a tebibyte of memory
    with says(KeyFileError, f"{tmp_path / 'key'} is too long for a key file"):
        load_sealing_key(tmp_path / "key")


def test_a_damaged_sealing_key_says_that_its_key_is_another_than_its_id(tmp_path):
    key, other = generate_sealing_key(KemKind.X25519), generate_sealing_key(KemKind.X25519)
    save_sealing_key(key, tmp_path / "key")
    data = (tmp_path / "key").read_bytes()
    (tmp_path / "key").write_bytes(data.replace(key.private_bytes.hex().encode(), other.private_bytes.hex().encode()))
    with says(KeyFileError, f"{tmp_path / 'key'} is damaged: its key is not the one that its key-id line names"):
        load_sealing_key(tmp_path / "key")


def test_a_sealing_key_file_is_four_lines_as_the_page_on_formats_has_them(tmp_path):
    save_sealing_key(HYBRID, tmp_path / "key")
    assert (tmp_path / "key").read_text() == (
        f"homeplate/v1/sealing-key\nkem: mlkem768-x25519\nkey-id: {HYBRID.key_id.hex()}\n"
        f"private: {HYBRID.private_bytes.hex()}\n"
    )


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601])
def test_a_key_that_anybody_may_open_says_so_and_one_of_its_group_is_read(tmp_path, mode):
    path, key = tmp_path / "key", generate_signing_key()
    save_signing_key(key, path)
    path.chmod(0o660)
    assert load_signing_key(path).private_bytes_raw() == key.private_bytes_raw()
    path.chmod(mode)
    with says(KeyFileError, f"{path} can be read by anyone; make a new key, or `chmod o-rwx` if it never was"):
        load_signing_key(path)


def test_a_key_that_cannot_be_made_says_why(tmp_path):
    write_new(tmp_path / "key", b"secret")
    with says(KeyFileError, f"{tmp_path / 'key'} is already there; move it away first: a key is never overwritten"):
        write_new(tmp_path / "key", b"other")
    nowhere = tmp_path / "nowhere" / "key"
    with says(KeyFileError, f"{nowhere} cannot be made: No such file or directory; check the folder and its owner"):
        write_new(nowhere, b"secret")


def test_a_key_and_its_folder_are_synced_before_it_counts_as_written(tmp_path, monkeypatch):
    synced, real = [], os.fsync

    def fsync(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_new(tmp_path / "key", b"secret")
    assert synced == [tmp_path / "key", tmp_path]


def test_a_failed_sync_leaves_no_key_and_says_so(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", fail)
    with says(KeyFileError, f"{tmp_path / 'key'} cannot be written: No space left on device; free some space"):
        write_new(tmp_path / "key", b"secret")
    assert list(tmp_path.iterdir()) == []


def test_a_public_key_that_is_not_what_its_entry_says_is_named():
    entry = X25519.sealing_key(not_before_s=3, not_after_s=9)
    assert (entry.not_before_s, entry.not_after_s, entry.kem) == (3, 9, KemKind.X25519)
    with says(RecipientError, "a x25519 public key has 32 bytes, not 31"):
        check_sealing_key(replace(entry, public=entry.public[:-1]))
    with says(RecipientError, f"the sealing key {'00' * 16} does not have the id of its x25519 public key"):
        check_sealing_key(replace(entry, key_id=bytes(16)))
    with says(ValueError, "a sealing key has 32 private bytes, not 31"):
        SealingPrivateKey(kem=KemKind.X25519, private_bytes=bytes(31))


# Seals


def test_a_record_that_is_not_for_this_reader_says_whose_it_is():
    record = make_record(record_id=RECORD)
    stranger = generate_sealing_key(KemKind.X25519)
    with says(RecipientError, f"record {RECORD} is sealed to the key {X25519.key_id.hex()}, not this one"):
        open_sealed(record, stranger, NODE_PUBLIC)
    for node in (bytes(32), b"short", generate_signing_key().public_key().public_bytes_raw()):
        with says(SignatureError, f"record {RECORD} is not signed by the node that it names"):
            verify(record, node)


def test_a_seal_that_does_not_open_and_one_of_an_odd_size_are_named_by_record():
    record = make_record(record_id=RECORD)
    altered = signed_again(replace(record, ciphertext=record.ciphertext[:-1] + bytes([record.ciphertext[-1] ^ 1])))
    with says(UnopenedError, f"record {RECORD} does not open with the key that it names: it was altered"):
        open_sealed(altered, X25519, NODE_PUBLIC)
    info = info_bytes(Part.FACTS, record.header, NODE_PUBLIC)
    odd = replace(record, ciphertext=_encrypt(KemKind.X25519, X25519.public_bytes, bytes(100), info))
    with says(ContentsError, f"record {RECORD} has 100 bytes inside: no padded facts"):
        open_sealed(signed_again(odd), X25519, NODE_PUBLIC)
    with says(SealingError, "a plaintext of 2047 bytes is not a padded facts"):
        make_record(bytes(2047))
    small_order = replace(X25519.sealing_key(not_before_s=0, not_after_s=1), public=bytes(32))
    small_order = replace(small_order, key_id=key_id(KemKind.X25519, bytes(32)))
    with says(RecipientError, "the x25519 public key of a recipient is not usable"):
        make_record(recipient=small_order)


def test_the_sizes_of_hot_lists_double_and_each_is_used_to_its_last_byte():
    overhead = len(HOT_LIST_LABEL) + 32 + 16  # label, encapsulated key, tag
    for length, size in ((0, 4096), (4092, 4096), (4093, 8192), (8188, 8192), (8189, 16384)):
        assert len(seal_hot_list(bytes(length), X25519.public_bytes)) == size + overhead
    longest = bytes(MAX_HOT_LIST_BYTES - 4)
    blob = seal_hot_list(longest, X25519.public_bytes)
    assert len(blob) == MAX_HOT_LIST_BYTES + overhead
    assert open_hot_list(blob, X25519) == longest
    with says(SealingError, "a hot list of 16777213 bytes is too long to seal"):
        seal_hot_list(bytes(MAX_HOT_LIST_BYTES - 3), X25519.public_bytes)


def test_a_hot_list_that_does_not_open_says_what_to_do():
    blob = seal_hot_list(b"x", X25519.public_bytes)
    with says(VersionError, "the hot list is of a version that this program does not know; update the node"):
        open_hot_list(b"homeplate/v2/hot-list\n", X25519)
    with says(RecipientError, "a hot list opens with an X25519 key only"):
        open_hot_list(blob, HYBRID)
    with says(UnopenedError, "the hot list does not open with this node's key; ask for a bundle made for this node"):
        open_hot_list(blob[:-1], X25519)


# Slots


@pytest.fixture
def store(tmp_path):
    made = SlotStore(tmp_path / "disk.slots", tmp_path / "memory.slots")
    yield made
    made.close()


def test_a_slot_that_cannot_be_made_or_is_gone_says_why(store, tmp_path):
    for rule, expiry_s in (("Hits", 1), ("hits", -1), ("hits", 1 << 63), ("hold:" + "0" * 31, 1)):
        with says(SlotError, f"a slot needs a rule's name and an expiry in seconds, not {rule!r} and {expiry_s}"):
            store.slot_for(rule, expiry_s, DAY_SECONDS)
    for rule, expiry_s in (("hits", 0), ("hits", (1 << 63) - 1), ("hold:" + "0a" * 16, 1), ("a" * 40, 1)):
        assert store.slot_for(rule, expiry_s, DAY_SECONDS) in {info.slot for info in store.live()}
    slot = SlotId(value=bytes(16))
    with says(SlotError, f"the slot {slot} is gone: what it should lock is past its date"):
        store.wrap(slot, RECORD, b"sealed")
    mine = store.slot_for("hits", 0, DAY_SECONDS)
    with says(SlotError, "a record of 1048577 bytes is too long to store"):
        store.wrap(mine, RECORD, bytes(MAX_RECORD_BYTES + 1))
    with says(SlotError, "a device key has 32 bytes, not 31"):
        SlotStore(tmp_path / "disk.slots", tmp_path / "memory.slots", bytes(31))


def test_a_stored_record_that_is_none_says_what_is_wrong(store):
    slot = store.slot_for("hits", 1, DAY_SECONDS)
    blob = store.wrap(slot, RECORD, b"")
    with says(VersionError, "a stored record is of a version that this program does not know"):
        slot_of(b"homeplate/v2/slot\n" + blob[18:])
    with says(SlotError, f"a stored record of {len(blob) - 1} bytes is truncated or too long"):
        slot_of(blob[:-1])
    longest = store.wrap(slot, RECORD, bytes(MAX_RECORD_BYTES))
    assert slot_of(longest) == slot
    with says(SlotError, f"a stored record of {len(longest) + 1} bytes is truncated or too long"):
        slot_of(longest + b"x")
    with says(SlotError, f"a stored record under the slot {slot} was altered; it is not passed on"):
        store.unwrap(blob[:-1] + bytes([blob[-1] ^ 1]))


def test_a_slot_is_over_in_the_second_in_which_it_expires(store):
    blob = store.wrap(store.slot_for("hits", 100, DAY_SECONDS), RECORD, b"sealed")
    assert store.unwrap(blob, 99) == b"sealed"
    assert store.unwrap(blob, 100) is None
    assert store.unwrap(blob) == b"sealed"


def test_a_key_that_the_device_wraps_says_what_it_needs(tmp_path):
    paths = (tmp_path / "disk.slots", tmp_path / "memory.slots")
    with_key = SlotStore(*paths, bytes(range(32)))
    slot = with_key.slot_for("hits", 1, DAY_SECONDS)
    blob = with_key.wrap(slot, RECORD, b"sealed")
    with_key.close()
    for key, message in (
        (None, f"the key of slot {slot} is wrapped; start with this device's key (systemd credential)"),
        (bytes(32), f"the key of slot {slot} belongs to another device's key"),
    ):
        other = SlotStore.open_existing(*paths, key)
        with says(SlotError, message):
            other.unwrap(blob)
        other.close()
    reader = SlotStore.open_existing(*paths, bytes(range(32)))
    assert reader.unwrap(blob) == b"sealed"
    reader.close()
    with says(SlotError, "a device key has 32 bytes, not 33"):
        SlotStore.open_existing(*paths, bytes(33))


def test_a_slot_file_that_is_none_says_which_and_what_to_do(tmp_path):
    disk, memory = tmp_path / "disk.slots", tmp_path / "memory.slots"
    with says(SlotError, f"{memory} cannot be opened: No such file or directory; start capture or purge once"):
        SlotStore.open_existing(disk, memory)
    nowhere = tmp_path / "nowhere" / "slots"
    with says(SlotError, f"{nowhere} cannot be opened: No such file or directory; check the folder and its owner"):
        SlotStore(disk, nowhere)
    SlotStore(disk, memory).close()
    size, data = disk.stat().st_size, disk.read_bytes()
    disk.write_bytes(data[:-1])
    with says(SlotError, f"{disk} is not a slot file of {size} bytes; restore or remove it"):
        SlotStore(disk, memory)
    disk.write_bytes(b"x" + data[1:])
    with says(SlotError, f"{disk} is not a slot file of version 1; restore or remove it"):
        SlotStore(disk, memory)
    disk.write_bytes(data)
    reader = SlotStore.open_existing(disk, memory)
    with says(SlotError, f"{disk} is open for reading only"):
        reader.slot_for("hits", 1, DAY_SECONDS)
    memory.unlink()
    with says(SlotError, f"{memory} was removed or replaced while it was open; start again"):
        reader.unwrap(slots_module.WRAP_LINE + bytes(16 + 16 + 12 + 16))
    reader.close()


def test_a_full_slot_file_and_a_failing_disk_say_what_to_do(store, tmp_path, monkeypatch):
    disk = tmp_path / "disk.slots"

    def fail(_):
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(os, "fsync", fail)
    with says(SlotError, f"{disk} cannot be written: Input/output error; check the disk"):
        store.slot_for("hits", 1, DAY_SECONDS)
    monkeypatch.undo()
    monkeypatch.setattr(slots_module._SlotFile, "overwrite", lambda *_: None)
    monkeypatch.setattr(slots_module._SlotFile, "cell", lambda *_: b"slot")
    with says(SlotError, f"{disk} is full with {CELLS} slots; run `homeplate purge`"):
        store.slot_for("hits", 2, DAY_SECONDS)


def test_a_place_that_cannot_hold_slots_is_refused_with_its_file_system(monkeypatch, tmp_path):
    with says(SlotError, "/proc is not memory-backed; name a folder under /run or /dev/shm as runtime_dir"):
        require_memory_backed(Path("/proc"))
    with says(SlotError, "/proc is on proc; slot keys need ext4 to be destroyed in place"):
        require_in_place(Path("/proc"))
    monkeypatch.setattr(slots_module, "filesystem_of", lambda _: "")
    with says(SlotError, "/srv is on an unknown file system; slot keys need ext4 to be destroyed in place"):
        require_in_place(Path("/srv"))
    assert filesystem_of(Path("/srv"), tmp_path / "no-table") == ""


def mount(point, kind, source="/dev/sda1", options="rw,relatime"):
    return f"25 1 8:1 / {point} rw,relatime shared:1 - {kind} {source} {options}\n".encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("lines", "path", "kind"),
    [
        ([], "/srv", ""),
        ([mount("/other", "ext4")], "/srv", ""),
        ([mount("/", "ext4"), mount("/srv", "btrfs")], "/srv/slots", "btrfs"),
        ([mount("/srv", "btrfs"), mount("/", "ext4")], "/srv/slots", "btrfs"),
        ([mount("/srv", "btrfs"), mount("/srv", "xfs")], "/srv", "xfs"),  # mounted over the other
        ([mount("/", "ext4"), mount("/srv", "btrfs")], "/srv2", "ext4"),
        ([mount("/", "ext4"), mount(r"/a\040b", "tmpfs")], "/a b/slots", "tmpfs"),
        ([mount("/", "ext4"), mount(r"/a\134b", "tmpfs")], "/a\\b", "tmpfs"),
        ([mount("/", "ext4"), mount("/\udcff", "tmpfs")], "/\udcff/slots", "tmpfs"),
        ([mount("/", "ext4"), mount("/é", "tmpfs")], "/é", "tmpfs"),
        ([mount("/", "tmpfs", source="")], "/srv", "tmpfs"),
    ],
    ids=range(11),
)
def test_the_file_system_of_a_path_is_that_of_the_last_and_longest_mount_above_it(tmp_path, lines, path, kind):
    table = tmp_path / "mountinfo"
    table.write_bytes(b"".join(lines))
    assert filesystem_of(Path(path), table) == kind
