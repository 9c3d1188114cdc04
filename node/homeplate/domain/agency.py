"""Who a recipient can be. Federal, other-state and private recipients cannot be written down: no type here holds them.

Source: California Civil Code 1798.90.5(f) ("public agency"), ARCHITECTURE 4.
"""

from dataclasses import dataclass
from enum import StrEnum


class AgencyKind(StrEnum):
    """The public agencies of Civil Code 1798.90.5(f), and no other kind."""

    STATE = "state"
    STATE_AGENCY = "state_agency"
    COUNTY = "county"
    COUNTY_AGENCY = "county_agency"
    CITY = "city"
    CITY_AGENCY = "city_agency"
    CITY_AND_COUNTY = "city_and_county"
    CITY_AND_COUNTY_AGENCY = "city_and_county_agency"
    POLITICAL_SUBDIVISION = "political_subdivision"


class Jurisdiction(StrEnum):
    """Whose own agencies a node serves: a state of the United States, or the District of Columbia (ISO 3166-2:US).

    The United States itself, another country and a vendor's "nationwide" have no value here.
    """

    AL = "US-AL"
    AK = "US-AK"
    AZ = "US-AZ"
    AR = "US-AR"
    CA = "US-CA"
    CO = "US-CO"
    CT = "US-CT"
    DE = "US-DE"
    DC = "US-DC"
    FL = "US-FL"
    GA = "US-GA"
    HI = "US-HI"
    ID = "US-ID"
    IL = "US-IL"
    IN = "US-IN"
    IA = "US-IA"
    KS = "US-KS"
    KY = "US-KY"
    LA = "US-LA"
    ME = "US-ME"
    MD = "US-MD"
    MA = "US-MA"
    MI = "US-MI"
    MN = "US-MN"
    MS = "US-MS"
    MO = "US-MO"
    MT = "US-MT"
    NE = "US-NE"
    NV = "US-NV"
    NH = "US-NH"
    NJ = "US-NJ"
    NM = "US-NM"
    NY = "US-NY"
    NC = "US-NC"
    ND = "US-ND"
    OH = "US-OH"
    OK = "US-OK"
    OR = "US-OR"
    PA = "US-PA"
    RI = "US-RI"
    SC = "US-SC"
    SD = "US-SD"
    TN = "US-TN"
    TX = "US-TX"
    UT = "US-UT"
    VT = "US-VT"
    VA = "US-VA"
    WA = "US-WA"
    WV = "US-WV"
    WI = "US-WI"
    WY = "US-WY"


class KemKind(StrEnum):
    """The key encapsulation of a sealing key; it follows from the key's type and is never negotiated."""

    X25519 = "x25519"
    MLKEM768_X25519 = "mlkem768-x25519"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealingKey:
    """A recipient's public key with its dates.

    Attributes:
        key_id: first 16 bytes of SHA-256 over kem value, a zero byte and the public bytes.
        kem: X25519 or the ML-KEM-768 + X25519 hybrid.
        public: raw public bytes as `cryptography` gives them.
        not_before_s: first second (since 1970) of use for sealing.
        not_after_s: last second of use for sealing.
    """

    key_id: bytes
    kem: KemKind
    public: bytes
    not_before_s: int
    not_after_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where an agency's broker answers: an address or range (never a name to resolve), and who must answer there.

    Attributes:
        network: IPv4 or IPv6 address or CIDR range, canonical text.
        port: TCP port.
        tls_name: the name that the broker's certificate must carry.
        authority_pem: the only certificate authority that may have issued it.
        pins: SHA-256 of acceptable SubjectPublicKeyInfo of the broker's leaf (current and next).
    """

    network: str
    port: int
    tls_name: str
    authority_pem: str
    pins: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agency:
    """A registry entry: who an agency is, as an independent body signed it."""

    identifier: str
    legal_name: str
    kind: AgencyKind
    jurisdiction: Jurisdiction
    ori: str | None
    endpoints: tuple[Endpoint, ...]
    sealing_keys: tuple[SealingKey, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """An allowlist entry: whom the operator chose, and why. `attested`: no federal, no out-of-state access."""

    identifier: str
    need: str
    purpose: str
    approver: str
    approved_on: str
    expires_s: int
    attested: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipient:
    """An agency that both signers name: the only thing that a record can be sealed for or sent to."""

    agency: Agency
    grant: Grant
