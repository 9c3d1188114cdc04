"""Keys of every role change while nodes go on, and a root with several holders needs as many as its threshold says."""

import shutil

import pytest
from click.testing import CliRunner

from homeplate.domain.record import DAY_SECONDS, NANOSECONDS
from homeplate.errors import ConfigError, TrustError
from homeplate.trust.bundle import install_bundle
from homeplate_custodian import cli, provision, roots
from homeplate_custodian.bundle import ROLE_DAYS, ROOT_DAYS
from homeplate_custodian.keyring import make_role_key
from tests.trust import forge
from tests.trust.forge import NOW_S

MEMBERS = ("anna", "ben", "carol")


def take(custody, installed, now_s=NOW_S):
    return install_bundle(custody / "bundle", installed, now_s * NANOSECONDS)


@pytest.fixture
def custody(tmp_path):
    folder = forge.custody(tmp_path / "custody")
    forge.published(folder)
    return folder


def replace_key(custody, role):
    """Give a role a new key; return the folder with the old one."""
    old = custody.parent / f"old-{role}"
    shutil.move(custody / role, old)
    make_role_key(custody / role)
    for draft in old.glob("*.json"):
        shutil.copy(draft, custody / role)
    return old


@pytest.mark.parametrize("role", ["registry", "operator", "online"])
def test_a_roles_key_is_replaced_and_the_old_one_counts_no_more(custody, tmp_path, role):
    installed = forge.node(tmp_path / "node", custody)
    take(custody, installed)
    stolen = shutil.copytree(custody, tmp_path / "stolen")
    replace_key(custody, role)
    forge.published(custody, NOW_S + 1)
    assert take(custody, installed).version == 2
    for later in (2, 3):  # who has the old key publishes higher versions; the delegations and the root are not theirs
        forge.published(stolen, NOW_S + later)
    with pytest.raises(TrustError):
        take(stolen, installed)
    forge.published(custody, NOW_S + 4)
    assert take(custody, installed).version == 3


def test_the_roots_key_is_replaced_with_the_old_ones_signature_and_nodes_of_both_ages_follow(custody, tmp_path):
    old_node, new_node = forge.node(tmp_path / "old", custody), forge.node(tmp_path / "new", custody)
    take(custody, old_node)
    shutil.move(custody / "root", tmp_path / "anna")
    (custody / "root" / "retired").mkdir(parents=True)
    shutil.move(tmp_path / "anna", custody / "root" / "retired" / "anna")
    make_role_key(custody / "root" / "ben")
    forge.published(custody, NOW_S + 1)
    for node in (old_node, new_node):
        assert take(custody, node).root_version == 2
    shutil.rmtree(custody / "root" / "retired")
    forge.published(custody, NOW_S + 2)  # the old key is not needed any more
    for node in (old_node, new_node):
        assert take(custody, node).version == 3


def test_a_root_whose_old_holder_did_not_sign_is_not_published(custody, tmp_path):
    before = sorted(path.name for path in (custody / "bundle").iterdir())
    replace_key(custody, "root")
    with pytest.raises(ConfigError, match=r"2\.root\.json \(1 more"):
        forge.published(custody, NOW_S + 1)
    assert sorted(path.name for path in (custody / "bundle").iterdir()) == before


@pytest.fixture
def shared(tmp_path):
    """A custody whose root three hold, of whom two have to sign; their keys are elsewhere."""
    folder = tmp_path / "custody"
    for name in MEMBERS:
        make_role_key(tmp_path / name)
        public_only(tmp_path / name, folder / "root" / name)
    provision.init(folder, registry_body="Department of Justice", operator_body="City", now_s=NOW_S, root_threshold=2)
    forge.add_agency(folder, forge.SAN_DIEGO, "San Diego Police Department")
    return folder


def public_only(source, target):
    target.mkdir(parents=True)
    shutil.copy(source / "key.pub", target)


def sign(file, key):
    result = CliRunner().invoke(cli.main, ["sign", str(file), str(key), "--yes"])
    assert result.exit_code == 0, result.output
    return result.output


def published(custody, now_s=NOW_S):
    """Publish, and let anna and ben sign what waits for it, as often as something waits."""
    for _ in range(5):
        try:
            return forge.published(custody, now_s)
        except ConfigError:
            waiting = sorted((custody / "unsigned").glob("*.json"))
            assert waiting
            for file in waiting:
                for name in ("anna", "ben"):
                    sign(file, custody.parent / name)
    raise AssertionError("it still waits")


def test_a_root_counts_once_enough_of_its_holders_signed_it(shared, tmp_path):
    for count, name in enumerate(("anna", "ben")):
        with pytest.raises(ConfigError, match=f"lacks {2 - count} signatures"):
            forge.published(shared)
        with pytest.raises(TrustError, match="not signed"):
            forge.node(tmp_path / "node", shared)
        said = sign(shared / "root.json", tmp_path / name)
    assert "root: 2 of " in said
    assert "registry_body: Department of Justice" in said
    installed = forge.node(tmp_path / "node", shared)
    published(shared)
    assert take(shared, installed).root_version == 1
    assert list((shared / "unsigned").iterdir()) == []


