"""From a registry's entry to an `Agency`, or to the reason why it can be none. Pure.

Federal, other-state and private recipients cannot be written down (ARCHITECTURE 4): `Agency` has no value for them,
and this says so by name. One such entry is refused alone; the rest of the registry stays usable. That a name looks
right proves nothing (the registry's signature does); the checks on names catch its mistakes.
"""

import hashlib
import ipaddress
import re
import unicodedata
from collections.abc import Iterable, Mapping

from cryptography import x509

from homeplate.domain.agency import Agency, AgencyKind, Endpoint, Jurisdiction, KemKind, SealingKey
from homeplate.errors import TrustError
from homeplate.trust.certificates import UNREADABLE
from homeplate.trust.names import misfit, names_a_public_body
from homeplate.trust.schema import AgencyEntry, EndpointEntry, SealingKeyEntry

KEY_ID_BYTES = 16
PUBLIC_BYTES = {KemKind.X25519: 32, KemKind.MLKEM768_X25519: 1184 + 32}

MINIMUM_PREFIX = {4: 24, 6: 64}
"""The widest range of addresses that one endpoint may span: 256 IPv4 addresses, or one IPv6 network."""

_EMBEDDED_IPV4 = tuple(ipaddress.IPv6Network(text) for text in ("::/96", "::ffff:0:0/96", "64:ff9b::/96", "2002::/16"))

_NOT_PUBLIC = {
    "federal": "federal", "federal_agency": "federal", "united_states": "federal", "military": "federal",
    "private": "private", "association": "private", "company": "private", "vendor": "private", "nonprofit": "private",
    "tribal": "other-kind", "foreign": "foreign",
}  # fmt: skip
_ORI = re.compile(r"[A-Z]{2}[A-Z0-9]{7}")
# The state part of an ORI is the postal code but for Nebraska (NCIC 2000 operating manual, ORI file).
_ORI_STATE = {"US-NE": "NB"}
_SHORT_CAPITALS = 5
_NAME_LETTERS = re.compile(r"[A-Za-z0-9À-ÖØ-öø-ÿ .,'&()/-]{2,120}")
# A digit within or before the letters of a word (P0lice, 0akland), a capital I after a small letter (CaIifornia) but
# for the names that begin with a particle (McIntosh): what a reader takes for another letter.
_LOOKS_ALIKE = re.compile(r"[A-Za-z][01][A-Za-z]|\b0[A-Za-z]|(?<!\bMc)(?<!\bMac)(?<!\bDe)(?<=[a-z])I")
_TLS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_MINIMUM_WORDS = 2


class IneligibleError(TrustError):
    """An entry that can be no agency; the message begins with a short code."""


def agencies(entries: Iterable[AgencyEntry], jurisdiction: str) -> tuple[tuple[Agency, ...], Mapping[str, str]]:
    """Return the agencies among `entries`, and for each other entry's identifier why it is none.

    Args:
        entries: as the registry signed them.
        jurisdiction: the node's own, as the root signed it ("US-CA").

    Raises:
        TrustError: where two entries share an identifier or a sealing key, so that nobody can say who is meant.
    """
    good: list[Agency] = []
    refused: dict[str, str] = {}
    identifiers: set[str] = set()
    keys: set[bytes] = set()
    for entry in entries:
        if entry.identifier.casefold() in identifiers:
            raise TrustError(f"registry.json names {entry.identifier} twice; the registry must say which is meant")
        identifiers.add(entry.identifier.casefold())
        try:
            agency = to_agency(entry, jurisdiction)
        except IneligibleError as error:
            refused[entry.identifier] = str(error)
            continue
        ids = [key.key_id for key in agency.sealing_keys]
        if keys.intersection(ids) or len(set(ids)) != len(ids):
            raise TrustError(f"registry.json gives a sealing key of {entry.identifier} twice; no key has two owners")
        keys.update(ids)
        good.append(agency)
    return tuple(good), refused


