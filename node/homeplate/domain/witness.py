"""Who watches the ledgers from outside: the registry names them, because an operator's own witness shows nothing."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """One witness.

    Attributes:
        name: as in its signatures, a URL without a scheme ("witness.example/w1").
        public: raw Ed25519 public key, 32 bytes; used for cosignatures and for nothing else.
    """

    name: str
    public: bytes = field(repr=False)