def test_one_holder_alone_changes_nothing_on_a_node(shared, tmp_path):
    for name in ("anna", "ben"):
        sign(shared / "root.json", tmp_path / name)
    published(shared)
    installed = forge.node(tmp_path / "node", shared)
    take(shared, installed)
    replace_key(shared, "registry")
    with pytest.raises(ConfigError, match=r"2\.targets\.json \(2 more"):
        forge.published(shared, NOW_S + 1)
    file = shared / "unsigned" / "2.targets.json"
    sign(file, tmp_path / "anna")
    sign(file, tmp_path / "anna")  # twice is once
    with pytest.raises(ConfigError, match=r"2\.targets\.json \(1 more"):
        forge.published(shared, NOW_S + 1)
    # Forced into a bundle all the same: what a node says of it.
    forged = shutil.copytree(shared, tmp_path / "forged")
    shutil.copy(file, forged / "bundle" / "2.targets.json")
    forge.Forge(forged).seal()
    with pytest.raises(TrustError):
        take(forged, installed)
    sign(file, tmp_path / "carol")
    forge.published(shared, NOW_S + 1)
    assert take(shared, installed).version == 2


def test_a_holder_is_replaced_and_the_threshold_raised_by_old_and_new_holders(shared, tmp_path):
    for name in ("anna", "ben"):
        sign(shared / "root.json", tmp_path / name)
    published(shared)
    installed = forge.node(tmp_path / "node", shared)
    take(shared, installed)
    make_role_key(tmp_path / "dave")
    shutil.rmtree(shared / "root" / "anna")
    public_only(tmp_path / "dave", shared / "root" / "dave")
    roots.set_threshold(shared, 3)
    with pytest.raises(ConfigError, match=r"2\.root\.json \(3 more"):
        forge.published(shared, NOW_S + 1)
    for name in ("anna", "ben", "carol"):  # all the old holders; a third of the new ones is missing
        sign(shared / "unsigned" / "2.root.json", tmp_path / name)
        sign(shared / "unsigned" / "2.targets.json", tmp_path / name)
    with pytest.raises(ConfigError, match=r"2\.root\.json \(1 more"):
        forge.published(shared, NOW_S + 2)
    sign(shared / "unsigned" / "2.root.json", tmp_path / "dave")
    with pytest.raises(ConfigError, match=r"2\.targets\.json \(1 more"):
        forge.published(shared, NOW_S + 3)
    sign(shared / "unsigned" / "2.targets.json", tmp_path / "dave")
    forge.published(shared, NOW_S + 4)
    bundle = take(shared, installed)
    assert (bundle.root_version, bundle.version) == (2, 2)
    sign(shared / "root.json", tmp_path / "carol")
    assert take(shared, forge.node(tmp_path / "late", shared)).root_version == 2


def test_a_renewal_that_waits_for_signatures_does_not_stop_a_publication(shared, tmp_path):
    for name in ("anna", "ben"):
        sign(shared / "root.json", tmp_path / name)
    published(shared)
    installed = forge.node(tmp_path / "node", shared)
    late_s = NOW_S + (ROOT_DAYS - ROLE_DAYS + 1) * DAY_SECONDS
    forge.published(shared, late_s)
    assert take(shared, installed, late_s).root_version == 1


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda root: (root / "threshold").write_text("4\n"), "says 4, and .* has 3 holders"),
        (lambda root: (root / "threshold").write_text("0\n"), "says 0"),
        (lambda root: (root / "threshold").write_text("two\n"), "is no number"),
        (lambda root: shutil.copytree(root / "anna", root / "eve"), "no two of them the same"),
    ],
)
def test_holders_that_do_not_fit_their_threshold_are_named(shared, break_it, says):
    break_it(shared / "root")
    with pytest.raises(ConfigError, match=says):
        roots.holders(shared)


def test_a_holder_signs_nothing_but_a_root_and_a_top_role(custody, tmp_path):
    make_role_key(tmp_path / "anna")
    for name in ("timestamp.json", "1.registry.json"):
        result = CliRunner().invoke(cli.main, ["sign", str(custody / "bundle" / name), str(tmp_path / "anna"), "--yes"])
        assert result.exit_code == 2
    (tmp_path / "junk").write_bytes(b"junk")
    assert CliRunner().invoke(cli.main, ["sign", str(tmp_path / "junk"), str(tmp_path / "anna")]).exit_code == 2
    (tmp_path / "anna" / "key.pem").unlink()
    kept = (custody / "root.json").read_bytes()
    assert (
        CliRunner().invoke(cli.main, ["sign", str(custody / "root.json"), str(tmp_path / "anna"), "--yes"]).exit_code
        == 2
    )
    assert (custody / "root.json").read_bytes() == kept
