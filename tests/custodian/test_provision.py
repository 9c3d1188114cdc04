"""The custodian's steps: what is drafted is checked as a node would, keys stay where they are, revoking works."""

import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from homeplate.domain.record import DAY_SECONDS, NANOSECONDS, Part
from homeplate.errors import ConfigError, HomeplateError, SealingError, TrustError
from homeplate.policy.allowlist import sealing_key
from homeplate.sealing.keys import load_sealing_key
from homeplate.trust.bundle import install_bundle
from homeplate_custodian import provision
from homeplate_custodian.authority import create_authority, issue_client, issue_server, spki_pin
from homeplate_custodian.keyring import make_role_key, public_key, signer
from tests.fuzzing import certificates as unreadable
from tests.trust import forge
from tests.trust.forge import NOW_NS, NOW_S, PSEUDONYM, SAN_DIEGO


@pytest.fixture
def custody(tmp_path: Path) -> Path:
    return forge.custody(tmp_path / "custody")


def test_every_private_file_is_its_owners_alone(custody: Path):
    provision.enrol(custody, forge.enrolment()[0], now_s=NOW_S)
    provision.set_hot_list(custody, forge.hot_list("7ABC123"), now_s=NOW_S)
    private = [*custody.rglob("*.pem"), *custody.rglob("*.key"), *(custody / "operator").glob("*.json")]
    private.append(custody / "operator" / "hot-list.bin")
    assert len(private) >= 4 + 3 + 4
    for path in private:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_custody_is_made_once(custody: Path):
    with pytest.raises(ConfigError, match="already"):
        forge.custody(custody)


@pytest.mark.parametrize("jurisdiction", ["CA", "US", "US-ca", "US-CAL", ""])
def test_a_root_names_a_state(tmp_path: Path, jurisdiction: str):
    with pytest.raises(ConfigError, match="cannot be in a root"):
        provision.init(tmp_path / "c", registry_body="R", operator_body="O", now_s=NOW_S, jurisdiction=jurisdiction)
    assert not (tmp_path / "c").exists()


def test_what_a_node_would_refuse_is_not_drafted(custody: Path):
    before = (custody / "registry" / "registry.json").read_bytes()
    with pytest.raises(TrustError, match=r"^other-state"):
        forge.add_agency(custody, "tx", "Texas Department of Public Safety", jurisdiction="US-TX")
    with pytest.raises(TrustError, match=r"^federal"):
        forge.add_agency(custody, "ice", "Immigration and Customs Enforcement", kind="federal")
    with pytest.raises(TrustError, match="not what it should be"):
        forge.add_agency(custody, "../x", "Davis Police Department")
    with pytest.raises(ConfigError, match="already"):
        forge.add_agency(custody, "ca0371100", "Davis Police Department")
    assert (custody / "registry" / "registry.json").read_bytes() == before
    assert not (custody / "agencies" / "tx").exists()
    assert not (custody / "x").exists()


def test_an_unchecked_entry_is_signed_and_refused_by_the_node_with_its_reason(custody: Path, tmp_path: Path):
    forge.add_agency(custody, "tx", "Texas Department of Public Safety", jurisdiction="US-TX", unsafe_unchecked=True)
    forge.add_grant(custody, "tx")
    forge.published(custody)
    bundle = install_bundle(custody / "bundle", forge.node(tmp_path / "node", custody), NOW_NS)
    assert [agency.identifier for agency in bundle.registry] == [SAN_DIEGO]
    assert bundle.unregistered["tx"].startswith("other-state: Texas")


def test_an_agencys_private_key_opens_what_its_registry_key_seals(custody: Path):
    path = forge.add_agency(custody, "davis", "Davis Police Department")
    forge.published(custody)
    agency = next(one for one in provision.published(custody, now_s=NOW_S).registry if one.identifier == "davis")
    assert load_sealing_key(path).key_id == agency.sealing_keys[0].key_id
    assert agency.sealing_keys[0].not_before_s < NOW_S < agency.sealing_keys[0].not_after_s


