"""The access log: who opened which records and why, on disk before anything is decrypted (Civil Code 1798.90.52).

Two rows an access. `records.opened` is synced before a private key is read: date and time, what was queried, user and
organisation, purpose, case. `records.shown` is synced before anything is shown: which records, how old they were, and
their plates, sealed to the reviewer's key, so that the log itself holds no plate. Each access ends with a checkpoint
by a key that signs nothing else. Signing, sealing and access-log keys are apart, and what is not apart is refused.
"""

import base64
import re
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from homeplate.clock import NANOSECONDS, utc_text
from homeplate.domain.agency import KemKind
from homeplate.domain.node import NodeEntry
from homeplate.domain.plate import PlateText
from homeplate.domain.record import DAY_SECONDS, RecordId
from homeplate.errors import ConfigError, LedgerError
from homeplate.ports import Clock
from homeplate.sealing.keys import (
    SealingPrivateKey,
    generate_sealing_key,
    generate_signing_key,
    load_signing_key,
    save_sealing_key,
    save_signing_key,
)
from homeplate.sealing.seal import open_access, seal_access
from homeplate.store.checkpoints import sign_checkpoints
from homeplate.store.ledger import MerkleLog, Row
from homeplate.trust.files import read_bounded, write_durably
from homeplate_custodian.records import Accessor, Opened, Opening

LOG = "access"
ACCESS_LOG = f"{LOG}.log"
CHECKPOINTS = "checkpoints"
KEYS = "access"
OPENED, SHOWN = "records.opened", "records.shown"
REMINDER = (
    "a read is a lead, not proof: compare picture, plate and state by eye, and confirm the list's entry with whoever"
    " made it, before anyone acts on it"
)

# The ids of one row: 100 of 32 digits and a comma stay below the 4096 characters that a ledger's field may have, and
# 100 plates below the 2044 bytes of a seal.
_IDS_A_ROW = 100
_PUBLIC = re.compile(rb"homeplate/v1/access-log ([0-9a-f]{32}) ([0-9a-f]{64}) ([0-9a-f]{64})\n")
_FOREVER_S = 2**40 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLogKeys:
    """The public half of an access log.

    Attributes:
        custodian: the log's own name, 16 random bytes: what a node's pseudonym is to its logs.
        signing_public: of the key that signs its checkpoints, raw Ed25519.
        reviewer_public: of the key that plates are sealed to, raw X25519.
    """

    custodian: bytes
    signing_public: bytes
    reviewer_public: bytes

    def signer(self) -> NodeEntry:
        """Return who signs the log, as `verify.verify_ledger` asks for it."""
        return NodeEntry(
            pseudonym=self.custodian,
            record_public=self.signing_public,
            ledger_public=self.signing_public,
            hot_list_public=self.reviewer_public,
            cameras=(),
            not_before_s=0,
            not_after_s=_FOREVER_S,
            revoked=False,
        )


def make_keys(custody: Path) -> AccessLogKeys:
    """Return the access log's public keys, which are made where there are none yet.

    `access/signing.pem` stays where records are opened; `access/reviewer.key` belongs to whoever reviews accesses.

    Raises:
        ConfigError: where `access/keys.pub` is damaged.
        SealingError: where a key cannot be written, or lies there without `keys.pub`.
    """
    folder = custody / KEYS
    if not (folder / "keys.pub").exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        signing, reviewer = generate_signing_key(), generate_sealing_key(KemKind.X25519)
        save_signing_key(signing, folder / "signing.pem")
        save_sealing_key(reviewer, folder / "reviewer.key")
        publics = (secrets.token_bytes(16), signing.public_key().public_bytes_raw(), reviewer.public_bytes)
        write_durably(
            folder / "keys.pub", f"homeplate/v1/access-log {' '.join(one.hex() for one in publics)}\n".encode()
        )
    return read_keys(folder / "keys.pub")


def read_keys(path: Path) -> AccessLogKeys:
    """Return the public keys in `access/keys.pub` or a copy of it.

    Raises:
        ConfigError: where it is damaged.
        TrustError: where it is missing.
    """
    match = _PUBLIC.fullmatch(read_bounded(path, 256))
    if match is None:
        raise ConfigError(f"{path} holds no public keys of an access log; restore it from a copy")
    custodian, signing, reviewer = (bytes.fromhex(part.decode()) for part in match.groups())
    return AccessLogKeys(custodian=custodian, signing_public=signing, reviewer_public=reviewer)


