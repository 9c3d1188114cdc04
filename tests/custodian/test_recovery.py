"""Copies of private keys: for the recipient that the rules name, for nobody else, and they end with their keys."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from homeplate.clock import NANOSECONDS, WallClock
from homeplate.domain.agency import KemKind
from homeplate.errors import SealingError
from homeplate.sealing.keys import generate_sealing_key, load_sealing_key
from homeplate.sealing.seal import open_recovery, seal_recovery
from homeplate.store.ledger import read_rows
from homeplate_custodian import policy_text, provision
from homeplate_custodian.cli import main
from tests.custodian.test_commands_provision import agency, done

OWNER, HELPER = "CA0570100", "CA0340000"


def call(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def custody(tmp_path: Path) -> Path:
    folder = tmp_path / "custody"
    done("init", str(folder), "--registry-body", "State registry", "--operator-body", "City of Davis")
    done("broker", str(folder), "broker.davis", "--address", "192.0.2.4")
    done("bundle", "agency", "add", str(folder), *agency(OWNER, "Davis Police Department", str(folder)))
    done("bundle", "purpose", str(folder), "p")
    done("bundle", "agency", "add", str(folder), *agency(HELPER, "Sacramento County Sheriff", str(folder)))
    return folder


def grant(custody: Path, identifier: str) -> None:
    words = ["--need", "n", "--purpose", "p", "--approver", "Chief", "--attest"]
    done("bundle", "grant", str(custody), identifier, *words)


def test_a_copy_opens_with_the_recovery_recipients_key_alone_and_gives_the_same_key(custody: Path, tmp_path: Path):
    grant(custody, HELPER)
    done("bundle", "recovery", str(custody), HELPER)
    done("bundle", "publish", str(custody))
    says = f"Sacramento County Sheriff ({HELPER}) is the recovery recipient"
    assert says in done("bundle", "show", str(custody))
    found = provision.published(custody, now_s=WallClock().now_ns() // NANOSECONDS)
    for text in (policy_text.markdown(found), policy_text.html_page(found)):
        assert [line for line in text.splitlines() if "Recovery recipient" in line and HELPER in line]
    call("keys", "recovery", custody, "--agency", OWNER, "--by", "custodian")
    (own,) = (custody / "agencies" / OWNER).glob("*.key")
    (helper,) = (custody / "agencies" / HELPER).glob("*.key")
    copy = own.with_suffix(".recovery")
    assert copy.stat().st_mode & 0o777 == 0o600
    call("keys", "recover", copy, "--key", own, "--out", tmp_path / "no", code=5)
    call("keys", "recover", copy, "--key", helper, "--out", tmp_path / "back.key")
    assert load_sealing_key(tmp_path / "back.key") == load_sealing_key(own)
    row = list(read_rows(custody / "access.log"))[-1]
    assert (row.event, row.fields["to"]) == ("key.recovery-copy", HELPER)
    call("keys", "expire", custody, "--agency", OWNER, "--by", "c", "--key", own.stem, "--early", "a test", "--yes")
    assert list((custody / "agencies" / OWNER).glob("*.*")) == []


@pytest.mark.parametrize("named", [None, HELPER, OWNER])
def test_no_copy_is_made_where_nobody_is_named_or_who_is_named_may_not_receive(custody: Path, named: str | None):
    grant(custody, OWNER)
    if named:
        done("bundle", "recovery", str(custody), named)
    done("bundle", "publish", str(custody))
    assert "no copy was made" in call("keys", "recovery", custody, "--agency", OWNER, "--by", "custodian", code=2)
    assert list((custody / "agencies" / OWNER).glob("*.recovery")) == []
    assert not (custody / "access.log").exists()


@pytest.mark.parametrize("kem", KemKind)
def test_an_altered_copy_does_not_open(kem: KemKind):
    private = generate_sealing_key(kem)
    sealed = seal_recovery(b"a key's file", private.sealing_key(not_before_s=0, not_after_s=1))
    assert open_recovery(sealed, private) == b"a key's file"
    for place in (0, 25, 60, len(sealed) - 1):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(SealingError):
            open_recovery(bytes(changed), private)
    with pytest.raises(SealingError, match="too long"):
        seal_recovery(bytes(600), private.sealing_key(not_before_s=0, not_after_s=1))
