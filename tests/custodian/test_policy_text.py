"""The usage policy from custody to road: set, published, rendered, posted, compared; capture reads with a whole one."""

import hashlib
import shutil

import pytest
from click.testing import CliRunner

from homeplate.app.conditions import conditions, require_policy
from homeplate.clock import NANOSECONDS, WallClock
from homeplate.domain.record import DAY_SECONDS
from homeplate.errors import TrustError
from homeplate.trust.bundle import install_bundle
from homeplate.trust.reasons import NamedTrustError
from homeplate_custodian import cli, provision
from tests.trust import forge

PARTS = """
purposes = "Recover stolen vehicles. <b>Nothing</b> *else*."
users = "Detectives"
training = "Eight hours a year"
monitoring = "A review a quarter"
sharing = "With the agencies below"
custodian_title = "Records Supervisor"
accuracy = "A person looks at each hit"
retention = "The device destroys it"
url = "https://city.example/alpr"
meeting_on = "2026-01-10"
meeting_address = "1 Main Street"
"""


class Custody:
    def __init__(self, folder):
        self.folder = folder / "custody"
        self.now_s = WallClock().now_ns() // NANOSECONDS
        self.made = folder
        provision.init(self.folder, registry_body="Justice", operator_body="City", now_s=self.now_s)
        provision.add_purpose(self.folder, "stolen vehicles")
        request, _ = forge.enrolment()
        provision.enrol(self.folder, request, now_s=self.now_s)
        self.request = request
        forge.node(folder / "node", self.folder)

    def run(self, *words, code=0):
        done = CliRunner().invoke(cli.main, [str(word) for word in words])
        assert done.exit_code == code, done.output
        return done.output

    def policy(self, verb, *words, code=0):
        return self.run("policy", verb, self.folder, *words, code=code)

    def file(self, text, name="file.toml"):
        path = self.made / name
        path.write_text(text)
        return path

    def bundle(self):
        provision.publish_bundle(self.folder, now_s=self.now_s)
        return install_bundle(self.folder / "bundle", self.made / "node", self.now_s * NANOSECONDS)

    def lacks(self, cameras=("north",)):
        found = conditions(self.bundle(), forge.PSEUDONYM, cameras, self.now_s)
        return [one.reason.split(":")[0] for one in found]


@pytest.fixture
def custody(tmp_path):
    return Custody(tmp_path)


def test_without_a_policy_a_production_node_reads_nothing_and_names_every_part(custody):
    bundle = custody.bundle()
    with pytest.raises(NamedTrustError) as caught:
        require_policy(bundle, forge.PSEUDONYM, ["north"], custody.now_s)
    assert caught.value.reason == "policy-part-A"
    for word in [*(f"policy-part-{letter}:" for letter in "ABCDEFG"), "policy-url:", "policy-sha256:"]:
        assert word in str(caught.value)


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_a_policy_that_is_set_rendered_and_posted_lets_the_node_read(custody, form):
    custody.policy("set", custody.file(PARTS))
    assert custody.lacks() == ["policy-sha256"]
    text = custody.made / "text"
    custody.policy("render", "--format", form, "--out", text)
    assert "<b>" not in text.read_text().replace("\\<b", "")
    assert "policy-sha256" in custody.policy("check", text, code=2)
    custody.policy("posted", text)
    assert custody.lacks() == []
    assert "says what the bundle says" in custody.policy("check", text)
    assert custody.bundle().policy.sha256 == hashlib.sha256(text.read_bytes()).digest()
    custody.policy("set", custody.file(PARTS))
    assert custody.lacks() == []  # the hash of what is posted is kept


def test_a_retention_that_changes_in_the_rules_only_is_found_in_the_posted_text(custody):
    custody.policy("set", custody.file(PARTS))
    forge.add_rule(custody.folder, "hits", retention_s=30 * DAY_SECONDS)
    custody.bundle()
    text = custody.made / "policy.md"
    custody.policy("render", "--out", text)
    custody.policy("posted", text)
    custody.bundle()
    provision.remove_rule(custody.folder, "hits")
    forge.add_rule(custody.folder, "hits", retention_s=31 * DAY_SECONDS)
    custody.bundle()
    said = custody.policy("check", text, code=2)
    assert "part G: posted says: - Rule hits: hit, crop and facts" in said
    assert "destroyed after 30 days" in said
    assert "part G: the bundle says:" in said
    assert "destroyed after 31 days" in said
    custody.policy("posted", text, code=2)