def to_agency(entry: AgencyEntry, jurisdiction: str) -> Agency:
    """Return the agency that `entry` describes.

    Raises:
        IneligibleError: where it can be none: federal, private, of another state, named by initials, with another
            state's ORI, or without a usable endpoint or sealing key.
    """
    _check_letters(entry)
    kind = _kind(entry)
    _check_jurisdiction(entry, jurisdiction)
    _check_name(entry, kind)
    _check_ori(entry)
    if not entry.endpoints:
        raise IneligibleError(f"no-endpoint: {entry.legal_name} has no endpoint to send to")
    if not entry.sealing_keys:
        raise IneligibleError(f"no-sealing-key: {entry.legal_name} has no sealing key")
    return Agency(
        identifier=entry.identifier,
        legal_name=entry.legal_name,
        kind=kind,
        jurisdiction=Jurisdiction(entry.jurisdiction),
        ori=entry.ori,
        endpoints=tuple(_endpoint(endpoint, entry.legal_name) for endpoint in entry.endpoints),
        sealing_keys=tuple(_sealing_key(key, entry.legal_name) for key in entry.sealing_keys),
    )


def _check_letters(entry: AgencyEntry) -> None:
    """Refuse a name that looks like another: its letters are those of the western alphabets, and no digit is one.

    The name itself is left out of the message, which is read by eye too.
    """
    name = entry.legal_name
    for letter in name:
        if not _NAME_LETTERS.fullmatch(letter * 2):
            called = unicodedata.name(letter, "a character without a name")
            code = "homograph" if letter.isalnum() or unicodedata.combining(letter) else "name-form"
            raise IneligibleError(f"{code}: the name of {entry.identifier} holds {called}")
    if not _NAME_LETTERS.fullmatch(name):
        raise IneligibleError(f"name-form: the name of {entry.identifier} has 2 to 120 characters")
    if found := _LOOKS_ALIKE.search(name):
        raise IneligibleError(f"homograph: the name of {entry.identifier} holds {found[0]}, which looks like letters")


def _kind(entry: AgencyEntry) -> AgencyKind:
    if entry.kind in set(AgencyKind):
        return AgencyKind(entry.kind)
    code = _NOT_PUBLIC.get(entry.kind, "other-kind")
    raise IneligibleError(
        f"{code}: {entry.legal_name} is of kind {entry.kind}, and only California's own public agencies receive"
        " (Civil Code 1798.90.5(f))"
        if entry.jurisdiction == "US-CA"
        else f"{code}: {entry.legal_name} is of kind {entry.kind}, which is no public agency of a state"
    )


def _check_jurisdiction(entry: AgencyEntry, home: str) -> None:
    if entry.jurisdiction == home:
        return
    name, where = entry.legal_name, entry.jurisdiction
    if where == "US":
        raise IneligibleError(f"federal: {name} is of the United States, not of {home}")
    if re.fullmatch("US-[A-Z]{2}", where):
        raise IneligibleError(f"other-state: {name} is of {where}, not of {home}")
    raise IneligibleError(f"foreign: {name} is of {where}, not of {home}")


def _check_name(entry: AgencyEntry, kind: AgencyKind) -> None:
    name = entry.legal_name
    found = misfit(name, entry.jurisdiction, subdivision=kind is AgencyKind.POLITICAL_SUBDIVISION)
    if found:
        raise IneligibleError(f"{found.code}: {name} {found.why}")
    if sum(_is_word(word) for word in re.findall(r"[^\W\d_]+", name)) < _MINIMUM_WORDS:
        raise IneligibleError(f"initials: {name} is no legal name written out; initials alone name nobody")
    if not names_a_public_body(name):
        raise IneligibleError(f"private: {name} names no public body: no police, county, district or the like")


def _is_word(word: str) -> bool:
    """Tell a word from initials: it has three letters and a vowel, and is not a few capitals ("MPCA", "ASSN")."""
    if len(word) < 3 or not re.search("[aeiouyà-ÿ]", word.lower()):  # noqa: PLR2004 - "of", "la" name nobody
        return False
    return not (word.isupper() and len(word) <= _SHORT_CAPITALS)


