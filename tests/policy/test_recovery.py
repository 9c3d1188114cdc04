"""Who may bring keys back is a recipient that both signers name, and the policy text says who, or that nobody is."""

from homeplate.policy.recovery import recovery_recipient, recovery_text
from tests.policy.values import agency, known


def test_nobody_is_said_in_so_many_words():
    assert recovery_recipient(None, known(agency())) is None
    assert recovery_text(None, known(agency())).startswith("No recovery recipient is named")


def test_a_recipient_is_named_with_its_legal_name():
    who = agency()
    found = recovery_recipient(who.identifier, known(who))
    assert found is not None
    assert found.agency == who
    assert recovery_text(who.identifier, known(who)) == (
        f"{who.legal_name} ({who.identifier}) is the recovery recipient: it can open copies of agencies' private keys,"
        " and with them the records, until those keys are destroyed."
    )


def test_who_may_not_receive_may_not_recover_either():
    assert recovery_recipient("TX0000000", known(agency())) is None
    assert "is no recipient (not-listed" in recovery_text("TX0000000", known(agency()))
    refused = known(agency("TX0000000", jurisdiction="US-TX"))
    assert "is no recipient (other-state: " in recovery_text("TX0000000", refused)
