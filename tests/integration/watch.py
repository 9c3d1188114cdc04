"""A raw MQTT 5 subscriber, for what the broker's side can see of a message."""

import ssl
import threading
from contextlib import contextmanager

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.subscribeoptions import SubscribeOptions


@contextmanager
def watching(estate, identity, heard):
    """Subscribe to every record as `identity`; each message is appended to `heard` as it came."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=estate.endpoint.authority_pem)
    context.load_cert_chain(identity.certificate, identity.key)
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="watch", protocol=MQTTProtocolVersion.MQTTv5)
    client.tls_set_context(context)
    client.tls_insecure_set(True)
    subscribed = threading.Event()
    client.on_message = lambda _client, _data, message: heard.append(message)
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_connect = lambda *_: client.subscribe("homeplate/#", options=SubscribeOptions(qos=1))
    client.connect("127.0.0.1", estate.port)
    client.loop_start()
    try:
        assert subscribed.wait(10)
        yield client
    finally:
        client.disconnect()
        client.loop_stop()
