"""What the metadata's refusals say, by name and in words; and its bounds, each used to its last byte."""

import json
import shutil

import msgspec
import pytest
from tuf.api.exceptions import ExpiredMetadataError
from tuf.api.metadata import Metadata

from homeplate.domain.record import DAY_SECONDS, NANOSECONDS
from homeplate.errors import TrustError
from homeplate.trust import bundle as bundle_module
from homeplate.trust import metadata
from homeplate.trust.bundle import (
    ONE_BODY,
    commit_bundle,
    install_bundle,
    judge_bundle,
    load_bundle,
    pin_root,
    read_bundle,
)
from homeplate.trust.files import FolderFiles
from homeplate.trust.metadata import MAX_METADATA_BYTES, MAX_TARGET_BYTES, Reader, SameVersionError
from homeplate.trust.reasons import NamedTrustError
from homeplate_custodian import provision
from homeplate_custodian.bundle import make_root
from tests.trust import forge
from tests.trust.forge import NOW_NS, NOW_S, PSEUDONYM, Forge
from tests.trust.saying import says


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    folder = forge.custody(tmp_path_factory.mktemp("template") / "custody")
    forge.published(folder)
    return folder


@pytest.fixture
def custody(tmp_path, template):
    return shutil.copytree(template, tmp_path / "custody")


@pytest.fixture
def installed(tmp_path, custody):
    return forge.node(tmp_path / "node", custody)


def take(custody, installed, now_ns=NOW_NS):
    return install_bundle(custody / "bundle", installed, now_ns)


def verified(custody, installed, wanted=None):
    return Reader(FolderFiles(custody / "bundle"), installed, NOW_NS).read(wanted)


def delegations(change):
    def edit(signed):
        change({role["name"]: role for role in signed["delegations"]["roles"]}, signed["delegations"])

    return edit


def test_a_bundle_that_holds_is_given_with_what_was_read_of_it(custody, installed):
    found = verified(custody, installed)
    assert (found.root_version, found.version, found.shared_keys) == (1, 1, False)
    assert (found.mark.demo, found.mark.jurisdiction) == (False, "US-CA")
    month = NOW_S + 30 * DAY_SECONDS
    assert set(found.ends_s) == {"root", "timestamp", "snapshot", "targets", "registry", "operator"}
    assert found.expires_s == min(found.ends_s.values()) == found.ends_s["timestamp"] == month
    assert set(found.targets) == {"registry.json", "allowlist.json", "rules.json", "nodes.json"}
    names = {path.relative_to(custody / "bundle").as_posix() for path in (custody / "bundle").rglob("*.json")}
    assert set(found.files) == names - {"1.root.json"}
    for name, data in found.files.items():
        assert (custody / "bundle" / name).read_bytes() == data
    only = verified(custody, installed, ["rules.json", "places.json"])
    assert set(only.targets) == {"rules.json"}


