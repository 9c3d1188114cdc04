"""The fourth target of the bundle: which nodes exist. Receivers and verifiers trust only that."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from homeplate.domain.place import Position


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEntry:
    """One enrolled node.

    Attributes:
        pseudonym: 16 random bytes; in record headers, topics (hexadecimal) and the TLS client certificate (CN).
        record_public: raw Ed25519 public key that signs records, 32 bytes.
        ledger_public: raw Ed25519 public key that signs checkpoints, 32 bytes.
        hot_list_public: raw X25519 public key that the hot list is sealed to, 32 bytes.
        cameras: the sources that it may have.
        not_before_s, not_after_s: seconds since 1970 between which its signatures count.
        revoked: True where nothing it signs counts any more.
        position: where it stands; None where the operator signed none.
        camera_positions: where a camera of it stands that is elsewhere, by the camera's name.
    """

    pseudonym: bytes
    record_public: bytes = field(repr=False)
    ledger_public: bytes = field(repr=False)
    hot_list_public: bytes = field(repr=False)
    cameras: tuple[str, ...]
    not_before_s: int
    not_after_s: int
    revoked: bool = False
    position: Position | None = None
    camera_positions: Mapping[str, Position] = field(default_factory=dict)
