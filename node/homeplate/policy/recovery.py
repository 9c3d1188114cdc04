"""Who may bring back an agency's private keys: a recipient like any other, named in the signed rules, or nobody.

The sentence here is what `bundle show` says of it; the public policy names it too, so that nobody holds a second key
in silence.
"""

from homeplate.domain.agency import Recipient
from homeplate.policy.allowlist import Recipients


def recovery_recipient(identifier: str | None, known: Recipients) -> Recipient | None:
    """Return the recovery recipient; None where none is named, or who is named may not receive."""
    return None if identifier is None else known.allowed.get(identifier)


def recovery_text(identifier: str | None, known: Recipients) -> str:
    """Return who it is, in a sentence."""
    if identifier is None:
        return "No recovery recipient is named: where an agency's private key is lost, its records open for nobody."
    found = recovery_recipient(identifier, known)
    if found is None:
        why = known.refused.get(identifier, "not-listed: neither signer names it")
        return f"The recovery recipient {identifier} is no recipient ({why}): no copy of a key is made for it."
    return (
        f"{found.agency.legal_name} ({identifier}) is the recovery recipient: it can open copies of agencies' private"
        " keys, and with them the records, until those keys are destroyed."
    )