def test_each_refusal_of_a_signer_has_its_name_and_says_what_to_do(custody, installed, tmp_path):
    def refusal(change, message, reason, now_ns=NOW_NS):
        folder = shutil.copytree(custody, tmp_path / "changed", dirs_exist_ok=False)
        change(folder)
        try:
            with pytest.raises(NamedTrustError, match=message) as caught:
                take(folder, installed, now_ns)
            assert caught.value.reason == reason
        finally:
            shutil.rmtree(folder)

    def edit(role, changed, **how):
        return lambda folder: Forge(folder).edit(role, changed, **how)

    refusal(
        lambda _: None, r"^timestamp\.json is expired by node time \(.+\); install a newly published bundle$",
        "expired", NOW_NS + 31 * DAY_SECONDS * NANOSECONDS,
    )  # fmt: skip
    refusal(
        edit("registry", lambda _: None, signs="operator"),
        r"^1\.registry\.json is not signed by the keys that may sign it \(.+\); do not use this bundle$", "not-signed",
    )  # fmt: skip
    refusal(
        lambda folder: (folder / "bundle" / "1.operator.json").write_bytes(b"{}"),
        r"^1\.operator\.json was altered or is of another publication \(.+\); copy the whole folder anew$", "altered",
    )  # fmt: skip
    refusal(
        lambda folder: (folder / "bundle" / "timestamp.json").write_bytes(b"[]"),
        r"^timestamp\.json is not TUF metadata; copy the whole folder anew$", "not-metadata",
    )  # fmt: skip
    refusal(
        edit("operator", lambda signed: signed.update(zebra=1, apple=2)),
        r"^1\.operator\.json has unknown fields: apple, zebra$", "unknown-fields",
    )  # fmt: skip
    refusal(
        edit("registry", lambda signed: signed["targets"]["registry.json"].update(length=MAX_TARGET_BYTES + 1)),
        rf"^registry\.json has {MAX_TARGET_BYTES + 1} bytes; at most {MAX_TARGET_BYTES} are read$", "too-large",
    )  # fmt: skip

    def other_target(folder):
        path = next((folder / "bundle" / "targets").glob("*.rules.json"))
        path.write_bytes(path.read_bytes()[:-1] + b" ")

    refusal(
        other_target, r"^rules\.json was altered or is of another publication \(.+\); copy the whole folder anew$",
        "altered",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("role", "change", "message"),
    [
        ("targets", delegations(lambda by, _: by["registry"].update(paths=["*"])),
         "targets.json delegates other paths to registry than registry.json"),
        ("targets", delegations(lambda by, _: by["operator"].update(terminating=False)),
         f"targets.json delegates other paths to operator than {', '.join(metadata.PATHS['operator'])}"),
        ("targets", delegations(lambda by, found: found["roles"].append({**by["registry"], "name": "extra"})),
         "targets.json must delegate to registry and operator, and to nobody else"),
        ("operator", lambda signed: signed.update(delegations={"keys": {}, "roles": []}),
         "operator.json delegates further; it may not"),
        ("registry", lambda signed: signed.update(delegations={"keys": {}, "roles": []}),
         "registry.json delegates further; it may not"),
        ("registry", lambda signed: signed["targets"].clear(), "registry.json does not sign registry.json"),
        ("operator", lambda signed: [signed["targets"].pop(name) for name in ("rules.json", "allowlist.json")],
         "operator.json does not sign allowlist.json, rules.json"),
        ("operator", lambda signed: signed["targets"].update(zz=signed["targets"]["rules.json"],
                                                             aa=signed["targets"]["rules.json"]),
         "operator.json signs aa, which it may not sign"),
        ("registry", lambda signed: signed["targets"].update({"places.json": signed["targets"]["registry.json"]}),
         "registry.json signs places.json, which it may not sign"),
    ],
    ids=range(9),
)  # fmt: skip
def test_roles_that_sign_or_delegate_what_they_may_not_are_refused_in_words(custody, installed, role, change, message):
    Forge(custody).edit(role, change)
    with says(message, "roles"):
        take(custody, installed)


def test_keys_that_are_none_of_ours_are_refused_in_words(custody, installed, tmp_path):
    def twice(by, found):
        found["keys"]["00" * 32] = found["keys"][by["registry"]["keyids"][0]]
        by["registry"]["keyids"].append("00" * 32)

    def odd(**changed):
        def change(by, found):
            key = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "ab" * 32}} | changed
            found["keys"]["00" * 32] = key
            by["operator"]["keyids"].append("00" * 32)

        return change

    def unknown(by, found):
        by["operator"]["keyids"].append("00" * 32)

    none_of_ours = "a key of the role operator is no Ed25519 key in lower-case hexadecimal"
    for change, message in (
        (twice, "the role registry has one key under two ids"),
        (odd(keyval={"public": "AB" * 32}), none_of_ours),
        (odd(keytype="rsa", scheme="rsassa-pss-sha256"), none_of_ours),
        (unknown, none_of_ours),
    ):
        folder = shutil.copytree(custody, tmp_path / "changed")
        Forge(folder).edit("targets", delegations(change))
        with says(message, "roles"):
            take(folder, installed)
        shutil.rmtree(folder)