def test_sealing_keys_follow_one_another_without_a_gap(custody: Path):
    for day in range(0, 400, 80):
        now_s = NOW_S + day * DAY_SECONDS
        forge.published(custody, now_s)
        agency = provision.published(custody, now_s=now_s).registry[0]
        assert sealing_key(agency, now_s) is not None
        assert len(agency.sealing_keys) <= 3
        provision.add_key(custody, SAN_DIEGO, now_s=now_s)
    assert len(list((custody / "agencies" / SAN_DIEGO).glob("*.key"))) == 6
    with pytest.raises(ConfigError, match="no entry nobody"):
        provision.add_key(custody, "nobody", now_s=NOW_S)


def test_taking_back_a_grant_an_agency_or_a_rule_shows_in_the_next_publication(custody: Path):
    forge.published(custody)
    assert provision.published(custody, now_s=NOW_S).version == 1
    provision.revoke_grant(custody, SAN_DIEGO)
    provision.remove_rule(custody, "hits")
    provision.remove_agency(custody, SAN_DIEGO)
    forge.published(custody)
    bundle = provision.published(custody, now_s=NOW_S)
    assert (bundle.version, bundle.registry, bundle.allowlist, bundle.rules) == (2, (), (), ())


@pytest.mark.parametrize("step", [provision.revoke_grant, provision.remove_agency, provision.remove_rule])
def test_taking_back_what_is_not_there_says_so(custody: Path, step):
    with pytest.raises(ConfigError, match="no entry nothing"):
        step(custody, "nothing")


def test_a_grant_replaces_the_older_one_of_its_agency(custody: Path):
    forge.add_grant(custody, SAN_DIEGO, need="another need")
    forge.published(custody)
    assert [one.need for one in provision.published(custody, now_s=NOW_S).allowlist] == ["another need"]


def test_a_grant_for_a_purpose_that_is_not_authorised_or_not_its_rules_is_not_published(custody: Path):
    forge.add_grant(custody, SAN_DIEGO, purpose="fishing")
    with pytest.raises(TrustError, match="the grant of CA0371100 is for 'fishing'"):
        forge.published(custody)
    provision.add_purpose(custody, "fishing")
    with pytest.raises(TrustError, match="rule hits is for 'stolen vehicles', the grant of its recipient CA0371100"):
        forge.published(custody)


def test_a_rule_names_an_authorised_purpose_and_keeps_facts_with_a_crop(custody: Path):
    with pytest.raises(TrustError, match="authorised purposes"):
        forge.add_rule(custody, "other", purpose="fishing")
    with pytest.raises(TrustError, match="without its facts"):
        forge.add_rule(custody, "other", parts=[Part.CROP])
    with pytest.raises(TrustError, match="twice"):
        forge.add_rule(custody, "hits")


def test_enrolling_gives_a_client_certificate_for_the_nodes_own_key(custody: Path):
    request, _ = forge.enrolment()
    pem = provision.enrol(custody, request, now_s=NOW_S)
    certificate = x509.load_pem_x509_certificate(pem.encode())
    assert [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)] == [PSEUDONYM.hex()]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate.verify_directly_issued_by(
        x509.load_pem_x509_certificate((custody / "authority" / "ca.crt").read_bytes())
    )
    forge.published(custody)
    node = provision.published(custody, now_s=NOW_S).nodes[0]
    assert node.pseudonym == PSEUDONYM
    assert not node.revoked


def test_a_pseudonym_is_not_enrolled_with_other_keys_nor_again_after_it_was_revoked(custody: Path):
    request, _ = forge.enrolment()
    provision.enrol(custody, request, now_s=NOW_S)
    with pytest.raises(TrustError, match="twice"):
        provision.enrol(custody, forge.enrolment()[0], now_s=NOW_S)
    provision.revoke_node(custody, forge.PSEUDONYM.hex())
    with pytest.raises(TrustError, match="twice"):
        provision.enrol(custody, request, now_s=NOW_S)


