"""What `make device-arm64` says: which packages a board takes, what counts as a difference, what a stage costs."""

import pytest

from tools.device.arm64 import differences, succeeded
from tools.device.arm_root import ArmError, lock_for
from tools.device.counts import BOARDS, shared_out

LOCK = """\
numpy==2.4.6 ; python_full_version < '3.12' \\
    --hash=sha256:aa
    # via homeplate
numpy==2.5.5 ; python_full_version >= '3.12' \\
    --hash=sha256:bb
pywin32==1 ; sys_platform == 'win32' \\
    --hash=sha256:cc
tuf==7.0.1 \\
    --hash=sha256:dd \\
    --hash=sha256:ee
"""


def plate(text, confidence):
    return {"text": text, "jurisdiction": "US-CA", "confidence": confidence, "box": [0.0, 0.0, 9.0, 9.0]}


def picture(*plates):
    return [{"picture": "a.png", "plates": list(plates)}]


@pytest.mark.parametrize(("python", "digest"), [("3.11", "aa"), ("3.13", "bb")])
def test_a_board_takes_what_its_own_python_would_with_all_hashes(tmp_path, python, digest):
    (tmp_path / "lock").write_text(LOCK)
    taken = lock_for(python, [tmp_path / "lock"])
    assert [word for word in taken.split() if word.startswith("--hash")] == [
        f"--hash=sha256:{digest}", "--hash=sha256:dd", "--hash=sha256:ee",
    ]  # fmt: skip
    assert ";" not in taken
    assert "pywin32" not in taken


def test_a_text_that_the_node_would_count_on_either_side_may_not_differ():
    found = differences(picture(plate("7ABC123", 0.4)), picture(plate("7ABC128", 0.6)))
    assert (found["texts_that_differ"], found["below_the_bar_that_differ"]) == (1, 0)


def test_a_text_below_the_bar_on_both_sides_is_counted_apart():
    found = differences(picture(plate("7A", 0.2)), picture(plate("", 0.0)))
    assert (found["texts_that_differ"], found["below_the_bar_that_differ"]) == (0, 1)


def test_another_number_of_plates_in_a_picture_is_an_error():
    with pytest.raises(ArmError, match="numbers of plates"):
        differences(picture(plate("7ABC123", 0.9)), picture())


def test_one_part_that_failed_fails_all():
    assert succeeded({"bookworm": {"tests": {"ok": True}, "texts": {"same": True}}, "counts": {"weights": "a"}})
    assert not succeeded({"bookworm": {"tests": {"ok": True}, "texts": {"same": False}}})


def test_each_stage_is_shared_out_by_what_it_is_done_for():
    spent = dict.fromkeys(("motion", "detect", "crop", "read", "track", "seal", "store"), 60_000_000)
    told = {"frames": 60, "looked_at": 30, "plates": 20, "passages": 2, "instructions": spent}
    found = shared_out(told)
    assert found["millions"]["motion, by frames"] == 1
    assert found["millions"]["detect, by looked_at"] == 2
    assert found["millions"]["seal, by passages"] == 30
    assert found["millions_a_frame"] == 5


def test_a_board_that_is_better_at_it_takes_less_time():
    assert BOARDS["Raspberry Pi 5"].milliseconds(2.6e9 * 2.4) == [1000.0, 2000.0]
