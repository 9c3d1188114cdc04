"""The custodian's commands, end to end: a root, an agency, a rule, a node, a bundle that a node installs."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from homeplate.clock import WallClock
from homeplate.trust.bundle import install_bundle
from homeplate.trust.enrolment import fingerprint
from homeplate_custodian.cli import main
from tests.trust import forge

PURPOSE = ["--purpose", "stolen vehicles"]


def call(*words: str, text: str | None = None) -> Result:
    return CliRunner().invoke(main, list(words), input=text)


def done(*words: str, text: str | None = None) -> str:
    result = call(*words, text=text)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def custody(tmp_path: Path) -> str:
    folder = str(tmp_path / "custody")
    done("init", folder, "--registry-body", "Department of Justice", "--operator-body", "City of Davis")
    done("broker", folder, "broker.davis", "--address", "192.0.2.4")
    done("bundle", "agency", "add", folder, *agency("CA0570100", "Davis Police Department", folder))
    done("bundle", "grant", folder, "CA0570100", "--need", "stolen cars", *PURPOSE, "--approver", "Chief", "--attest")
    done("bundle", "purpose", folder, "stolen vehicles")
    done("bundle", "rule", "add", folder, *rule("hits"))
    return folder


def agency(identifier: str, name: str, folder: str, *more: str) -> list[str]:
    certificate = f"{folder}/authority/servers/broker.davis.crt"
    words = [
        identifier,
        "--name",
        name,
        "--kind",
        "city_agency",
        "--network",
        "192.0.2.4",
        "--tls-name",
        "broker.davis",
    ]
    return [*words, "--broker-certificate", certificate, *more]


def rule(name: str, *more: str) -> list[str]:
    return [
        name,
        "--trigger",
        "hit",
        "--to",
        "CA0570100",
        "--storage",
        "outgoing",
        "--retention",
        "30d",
        *PURPOSE,
        *more,
    ]


def test_a_bundle_made_by_commands_is_installed_by_a_node(custody: str, tmp_path: Path):
    request, _ = forge.enrolment()
    (tmp_path / "request.json").write_bytes(request)
    out = tmp_path / "tls.crt"
    said = done("enrol", custody, str(tmp_path / "request.json"), "--out", str(out), text="y\n")
    assert fingerprint(request) in said
    assert out.read_text().startswith("-----BEGIN CERTIFICATE-----")
    lines = ["7ABC123,US-CA,passenger,stolen,stolen-vehicle,2099-01-01", ""]
    lines += ["7abc124, US-NV,other,alerts,missing-person, 2099-01-01"]
    assert done("bundle", "hot-list", custody, "-", text="\n".join(lines)) == "2 entries\n"
    said = done("bundle", "hot-list", custody, "-", text="\n".join([*lines, lines[0]]))
    assert said == "2 entries; 1 lines say what another line says\n"
    done("bundle", "agency", "next-key", custody, "CA0570100")
    done("bundle", "publish", custody)
    installed = forge.node(tmp_path / "node", Path(custody))
    bundle = install_bundle(Path(custody) / "bundle", installed, WallClock().now_ns(), pseudonym=forge.PSEUDONYM)
    assert bundle.nodes[0].pseudonym == forge.PSEUDONYM
    assert bundle.hot_list_sealed is not None
    assert bundle.rules[0].retention_s == 30 * 86_400
    shown = done("bundle", "show", custody)
    for words in ("receives Davis Police Department (CA0570100)", "rule     hits: hit", f"node     {'000102'}"):
        assert words in shown
    assert "7ABC123" not in shown


def test_revoking_shows_at_once_in_the_next_bundle(custody: str, tmp_path: Path):
    request, _ = forge.enrolment()
    (tmp_path / "request.json").write_bytes(request)
    done("enrol", custody, str(tmp_path / "request.json"), "--out", str(tmp_path / "tls.crt"), "--yes")
    done("bundle", "revoke", custody, "CA0570100")
    done("bundle", "revoke-node", custody, forge.PSEUDONYM.hex())
    done("bundle", "rule", "remove", custody, "hits")
    done("bundle", "publish", custody)
    shown = done("bundle", "show", custody)
    assert "refused  CA0570100: not-granted:" in shown
    assert "receives nobody: no-recipient:" in shown
    assert "REVOKED" in shown
    assert "rule " not in shown


def test_an_unconfirmed_fingerprint_enrols_nobody(custody: str, tmp_path: Path):
    (tmp_path / "request.json").write_bytes(forge.enrolment()[0])
    result = call("enrol", custody, str(tmp_path / "request.json"), "--out", str(tmp_path / "tls.crt"), text="n\n")
    assert result.exit_code == 1
    assert not (tmp_path / "tls.crt").exists()
    done("bundle", "publish", custody)
    assert "node " not in done("bundle", "show", custody)


def test_sources_of_bundles_and_models_are_drafted_and_shown(custody: str, tmp_path: Path):
    (tmp_path / "manifest.json").write_bytes(b"{}")
    done("bundle", "source", "add", custody, forge.SAN_DIEGO)
    digest = done("bundle", "models", custody, str(tmp_path / "manifest.json")).split()[0]
    done("bundle", "publish", custody)
    shown = done("bundle", "show", custody)
    assert f"source   {forge.SAN_DIEGO}: " in shown
    assert f"models   {digest}" in shown
    done("bundle", "source", "remove", custody, forge.SAN_DIEGO)
    assert call("bundle", "source", "remove", custody, forge.SAN_DIEGO).exit_code == 2
    assert call("bundle", "source", "add", custody, "no such\nname").exit_code == 6


def test_one_body_in_both_roles_is_said_in_plain_words(tmp_path: Path):
    folder = str(tmp_path / "one")
    done("init", folder, "--registry-body", "City of Davis", "--operator-body", "City of Davis", "--demo")
    done("bundle", "publish", folder)
    shown = done("bundle", "show", folder)
    assert "cannot prove that their recipients are in state" in shown
    assert "DEMO" in shown


def test_a_roles_key_can_be_made_elsewhere(tmp_path: Path):
    done("key", str(tmp_path / "registry"))
    assert (tmp_path / "registry" / "key.pem").exists()
    assert "private" not in (tmp_path / "registry" / "key.pub").read_text().lower()


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (["agency", "add", "{}", "tx", "--jurisdiction", "US-TX"], "other-state: Texas", 6),
        (["agency", "add", "{}", "ice", "--jurisdiction", "US"], "federal: ", 6),
        (["rule", "add", "{}", "all", "--trigger", "everything"], "only a root marked demo", 6),
        (["rule", "add", "{}", "long", "--retention", "61d"], "--retention: 61d is above the cap", 2),
        (["rule", "add", "{}", "odd", "--retention", "30"], "--retention: '30' is no duration", 2),
        (["rule", "add", "{}", "why", "--purpose", "fishing"], "authorised purposes", 6),
        (["revoke", "{}", "nobody"], "no entry nobody", 2),
        (["hot-list", "{}", "-"], "line 1 is not PLATE,STATE,KIND,LIST,PURPOSE,YYYY-MM-DD", 2),
    ],
    ids=range(8),
)
def test_a_refusal_is_one_line_that_names_the_thing(custody: str, words: list[str], says: str, code: int):
    texas = agency("", "Texas Department of Public Safety", custody)[1:]
    rest = {"agency": texas, "rule": rule("")[1:]}.get(words[0], [])
    given = [word.replace("{}", custody) for word in words]
    result = call(
        "bundle",
        *given[:3],
        *given[3:4],
        *rest,
        *given[4:],
        text="7ABC123,US-CA,passenger,stolen,stolen-vehicle,2099-01-01,John Doe\n",
    )
    assert result.exit_code == code, result.output
    assert says in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert "7ABC123" not in result.output
    assert isinstance(result.exception, SystemExit)


def test_a_folder_that_is_no_custody_is_named(tmp_path: Path):
    result = call("bundle", "publish", str(tmp_path))
    assert result.exit_code == 2
    assert str(tmp_path) in result.stderr
    assert "homeplate-custodian init" in result.stderr


def test_enrolling_for_a_stick_publishes_too_and_replaces_only_a_bundle(custody: str, tmp_path: Path):
    request, _ = forge.enrolment()
    (tmp_path / "request.json").write_bytes(request)
    stick = tmp_path / "stick" / "bundle"
    words = ("enrol", custody, str(tmp_path / "request.json"), "--out", str(tmp_path / "tls.crt"), "--yes")
    for _ in range(2):
        done(*words, "--publish", str(stick))
        installed = forge.node(tmp_path / "node", Path(custody))
        bundle = install_bundle(stick, installed, WallClock().now_ns(), pseudonym=forge.PSEUDONYM)
        assert bundle.nodes[0].pseudonym == forge.PSEUDONYM
    other = tmp_path / "holiday"
    other.mkdir()
    (other / "picture.jpg").write_bytes(b"kept")
    refused = call(*words, "--publish", str(other))
    assert refused.exit_code == 2
    assert "something else than a bundle" in refused.output
    assert (other / "picture.jpg").read_bytes() == b"kept"