def test_the_same_request_again_renews_and_what_was_signed_before_goes_on_counting(custody: Path):
    request, _ = forge.enrolment()
    provision.enrol(custody, request, now_s=NOW_S, days=30)
    later = NOW_S + 20 * DAY_SECONDS
    pem = provision.enrol(custody, request, now_s=later, days=30)
    end = x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc
    assert end.timestamp() == later + 30 * DAY_SECONDS
    provision.publish_bundle(custody, now_s=later)
    (node,) = provision.published(custody, now_s=later).nodes
    assert (node.not_before_s, node.not_after_s) == (NOW_S - DAY_SECONDS, later + 30 * DAY_SECONDS)


def test_a_revoked_node_is_marked_and_gets_no_hot_list(custody: Path, tmp_path: Path):
    provision.enrol(custody, forge.enrolment()[0], now_s=NOW_S)
    provision.set_hot_list(custody, forge.hot_list("7ABC123"), now_s=NOW_S)
    provision.revoke_node(custody, PSEUDONYM.hex())
    forge.published(custody)
    installed = forge.node(tmp_path / "node", custody)
    bundle = install_bundle(custody / "bundle", installed, NOW_NS, pseudonym=PSEUDONYM)
    assert bundle.nodes[0].revoked
    assert bundle.hot_list_sealed is None
    with pytest.raises(ConfigError, match="no node"):
        provision.revoke_node(custody, "00" * 16)


def test_a_hot_list_that_is_over_is_left_out_so_that_revoking_still_works(custody: Path, tmp_path: Path):
    provision.enrol(custody, forge.enrolment()[0], now_s=NOW_S)
    provision.set_hot_list(custody, forge.hot_list("7ABC123"), now_s=NOW_S, valid_s=60)
    forge.published(custody, NOW_S + 60)
    installed = forge.node(tmp_path / "node", custody)
    now_ns = (NOW_S + 60) * NANOSECONDS
    assert install_bundle(custody / "bundle", installed, now_ns, pseudonym=PSEUDONYM).hot_list_sealed is None


def test_no_plate_is_in_the_published_folder(custody: Path):
    provision.enrol(custody, forge.enrolment()[0], now_s=NOW_S)
    provision.set_hot_list(custody, forge.hot_list("7ABC123"), now_s=NOW_S)
    folder = forge.published(custody)
    assert list(folder.rglob("*.sealed"))
    for path in folder.rglob("*"):
        assert "7ABC123" not in path.name
        assert not path.is_file() or b"7ABC123" not in path.read_bytes()


def test_each_role_signs_where_its_key_is_and_the_others_are_taken_as_they_are(tmp_path: Path):
    """The registry, the operator, the root and the online key on four machines; the bundle's folder travels."""
    for role in ("registry", "operator"):
        make_role_key(tmp_path / role)
        (tmp_path / "office" / role).mkdir(parents=True)
        shutil.copy(tmp_path / role / "key.pub", tmp_path / "office" / role)
    office = forge.custody(tmp_path / "office")
    assert signer(office / "registry") is None
    with pytest.raises(ConfigError, match="registry is signed elsewhere"):
        forge.published(office)
    for role in ("registry", "operator"):
        desk = shutil.copytree(office, tmp_path / f"{role}-desk")
        for other in ("root", "online"):
            (desk / other / "key.pem").unlink()
        shutil.copy(tmp_path / role / "key.pem", desk / role)
        forge.published(desk)
        assert not (desk / "bundle" / "timestamp.json").exists()
        shutil.copytree(desk / "bundle", office / "bundle", dirs_exist_ok=True)
    forge.published(office)
    first = install_bundle(office / "bundle", forge.node(tmp_path / "node", office), NOW_NS)
    assert [agency.identifier for agency in first.registry] == [SAN_DIEGO]
    assert first.independent
    (office / "root" / "key.pem").unlink()
    forge.published(office, NOW_S + 1)
    assert install_bundle(office / "bundle", tmp_path / "node", NOW_NS).version == 2


