"""Values that the policy's tests decide over, with the one thing changed that a test needs."""

from hypothesis import strategies as st

from homeplate.domain.agency import Agency, AgencyKind, Endpoint, Grant, Jurisdiction, KemKind, SealingKey
from homeplate.domain.record import Part, StorageClass
from homeplate.domain.rules import RETENTION_CAP_S, Rule, Trigger
from homeplate.policy.allowlist import Recipients, recipients

NOW_S = 1_790_000_000
HOME = Jurisdiction.CA


def sealing_key(number: int = 1, *, not_before_s: int = NOW_S - 1000, not_after_s: int = NOW_S + 1000) -> SealingKey:
    return SealingKey(
        key_id=bytes([number]) * 16,
        kem=KemKind.X25519,
        public=bytes([number]) * 32,
        not_before_s=not_before_s,
        not_after_s=not_after_s,
    )


def endpoint(network: str = "192.0.2.7", port: int = 8883) -> Endpoint:
    return Endpoint(network=network, port=port, tls_name="broker.example", authority_pem="", pins=(bytes(32),))


def agency(
    identifier: str = "CA0371100",
    *,
    jurisdiction: Jurisdiction = HOME,
    endpoints: tuple[Endpoint, ...] | None = None,
    keys: tuple[SealingKey, ...] | None = None,
) -> Agency:
    return Agency(
        identifier=identifier,
        legal_name="San Diego Police Department",
        kind=AgencyKind.CITY_AGENCY,
        jurisdiction=jurisdiction,
        ori=None,
        endpoints=(endpoint(),) if endpoints is None else endpoints,
        sealing_keys=(sealing_key(),) if keys is None else keys,
    )


def grant(identifier: str = "CA0371100", *, expires_s: int = NOW_S + 1000, attested: bool = True) -> Grant:
    return Grant(
        identifier=identifier,
        need="recover stolen vehicles",
        purpose="stolen vehicles",
        approver="Chief of Police",
        approved_on="2026-11-01",
        expires_s=expires_s,
        attested=attested,
    )


def rule(
    name: str = "hits",
    *,
    trigger: Trigger = Trigger.HIT,
    to: tuple[str, ...] = ("CA0371100",),
    storage: StorageClass = StorageClass.OUTGOING,
    retention_s: int = 86_400,
    cameras: tuple[str, ...] = (),
) -> Rule:
    return Rule(
        name=name,
        trigger=trigger,
        recipients=to,
        parts=frozenset({Part.FACTS, Part.CROP}),
        storage=storage,
        retention_s=retention_s,
        purpose="stolen vehicles",
        cameras=cameras,
    )


def known(*agencies: Agency, grants: tuple[Grant, ...] | None = None) -> Recipients:
    given = tuple(grant(who.identifier) for who in agencies) if grants is None else grants
    return recipients(agencies, given, HOME, NOW_S)


IDENTIFIERS = st.sampled_from(["A1", "B2", "C3", "D4"])
SECONDS = st.integers(NOW_S - 3, NOW_S + 3)
AGENCIES = st.builds(
    agency,
    IDENTIFIERS,
    jurisdiction=st.sampled_from([HOME, "US-TX"]),
    keys=st.lists(st.builds(sealing_key, st.integers(1, 9), not_before_s=SECONDS, not_after_s=SECONDS), max_size=3).map(
        tuple
    ),
)
GRANTS = st.builds(grant, IDENTIFIERS, expires_s=SECONDS, attested=st.booleans())
RULES = st.builds(
    rule,
    st.sampled_from(["one", "two", "three", "four"]),
    trigger=st.sampled_from(Trigger),
    to=st.lists(IDENTIFIERS, max_size=4, unique=True).map(tuple),
    storage=st.sampled_from(StorageClass),
    retention_s=st.integers(1, RETENTION_CAP_S),
    cameras=st.sampled_from([(), ("north",), ("north", "south")]),
)