def test_the_text_shows_the_recovery_recipient(custody):
    text = custody.made / "policy.md"
    custody.bundle()
    assert "No recovery recipient is named" in custody.policy("render")
    forge.add_agency(custody.folder, forge.SAN_DIEGO, "San Diego Police Department")
    forge.add_grant(custody.folder, forge.SAN_DIEGO)
    custody.bundle()
    custody.policy("render", "--out", text)
    provision.set_recovery(custody.folder, forge.SAN_DIEGO)
    custody.bundle()
    said = custody.policy("check", text, code=2)
    assert "part D: posted says: - No recovery recipient is named." in said
    assert f"private keys: {forge.SAN_DIEGO}" in said


def test_setting_a_policy_says_what_it_still_lacks(custody):
    said = custody.policy("set", custody.file(PARTS.replace('users = "Detectives"', "")))
    assert "note: policy-part-B" in said
    assert "policy-part-A" not in said


def test_an_auditor_compares_a_posted_text_with_root_and_bundle_alone(custody, tmp_path):
    custody.policy("set", custody.file(PARTS))
    custody.bundle()
    text = custody.made / "policy.md"
    custody.policy("render", "--out", text)
    custody.policy("posted", text)
    custody.bundle()
    auditor = tmp_path / "auditor"
    auditor.mkdir()
    shutil.copy(custody.folder / "root.json", auditor)
    shutil.copytree(custody.folder / "bundle", auditor / "bundle")
    assert "says what the bundle says" in custody.run("policy", "check", auditor, text)
    text.write_text(text.read_text().replace("Detectives", "Everybody"))
    assert "part B: posted says: Everybody" in custody.run("policy", "check", auditor, text, code=2)


def test_the_text_calls_nobody_a_recipient_whom_the_nodes_refuse(custody):
    forge.add_agency(custody.folder, forge.SAN_DIEGO, "San Diego Police Department")
    forge.add_grant(custody.folder, forge.SAN_DIEGO)
    forge.add_grant(custody.folder, "not-registered")
    custody.bundle()
    said = custody.policy("render")
    assert f"- Recipient: San Diego Police Department ({forge.SAN_DIEGO})" in said
    assert f"purpose: {forge.PURPOSE}, until" in said
    assert "- Granted, but refused by the nodes: not-registered" in said
    assert "the registry does not name it" in said
    forge.add_grant(custody.folder, forge.SAN_DIEGO, attested=False)
    custody.bundle()
    said = custody.policy("render")
    assert "Recipient: San Diego" not in said
    assert "the grant bears no attestation" in said


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("purposes = 1", "purposes"),
        ("reasons = 'x'", "reasons"),
        ("purposes", "no TOML"),
        ("url = 'http://city.example'", "url"),
        ("meeting_on = '2026-02-30'", "no date"),
    ],
)
def test_a_policy_file_that_is_none_is_refused_by_name(custody, text, says):
    done = CliRunner().invoke(cli.main, ["policy", "set", str(custody.folder), str(custody.file(text))])
    assert done.exit_code in {2, TrustError.exit_code}
    assert says in done.output
    assert not (custody.folder / "operator" / "policy.json").exists()


def test_a_listed_place_stops_the_node_within_it_and_the_position_outlives_a_renewal(custody):
    places = """
[[places]]
shape = "circle"
name = "Clinic"
kind = "clinic"
source = "county list"
centre = { latitude_deg = 32.7, longitude_deg = -117.1 }
radius_m = 300
"""
    custody.run("bundle", "places", custody.folder, custody.file(places))
    assert custody.lacks()[-1] == "no-position"
    words = ("bundle", "position", custody.folder, forge.PSEUDONYM.hex(), "--longitude", "-117.1", "--latitude")
    custody.run(*words, "32.7")
    assert custody.lacks()[-1] == "sensitive-place"
    custody.run(*words, "32.8", "--camera", "north")
    assert not {"sensitive-place", "no-position"} & set(custody.lacks())
    provision.enrol(custody.folder, custody.request, now_s=custody.now_s + 5)
    node = custody.bundle().nodes[0]
    assert (node.position.latitude_deg, node.camera_positions["north"].latitude_deg) == (32.7, 32.8)
    custody.run(*words, "32.8", "--camera", "east", code=TrustError.exit_code)
    custody.run(*words, "95", code=TrustError.exit_code)
    custody.run("bundle", "places", custody.folder, custody.file(places.replace("300", "0.5")), code=2)
    custody.run("bundle", "places", custody.folder, custody.file(places + places), code=TrustError.exit_code)