def require_apart(keys: AccessLogKeys, *, sealing: Iterable[bytes], signing: Iterable[bytes]) -> None:
    """Refuse keys that serve two ends: who opens records must not read the log's seals, nor sign bundles as the log.

    Raises:
        ConfigError: names the two.
    """
    if keys.reviewer_public in set(sealing):
        raise ConfigError(
            "access/reviewer.key is a sealing key of the agency too: the access log's plates have a key of their own;"
            " make the access keys anew"
        )
    if keys.signing_public in set(signing):
        raise ConfigError("access/signing.pem signs bundles or holds too: the access log has a key of its own")


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What is asked for.

    Attributes:
        text: the data elements queried, in words, without a plate.
        records: ids of the records that will be opened.
        plate: where a plate is searched for: only its records are shown, and the access record seals it.
    """

    text: str
    records: Sequence[RecordId]
    plate: PlateText | None = field(default=None, repr=False)


def record_access(custody: Path, clock: Clock, who: Accessor, query: Query, open_now: Callable[[], Opening]) -> Opening:
    """Write the access record, then open, then write what will be shown, then sign the log; return what to show.

    Args:
        custody: the custody folder.
        clock: its machine's time.
        who: who opens, and why.
        query: what is asked for.
        open_now: reads private keys and decrypts; called only once the access record is on disk.

    Raises:
        ConfigError: where the plate that is asked for stands in clear among who and why; nothing was written.
        StoreError: where a row cannot be written: then nothing is opened, or nothing is shown.
        SealingError: where the keys of the access log are not there.
    """
    if query.plate is not None:
        who.names_no(query.plate)
    keys = make_keys(custody)
    signing = _signing_key(custody, keys)
    with MerkleLog(custody / ACCESS_LOG, clock) as ledger:
        number = write_opened(ledger, keys, who, utc_text(clock.now_ns()), query)
        opening = open_now()
        if query.plate is not None:
            wanted = query.plate.reveal()
            opening = replace(opening, opened=tuple(one for one in opening.opened if one.facts.plate == wanted))
        write_shown(ledger, keys, number, opening.opened, clock.now_ns() // NANOSECONDS)
    _sign(custody, keys, signing)
    return opening


def note(custody: Path, clock: Clock, event: str, **fields: str | int | bool) -> None:
    """Write a row of another kind (a key's end, an audit) and sign the log.

    Raises:
        StoreError: where it cannot be written.
        SealingError: where the keys of the access log are not there.
    """
    keys = make_keys(custody)
    signing = _signing_key(custody, keys)
    with MerkleLog(custody / ACCESS_LOG, clock) as ledger:
        ledger.append(event, **fields)
    _sign(custody, keys, signing)


def _signing_key(custody: Path, keys: AccessLogKeys) -> Ed25519PrivateKey:
    key = load_signing_key(custody / KEYS / "signing.pem")
    if key.public_key().public_bytes_raw() != keys.signing_public:
        raise ConfigError(f"{custody / KEYS}: signing.pem is not the key that keys.pub names; restore both from a copy")
    return key


def _sign(custody: Path, keys: AccessLogKeys, signing: Ed25519PrivateKey) -> None:
    logs = {LOG: custody / ACCESS_LOG}
    sign_checkpoints(logs, key=signing, pseudonym=keys.custodian, folder=custody / CHECKPOINTS)


def write_opened(ledger: MerkleLog, keys: AccessLogKeys, who: Accessor, when: str, query: Query) -> int:
    """Write who is about to open which records, and why; return the first row's number. On disk once this returns.

    Raises:
        StoreError: where it cannot be written: then nothing may be opened.
    """
    first, ids = ledger.size + 1, [str(record) for record in query.records]
    for start in range(0, max(1, len(ids)), _IDS_A_ROW):
        records = ",".join(ids[start : start + _IDS_A_ROW])
        sealed = {}
        if query.plate is not None:
            context = context_of(OPENED, ledger.size + 1, records)
            sealed["sealed"] = _sealed([query.plate.reveal()], keys, context)
        ledger.append(
            OPENED,
            date_time=when,
            records=records,
            query=query.text,
            user=who.user,
            organisation=who.organisation,
            purpose=who.purpose,
            case=who.case,
            **sealed,
        )
    return first


def write_shown(ledger: MerkleLog, keys: AccessLogKeys, opening: int, opened: Sequence[Opened], now_s: int) -> None:
    """Write what is about to be shown: ids and ages in clear, plates sealed. On disk once this returns.

    Raises:
        StoreError: where it cannot be written: then nothing may be shown.
    """
    for start in range(0, max(1, len(opened)), _IDS_A_ROW):
        some = opened[start : start + _IDS_A_ROW]
        records = ",".join(str(one.header.record_id) for one in some)
        ages = [max(0, now_s - one.facts.first_captured_ns // NANOSECONDS) // DAY_SECONDS for one in some]
        context = context_of(SHOWN, ledger.size + 1, records)
        ledger.append(
            SHOWN,
            opening=opening,
            records=records,
            ages_days=",".join(map(str, ages)),
            sealed=_sealed([one.facts.plate for one in some], keys, context),
        )


def _sealed(plates: Sequence[str], keys: AccessLogKeys, context: bytes) -> str:
    return base64.b64encode(seal_access(",".join(plates).encode(), keys.reviewer_public, context)).decode("ascii")


def context_of(event: str, number: int, records: str) -> bytes:
    """Return what binds a seal to its row."""
    return f"{event} {number} {records}\n".encode()


def plates_of(row: Row, reviewer: SealingPrivateKey) -> list[PlateText]:
    """Return the plates that a row of the access log seals, for the reviewer: those shown, or the one searched for.

    Raises:
        LedgerError: where the row seals none.
        SealingError: where the key is another's, or the seal is of another row.
    """
    sealed = row.fields.get("sealed")
    if row.event not in {OPENED, SHOWN} or not isinstance(sealed, str):
        raise LedgerError(f"row {row.number} of the access log seals no plate")
    context = context_of(row.event, row.number, str(row.fields["records"]))
    content = open_access(base64.b64decode(sealed), reviewer, context).decode()
    return [PlateText(text) for text in content.split(",") if text]
