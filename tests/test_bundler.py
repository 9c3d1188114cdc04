"""The bundle service: good candidates are put in force, bad ones change nothing and are named in the ledger."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading

import msgspec
import pytest
from click.testing import CliRunner

from homeplate import cli
from homeplate.bundler import Looked
from homeplate.domain.record import DAY_SECONDS
from homeplate.errors import StoreError, TrustError
from homeplate.policy.egress import CLOSE_EARLY_S
from homeplate.trust.files import write_durably
from homeplate.trust.inbox import await_answer, hand_in, is_served, serving
from homeplate.trust.packed import pack
from homeplate_custodian import provision
from homeplate_custodian.bundle import make_root
from tests.trust import forge
from tests.trust.bundling import HOME, NEW, OLD, Place, change_recipient, openings_in, wait_until
from tests.trust.forge import NOW_S, Forge
from tools import stage


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = forge.custody(tmp_path_factory.mktemp("template") / "custody")
    forge.published(folder)
    return folder


@pytest.fixture
def custody(tmp_path, template):
    return shutil.copytree(template, tmp_path / "custody")


@pytest.fixture
def place(tmp_path, custody):
    made = Place(tmp_path / "node", custody)
    made.bundler.take(custody / "bundle")
    return made


def bring(place, custody, name="new"):
    return shutil.copytree(custody / "bundle", place.inbox / name)


def test_a_candidate_in_the_inbox_is_put_in_force_and_taken_out(place, custody):
    forge.published(custody, NOW_S + 1)
    bring(place, custody)
    assert place.bundler.look() == Looked(installed=1)
    assert place.version() == 2
    assert list(place.inbox.iterdir()) == []
    bundles = [row for row in place.rows() if row.event.startswith("bundle.")]
    assert [row.event for row in bundles] == ["bundle.installing", "bundle.installed"] * 2
    assert bundles[-1].fields == {
        "version": 2, "root_version": 1, "demo": False, "independent": True, "origin": "inbox",
    }  # fmt: skip


def test_the_newest_of_several_candidates_is_in_force_whatever_their_names(place, custody):
    forge.published(custody, NOW_S + 1)
    bring(place, custody, "b")
    forge.published(custody, NOW_S + 2)
    bring(place, custody, "a")
    assert place.bundler.look() == Looked(installed=1, refused=1)
    assert place.version() == 3


def test_a_folder_that_is_still_being_copied_is_left_alone(place, custody):
    forge.published(custody, NOW_S + 1)
    copying = bring(place, custody, ".new")
    assert place.bundler.look() == Looked()
    copying.rename(place.inbox / "new")
    assert place.bundler.look() == Looked(installed=1)


def unsigned(custody):
    Forge(custody).edit("registry", lambda _: None, signs="operator")


def altered(custody):
    next((custody / "bundle" / "targets").glob("*.rules.json")).write_bytes(b"{}")


def expired(custody):
    forged = Forge(custody)
    forged.edit("registry", lambda signed: signed.update(expires="2026-01-01T00:00:00Z"))
    forged.seal()


def too_large(custody):
    path = custody / "bundle" / "2.operator.json"
    path.write_bytes(path.read_bytes() + b" " * 2_000_000)


def one_body(custody):
    mark = msgspec.structs.replace(provision.mark_of(custody), operator_body="Department of  JUSTICE")
    (custody / "bundle" / "2.root.json").write_bytes(make_root(custody, mark, version=2, now_s=NOW_S))


BAD = {
    "one-body": one_body,
    "not-signed": unsigned,
    "altered": altered,
    "expired": expired,
    "too-large": too_large,
    "missing": lambda custody: (custody / "bundle" / "timestamp.json").unlink(),
    "not-metadata": lambda custody: (custody / "bundle" / "timestamp.json").write_bytes(b"{}"),
    "unknown-fields": lambda custody: Forge(custody).edit("operator", lambda signed: signed.update(surprise=1)),
    "contents": lambda custody: Forge(custody).target("operator", "rules.json", b"{}"),
    "roles": lambda custody: Forge(custody).target("registry", "rules.json", b"{}"),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_candidate_changes_nothing_and_its_reason_is_in_the_ledger_by_name(place, custody, reason):
    forge.published(custody, NOW_S + 1)
    BAD[reason](custody)
    bring(place, custody)
    before = {path: path.read_bytes() for path in place.installed.rglob("*") if path.is_file()}
    assert place.bundler.look() == Looked(refused=1)
    assert {path: path.read_bytes() for path in place.installed.rglob("*") if path.is_file()} == before
    assert place.version() == 1
    (row,) = place.rows("bundle.refused")
    assert row.fields["reason"].startswith(f"{reason}: ")
    assert str(place.inbox) not in row.fields["reason"]
    assert list(place.inbox.iterdir()) == []


def test_an_older_candidate_is_refused_as_rolled_back(place, custody, tmp_path):
    shutil.copytree(custody / "bundle", tmp_path / "old")
    forge.published(custody, NOW_S + 1)
    place.bundler.take(custody / "bundle")
    with pytest.raises(TrustError):
        place.bundler.take(tmp_path / "old")
    assert place.rows()[-1].fields["reason"].startswith("rolled-back: ")
    assert place.version() == 2


def test_the_same_refusal_again_is_counted_and_not_written_again(place, custody):
    forge.published(custody, NOW_S + 1)
    altered(custody)
    for number in range(4):
        bring(place, custody, f"try-{number}")
        place.bundler.look()
    assert len(place.rows("bundle.refused")) == 1
    place.now_s += 7200
    bring(place, custody, "an-hour-later")
    place.bundler.look()
    counts = [row.fields.get("repeats", 0) for row in place.rows("bundle.refused")]
    assert counts == [0, 3, 0]


def test_a_candidate_that_is_a_link_is_removed_without_being_followed(place, custody):
    forge.published(custody, NOW_S + 1)
    (place.inbox / "link").symlink_to(custody / "bundle")
    assert place.bundler.look() == Looked(refused=1)
    assert (custody / "bundle" / "timestamp.json").exists()
    assert list(place.inbox.iterdir()) == []
    assert place.version() == 1


def test_a_service_without_an_inbox_goes_on(place):
    place.inbox.rmdir()
    assert place.bundler.look() == Looked()


def test_a_packed_candidate_is_put_in_force_and_taken_out(place, custody):
    forge.published(custody, NOW_S + 1)
    hand_in(place.inbox, pack(custody / "bundle"), "from-a-broker")
    assert place.bundler.look() == Looked(installed=1)
    assert place.version() == 2
    assert list(place.inbox.iterdir()) == []


@pytest.mark.parametrize("reason", BAD)
def test_a_packed_candidate_is_refused_for_the_same_reason_as_its_folder(place, custody, reason):
    forge.published(custody, NOW_S + 1)
    BAD[reason](custody)
    hand_in(place.inbox, pack(custody / "bundle"), "packed")
    bring(place, custody)
    assert place.bundler.look() == Looked(refused=2)
    (row,) = place.rows("bundle.refused")  # the second one was the same, and was counted
    assert row.fields["reason"].startswith(f"{reason}: ")
    assert place.version() == 1


def test_a_file_that_is_no_packed_bundle_is_refused_and_taken_out(place):
    (place.inbox / "a.bundle").write_bytes(b"no bundle")
    (place.inbox / "b.bundle").symlink_to("/etc/hostname")
    (place.inbox / "note.txt").write_text("left alone")
    assert place.bundler.look() == Looked(refused=2)
    names = [row.fields["reason"].partition(":")[0] for row in place.rows("bundle.refused")]
    assert names == ["not-packed", "unreadable"]
    assert [path.name for path in place.inbox.iterdir()] == ["note.txt"]


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to another user needs root")
def test_another_user_s_candidate_does_not_pass_for_a_person_s_by_its_name(place, custody):
    forge.published(custody, NOW_S + 1)
    name = f"install-{'0' * 16}"
    hand_in(place.inbox, pack(custody / "bundle"), name)
    os.chown(place.inbox / f"{name}.bundle", 12345, 12345)
    assert place.bundler.look() == Looked(installed=1)
    assert place.rows("bundle.installed")[-1].fields["origin"] == "inbox"
    assert list(place.inbox.iterdir()) == []


def test_a_node_has_one_bundle_service(place):
    stop = threading.Event()
    first = threading.Thread(target=place.bundler.run, args=(stop, stop.set))
    with serving(place.inbox):
        assert is_served(place.inbox)
        with pytest.raises(StoreError, match="another bundle service"):
            place.bundler.run(stop, stop.set)
    first.start()
    first.join(10)
    assert not first.is_alive()
    assert not is_served(place.inbox)


def test_what_an_interrupted_command_left_in_the_inbox_is_removed_when_the_service_starts(place):
    for name in (f".install-{'0' * 16}.part", f".install-{'1' * 16}.answer", f"..install-{'2' * 16}.part.new"):
        (place.inbox / name).write_bytes(b"")
    (place.inbox / ".new").mkdir()
    with serving(place.inbox):
        assert [path.name for path in place.inbox.iterdir()] == [".new"]


def test_a_command_that_nobody_answers_says_where_to_look(place):
    with pytest.raises(TrustError, match="ledger show bundle"):
        await_answer(place.inbox, f"install-{'0' * 16}", wait_s=0.01)


@pytest.fixture
def changing(place, custody):
    """A node whose bundle names a home and an old broker, and in its inbox one that names the home and a new one."""
    change_recipient(custody, None, "Oldtown", OLD[0])
    forge.published(custody, NOW_S + 1)
    place.bundler.take(custody / "bundle")
    assert place.opened() == {HOME, OLD}
    change_recipient(custody, "Oldtown", "Newtown", NEW[0])
    forge.published(custody, NOW_S + 2)
    bring(place, custody)
    return place


class Applying:
    """What applies the rules on a node: notes each text, and which bundle is in force while it does."""

    def __init__(self, place):
        self.place, self.seen, self.stop = place, [], threading.Event()
        self.rules, self.applied = place.egress / "uplink.nft", place.egress / "applied"
        self.applied.write_bytes(self.rules.read_bytes())

    def work(self):
        while not self.stop.wait(0.001):
            if (text := self.rules.read_bytes()) != self.applied.read_bytes():
                self.seen.append((openings_in(text.decode()), self.place.version()))
                write_durably(self.applied, text)

    def __enter__(self):
        self.thread = threading.Thread(target=self.work)
        self.thread.start()
        return self

    def __exit__(self, *_):
        wait_until(lambda: self.rules.read_bytes() == self.applied.read_bytes())
        self.stop.set()
        self.thread.join()


def test_what_a_new_bundle_removes_is_closed_before_it_is_in_force_and_what_it_adds_is_opened_after(changing):
    with Applying(changing) as applying:
        assert changing.bundler.look() == Looked(installed=1)
    assert applying.seen == [({HOME}, 2), ({HOME, NEW}, 3)]


def test_rules_that_nobody_applies_keep_the_old_bundle_in_force_and_the_candidate_in_the_inbox(changing):
    (changing.egress / "applied").write_bytes(b"something older")
    changing.wait_s = 0.1
    changing.restart()
    assert changing.bundler.look() == Looked(refused=1)
    assert changing.version() == 2
    assert changing.opened() == {HOME, OLD}
    assert changing.rows("bundle.refused")[0].fields["reason"].startswith("egress-not-applied: ")
    (changing.egress / "applied").unlink()
    assert changing.bundler.look() == Looked(installed=1)
    assert changing.opened() == {HOME, NEW}


def test_a_grant_that_ends_is_closed_before_it_does_and_a_bundle_that_ends_closes_everything(place, custody):
    forge.add_grant(custody, forge.SAN_DIEGO, expires_s=NOW_S + 1000)
    forge.published(custody, NOW_S + 1)
    place.bundler.take(custody / "bundle")
    assert place.opened() == {HOME}
    place.now_s = NOW_S + 1000 - CLOSE_EARLY_S
    place.bundler.look()
    assert place.opened() == set()
    forge.add_grant(custody, forge.SAN_DIEGO)
    forge.published(custody, place.now_s)
    place.bundler.take(custody / "bundle")
    assert place.opened() == {HOME}
    place.now_s += 30 * DAY_SECONDS - CLOSE_EARLY_S
    place.bundler.look()
    assert place.opened() == set()
    place.now_s += CLOSE_EARLY_S
    place.bundler.look()
    assert place.opened() == set()
    assert [row.fields["openings"] for row in place.rows("egress.changed")] == [1, 0, 1, 0]


def test_what_somebody_wrote_into_the_rules_is_gone_after_the_next_look(place):
    (place.egress / "uplink.conf").write_text("[Service]\n")
    (place.egress / "uplink.nft").unlink()
    place.bundler.look()
    assert "IPAddressDeny=any" in (place.egress / "uplink.conf").read_text()
    assert place.opened() == {HOME}


def test_a_node_without_a_bundle_in_force_allows_nothing(tmp_path, custody):
    bare = Place(tmp_path / "bare", custody)
    bare.bundler.look()
    assert bare.opened() == set()
    assert "IPAddressAllow=1" not in (bare.egress / "uplink.conf").read_text()


def warned(place):
    return [row.fields["what"] for row in place.rows("bundle.ending")]


def test_a_row_says_once_that_something_begins_to_end_soon_over_restarts_too(place, custody):
    assert warned(place) == []
    place.now_s += 16 * DAY_SECONDS
    for _ in range(2):
        place.bundler.look()
        place.restart()
    assert warned(place) == ["snapshot", "timestamp"]
    assert place.rows("bundle.ending")[0].fields["ends"] == "2026-10-21"
    forge.published(custody, place.now_s)
    place.bundler.take(custody / "bundle")
    assert warned(place) == ["snapshot", "timestamp"]
    place.now_s += 17 * DAY_SECONDS
    place.bundler.look()
    assert warned(place) == ["snapshot", "timestamp"] * 2


def homeplate(node, *arguments):
    return CliRunner().invoke(cli.main, ["--config", str(node.config), *arguments])


def test_check_says_why_a_candidate_was_refused_until_a_good_one_comes(simulation_node, tmp_path):
    published = provision.publish_bundle(simulation_node.custody, now_s=stage.now_s())
    bad = shutil.copytree(published, tmp_path / "bad")
    document = json.loads((bad / "timestamp.json").read_bytes())
    document["signed"]["version"] += 1
    (bad / "timestamp.json").write_text(json.dumps(document))
    assert homeplate(simulation_node, "bundle", "install", str(bad)).exit_code == 6
    said = homeplate(simulation_node, "check").output
    assert "note  bundle: a candidate was refused at " in said
    assert "the bundle in force stays: not-signed: timestamp.json is not signed" in said
    assert homeplate(simulation_node, "bundle", "install", str(published)).exit_code == 0
    assert "a candidate was refused" not in homeplate(simulation_node, "check").output


def test_the_command_prints_the_rules_that_the_service_wrote(simulation_node):
    folder = simulation_node.paths.egress
    assert (
        homeplate(simulation_node, "bundle", "egress", "--format", "systemd").stdout
        == (folder / "uplink.conf").read_text()
    )
    assert (
        homeplate(simulation_node, "bundle", "egress", "--format", "nftables").stdout
        == (folder / "uplink.nft").read_text()
    )
    shown = homeplate(simulation_node, "bundle", "egress", "--format", "nftables", "--user", "1234").stdout
    assert "meta skuid 1234 jump uplink" in shown


def test_check_says_whether_the_rules_are_applied(simulation_node):
    paths = simulation_node.paths
    assert "note  egress: nothing applies the kernel's rules" in homeplate(simulation_node, "check").output
    paths.egress_applied.parent.mkdir()
    shutil.copy(paths.egress / "uplink.nft", paths.egress_applied)
    assert "ok    egress: the kernel's rules for uplink are applied" in homeplate(simulation_node, "check").output
    (paths.egress / "uplink.nft").write_text("newer")
    assert "note  egress: the kernel's rules for uplink changed" in homeplate(simulation_node, "check").output
    (paths.egress / "uplink.nft").unlink()
    assert "note  egress: the kernel's rules for uplink changed" in homeplate(simulation_node, "check").output


def test_the_command_allows_nothing_where_no_bundle_is_in_force(simulation_node):
    (simulation_node.paths.bundle / "timestamp.json").unlink()
    shown = homeplate(simulation_node, "bundle", "egress", "--format", "systemd")
    assert shown.exit_code == 6
    assert "IPAddressDeny=any\n" in shown.stdout
    assert "127.0.0.1" not in shown.stdout
    assert "nothing is allowed: " in shown.stderr


def test_check_names_what_ends_soon_with_its_day_and_the_next_step(simulation_node):
    assert " ends on " not in homeplate(simulation_node, "check").output
    said = homeplate(simulation_node, "check", "--warn-days", "366").output
    for what in ("root", "top-role", "registry", "allowlist", "snapshot", "timestamp", f"grant {stage.AGENCY}"):
        assert re.search(
            rf"note  bundle: {what} ends on \d{{4}}-\d\d-\d\d \(in \d+ days\): .*homeplate-custodian", said
        )


def test_check_says_where_one_body_holds_both_roles(tmp_path):
    for body, says in (("State registry", False), ("demo  CITY", True)):
        node = stage.build(tmp_path / body, registry_body=body)
        said = homeplate(node, "check").output
        node.runtime.cleanup()
        assert ("this node cannot prove that its recipients are in state" in said) == says


def test_a_person_installs_a_bundle_while_the_service_runs(simulation_node):
    command = [sys.executable, "-m", "homeplate.cli", "--config", str(simulation_node.config)]
    paths = simulation_node.paths
    with subprocess.Popen([*command, "bundle", "serve"], stderr=subprocess.PIPE, text=True) as service:
        try:
            wait_until(lambda: is_served(paths.inbox))
            published = provision.publish_bundle(simulation_node.custody, now_s=stage.now_s())
            assert homeplate(simulation_node, "bundle", "install", str(published)).exit_code == 0
            newest = provision.publish_bundle(simulation_node.custody, now_s=stage.now_s())
            shutil.copytree(newest, paths.inbox / ".coming")
            (paths.inbox / ".coming").rename(paths.inbox / "coming")
            while list(paths.inbox.iterdir()):
                assert service.poll() is None
            newest = provision.publish_bundle(simulation_node.custody, now_s=stage.now_s())
            altered(simulation_node.custody)
            refused = homeplate(simulation_node, "bundle", "install", str(newest))
            assert refused.exit_code == 6
            assert refused.stderr.startswith("error: altered: rules.json was altered")
            assert [path.name for path in paths.inbox.iterdir()] == []
        finally:
            service.terminate()
        assert service.wait(20) == 0, service.stderr.read()
    output = homeplate(simulation_node, "ledger", "show", "bundle").output.splitlines()
    assert [line.split("origin=")[1].split()[0] for line in output if " bundle.installed " in line][-2:] == [
        "command",
        "inbox",
    ]