def test_a_top_role_with_targets_and_one_key_in_both_roles_are_refused_in_words(custody, installed, tmp_path):
    folder = shutil.copytree(custody, tmp_path / "top")
    Forge(folder).target("targets", "registry.json", b"{}")
    with says("targets.json signs targets itself; only registry and operator may", "roles"):
        take(folder, installed)
    forged = Forge(custody)
    forged.edit(
        "targets", delegations(lambda by, _: by["operator"].update(keyids=by["registry"]["keyids"])), seal=False
    )
    forged.edit("operator", lambda _: None, signs="registry")
    with says("registry and operator share a key; they are two signers, never one", "roles"):
        take(custody, installed)


def test_a_root_with_other_fields_or_without_its_mark_is_refused_in_words(custody, installed):
    make_next_root(custody)
    Forge(custody).edit("root", lambda signed: signed.update(zebra=1, apple=2), seal=False)
    with says("the root has unknown fields: apple, zebra", "roles"):
        take(custody, installed)
    Forge(custody).edit("root", lambda signed: signed.pop("x-homeplate"), seal=False)
    with pytest.raises(TrustError, match=r"^the root does not say what it is in 'x-homeplate': ."):
        take(custody, installed)


def make_next_root(custody, version=2, **changed):
    mark = msgspec.structs.replace(provision.mark_of(custody), **changed)
    root = make_root(custody, mark, version=version, now_s=NOW_S)
    (custody / "bundle" / f"{version}.root.json").write_bytes(root)


@pytest.mark.parametrize("role", ["root", "targets"])
def test_an_operator_who_holds_a_key_of_the_root_or_of_the_top_role_alone_is_found(custody, installed, role):
    make_next_root(custody)
    key = Forge(custody).key("operator").public_key

    def give_it(signed):
        signed["keys"][key.keyid] = key.to_dict()
        signed["roles"][role]["keyids"].append(key.keyid)

    assert not verified(custody, installed).shared_keys
    Forge(custody).edit("root", give_it, seal=False)
    assert verified(custody, installed).shared_keys


def test_a_top_role_with_a_key_that_is_none_of_ours_is_refused_in_words(custody, installed):
    make_next_root(custody)

    def give_it(signed):
        signed["keys"]["00" * 32] = {"keytype": "ed25519", "scheme": "ed25519", "keyval": {"public": "AB" * 32}}
        signed["roles"]["snapshot"]["keyids"].append("00" * 32)

    Forge(custody).edit("root", give_it, seal=False)
    with says("a key of the role snapshot is no Ed25519 key in lower-case hexadecimal", "roles"):
        verified(custody, installed)


def test_as_many_roots_are_followed_as_may_be_and_no_more(custody, installed, monkeypatch):
    monkeypatch.setattr(metadata, "MAX_ROOTS", 3)
    for version in (2, 3):
        make_next_root(custody, version)
    assert verified(custody, installed).root_version == 3
    make_next_root(custody, 4)
    with says("the bundle has more than 3 roots to follow; enrol the node anew"):
        take(custody, installed)


def test_a_root_that_changes_what_the_node_is_says_so(custody, installed):
    make_next_root(custody, demo=True)
    with says("2.root.json changes what the pinned root is (demo, jurisdiction); enrol the node anew", "other-root"):
        take(custody, installed)


def test_a_snapshot_that_leaves_a_role_out_is_refused(custody, installed):
    Forge(custody).edit("snapshot", lambda signed: signed["meta"].pop("operator.json"))
    path = custody / "bundle" / "1.snapshot.json"
    meta = {"version": 1, "length": path.stat().st_size}
    Forge(custody).edit("timestamp", lambda signed: signed["meta"].update({"snapshot.json": meta}))
    with says("the snapshot does not name operator.json; publish the bundle again"):
        take(custody, installed)


def test_the_installed_version_again_is_told_apart_and_other_contents_are_refused(custody, installed):
    first = take(custody, installed)
    with pytest.raises(SameVersionError, match=r"^timestamp\.json has the installed version$") as caught:
        read_bundle(custody / "bundle", installed, NOW_NS)
    assert caught.value.reason == "same-version"
    again = judge_bundle(FolderFiles(custody / "bundle"), installed, NOW_NS)
    assert (again.bundle, dict(again.files)) == (first, {})
    before = sorted(installed.rglob("*"))
    commit_bundle(again, installed, NOW_NS)
    assert sorted(installed.rglob("*")) == before
    Forge(custody).edit("timestamp", lambda signed: signed.update(expires="2026-10-01T00:00:00Z"))
    with says("the candidate has the installed version with other contents; publish a newer one", "other-contents"):
        take(custody, installed)


