"""Keys that systemd hands over: they count before the disk's, and what is no key of ours stops the start."""

import pytest

from homeplate.app.check import findings
from homeplate.app.credentials import device_key, key_file
from homeplate.app.ledger import sign_all
from homeplate.app.node import install, open_slots
from homeplate.app.uplink import build_uplink
from homeplate.clock import SystemClock
from homeplate.domain.record import DAY_SECONDS, RecordId, StorageClass
from homeplate.errors import SealingError
from homeplate_custodian import provision
from tools import stage

RECORD = RecordId(bytes(16))


@pytest.fixture
def handed(tmp_path, monkeypatch):
    """The folder that systemd makes for a unit with credentials."""
    folder = tmp_path / "handed"
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    return folder


def test_without_credentials_keys_are_read_from_the_disk_and_slots_have_no_device_key(tmp_path, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert key_file(tmp_path / "record.pem") == tmp_path / "record.pem"
    assert device_key() is None
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert device_key() is None


def test_a_slot_s_key_on_the_disk_opens_with_the_device_key_alone(simulation_node, handed):
    (handed / "device-key").write_bytes(bytes(range(32)))
    store = open_slots(simulation_node.paths, StorageClass.LOCAL, check=False)
    slot = store.slot_for("some-rule", stage.now_s() + DAY_SECONDS, DAY_SECONDS)
    wrapped = store.wrap(slot, RECORD, b"sealed")
    assert store.unwrap(wrapped) == b"sealed"
    store.close()
    (handed / "device-key").write_bytes(bytes(32))
    store = open_slots(simulation_node.paths, StorageClass.LOCAL, check=False)
    with pytest.raises(SealingError, match="another device's key"):
        store.unwrap(wrapped)
    assert store.destroy([slot]) == 1  # what deletes needs no key
    store.close()


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_device_key_of_another_length_is_refused(handed, size):
    (handed / "device-key").write_bytes(bytes(size))
    with pytest.raises(SealingError, match="32 bytes"):
        device_key()


def test_the_signer_and_uplink_start_with_keys_that_lie_nowhere_in_clear_and_check_says_so(simulation_node, handed):
    paths = simulation_node.paths
    (paths.data / "credentials").mkdir()
    for key in (paths.record_key, paths.hot_list_key, paths.ledger_key, paths.tls_key):
        key.rename(handed / key.name)
        paths.sealed(key).touch()
    assert sign_all(simulation_node.load())["bundle"].size > 0
    build_uplink(simulation_node.load(), SystemClock(paths.clock, "uplink"))
    (note,) = [
        found.text for found in findings(simulation_node.load()) if found.thing == "keys" and "sealed" in found.text
    ]
    assert "record.pem, hot-list.key, ledger.pem" in note


def test_a_renewed_certificate_is_judged_by_the_last_one_where_the_key_is_sealed(simulation_node):
    paths, now = simulation_node.paths, stage.now_s()
    request = (simulation_node.folder / "request.json").read_bytes()
    renewed = simulation_node.folder / "renewed.crt"
    renewed.write_text(provision.enrol(simulation_node.custody, request, now_s=now))
    paths.tls_key.unlink()
    bundle = provision.publish_bundle(simulation_node.custody, now_s=now)
    install(simulation_node.load(), bundle, renewed, lambda: SystemClock(paths.clock, "bundle"))
    assert paths.tls_certificate.read_text() == renewed.read_text()
