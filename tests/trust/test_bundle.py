"""What a node takes for signed, and what it refuses: rollback, freeze, other keys, other paths, too much."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeplate.domain.record import DAY_SECONDS, NANOSECONDS, StorageClass
from homeplate.domain.rules import Trigger
from homeplate.errors import TrustError
from homeplate.policy.allowlist import recipients
from homeplate.sealing.seal import open_hot_list
from homeplate.trust.bundle import Bundle, install_bundle, load_bundle, pin_root, read_bundle
from homeplate.trust.hotlist import parse_hot_list
from homeplate.trust.metadata import MAX_METADATA_BYTES, MAX_TARGET_BYTES, SameVersionError
from homeplate.trust.reasons import NamedTrustError
from homeplate.trust.schema import RulesFile, decode, encode
from homeplate_custodian import provision
from homeplate_custodian.bundle import make_root
from homeplate_custodian.keyring import make_role_key
from tests.trust import forge
from tests.trust.forge import NOW_NS, NOW_S, PSEUDONYM, SAN_DIEGO, Forge


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = forge.custody(tmp_path_factory.mktemp("template") / "custody")
    forge.published(folder)
    return folder


@pytest.fixture
def custody(tmp_path: Path, template: Path) -> Path:
    return shutil.copytree(template, tmp_path / "custody")


@pytest.fixture
def installed(tmp_path: Path, custody: Path) -> Path:
    return forge.node(tmp_path / "node", custody)


def take(custody: Path, installed: Path, now_ns: int = NOW_NS) -> Bundle:
    return install_bundle(custody / "bundle", installed, now_ns)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(custody: Path, installed: Path, says: str, now_ns: int = NOW_NS) -> None:
    """The bundle is refused with a reason, and what was installed is untouched."""
    before = contents(installed)
    with pytest.raises(TrustError, match=says):
        take(custody, installed, now_ns)
    assert contents(installed) == before


def test_a_published_bundle_is_installed_and_says_what_both_signers_drafted(custody: Path, installed: Path):
    bundle = take(custody, installed)
    assert [agency.identifier for agency in bundle.registry] == [SAN_DIEGO]
    assert [grant.identifier for grant in bundle.allowlist] == [SAN_DIEGO]
    assert [rule.name for rule in bundle.rules] == ["hits"]
    assert (bundle.demo, bundle.jurisdiction, bundle.independent) == (False, "US-CA", True)
    assert (bundle.registry_body, bundle.operator_body) == ("Department of Justice", "City of San Diego")
    assert bundle.expires_s == NOW_S + 30 * DAY_SECONDS
    assert load_bundle(installed, NOW_NS) == bundle


def test_a_node_without_an_installed_bundle_allows_nothing(installed: Path, tmp_path: Path):
    with pytest.raises(TrustError, match="bundle install"):
        load_bundle(installed, NOW_NS)
    with pytest.raises(TrustError, match="bundle install"):
        load_bundle(tmp_path / "nowhere", NOW_NS)


def test_a_bundle_is_not_read_any_more_once_a_part_of_it_is_over(custody: Path, installed: Path):
    end_s = take(custody, installed).expires_s
    assert load_bundle(installed, (end_s - 1) * NANOSECONDS).version == 1
    with pytest.raises(TrustError, match="expired"):
        load_bundle(installed, end_s * NANOSECONDS)


def test_a_frozen_bundle_is_refused_at_installation(custody: Path, installed: Path):
    refused(custody, installed, "expired", NOW_NS + 31 * DAY_SECONDS * NANOSECONDS)


@pytest.mark.parametrize("role", ["targets", "registry", "operator", "snapshot"])
def test_an_expired_part_is_refused_though_the_timestamp_is_fresh(custody: Path, installed: Path, role: str):
    forged = Forge(custody)
    forged.edit(role, lambda signed: signed.update(expires="2026-01-01T00:00:00Z"))
    forged.seal()
    refused(custody, installed, "expired")


def test_a_newer_bundle_replaces_the_installed_one_and_leaves_nothing_older_than_the_one_before(
    custody: Path, installed: Path
):
    for number in range(1, 4):
        provision.add_purpose(custody, f"purpose {number}")
        forge.published(custody, NOW_S + number)
        assert take(custody, installed, NOW_NS + number * NANOSECONDS).version == number + 1
    assert {name for name in contents(installed) if "rules" not in name} == {
        *(f"{number}.{role}.json" for number in (3, 4) for role in ("registry", "operator", "snapshot")),
        *(name for name in contents(installed) if name.startswith("targets/") and "rules" not in name),
        "1.targets.json",
        "timestamp.json",
        "pinned.root.json",
    }
    assert len([name for name in contents(installed) if name.endswith("rules.json")]) == 2


def test_the_bundle_that_a_running_process_reads_survives_the_next_installation(custody: Path, installed: Path):
    take(custody, installed)
    before = set(contents(installed))
    forge.published(custody, NOW_S + 1)
    take(custody, installed, NOW_NS + NANOSECONDS)
    assert before <= set(contents(installed))


def test_an_older_bundle_is_refused_as_a_rollback(custody: Path, installed: Path, tmp_path: Path):
    shutil.copytree(custody / "bundle", tmp_path / "old")
    forge.published(custody, NOW_S + 1)
    take(custody, installed)
    before = contents(installed)
    with pytest.raises(TrustError, match="rolled back"):
        install_bundle(tmp_path / "old", installed, NOW_NS)
    assert contents(installed) == before


def test_a_rollback_is_refused_also_when_the_installed_bundle_is_over(custody: Path, installed: Path, tmp_path: Path):
    shutil.copytree(custody / "bundle", tmp_path / "old")
    forged = Forge(tmp_path / "old-custody")
    shutil.copytree(custody, tmp_path / "old-custody")
    forged.edit("snapshot", lambda signed: signed.update(expires="2030-01-01T00:00:00Z"))
    forged.edit("timestamp", lambda signed: signed.update(expires="2030-01-01T00:00:00Z"))
    forged.seal()
    forge.published(custody, NOW_S + 1)
    take(custody, installed)
    later = NOW_NS + 40 * DAY_SECONDS * NANOSECONDS
    with pytest.raises(TrustError, match="rolled back"):
        install_bundle(tmp_path / "old-custody" / "bundle", installed, later)


def test_a_role_that_rolls_back_under_a_newer_timestamp_is_refused(custody: Path, installed: Path, tmp_path: Path):
    shutil.copytree(custody / "bundle", tmp_path / "old")
    forge.published(custody, NOW_S + 1)
    take(custody, installed)
    for name in ("2.registry.json", "2.operator.json"):
        (custody / "bundle" / name).unlink()
    for name in ("1.registry.json", "1.operator.json"):
        shutil.copy(tmp_path / "old" / name, custody / "bundle" / name)
    forged = Forge(custody)
    forged.edit("timestamp", lambda signed: signed.update(version=9))
    forged.edit("snapshot", lambda signed: signed.update(version=9))
    (custody / "bundle" / "2.snapshot.json").rename(custody / "bundle" / "9.snapshot.json")
    forged.seal()
    refused(custody, installed, "rolled back")


def test_the_same_version_is_taken_again_only_if_it_is_the_same(custody: Path, installed: Path):
    assert take(custody, installed) == take(custody, installed)
    with pytest.raises(SameVersionError):
        read_bundle(custody / "bundle", installed, NOW_NS)
    Forge(custody).edit("timestamp", lambda signed: signed.update(expires="2026-10-01T00:00:00Z"))
    refused(custody, installed, "other contents")


def test_a_bundle_of_another_root_is_refused(installed: Path, tmp_path: Path):
    other = forge.custody(tmp_path / "other")
    forge.published(other)
    refused(other, installed, "not signed by the keys")


@pytest.mark.parametrize(
    ("role", "signs"),
    [
        ("registry", "operator"),
        ("operator", "registry"),
        ("registry", "online"),
        ("operator", "root"),
        ("targets", "operator"),
        ("snapshot", "operator"),
        ("timestamp", "registry"),
    ],
)
def test_metadata_signed_by_another_roles_key_is_refused(custody: Path, installed: Path, role: str, signs: str):
    forged = Forge(custody)
    forged.edit(role, lambda _: None, signs=signs)
    if role == "snapshot":
        forged.edit("snapshot", lambda _: None, signs=signs)
        data = forged.bundle / "1.snapshot.json"
        forged.edit("timestamp", lambda signed: fit(signed, data))
    refused(custody, installed, "not signed by the keys")


def fit(signed: dict[str, Any], snapshot: Path) -> None:
    meta = {"version": 1, "length": snapshot.stat().st_size}
    signed["meta"]["snapshot.json"] = meta


@pytest.mark.parametrize(
    ("role", "path"),
    [("registry", "rules.json"), ("registry", "allowlist.json"), ("operator", "registry.json"), ("operator", "x.json")],
)
def test_a_role_that_signs_a_path_that_is_not_its_own_is_refused(custody: Path, installed: Path, role: str, path: str):
    Forge(custody).target(role, path, b"{}")
    refused(custody, installed, f"{role}.json signs {path}")


@pytest.mark.parametrize("name", ["../../evil", "x", "00" * 15, "AB" * 16, f"{'00' * 16}/x"])
def test_a_hot_list_under_an_odd_name_is_refused(custody: Path, installed: Path, name: str):
    Forge(custody).target("operator", f"hot-lists/{name}.sealed", b"x")
    refused(custody, installed, "operator.json signs hot-lists/")


def test_a_top_role_that_signs_targets_itself_is_refused(custody: Path, installed: Path):
    Forge(custody).target("targets", "registry.json", b"{}")
    refused(custody, installed, "signs targets itself")


def delegation(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    return lambda signed: change(signed["delegations"])


def by_name(delegations: dict[str, Any]) -> dict[str, Any]:
    return {role["name"]: role for role in delegations["roles"]}


DELEGATIONS: list[tuple[Callable[[dict[str, Any]], None], str]] = [
    (lambda found: by_name(found)["registry"].update(keyids=by_name(found)["operator"]["keyids"]), "not signed by"),
    (lambda found: by_name(found)["registry"].update(paths=["*"]), "other paths to registry"),
    (lambda found: by_name(found)["operator"].update(paths=["*.json"]), "other paths to operator"),
    (lambda found: by_name(found)["operator"].update(terminating=False), "other paths to operator"),
    (lambda found: by_name(found)["operator"].update(name="extra"), "delegator|operator"),
    (lambda found: found["roles"].append({**found["roles"][0], "name": "extra"}), "to nobody else"),
    (lambda found: found["roles"].pop(), "operator"),
]


@pytest.mark.parametrize(("change", "says"), DELEGATIONS, ids=range(len(DELEGATIONS)))
def test_other_delegations_than_ours_are_refused(
    custody: Path, installed: Path, change: Callable[[dict[str, Any]], None], says: str
):
    Forge(custody).edit("targets", delegation(change))
    refused(custody, installed, says)


def test_one_key_in_both_roles_is_refused(custody: Path, installed: Path):
    forged = Forge(custody)
    forged.edit(
        "targets",
        delegation(lambda found: by_name(found)["operator"].update(keyids=by_name(found)["registry"]["keyids"])),
        seal=False,
    )
    forged.edit("operator", lambda _: None, signs="registry")
    refused(custody, installed, "share a key")


def test_one_key_in_both_roles_under_two_ids_is_refused(custody: Path, installed: Path):
    forged = Forge(custody)

    def alias(found: dict[str, Any]) -> None:
        registry, operator = by_name(found)["registry"], by_name(found)["operator"]
        found["keys"][operator["keyids"][0]] = found["keys"][registry["keyids"][0]]

    forged.edit("targets", delegation(alias), seal=False)
    path = forged.bundle / "1.operator.json"
    document = json.loads(path.read_bytes())
    keyid = document["signatures"][0]["keyid"]
    forged.edit("operator", lambda _: None, signs="registry", seal=False)
    signed = json.loads(path.read_bytes())
    signed["signatures"][0]["keyid"] = keyid
    path.write_text(json.dumps(signed))
    forged.seal()
    refused(custody, installed, "share a key")


def test_a_key_that_counts_twice_towards_a_threshold_is_refused(custody: Path, installed: Path):
    def twice(found: dict[str, Any]) -> None:
        registry = by_name(found)["registry"]
        found["keys"]["00" * 32] = found["keys"][registry["keyids"][0]]
        registry["keyids"].append("00" * 32)

    Forge(custody).edit("targets", delegation(twice))
    refused(custody, installed, "one key under two ids")


def test_a_role_that_delegates_further_is_refused(custody: Path, installed: Path):
    Forge(custody).edit("operator", lambda signed: signed.update(delegations={"keys": {}, "roles": []}))
    refused(custody, installed, "delegates further")


@pytest.mark.parametrize("role", ["registry", "operator", "targets", "snapshot", "timestamp"])
def test_an_unknown_field_in_signed_metadata_is_refused(custody: Path, installed: Path, role: str):
    forged = Forge(custody)
    forged.edit(role, lambda signed: signed.update(surprise=1))
    if role == "snapshot":
        forged.seal()
    refused(custody, installed, "unknown fields: surprise")


@pytest.mark.parametrize(
    ("role", "path", "wrong"),
    [
        ("registry", "registry.json", (b'{"format":1,"agencies":[],"extra":1}', "unknown field `extra`")),
        ("registry", "registry.json", (b'{"format":2,"agencies":[]}', "format")),
        ("registry", "registry.json", (b"{}", "missing required field")),
        ("registry", "registry.json", (b"", "registry.json")),
        ("registry", "registry.json", (b"[" * 100_000, "registry.json")),
        ("operator", "rules.json", (b'{"format":1,"purposes":[],"rules":{}}', "Expected `array`")),
        ("operator", "nodes.json", (b'{"format":1,"nodes":[{}]}', "missing required field")),
        ("operator", "allowlist.json", (b'{"format":1,"grants":null}', "Expected `array`")),
    ],
)
def test_a_signed_file_that_is_not_what_it_should_be_is_refused(
    custody: Path, installed: Path, role: str, path: str, wrong: tuple[bytes, str]
):
    Forge(custody).target(role, path, wrong[0])
    refused(custody, installed, wrong[1])


def test_a_signed_grant_for_another_purpose_than_the_rules_is_refused(custody: Path, installed: Path):
    forge.published(custody)
    files = custody / "bundle" / "targets"
    (allowlist,) = files.glob("*.allowlist.json")
    said = allowlist.read_bytes().replace(b'"purpose":"stolen vehicles"', b'"purpose":"fishing"')
    Forge(custody).target("operator", "allowlist.json", said)
    refused(custody, installed, "is for 'fishing', which is not one of the authorised purposes")


def test_everything_is_published_under_a_demo_root_only(custody: Path, installed: Path, tmp_path: Path):
    everything = {"trigger": Trigger.EVERYTHING, "storage": StorageClass.OUTGOING}
    with pytest.raises(TrustError, match="only a root marked demo"):
        forge.add_rule(custody, "everything", **everything)
    demo = forge.custody(tmp_path / "demo", demo=True)
    forge.add_rule(demo, "everything", **everything)
    forge.published(demo)
    bundle = take(demo, forge.node(tmp_path / "demo-node", demo))
    assert bundle.demo
    assert [rule.name for rule in bundle.rules] == ["hits", "everything"]
    Forge(custody).target("operator", "rules.json", (demo / "operator" / "rules.json").read_bytes())
    refused(custody, installed, "only a root marked demo")


@pytest.mark.parametrize("retention_s", [0, 60 * DAY_SECONDS + 1, 10 * 365 * DAY_SECONDS])
def test_a_retention_above_the_cap_is_refused(custody: Path, installed: Path, retention_s: int):
    path = custody / "operator" / "rules.json"
    rules = json.loads(path.read_bytes())
    rules["rules"][0]["retention_s"] = retention_s
    Forge(custody).target("operator", "rules.json", encode(decode(json.dumps(rules).encode(), RulesFile, "rules")))
    refused(custody, installed, "retention")


def test_an_empty_allowlist_is_installed_and_stops_everything(custody: Path, installed: Path):
    take(custody, installed)
    provision.revoke_grant(custody, SAN_DIEGO)
    forge.published(custody, NOW_S + 1)
    bundle = take(custody, installed)
    found = recipients(bundle.registry, bundle.allowlist, bundle.jurisdiction, NOW_S)
    assert found.allowed == {}
    assert found.nobody is not None


def one_body(folder: Path, *, demo: bool) -> None:
    forge.custody(folder, operator_body="department  of JUSTICE ", demo=demo)


def operator_with_the_roots_key(folder: Path, *, demo: bool) -> None:
    make_role_key(folder / "root")
    shutil.copytree(folder / "root", folder / "operator")
    forge.custody(folder, demo=demo)


@pytest.mark.parametrize("made", [one_body, operator_with_the_roots_key])
def test_one_body_in_both_roles_is_refused_and_a_demo_says_that_it_cannot_prove_its_recipients(tmp_path: Path, made):
    for name in ("real", "demo"):
        made(tmp_path / name, demo=name == "demo")
        forge.published(tmp_path / name)
    assert not take(tmp_path / "demo", forge.node(tmp_path / "node", tmp_path / "demo")).independent
    with pytest.raises(NamedTrustError, match="cannot prove that its recipients are in state") as caught:
        take(tmp_path / "real", forge.node(tmp_path / "road", tmp_path / "real"))
    assert caught.value.reason == "one-body"
    assert not (tmp_path / "road" / "timestamp.json").exists()


def test_a_bundle_names_the_models_that_may_run_or_says_nothing_of_them(custody: Path, installed: Path):
    forge.published(custody)
    assert take(custody, installed).model_manifests is None
    provision.set_models(custody, [bytes(32), b"\1" * 32])
    forge.published(custody)
    assert take(custody, installed).model_manifests == {bytes(32), b"\1" * 32}
    assert load_bundle(installed, NOW_NS).model_manifests == {bytes(32), b"\1" * 32}
    provision.set_models(custody, [])
    forge.published(custody)
    assert take(custody, installed).model_manifests is None


@pytest.mark.parametrize(
    "data", [b"{}", b'{"format":1,"manifests":[]}', b'{"format":2,"manifests":[]}', b'{"format":1,"manifests":["ab"]}']
)
def test_a_list_of_models_that_is_none_is_refused(custody: Path, installed: Path, data: bytes):
    Forge(custody).target("operator", "models.json", data)
    refused(custody, installed, "models.json is not what it should be")


def test_the_registry_does_not_say_which_models_run(custody: Path, installed: Path):
    Forge(custody).target("registry", "models.json", b"{}")
    refused(custody, installed, "registry.json signs models.json")


@pytest.mark.parametrize(
    "victim", ["timestamp.json", "1.snapshot.json", "1.targets.json", "1.registry.json", "1.operator.json"]
)
def test_a_metadata_file_that_is_too_large_is_refused_before_it_is_parsed(custody: Path, installed: Path, victim: str):
    path = custody / "bundle" / victim
    path.write_bytes(path.read_bytes() + b" " * MAX_METADATA_BYTES)
    refused(custody, installed, f"{victim} is larger than")


def test_a_target_that_is_longer_than_signed_is_refused(custody: Path, installed: Path):
    path = next((custody / "bundle" / "targets").glob("*.registry.json"))
    path.write_bytes(path.read_bytes() + b" ")
    refused(custody, installed, "larger than")


def test_a_target_that_is_signed_as_enormous_is_refused_without_reading_it(custody: Path, installed: Path):
    Forge(custody).edit(
        "registry", lambda signed: signed["targets"]["registry.json"].update(length=MAX_TARGET_BYTES + 1)
    )
    refused(custody, installed, "at most")


def test_a_target_without_a_sha256_is_refused(custody: Path, installed: Path):
    Forge(custody).edit("registry", lambda signed: signed["targets"]["registry.json"].update(hashes={"md5": "00"}))
    refused(custody, installed, "SHA-256")


@pytest.mark.parametrize(
    ("what", "says"),
    [("link", "cannot be read"), ("pipe", "is no regular file"), ("folder", ""), ("missing", "is missing")],
)
def test_a_file_that_is_no_regular_file_is_refused(
    custody: Path, installed: Path, tmp_path: Path, what: str, says: str
):
    path = custody / "bundle" / "1.registry.json"
    path.rename(tmp_path / "elsewhere")
    if what == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    refused(custody, installed, rf"1\.registry\.json.*{says}")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(custody: Path, installed: Path, data: st.DataObject):
    honest = read_bundle(custody / "bundle", installed, NOW_NS)
    files = sorted(path for path in (custody / "bundle").rglob("*") if path.is_file() and "root" not in path.name)
    path = data.draw(st.sampled_from(files))
    original = path.read_bytes()
    position = data.draw(st.integers(0, len(original) - 1))
    flipped = bytearray(original)
    flipped[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(flipped))
    try:
        assert read_bundle(custody / "bundle", installed, NOW_NS) == honest
    except TrustError:
        pass
    finally:
        path.write_bytes(original)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_truncated_file_is_refused(custody: Path, installed: Path, data: st.DataObject):
    files = sorted(path for path in (custody / "bundle").rglob("*") if path.is_file() and "root" not in path.name)
    path = data.draw(st.sampled_from(files))
    original = path.read_bytes()
    path.write_bytes(original[: data.draw(st.integers(0, len(original) - 1))])
    try:
        with pytest.raises(TrustError):
            read_bundle(custody / "bundle", installed, NOW_NS)
    finally:
        path.write_bytes(original)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(max_size=5) | st.just("9" * 5000),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value inside `value`."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inside for found in leaves(item, (*path, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    inside = dict(value) if isinstance(value, dict) else list(value)
    inside[path[0]] = replaced(value[path[0]], path[1:], new)
    return inside


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["timestamp", "snapshot", "targets", "registry", "operator"]), st.booleans(), st.data())
def test_metadata_of_any_shape_ends_in_a_reason_and_never_in_a_crash(
    template: Path, installed: Path, role: str, signed: bool, data: st.DataObject
):
    name = "timestamp.json" if role == "timestamp" else f"1.{role}.json"
    document = json.loads((template / "bundle" / name).read_bytes())
    if signed:
        document = document["signed"]
    odd = replaced(document, data.draw(st.sampled_from(leaves(document))), data.draw(ODD))
    with tempfile.TemporaryDirectory() as scratch:
        folder = shutil.copytree(template, Path(scratch) / "custody")
        if signed:
            Forge(folder).raw(role, odd)
        else:
            (folder / "bundle" / name).write_text(json.dumps(odd))
        with suppress(TrustError):
            read_bundle(folder / "bundle", installed, NOW_NS)


def test_a_crash_before_the_last_step_leaves_the_old_bundle_and_installing_again_helps(
    custody: Path, installed: Path, monkeypatch: pytest.MonkeyPatch
):
    old = take(custody, installed)
    forge.published(custody, NOW_S + 1)
    import homeplate.trust.bundle as module

    real = module.write_durably
    for crash_at in range(1, 6):
        left = iter(range(crash_at))

        def crashing(path: Path, data: bytes, left: Any = left) -> None:
            if next(left, None) is None:
                raise TrustError("power cut")
            real(path, data)

        with monkeypatch.context() as patched:
            patched.setattr(module, "write_durably", crashing)
            with pytest.raises(TrustError, match="power cut"):
                take(custody, installed)
        assert load_bundle(installed, NOW_NS) == old
    assert take(custody, installed).version == 2


def test_a_root_is_pinned_once(custody: Path, installed: Path, tmp_path: Path):
    pin_root((custody / "root.json").read_bytes(), installed)
    other = forge.custody(tmp_path / "other")
    with pytest.raises(TrustError, match="another root"):
        pin_root((other / "root.json").read_bytes(), installed)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"x" * (MAX_METADATA_BYTES + 1)])
def test_what_is_no_root_is_not_pinned(tmp_path: Path, data: bytes):
    with pytest.raises(TrustError):
        pin_root(data, tmp_path / "node")
    assert not (tmp_path / "node").exists()


def test_other_metadata_and_an_unsigned_root_are_not_pinned(custody: Path, tmp_path: Path):
    root = json.loads((custody / "root.json").read_bytes())
    root["signed"]["x-homeplate"]["demo"] = True
    for data in ((custody / "bundle" / "timestamp.json").read_bytes(), json.dumps(root).encode()):
        with pytest.raises(TrustError):
            pin_root(data, tmp_path / "node")


def next_root(custody: Path, **changed: Any) -> None:
    mark = provision.mark_of(custody)
    import msgspec

    root = make_root(custody, msgspec.structs.replace(mark, **changed), version=2, now_s=NOW_S)
    (custody / "bundle" / "2.root.json").write_bytes(root)


def test_a_next_root_is_followed_kept_and_still_there_after_the_next_bundle(custody: Path, installed: Path):
    next_root(custody, operator_body="City of Chula Vista")
    bundle = take(custody, installed)
    assert (bundle.root_version, bundle.operator_body) == (2, "City of Chula Vista")
    (custody / "bundle" / "2.root.json").unlink()
    forge.published(custody, NOW_S + 1)
    assert take(custody, installed).root_version == 2
    assert load_bundle(installed, NOW_NS).root_version == 2


@pytest.mark.parametrize("changed", [{"demo": True}, {"jurisdiction": "US-TX"}])
def test_a_next_root_cannot_turn_a_node_into_a_demo_or_move_it_to_another_state(
    custody: Path, installed: Path, changed: dict[str, Any]
):
    next_root(custody, **changed)
    refused(custody, installed, "changes what the pinned root is")


def test_a_next_root_that_the_old_one_did_not_sign_is_refused(custody: Path, installed: Path, tmp_path: Path):
    other = forge.custody(tmp_path / "other")
    next_root(other)
    shutil.copy(other / "bundle" / "2.root.json", custody / "bundle" / "2.root.json")
    refused(custody, installed, r"2\.root\.json is not signed")


def test_a_root_with_unknown_fields_or_without_its_mark_is_refused(custody: Path, installed: Path):
    root = custody / "bundle" / "2.root.json"
    next_root(custody)
    Forge(custody).edit("root", lambda signed: signed.update(surprise=1), seal=False)
    refused(custody, installed, "unknown fields")
    Forge(custody).edit("root", lambda signed: signed.pop("x-homeplate"), seal=False)
    assert root.exists()
    refused(custody, installed, "does not say what it is")


def test_each_node_reads_its_own_hot_list_and_no_other(custody: Path, installed: Path):
    request, mine = forge.enrolment()
    other_request, _ = forge.enrolment(b"o" * 16)
    for one in (request, other_request):
        provision.enrol(custody, one, now_s=NOW_S)
    provision.set_hot_list(custody, forge.hot_list("7ABC123"), now_s=NOW_S)
    forge.published(custody, NOW_S)
    take(custody, installed)
    sealed = load_bundle(installed, NOW_NS, pseudonym=PSEUDONYM).hot_list_sealed
    assert sealed is not None
    assert len(parse_hot_list(open_hot_list(sealed, mine), NOW_S)) == 1
    assert sealed != load_bundle(installed, NOW_NS, pseudonym=b"o" * 16).hot_list_sealed
    assert load_bundle(installed, NOW_NS, pseudonym=b"x" * 16).hot_list_sealed is None
    assert load_bundle(installed, NOW_NS).hot_list_sealed is None
    assert b"7ABC123" not in b"".join(contents(installed).values())
