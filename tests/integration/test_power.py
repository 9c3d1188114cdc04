"""A broker that is killed in the middle, and started again, loses no record and doubles none."""

import threading
from functools import partial

from homeplate.clock import NANOSECONDS
from homeplate.uplink import LONGEST_WAIT_S
from tests.integration.conftest import wait_until

RECORDS = 120
KILLS = 3


def test_a_broker_killed_in_the_middle_loses_and_doubles_nothing(estate):
    estate.subscribe_once()
    records = {estate.put() for _ in range(RECORDS)}
    confirmed, killed = [], []

    with estate.receiving() as receiver:

        def in_the_middle(after):
            # mosquitto acknowledges before it saves, but forwards before it acknowledges: so the receiver is there.
            # With nobody there, the broker's last acknowledged message may die with it (docs/decisions/0072).
            return estate.ready.is_set() and len(confirmed) >= after

        def killer():
            for number in range(1, KILLS + 1):
                wait_until(partial(in_the_middle, after=number * RECORDS // (KILLS + 1)))
                estate.ready.clear()
                estate.broker.kill()
                killed.append(len(confirmed))
                estate.broker.start()

        thread = threading.Thread(target=killer)
        uplink = estate.uplink(lambda address, _endpoint: Counted(estate.connect(address), confirmed))
        ticks = [0]
        uplink._ticks = lambda: ticks[0]
        thread.start()
        failed = 0
        # The waits after a failure pass at once; what is real is the broker, its death and its return.
        while list(estate.spool.pending()):
            failed += uplink.drain().failed
            ticks[0] += LONGEST_WAIT_S * NANOSECONDS
        thread.join(30)
        wait_until(lambda: receiver.counts["new"] == RECORDS, 30)

    assert len(killed) == KILLS
    assert failed, "a kill came in the middle of a send"
    assert {file.record_id for file in receiver.inbox.files()} == records
    assert receiver.counts["conflict"] == 0
    assert set(receiver.counts) <= {"new", "double"}
    confirmed_rows = [fields["record"] for fields in estate.rows("delivery.confirmed")]
    assert sorted(confirmed_rows) == sorted(map(str, records))
    unknown = len(estate.rows("delivery.outcome-unknown"))
    intended = len(estate.rows("delivery.intended"))
    others = len(estate.rows("delivery.not-sent")) + len(estate.rows("delivery.refused"))
    assert intended == RECORDS + unknown + others, "every attempt has one outcome"


class Counted:
    """A publisher that tells how many records were confirmed."""

    def __init__(self, publisher, confirmed):
        self.publisher, self.confirmed = publisher, confirmed

    def publish(self, topic, payload, *, expiry_s):
        self.publisher.publish(topic, payload, expiry_s=expiry_s)
        self.confirmed.append(topic)

    def close(self):
        self.publisher.close()
