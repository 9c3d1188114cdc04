"""A record counts as delivered after a good PUBACK and in no other case."""

import socket

import pytest
import trustme
from paho.mqtt.client import Client

from homeplate.broker.errors import NotConnectedError, NotTakenError, OutcomeUnknownError
from homeplate.broker.mqtt import MqttListener, MqttPublisher

NODE = "ab" * 16
TOPIC = f"homeplate/{NODE}/records"
# MQTT 5, sections 3.2 and 3.4; paho counts message ids from 1.
CONNACK = bytes.fromhex("2003000000")
CONNACK_NOT_AUTHORIZED = bytes.fromhex("2003008700")
PUBACK = bytes.fromhex("40020001")
PUBACK_NOT_AUTHORIZED = bytes.fromhex("4003000187")
PUBACK_NO_SUBSCRIBER = bytes.fromhex("4003000110")
PUBACK_OF_ANOTHER = bytes.fromhex("40020007")
DISCONNECT_QUOTA = bytes.fromhex("e00197")


def opened(server, identity, timeout_s=2.0):
    return MqttPublisher.open("127.0.0.1", server.endpoint(), client_id=NODE, identity=identity, timeout_s=timeout_s)


def test_a_good_puback_is_the_only_success(peer, identity):
    server = peer(answers=(CONNACK, PUBACK))
    publisher = opened(server, identity)
    publisher.publish(TOPIC, b"sealed", expiry_s=60)
    publisher.close()
    said = server.finish()
    assert said[:1] == b"\x10"
    assert NODE.encode() in said
    publish = said[said.index(TOPIC.encode()) - 4 :]
    assert publish[0] == 0x32, "PUBLISH, QoS 1, no DUP, no RETAIN (MQTT 5, 3.3.1)"
    assert b"\x05\x02\x00\x00\x00\x3c" in publish, "message expiry is the only property"
    assert b"sealed" in publish


@pytest.mark.parametrize(
    ("puback", "reason"),
    [(PUBACK_NOT_AUTHORIZED, "not-authorized"), (PUBACK_NO_SUBSCRIBER, "no-matching-subscribers")],
)
def test_a_puback_that_says_no_is_an_error_with_its_reason(peer, identity, puback, reason):
    server = peer(answers=(CONNACK, puback))
    publisher = opened(server, identity)
    with pytest.raises(NotTakenError) as caught:
        publisher.publish(TOPIC, b"sealed", expiry_s=60)
    assert caught.value.reason == reason
    publisher.close()


@pytest.mark.parametrize("answer", [b"", PUBACK_OF_ANOTHER])
def test_without_its_puback_the_outcome_is_unknown_at_the_deadline(peer, identity, answer):
    server = peer(answers=(CONNACK, answer), close_after=False)
    publisher = opened(server, identity, timeout_s=0.3)
    with pytest.raises(OutcomeUnknownError) as caught:
        publisher.publish(TOPIC, b"sealed", expiry_s=60)
    assert caught.value.reason == "no-puback"


def test_a_connection_cut_after_the_publish_leaves_the_outcome_unknown(peer, identity):
    server = peer(answers=(CONNACK, DISCONNECT_QUOTA), close_after=True)
    publisher = opened(server, identity)
    with pytest.raises(OutcomeUnknownError) as caught:
        publisher.publish(TOPIC, b"sealed", expiry_s=60)
    assert caught.value.reason == "quota-exceeded"


def test_nothing_is_queued_on_a_closed_connection(peer, identity):
    server = peer(answers=(CONNACK,), close_after=False)
    publisher = opened(server, identity)
    publisher.close()
    said = server.finish()
    with pytest.raises(NotConnectedError):
        publisher.publish(TOPIC, b"sealed", expiry_s=60)
    assert b"sealed" not in said
    assert publisher._client._out_messages == {}


def test_a_refused_connection_has_the_brokers_reason(peer, identity):
    server = peer(answers=(CONNACK_NOT_AUTHORIZED,), close_after=False)
    with pytest.raises(NotConnectedError) as caught:
        opened(server, identity)
    assert caught.value.reason == "not-authorized"


def test_a_silent_broker_is_given_up_at_the_deadline(peer, identity):
    server = peer()
    with pytest.raises(NotConnectedError) as caught:
        opened(server, identity, timeout_s=0.3)
    assert caught.value.reason == "no-connack"


def test_a_client_certificate_of_another_authority_is_turned_away(peer, identity):
    server = peer(client_authority=trustme.CA())
    with pytest.raises(NotConnectedError):
        opened(server, identity)
    assert server.finish() == b""


def test_the_pin_is_checked_before_connect_is_said(peer, identity):
    server = peer(answers=(CONNACK,), close_after=False)
    endpoint = server.endpoint(pins=(bytes(32),))
    with pytest.raises(NotConnectedError) as caught:
        MqttPublisher.open("127.0.0.1", endpoint, client_id=NODE, identity=identity, timeout_s=2.0)
    assert caught.value.reason == "wrong-pin"
    assert server.finish() == b""