def test_an_installed_bundle_that_is_damaged_is_said_to_be(custody, installed):
    take(custody, installed)
    forge.published(custody, NOW_S + 1)
    (installed / "timestamp.json").write_bytes(b"{}")
    with pytest.raises(TrustError, match=rf"^the installed bundle in {installed} is damaged: ."):
        take(custody, installed)


def test_an_older_bundle_is_rolled_back_by_name(custody, installed, tmp_path):
    old = shutil.copytree(custody / "bundle", tmp_path / "old")
    forge.published(custody, NOW_S + 1)
    take(custody, installed)
    message = r"^timestamp\.json is rolled back \(.+\); install the newest bundle$"
    with pytest.raises(NamedTrustError, match=message) as caught:
        install_bundle(old, installed, NOW_NS)
    assert caught.value.reason == "rolled-back"


def test_metadata_is_read_up_to_its_bound(custody, installed):
    path = custody / "bundle" / "timestamp.json"
    data = path.read_bytes()
    path.write_bytes(data + b" " * (MAX_METADATA_BYTES - len(data)))
    assert verified(custody, installed).version == 1
    path.write_bytes(data + b" " * (MAX_METADATA_BYTES - len(data) + 1))
    with says(f"{path} is larger than the {MAX_METADATA_BYTES} bytes that it may have; it was not read further"):
        take(custody, installed)


def test_a_pinned_root_that_is_damaged_is_named(custody, installed):
    (installed / "pinned.root.json").write_bytes(b"{}")
    with says("pinned.root.json is not TUF metadata; copy the whole folder anew", "not-metadata"):
        take(custody, installed)


def test_a_target_of_the_longest_length_is_read(custody, installed):
    data = b"x" * MAX_TARGET_BYTES
    Forge(custody).target("operator", f"hot-lists/{PSEUDONYM.hex()}.sealed", data)
    take(custody, installed)
    assert load_bundle(installed, NOW_NS, pseudonym=PSEUDONYM).hot_list_sealed == data


# Pinning, and what a node says of what it has


def test_what_is_pinned_is_a_root_that_signs_itself_and_one_alone(custody, tmp_path):
    root = (custody / "root.json").read_bytes()
    with says(f"the root is larger than {MAX_METADATA_BYTES} bytes"):
        pin_root(root.ljust(MAX_METADATA_BYTES + 1), tmp_path / "node")
    pin_root(root.ljust(MAX_METADATA_BYTES), tmp_path / "wide")
    with says("the file to pin is TUF metadata, but no root; give the custodian's root.json"):
        pin_root((custody / "bundle" / "timestamp.json").read_bytes(), tmp_path / "node")
    with says("the root is not TUF metadata; copy the whole folder anew", "not-metadata"):
        pin_root(b"{}", tmp_path / "node")
    unsigned = Metadata.from_bytes(root)
    unsigned.signatures.clear()
    with pytest.raises(
        NamedTrustError, match=r"^the root is not signed by the keys that may sign it \(.+\); do not use"
    ):
        pin_root(unsigned.to_bytes(), tmp_path / "node")
    pin_root(root, tmp_path / "node")
    pin_root(root, tmp_path / "node")
    assert (tmp_path / "node" / "pinned.root.json").read_bytes() == root
    with says(
        f"{tmp_path / 'node' / 'pinned.root.json'} pins another root; a node has one root for life: start with a new"
        " data folder"
    ):
        pin_root(root + b" ", tmp_path / "node")


def test_a_node_without_a_bundle_says_how_to_install_one(installed):
    message = f"{installed} holds no bundle yet: install one with `homeplate bundle install FOLDER`"
    with says(message, "missing"):
        load_bundle(installed, NOW_NS)


