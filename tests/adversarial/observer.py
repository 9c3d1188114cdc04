"""What a broker's host can tell: an experiment on whether it tells hits from non-hits better than a coin.

Passages, half of them hits, go through the real committing of capture into the spool; the real uplink process publishes
them; an observer at the broker keeps what it sees of each one. It is given more than a host has: which messages belong
together, and when the car passed. A half of the passages trains three classifiers, the other half judges them. The same
with rules that do differ shows that the observer sees a difference where there is one.
"""

import math
import random
import secrets
import signal
import threading
from contextlib import ExitStack

import numpy as np

from homeplate.app.node import load_identity, open_slots
from homeplate.capture.committing import SEALED, Committer, Recovered, Terms
from homeplate.clock import NANOSECONDS, SystemClock, WallClock
from homeplate.domain.geometry import Box
from homeplate.domain.passage import Direction, Passage
from homeplate.domain.plate import PlateText
from homeplate.domain.record import DAY_SECONDS, Part, StorageClass
from homeplate.domain.rules import Trigger
from homeplate.policy.allowlist import recipients
from homeplate.policy.disclosure import Narrowing
from homeplate.sealing.envelope import decode
from homeplate.sealing.keys import load_signing_key
from homeplate.store.ledger import MerkleLog
from homeplate.store.spool import FileSpool
from homeplate.trust.bundle import load_bundle
from homeplate.trust.hotlist import encode_hot_list, parse_hot_list
from homeplate_custodian import provision
from tests.adversarial.estate import GOOD, PURPOSE, now_s
from tests.adversarial.net import BROKER_ADDRESS
from tests.adversarial.peers import forward, subscribed
from tests.trust.forge import hot_list

MEAN_PAUSE_S = 0.15
# Slower than uplink sends: a queue that grows would hide what the delay tells.
BOTH = (Part.FACTS, Part.CROP)
FEATURES = (
    "messages", "smallest", "largest", "total", "expiry_s", "qos", "retained", "properties", "topic_length",
    "keep_until_day", "largest_first", "delay_s", "spread_s", "since_last_s",
)  # fmt: skip


def experiment(site, *, passages, seed=1, hit_parts=BOTH, hit_retention_s=DAY_SECONDS):
    """Return the observer's accuracy on passages that it was not trained on, with a confidence interval.

    Args:
        site: the namespaces and the deployment.
        passages: how many, a multiple of four; a half are hits.
        seed: draws the order, the pauses and the pictures.
        hit_parts: what the rule for hits sends; the rule for the rest sends facts and crop.
        hit_retention_s: how long the rule for hits keeps; the rule for the rest keeps a day.
    """
    estate = site.estate()
    provision.remove_rule(estate.custody, "all")
    for name, trigger, parts, retention_s in (
        ("hits", Trigger.HIT, hit_parts, hit_retention_s),
        ("rest", Trigger.EVERYTHING, BOTH, DAY_SECONDS),
    ):
        provision.add_rule(
            estate.custody,
            name=name,
            trigger=trigger,
            recipients=[GOOD],
            parts=list(parts),
            storage=StorageClass.OUTGOING,
            retention_s=retention_s,
            purpose=PURPOSE,
        )
    estate.install()
    draw = random.Random(seed)  # noqa: S311 - an experiment that can be repeated
    hits = [index % 2 == 0 for index in range(passages)]
    order = draw.sample(hits, len(hits))
    site.world.handlers[BROKER_ADDRESS] = forward(site.world, site.broker.port)
    heard, passed, rows = _observe(site, estate, order, draw)
    table = _table(heard, passed, rows)
    return _judged(table, np.array(order), np.random.default_rng(seed))


def _observe(site, estate, order, draw):
    """Let the passages pass; return the messages, when each passage was, and capture's rows."""
    with subscribed(site, client_id="host") as heard, ExitStack() as stack:
        uplink = site.start(estate, "uplink")
        try:
            committer, ledger = _capture(estate, stack)
            passed, records, pause = [], 0, threading.Event()
            for number, hit in enumerate(order):
                pause.wait(draw.expovariate(1 / MEAN_PAUSE_S))
                passage = _passage(number, hit, draw)
                passed.append(WallClock().now_ns())
                committer.commit(passage)
                records = committer.records
            _wait(lambda: len(heard) >= records, uplink)
        finally:
            uplink.send_signal(signal.SIGTERM)
            uplink.communicate(timeout=30)
        rows = [row for row in ledger.rows() if row.event == SEALED]
    return heard, passed, rows


def _wait(done, process, seconds=120):
    pause = threading.Event()
    for _ in range(seconds * 20):
        if done():
            return
        if process.poll() is not None:
            raise RuntimeError(f"uplink ended: {process.stdout.read()}")
        pause.wait(0.05)
    raise RuntimeError("not everything was delivered")


