"""The bundle as a running process sees it: read once, and again where another was installed or it is over."""

import pytest

from homeplate.domain.record import DAY_SECONDS, NANOSECONDS
from homeplate.errors import TrustError
from homeplate.trust.bundle import has_bundle, install_bundle
from homeplate.trust.installed import InstalledBundle
from homeplate_custodian import provision
from tests.trust import forge
from tests.trust.forge import NOW_NS, NOW_S, PSEUDONYM


@pytest.fixture
def custody(tmp_path):
    custody = forge.custody(tmp_path / "custody")
    request, _ = forge.enrolment()
    provision.enrol(custody, request, now_s=NOW_S)
    provision.set_hot_list(custody, forge.hot_list("7ABC123"), now_s=NOW_S)
    forge.published(custody)
    return custody


def test_it_is_the_same_until_another_is_installed_and_not_read_once_it_is_over(tmp_path, custody):
    folder = forge.node(tmp_path / "node", custody)
    bundle = InstalledBundle(folder)
    with pytest.raises(TrustError, match="holds no bundle yet"):
        bundle(NOW_NS)
    install_bundle(custody / "bundle", folder, NOW_NS)
    first = bundle(NOW_NS)
    assert (first.version, first.hot_list_sealed) == (1, None)
    assert bundle(NOW_NS + 5) is first
    forge.published(custody, NOW_S + 1)
    install_bundle(custody / "bundle", folder, NOW_NS + NANOSECONDS)
    second = bundle(NOW_NS + NANOSECONDS)
    assert second.version == 2
    assert bundle(second.expires_s * NANOSECONDS - 1) is second
    with pytest.raises(TrustError, match="expired"):
        bundle(second.expires_s * NANOSECONDS)
    with pytest.raises(TrustError, match="expired"):
        bundle((second.expires_s + DAY_SECONDS) * NANOSECONDS)


def test_it_gives_the_nodes_own_hot_list_and_none_once_the_bundle_is_gone(tmp_path, custody):
    folder = forge.node(tmp_path / "node", custody)
    install_bundle(custody / "bundle", folder, NOW_NS)
    bundle = InstalledBundle(folder, pseudonym=PSEUDONYM)
    assert bundle(NOW_NS).hot_list_sealed is not None
    (folder / "timestamp.json").unlink()
    with pytest.raises(TrustError, match="holds no bundle yet"):
        bundle(NOW_NS)


def test_a_node_that_has_but_its_root_never_had_a_bundle(tmp_path, custody):
    folder = forge.node(tmp_path / "node", custody)
    assert not has_bundle(folder)
    install_bundle(custody / "bundle", folder, NOW_NS)
    assert has_bundle(folder)
    for path in folder.glob("*.json"):  # what is left of an installation is one
        if not path.name.endswith(("root.json", "registry.json")):
            path.unlink()
    assert has_bundle(folder)