def test_a_bundle_of_one_body_says_who_it_is(tmp_path):
    folder = forge.custody(tmp_path / "custody", operator_body="department  of JUSTICE")
    forge.published(folder)
    with says(f"department  of JUSTICE {ONE_BODY}", "one-body"):
        take(folder, forge.node(tmp_path / "node", folder))


def test_a_bundle_says_everything_that_its_files_say(custody, installed):
    request, _ = forge.enrolment()
    provision.enrol(custody, request, now_s=NOW_S)
    path = custody / "operator" / "rules.json"
    rules = json.loads(path.read_bytes())
    rules |= {"hold_keys": ["0a" * 32], "bundle_sources": ["CA0371100", "CA0371100"], "recovery": "CA0371100",
              "retention_profile": "chp", "retention_reviewed_on": "2026-01-02"}  # fmt: skip
    path.write_text(json.dumps(rules))
    forge.published(custody)
    bundle = take(custody, installed)
    assert bundle.hold_keys == (b"\x0a" * 32,)
    assert bundle.bundle_sources == ("CA0371100",)
    assert (bundle.recovery, bundle.retention_profile, bundle.retention_reviewed_on) == (
        "CA0371100", "chp", "2026-01-02",
    )  # fmt: skip
    assert bundle.purposes == (forge.PURPOSE,)
    assert [node.pseudonym for node in bundle.nodes] == [PSEUDONYM]
    assert (bundle.places, bundle.witnesses, bundle.model_manifests, dict(bundle.unregistered)) == ((), (), None, {})
    assert set(bundle.ends_s) == {"root", "timestamp", "snapshot", "targets", "registry", "operator"}
    assert (bundle.version, bundle.root_version) == (2, 1)
    assert not bundle.policy.purposes


def test_what_is_put_in_force_is_written_roots_next_to_last_and_the_timestamp_last(custody, installed, monkeypatch):
    make_next_root(custody)
    written, real = [], bundle_module.write_durably

    def write(path, data):
        written.append(path.relative_to(installed).as_posix())
        real(path, data)

    monkeypatch.setattr(bundle_module, "write_durably", write)
    take(custody, installed)
    assert written[-2:] == ["2.root.json", "timestamp.json"]
    assert written[:-2] == sorted(written[:-2])


def test_after_a_crash_between_a_next_root_and_its_timestamp_the_old_bundle_stays_in_force(
    custody, installed, tmp_path
):
    old = take(custody, installed)
    shutil.rmtree(custody / "online")
    provision.make_role_key(custody / "online")
    make_next_root(custody)
    shutil.copy(custody / "bundle" / "2.root.json", installed / "2.root.json")
    found = load_bundle(installed, NOW_NS)
    assert (found.version, found.root_version) == (old.version, 1)


def test_a_target_without_a_sha256_says_who_has_to_publish_it(custody, installed):
    Forge(custody).edit("registry", lambda signed: signed["targets"]["registry.json"].update(hashes={"md5": "00"}))
    with says("the bundle signs registry.json without a SHA-256; publish it with this project's custodian"):
        take(custody, installed)


def test_what_is_no_longer_used_goes_and_roots_and_the_bundle_before_stay(custody, installed):
    make_next_root(custody)
    take(custody, installed)
    (installed / "targets" / "stray").write_bytes(b"x")
    (installed / "stray.json").write_bytes(b"x")
    forge.published(custody, NOW_S + 1)
    take(custody, installed)
    names = {path.relative_to(installed).as_posix() for path in installed.rglob("*")}
    assert not {"targets/stray", "stray.json"} & names
    assert {"pinned.root.json", "2.root.json", "1.registry.json", "2.registry.json", "timestamp.json"} <= names