def test_paho_still_makes_its_socket_where_ours_is_put():
    assert callable(Client._create_socket)
    assert callable(Client._sock_recv)
    assert callable(Client._sock_close)


def test_the_loop_is_woken_by_no_port_of_loopback(peer, identity):
    server = peer(answers=(CONNACK, PUBACK))
    publisher = opened(server, identity)
    publisher.publish(TOPIC, b"sealed", expiry_s=60)
    pair = publisher._client._sockpairR, publisher._client._sockpairW
    assert {end.family for end in pair} == {socket.AF_UNIX}
    publisher.close()


def test_closing_says_nothing_more_to_who_may_be_a_recipient_no_more(peer, identity):
    server = peer(answers=(CONNACK, PUBACK), close_after=False)
    publisher = opened(server, identity)
    publisher.publish(TOPIC, b"sealed", expiry_s=60)
    publisher.close()
    said = server.finish()
    assert said.endswith(b"sealed")


SUBACK = bytes.fromhex("9004000100") + b"\x01"  # of message id 1, QoS 1 (MQTT 5, 3.9)


def publication(payload):
    """Return a PUBLISH of QoS 1 and message id 1 on the topic `t` (MQTT 5, 3.3)."""
    body = b"\x00\x01t\x00\x01\x00" + payload
    assert len(body) < 128
    return b"\x32" + bytes([len(body)]) + body


def listening(server, identity, largest=100):
    return MqttListener(
        "127.0.0.1", server.endpoint(), client_id=NODE, identity=identity, largest=largest, timeout_s=2.0
    )


def test_a_listener_acknowledges_a_message_after_it_was_taken(peer, identity):
    server = peer(answers=(CONNACK, SUBACK + publication(b"one")), close_after=False)
    listener, taken = listening(server, identity), []
    listener.listen("t", taken.append, lambda: True, idle_s=0.3)
    listener.close()
    assert taken == [b"one"]
    assert PUBACK in server.finish()


def test_a_message_whose_taking_fails_is_not_acknowledged(peer, identity):
    server = peer(answers=(CONNACK, SUBACK + publication(b"one")), close_after=False)
    listener = listening(server, identity)

    def fail(_):
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        listener.listen("t", fail, lambda: True, idle_s=0.3)
    listener.close()
    assert PUBACK not in server.finish()


def test_a_listener_that_may_not_go_on_takes_and_acknowledges_nothing_more(peer, identity):
    server = peer(answers=(CONNACK, SUBACK + publication(b"one") + publication(b"two")), close_after=False)
    listener, taken = listening(server, identity), []
    listener.listen("t", taken.append, lambda: not taken, idle_s=5.0)
    listener.close()
    assert taken == [b"one"]
    assert server.finish().count(PUBACK) == 1


def test_a_packet_larger_than_was_agreed_ends_the_connection_before_it_is_read(peer, identity):
    largest = b"\x32\xff\xff\xff\x7f"  # 256 MiB
    server = peer(answers=(CONNACK, SUBACK + largest + bytes(50_000)), close_after=False)
    listener, taken = listening(server, identity), []
    with pytest.raises(NotConnectedError) as caught:
        listener.listen("t", taken.append, lambda: True, idle_s=5.0)
    listener.close()
    assert caught.value.reason == "closed"
    assert taken == []


def test_a_broker_that_floods_a_publisher_is_left(peer, identity):
    server = peer(answers=(CONNACK, b"\x32\xff\xff\xff\x7f" + bytes(50_000)), close_after=False)
    publisher = opened(server, identity)
    with pytest.raises(OutcomeUnknownError):
        publisher.publish(TOPIC, b"sealed", expiry_s=60)


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ((CONNACK_NOT_AUTHORIZED,), "not-authorized"),
        ((CONNACK, bytes.fromhex("9004000100") + b"\x87"), "not-authorized"),
    ],
)
def test_a_broker_that_refuses_a_listener_is_named_with_its_reason(peer, identity, answers, reason):
    server = peer(answers=answers)
    with pytest.raises(NotConnectedError) as caught:
        listening(server, identity).listen("t", lambda _: None, lambda: True, idle_s=1.0)
    assert caught.value.reason == reason


def test_a_listener_that_is_closed_says_nothing_more(peer, identity):
    server = peer(answers=(CONNACK, SUBACK + publication(b"one")), close_after=False)
    listener, taken = listening(server, identity), []
    listener.listen("t", taken.append, lambda: True, idle_s=0.3)
    listener.close()
    assert server.finish().endswith(PUBACK), "and no DISCONNECT after it (MQTT 5, 3.14)"
