"""Whether a signed hold or release counts on this node, now. Pure; applying it is `hold`'s, the signature `trust`'s.

A hold is the one thing that makes a record live longer, and a release the one thing but time that ends a hold. So each
is for one node, by a key that the installed bundle names, within bounds, and once.
"""

from collections.abc import Collection

from homeplate.domain.hold import APPLY_WITHIN_S, HOLD_CAP_S, HOLD_WINDOW_S, MOST_HOLDS, Hold, Release
from homeplate.policy.verdict import Refused


def may_hold(
    hold: Hold,
    *,
    signer: bytes,
    hold_keys: Collection[bytes],
    node: bytes,
    now_s: int,
    applied: Collection[bytes],
    in_force: int,
) -> Refused | None:
    """Return why a hold is refused; None where it may be applied.

    Args:
        hold: the hold.
        signer: the key that its signature was verified with (raw Ed25519, 32 bytes).
        hold_keys: the keys that the installed bundle names for this.
        node: this node's pseudonym.
        now_s: node time in seconds since 1970.
        applied: ids of every hold that this node ever applied.
        in_force: how many are in force.
    """
    if (reason := _why_not_ours(hold, signer, hold_keys, node)) is not None:
        return reason
    if hold.hold_id in applied:
        return Refused(f"replayed: hold {hold.hold_id.hex()} was applied before; see `homeplate hold list`")
    if in_force >= MOST_HOLDS:
        return Refused(f"too-many-holds: {in_force} are in force; release one")
    return _why_not_then(hold, now_s)


def may_release(
    release: Release,
    *,
    signer: bytes,
    hold_keys: Collection[bytes],
    node: bytes,
    in_force: Collection[tuple[bytes, str]],
) -> Refused | None:
    """Return why a release is refused; None where it ends a hold.

    Args:
        release: the release.
        signer: the key that its signature was verified with.
        hold_keys: the keys that the installed bundle names for this.
        node: this node's pseudonym.
        in_force: id and case number of the holds in force.
    """
    if (reason := _why_not_ours(release, signer, hold_keys, node)) is not None:
        return reason
    if (release.hold_id, release.case) not in in_force:
        return Refused(f"no-such-hold: {release.hold_id.hex()} of case {release.case} is not in force here")
    return None


def in_window(hold: Hold, camera: str, captured_s: int) -> bool:
    """Tell whether a passage is one of those that a hold names."""
    return camera == hold.camera and hold.from_s <= captured_s <= hold.to_s


def _why_not_ours(what: Hold | Release, signer: bytes, hold_keys: Collection[bytes], node: bytes) -> Refused | None:
    if signer not in hold_keys:
        return Refused(f"unknown-signer: {signer.hex()} is no hold key of the installed bundle")
    if what.node != node:
        return Refused(f"other-node: it is for node {what.node.hex()}, this one is {node.hex()}")
    return None


def _why_not_then(hold: Hold, now_s: int) -> Refused | None:
    reasons = (
        (hold.expires_s <= now_s, "expired: its own expiry is over"),
        (hold.issued_s > now_s, "issued-in-future: it was signed after this node's time; look at both clocks"),
        (
            now_s - hold.issued_s > APPLY_WITHIN_S,
            f"stale: it was signed over {APPLY_WITHIN_S} s ago; have it signed anew",
        ),
        (
            hold.expires_s - hold.issued_s > HOLD_CAP_S,
            f"over-the-cap: a hold lives {HOLD_CAP_S} s at most from its signing",
        ),
        (hold.to_s < hold.from_s, "window-reversed: it ends before it begins"),
        (hold.to_s > now_s, "window-in-future: a hold names what was captured, not what will be"),
        (hold.to_s - hold.from_s > HOLD_WINDOW_S, f"window-too-long: a hold names {HOLD_WINDOW_S} s at most"),
    )
    return next((Refused(reason) for applies, reason in reasons if applies), None)