def _check_ori(entry: AgencyEntry) -> None:
    state = _ORI_STATE.get(entry.jurisdiction, entry.jurisdiction.removeprefix("US-"))
    if entry.ori is not None and not _ORI.fullmatch(entry.ori):
        raise IneligibleError(f"ori-form: {entry.legal_name} has the ORI {entry.ori}; an ORI has 9 characters")
    for ori in (entry.ori, entry.identifier):
        if ori is not None and _ORI.fullmatch(ori) and not ori.startswith(state):
            raise IneligibleError(f"other-state: {entry.legal_name} has the ORI {ori}, which is not of {state}")


def _endpoint(entry: EndpointEntry, name: str) -> Endpoint:
    if not entry.pins:
        raise IneligibleError(f"no-pin: {name} pins no key of its broker")
    if len(set(entry.pins)) != len(entry.pins):
        raise IneligibleError(f"pin-twice: {name} gives one pin twice")
    _check_tls_name(entry.tls_name, name)
    _check_authority(entry.authority_pem, name)
    return Endpoint(
        network=_network(entry.network, name),
        port=entry.port,
        tls_name=entry.tls_name,
        authority_pem=entry.authority_pem,
        pins=tuple(bytes.fromhex(pin) for pin in entry.pins),
    )


def _check_tls_name(text: str, name: str) -> None:
    """Refuse what is not one host's name: a wildcard names many, an address says nothing of who answers there."""
    if "*" in text:
        raise IneligibleError(f"wildcard: {name} gives the TLS name {text!r}; it has to name one host")
    # The last label of a host's name is no number (WHATWG URL, "ends in a number"): 10.1 and 0x7f.1 are addresses too.
    if ":" in text or re.fullmatch(r"(.*\.)?(\d+|0x[0-9a-f]*)\.?", text):
        raise IneligibleError(f"tls-address: {name} gives the address {text!r} where the TLS name stands")
    if not all(_TLS_LABEL.fullmatch(label) for label in text.split(".")):
        raise IneligibleError(f"tls-name: {name} gives {text!r}, which is no name that a certificate carries")


def _network(text: str, name: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=True)
    except ValueError:
        raise IneligibleError(
            f"address: {name} gives {text!r}, which is no address or range (names are not resolved)"
        ) from None
    single = network.prefixlen == network.max_prefixlen
    canonical = str(network.network_address) if single else str(network)
    if text != canonical:
        raise IneligibleError(f"address-form: {name} gives {text!r}; it is written {canonical}")
    if network.prefixlen < MINIMUM_PREFIX[network.version]:
        raise IneligibleError(f"address-range: {name} gives {text}, wider than /{MINIMUM_PREFIX[network.version]}")
    if network.is_unspecified or network.is_multicast or (network.version == 4 and network.is_reserved):  # noqa: PLR2004
        raise IneligibleError(f"address: {name} gives {text}, which is nobody's own address")
    embedded = isinstance(network, ipaddress.IPv6Network) and any(network.overlaps(old) for old in _EMBEDDED_IPV4)
    if embedded and text != "::1":
        raise IneligibleError(f"address: {name} gives {text}, an IPv4 address in another guise")
    return canonical


def _check_authority(pem: str, name: str) -> None:
    """Make sure that exactly one certificate, of an authority, is there; more would be trusted silently."""
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
        constraints = certificates[0].extensions.get_extension_for_class(x509.BasicConstraints).value
    except UNREADABLE:
        raise IneligibleError(f"authority: {name} gives no readable certificate of an authority") from None
    if len(certificates) != 1 or not constraints.ca:
        raise IneligibleError(f"authority: {name} must give exactly one certificate, of an authority")


def _sealing_key(entry: SealingKeyEntry, name: str) -> SealingKey:
    public = bytes.fromhex(entry.public)
    if len(public) != PUBLIC_BYTES[entry.kem]:
        raise IneligibleError(f"key-form: {name} gives a sealing key of {len(public)} bytes for {entry.kem}")
    if entry.not_after_s <= entry.not_before_s:
        raise IneligibleError(f"key-dates: {name} gives a sealing key that ends before it begins")
    return SealingKey(
        key_id=hashlib.sha256(entry.kem.value.encode() + b"\0" + public).digest()[:KEY_ID_BYTES],
        kem=entry.kem,
        public=public,
        not_before_s=entry.not_before_s,
        not_after_s=entry.not_after_s,
    )
