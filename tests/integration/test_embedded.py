"""The demo's stand-in where mosquitto is not installed: MQTT 5 over TLS 1.3, and it says what it does not show."""

import pytest

from homeplate.broker.errors import NotConnectedError
from homeplate.uplink import Drained
from tests.integration.conftest import wait_until


def test_records_travel_over_the_embedded_broker(embedded):
    records = {embedded.put() for _ in range(5)}
    with embedded.receiving() as receiver:
        assert embedded.uplink().drain() == Drained(confirmed=5)
        wait_until(lambda: receiver.counts["new"] == 5)
    assert {file.record_id for file in receiver.inbox.files()} == records


def test_the_embedded_broker_is_checked_like_any_other(embedded):
    with pytest.raises(NotConnectedError) as caught:
        embedded.connect(pins=(bytes(32),))
    assert caught.value.reason == "wrong-pin"


def test_the_embedded_broker_names_its_shortfall(embedded):
    assert "client certificates" in embedded.broker.shortfall
    publisher = embedded.connect(identity=embedded.client("stranger"))
    publisher.publish(f"homeplate/{bytes(16).hex()}/records", b"anybody's topic", expiry_s=60)
    publisher.close()
