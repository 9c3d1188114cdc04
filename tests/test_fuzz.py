"""Inputs that were good and are damaged: every parser answers with a value or with its own error, and nothing else.

Bounded here; `make fuzz` takes many more, and lets atheris look for paths that nothing has taken yet.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzzing.targets import parsers

NAMES = (
    "bundle", "signed", "contents", "certificate", "request", "hold", "chunk", "envelope", "facts", "config",
    "hot-list", "ledger", "exported", "checkpoint", "witness", "picture", "clip",
)  # fmt: skip
EDITS = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "insert", "repeat", "drop"]), st.integers(0), st.binary(max_size=8)),
    min_size=1, max_size=6,
)  # fmt: skip


def damaged(good: bytes, edits) -> bytes:
    """Return `good` after the edits: a bit flipped, bytes cut off, inserted, repeated, dropped."""
    data = bytearray(good)
    for kind, number, some in edits:
        at = number % max(1, len(data))
        if kind == "flip" and data:
            data[at] ^= 1 << number % 8
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = some
        elif kind == "repeat":
            data[at:at] = data[at : at + 64]
        else:
            del data[at : at + len(some)]
    return bytes(data)


@pytest.fixture(scope="module")
def targets(tmp_path_factory):
    return parsers(tmp_path_factory.mktemp("fuzzing"))


def test_every_parser_is_damaged_here(targets):
    assert set(NAMES) == set(targets)


@pytest.mark.parametrize("name", NAMES)
def test_a_good_input_is_not_refused(targets, name):
    for seed in targets[name].seeds:
        assert len(seed) <= targets[name].most_bytes
        targets[name].read(seed)


@pytest.mark.parametrize("name", NAMES)
@given(edits=EDITS, which=st.integers(0, 9))
def test_a_damaged_input_is_read_or_refused(targets, name, edits, which):
    target = targets[name]
    target.run(damaged(target.seeds[which % len(target.seeds)], edits))
