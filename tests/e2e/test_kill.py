"""kill -9 of either process at a random moment, twenty times, loses and doubles nothing."""

import random
import subprocess
import time
from collections import Counter

import cv2
import pytest

from tests.e2e.conftest import Deployment, end, wait_until
from tools import stage

KILLS = 10
PICTURES = 24


@pytest.fixture(scope="module")
def pictures(rendered, tmp_path_factory):
    """Pictures of the rendered clip; as stills each is a sighting of its own, so there is much to commit and send."""
    folder = tmp_path_factory.mktemp("stills")
    capture = cv2.VideoCapture(str(rendered[0]))
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    capture.release()
    for number, frame in enumerate(frames[:: max(1, len(frames) // PICTURES)]):
        cv2.imwrite(str(folder / f"{number:03}.png"), frame)
    return folder


def source(pictures):
    return {"name": "stills", "kind": "folder", "path": pictures, "stills": True}


@pytest.fixture(scope="module")
def undisturbed(pictures, tmp_path_factory):
    """Return the plates that a run without a kill seals, and how long capture took."""
    built = stage.build(tmp_path_factory.mktemp("undisturbed") / "stage", sources=[source(pictures)])
    node = Deployment(built)
    begun = time.perf_counter()
    node.node("capture")
    took = time.perf_counter() - begun
    with built.broker("mosquitto"):
        receiver = node.receiver()
        node.node("uplink", "--once")
        end(receiver)
        plates = Counter(facts["plate"] for facts in node.open())
    built.runtime.cleanup()
    assert sum(plates.values()) >= 10, "there is too little in the pictures for this test to mean anything"
    return plates, took


def kill_at_random(process, longest_s, moments):
    """Kill a process within `longest_s` seconds, unless it ends before; return whether it was killed."""
    try:
        process.wait(moments.uniform(0.0, longest_s))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)
        return True
    else:
        return False
    finally:
        process.stdout.close()


def kill_often(start, longest_s, moments):
    """Start a process and kill it, `KILLS` times, the later ones with more time to get ahead; return the kills."""
    killed = 0
    for attempt in range(4 * KILLS):
        killed += kill_at_random(start(), longest_s * min(1.0, 0.4 + 0.6 * attempt / KILLS), moments)
        if killed == KILLS:
            break
    return killed


@pytest.mark.parametrize("seed", [1])
def test_twenty_kills_lose_and_double_nothing(deploy, pictures, undisturbed, seed):
    expected, took = undisturbed
    moments = random.Random(seed)  # noqa: S311 - the same moments in every run
    node = deploy(sources=[source(pictures)])
    with node.stage.broker("mosquitto"):
        receiver = node.receiver()
        killed = kill_often(lambda: node.start("capture"), took, moments)
        node.node("capture")
        killed += kill_often(lambda: node.start("uplink"), 2.0, moments)
        uplink = node.start("uplink")
        wait_until(lambda: not node.pending())
        end(uplink)
        end(receiver)
        opened = node.open()
    assert killed == 2 * KILLS
    assert Counter(facts["plate"] for facts in opened) == expected
    sequence = sorted(facts["sequence"] for facts in opened)
    assert sequence == list(range(1, len(sequence) + 1)), "a gap or a double in the recipient's numbers"
    assert all(facts["crop"] for facts in opened)
    node.node("ledger", "sign")
    node.custodian("verify", node.stage.paths.ledger, "--custody", node.stage.custody)