def test_metadata_is_signed_anew_before_it_ends(custody: Path, tmp_path: Path):
    installed = forge.node(tmp_path / "node", custody)
    for day in range(0, 801, 40):
        forge.published(custody, NOW_S + day * DAY_SECONDS)
        bundle = install_bundle(custody / "bundle", installed, NOW_NS + day * DAY_SECONDS * NANOSECONDS)
        assert bundle.expires_s > NOW_S + day * DAY_SECONDS
    assert bundle.version == 21
    assert bundle.root_version == 3


def test_the_same_key_for_registry_and_operator_makes_no_root(tmp_path: Path):
    make_role_key(tmp_path / "c" / "registry")
    shutil.copytree(tmp_path / "c" / "registry", tmp_path / "c" / "operator")
    with pytest.raises(ConfigError, match="two signers"):
        forge.custody(tmp_path / "c")


def test_a_role_key_is_never_replaced_and_a_mixed_up_one_is_noticed(tmp_path: Path):
    first = make_role_key(tmp_path / "a")
    assert make_role_key(tmp_path / "a").keyval == first.keyval
    make_role_key(tmp_path / "b")
    shutil.copy(tmp_path / "b" / "key.pem", tmp_path / "a" / "key.pem")
    with pytest.raises(ConfigError, match="not of one key"):
        signer(tmp_path / "a")
    (tmp_path / "a" / "key.pub").write_text("homeplate/v1/role-key 00\n")
    with pytest.raises(ConfigError, match="no public key"):
        public_key(tmp_path / "a")


def test_a_folder_that_is_no_custody_says_how_to_make_one(tmp_path: Path):
    for step in (
        lambda: forge.published(tmp_path),
        lambda: provision.published(tmp_path, now_s=NOW_S),
        lambda: provision.add_purpose(tmp_path, "x"),
        lambda: forge.add_agency(tmp_path, "x", "Davis Police Department"),
    ):
        with pytest.raises(HomeplateError, match="homeplate-custodian init"):
            step()


@pytest.mark.parametrize("damage", [unreadable.of_version_6, unreadable.on_an_unknown_curve])
def test_a_brokers_certificate_that_cannot_be_read_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]):
    create_authority(tmp_path, name="test", now_s=NOW_S)
    der = damage(unreadable.der_of((tmp_path / "ca.crt").read_text()))
    with pytest.raises(ConfigError, match="no certificate"):
        spki_pin(unreadable.pem_of("CERTIFICATE", der).encode())


def test_a_brokers_certificate_says_server_and_its_pin_is_its_keys(tmp_path: Path):
    create_authority(tmp_path, name="test", now_s=NOW_S)
    server = issue_server(tmp_path, tls_name="broker.example", addresses=["192.0.2.7"], now_s=NOW_S)
    certificate = x509.load_pem_x509_certificate(server.certificate.read_bytes())
    assert spki_pin(server.certificate.read_bytes()) == server.pin
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["broker.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]
    with pytest.raises(ConfigError, match="literal addresses"):
        issue_server(tmp_path, tls_name="other.example", addresses=["broker"], now_s=NOW_S)
    with pytest.raises(SealingError, match="already"):
        issue_server(tmp_path, tls_name="broker.example", addresses=[], now_s=NOW_S)


def test_an_authority_may_sign_certificates_and_a_leaf_may_not(tmp_path: Path):
    create_authority(tmp_path, name="test", now_s=NOW_S)
    leaf = x509.load_pem_x509_certificate(issue_client(tmp_path, forge.csr("x"), common_name="x", now_s=NOW_S).encode())
    authority = x509.load_pem_x509_certificate((tmp_path / "ca.crt").read_bytes())
    for certificate, is_authority in ((authority, True), (leaf, False)):
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert usage.critical
        assert constraints.critical
        assert (usage.value.key_cert_sign, constraints.value.ca) == (is_authority, is_authority)
        assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey)
    with pytest.raises(SealingError, match="already"):
        create_authority(tmp_path, name="test", now_s=NOW_S)