def test_a_node_reads_its_own_hot_list_and_needs_no_other(custody, installed, tmp_path):
    for pseudonym in (PSEUDONYM, b"o" * 16):
        provision.enrol(custody, forge.enrolment(pseudonym)[0], now_s=NOW_S)
    provision.set_hot_list(custody, forge.hot_list("7ABC123"), now_s=NOW_S)
    forge.published(custody)
    own = read_bundle(custody / "bundle", installed, NOW_NS, pseudonym=PSEUDONYM).hot_list_sealed
    assert own is not None
    assert read_bundle(custody / "bundle", installed, NOW_NS).hot_list_sealed is None
    take(custody, installed)
    for folder in (custody / "bundle", installed):
        next((folder / "targets" / "hot-lists").glob(f"*.{(b'o' * 16).hex()}.sealed")).unlink()
    assert load_bundle(installed, NOW_NS, pseudonym=PSEUDONYM).hot_list_sealed == own
    fresh = forge.node(tmp_path / "fresh", custody)
    assert read_bundle(custody / "bundle", fresh, NOW_NS, pseudonym=PSEUDONYM).hot_list_sealed == own
    with pytest.raises(TrustError, match=r"sealed is missing; copy the whole folder that the custodian published$"):
        install_bundle(custody / "bundle", fresh, NOW_NS)


def test_metadata_that_tuf_refuses_for_another_reason_is_named_so():
    error = metadata.refused("x.json", ValueError("why"))
    assert (error.reason, str(error)) == ("metadata", "x.json is refused: why")
    expired = metadata.refused("x.json", ExpiredMetadataError("why"))
    assert str(expired) == "x.json is expired by node time (why); install a newly published bundle"


SQUARE = [{"latitude_deg": one, "longitude_deg": other} for one, other in ((32, -117), (32, -116.99), (32.01, -117))]
SCHOOL = {"shape": "polygon", "name": "School", "kind": "school", "source": "the district", "corners": SQUARE}


def test_a_bundle_may_say_where_no_node_reads_and_what_the_usage_policy_is(custody, installed):
    forged = Forge(custody)
    forged.target("operator", "places.json", json.dumps({"format": 1, "places": [SCHOOL]}).encode())
    forged.target("operator", "policy.json", b'{"format":1,"purposes":"stolen vehicles"}')
    bundle = take(custody, installed)
    assert [place.name for place in bundle.places] == ["School"]
    assert bundle.policy.purposes == "stolen vehicles"
    assert load_bundle(installed, NOW_NS) == bundle


@pytest.mark.parametrize(
    ("role", "name"),
    [("registry", "registry.json"), *(("operator", name) for name in (
        "allowlist.json", "rules.json", "nodes.json", "policy.json", "places.json", "models.json",
    ))],
)  # fmt: skip
def test_a_signed_file_that_is_none_is_named_in_the_refusal(custody, installed, role, name):
    Forge(custody).target(role, name, b"{}" if name in {"registry.json", "models.json"} else b"[]")
    with pytest.raises(NamedTrustError, match=rf"^{name} is not what it should be: .") as caught:
        take(custody, installed)
    assert caught.value.reason == "contents"


def test_an_installation_returns_the_nodes_own_hot_list_also_where_it_is_there_already(custody, installed):
    provision.enrol(custody, forge.enrolment()[0], now_s=NOW_S)
    provision.set_hot_list(custody, forge.hot_list("7ABC123"), now_s=NOW_S)
    forge.published(custody)
    first, again = (install_bundle(custody / "bundle", installed, NOW_NS, pseudonym=PSEUDONYM) for _ in range(2))
    assert first == again
    assert first.hot_list_sealed is not None


def test_after_crashes_the_last_root_under_which_the_old_bundle_holds_is_found(custody, installed):
    make_next_root(custody, 2)
    old = take(custody, installed)
    for version in (3, 4):
        shutil.rmtree(custody / "online")
        provision.make_role_key(custody / "online")
        make_next_root(custody, version)
        shutil.copy(custody / "bundle" / f"{version}.root.json", installed / f"{version}.root.json")
        found = load_bundle(installed, NOW_NS)
        assert (found.version, found.root_version) == (old.version, 2)
    (installed / "timestamp.json").write_bytes(json.dumps(without_signatures(installed / "timestamp.json")).encode())
    with pytest.raises(NamedTrustError, match=r"^timestamp\.json is not signed by the keys that may sign it") as caught:
        load_bundle(installed, NOW_NS)
    assert caught.value.reason == "not-signed"


def without_signatures(path):
    document = json.loads(path.read_bytes())
    for signature in document["signatures"]:
        signature["sig"] = "00" * 64
    return document