def _capture(estate, stack):
    paths = estate.paths
    clock = SystemClock(paths.clock, "capture")
    bundle = load_bundle(paths.bundle, clock.now_ns())
    now, end = now_s(), now_s() + DAY_SECONDS
    listed = hot_list(*(f"8HIT{number:03d}" for number in range(100)), expires_s=end)
    terms = Terms(
        rules=bundle.rules,
        narrowing=Narrowing(),
        recipients=recipients(bundle.registry, bundle.allowlist, bundle.jurisdiction, now),
        hot_list=parse_hot_list(encode_hot_list(listed, issued_s=now, expires_s=end), now),
        demo=True,
    )
    slots = {kind: open_slots(paths, kind, check=False) for kind in StorageClass}
    ledger = MerkleLog(paths.log("capture"), clock)
    for part in (*slots.values(), ledger):
        stack.callback(part.close)
    committer = Committer(
        node=load_identity(paths).raw,
        signing_key=load_signing_key(paths.record_key),
        slots=slots,
        spool=FileSpool(paths.spool),
        ledger=ledger,
        clock=clock,
        terms=lambda: terms,
        random_bytes=secrets.token_bytes,
        recovered=Recovered(),
    )
    return committer, ledger


def _passage(number, hit, draw):
    """Return a passage whose picture does not depend on whether it is a hit."""
    text = f"8HIT{draw.randrange(100):03d}" if hit else f"8NON{draw.randrange(100):03d}"
    width, height = draw.randrange(60, 240), draw.randrange(20, 80)
    pixels = np.random.default_rng(draw.randrange(2**32)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    at = WallClock().now_ns()
    return Passage(
        source="gate",
        first_frame=number * 10,
        last_frame=number * 10 + 5,
        first_captured_ns=at,
        last_captured_ns=at,
        text=PlateText(text),
        raw_text=PlateText(text),
        confidence=draw.uniform(0.8, 1.0),
        ambiguity=tuple(text),
        jurisdiction="US-CA",
        seen=draw.randrange(2, 9),
        agreeing=2,
        direction=Direction.LEFT,
        box=Box(left=1.0, top=2.0, right=90.0, bottom=40.0),
        crop=pixels,
    )


def _table(heard, passed, rows):
    """Return one row of numbers a passage: all that the observer has of it."""
    by_id = {str(decode(message.payload).header.record_id): (message, at) for message, at in heard}
    table, last = [], 0
    for at_passage, row in zip(passed, rows, strict=True):
        found = sorted((by_id[name] for name in str(row.fields["records"]).split(",")), key=lambda one: one[1])
        sizes = [len(message.payload) for message, _ in found]
        first = found[0][0]
        listed = first.properties.json()
        table.append([
            len(found), min(sizes), max(sizes), sum(sizes),
            listed.get("MessageExpiryInterval", -1), first.qos, first.retain, len(listed), len(first.topic),
            decode(first.payload).header.keep_until_day, sizes[0] == max(sizes),
            (found[0][1] - at_passage) / NANOSECONDS, (found[-1][1] - found[0][1]) / NANOSECONDS,
            (found[0][1] - last) / NANOSECONDS if last else 0.0,
        ])  # fmt: skip
        last = found[-1][1]
    return np.array(table, dtype=float)


def _judged(table, hits, draw):
    # Drawn, and not the first against the second half: what drifts with time would make every guess the same.
    groups = [draw.permutation(np.flatnonzero(hits == kind)) for kind in (True, False)]
    known = np.concatenate([group[: len(group) // 2] for group in groups])
    asked = np.concatenate([group[len(group) // 2 :] for group in groups])
    spread = table[known].std(axis=0)
    scaled = (table - table[known].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    train, test = (scaled[known], hits[known]), (scaled[asked], hits[asked])
    classifiers = {"threshold": _threshold, "bayes": _bayes, "neighbours": _neighbours}
    right = {name: int((guess(*train, test[0]) == test[1]).sum()) for name, guess in classifiers.items()}
    name, best = max(right.items(), key=lambda item: item[1])
    low, high = interval(best, len(test[1]), len(classifiers))
    return {
        "passages": len(hits),
        "judged": len(test[1]),
        "accuracy": {one: round(count / len(test[1]), 3) for one, count in right.items()},
        "best": name,
        "interval": [round(low, 3), round(high, 3)],
        "tells_apart": low > 0.5,
        "constant": [feature for feature, span in zip(FEATURES, np.ptp(table, axis=0), strict=True) if span == 0],
    }


def interval(right, of, tries):
    """Return Wilson's score interval for the best of `tries` classifiers: 95 % for all of them together."""
    z = {1: 1.96, 3: 2.394}[tries]
    share, square = right / of, z * z / of
    middle = (share + square / 2) / (1 + square)
    reach = z / (1 + square) * math.sqrt(share * (1 - share) / of + square / (4 * of))
    return middle - reach, middle + reach


def _threshold(rows, hits, unknown):
    """The one number and bound that parts the training half best."""
    best = (-1.0, 0, 0.0, True)
    for column in range(rows.shape[1]):
        for bound in np.unique(rows[:, column]):
            above = rows[:, column] >= bound
            for says in (True, False):
                best = max(best, (float(((above == says) == hits).mean()), column, float(bound), says))
    _, column, bound, says = best
    return (unknown[:, column] >= bound) == says


def _bayes(rows, hits, unknown):
    def score(kind):
        mean, spread = rows[kind].mean(axis=0), rows[kind].std(axis=0) + 1e-3
        return (-(((unknown - mean) / spread) ** 2) / 2 - np.log(spread)).sum(axis=1)

    return score(hits) >= score(~hits)


def _neighbours(rows, hits, unknown, count=7):
    distances = ((unknown[:, None, :] - rows[None, :, :]) ** 2).sum(axis=2)
    return hits[np.argsort(distances, axis=1)[:, :count]].mean(axis=1) > 0.5
