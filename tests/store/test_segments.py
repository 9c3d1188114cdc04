"""A ledger in several files: rotation, its bound, what a crash leaves, and what breaks the chain of files."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeplate.clock import SimulatedClock
from homeplate.errors import LedgerError, StoreError
from homeplate.store.ledger import FULL, MerkleLog, read_rows, scan
from homeplate.store.merkle import EMPTY_ROOT, Frontier, consistency_proof, is_consistent
from homeplate.store.reading import closed_segments, segment_path

START_NS = 1_790_000_000 * 10**9
OTHER = b"\xff" * 32


def _fill_up(log):
    for _ in range(100):
        log.append("delivery.intended", attempt=1)


def fill(path, rows, **bounds):
    with MerkleLog(path, SimulatedClock(START_NS), **bounds) as log:
        for _ in range(rows):
            log.append("delivery.intended", attempt=log.size)


def test_a_full_file_becomes_a_segment_and_all_rows_stay_readable_in_order(tmp_path):
    path = tmp_path / "a.log"
    fill(path, 40, segment_bytes=1_000)
    assert len(closed_segments(path)) > 5
    assert max(file.stat().st_size for file in tmp_path.iterdir()) < 1_500
    assert [row.number for row in read_rows(path)] == list(range(1, 41))
    state = scan(path, sizes=[7, 40])
    assert state.bad is None
    assert set(state.points) == {7, 40}
    fill(path, 3, segment_bytes=1_000)
    assert scan(path).frontier.size == 43


def test_opening_checks_that_the_file_continues_the_segment_before_it(tmp_path):
    path = tmp_path / "a.log"
    fill(path, 20, segment_bytes=1_000)
    last = closed_segments(path)[-1]
    last.write_bytes(last.read_bytes().splitlines(keepends=True)[0])
    with pytest.raises(LedgerError, match="does not continue"):
        MerkleLog(path, SimulatedClock(START_NS))


def test_a_log_with_all_its_segments_takes_no_row_says_so_once_and_goes_on_when_one_is_archived(tmp_path):
    path = tmp_path / "a.log"
    with MerkleLog(path, SimulatedClock(START_NS), segment_bytes=600, maximum_segments=2) as log:
        with pytest.raises(StoreError, match="all that it may have"):
            _fill_up(log)
        size = log.size
        with pytest.raises(StoreError, match="homeplate ledger archive"):
            log.append("delivery.intended", attempt=1)
        assert (log.size, log.last.row.event) == (size, FULL)
        closed_segments(path)[0].unlink()
        log.append("delivery.intended", attempt=2)
        assert log.size == size + 1
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 3 * 900


@given(at=st.integers(0, 5), data=st.data())
@settings(max_examples=25, deadline=None)
def test_a_segment_that_is_missing_or_exchanged_is_found_wherever_it_was(tmp_path_factory, at, data):
    path = tmp_path_factory.mktemp("log") / "a.log"
    fill(path, 40, segment_bytes=1_000)
    segments = closed_segments(path)
    first = int(segments[at].name.split(".")[1])
    if at and data.draw(st.booleans()):
        segments[at].unlink()
    else:
        segments[at].write_bytes(segments[at + 1].read_bytes())
    bad = scan(path).bad
    if at:
        assert bad.number == first
    else:
        assert bad is not None or scan(path).start > 0


@pytest.mark.parametrize("step", ["next", "linked"])
def test_a_crash_between_the_steps_of_a_rotation_loses_no_row_and_doubles_none(tmp_path, step):
    path = tmp_path / "a.log"
    fill(path, 5)
    path.with_suffix(".next").write_bytes(b"half a header")
    if step == "linked":
        segment_path(path, 1).hardlink_to(path)
    assert [row.number for row in read_rows(path)] == [1, 2, 3, 4, 5]
    fill(path, 5, segment_bytes=100)
    assert [row.number for row in read_rows(path)] == list(range(1, 11))
    assert scan(path).bad is None


@given(old=st.integers(0, 70), grown=st.integers(0, 70), flipped=st.integers(0, 200))
@settings(max_examples=200, deadline=None)
def test_a_consistency_proof_holds_and_no_other_root_or_hash_does(old, grown, flipped):
    leaves = [bytes([number + 1]) * 32 for number in range(old + grown)]
    tree = Frontier()
    for leaf in leaves[:old]:
        tree.append(leaf)
    small, proof = tree.copy(), consistency_proof(tree, leaves[old:])
    for leaf in leaves[old:]:
        tree.append(leaf)
    assert is_consistent(old, small.root(), old + grown, tree.root(), proof)
    assert not is_consistent(old, OTHER, old + grown, tree.root(), proof)
    if old and grown:
        assert not is_consistent(old, small.root(), old + grown, OTHER, proof)
        changed = list(proof)
        changed[flipped % len(proof)] = OTHER
        assert not is_consistent(old, small.root(), old + grown, tree.root(), changed)


def tree_of(size):
    tree = Frontier()
    for number in range(size):
        tree.append(bytes([number + 1]) * 32)
    return tree


def test_every_pair_of_small_trees_is_proved_and_no_proof_serves_another_pair():
    sizes = range(1, 20)
    trees = {size: tree_of(size) for size in sizes}
    for old in sizes:
        for new in sizes[old:]:
            proof = consistency_proof(trees[old], [bytes([number + 1]) * 32 for number in range(old, new)])
            roots = trees[old].root(), trees[new].root()
            assert is_consistent(old, roots[0], new, roots[1], proof)
            assert not is_consistent(old, roots[0], new, roots[1], proof[:-1])
            assert not is_consistent(old, roots[0], new, roots[1], [*proof, OTHER])
            assert not is_consistent(new, roots[1], old, roots[0], proof)


def test_a_tree_is_no_beginning_of_a_smaller_one_and_nothing_is_proved_by_nothing():
    small, large = tree_of(3).root(), tree_of(5).root()
    assert not is_consistent(3, small, 5, large, [])
    assert not is_consistent(5, large, 3, small, [])
    assert not is_consistent(4, tree_of(4).root(), 3, small, [])
    assert not is_consistent(-1, small, 3, small, [OTHER])
    assert is_consistent(3, small, 3, small, [])
    assert not is_consistent(3, small, 3, small, [OTHER])
    assert not is_consistent(3, small, 3, large, [])
    assert is_consistent(0, EMPTY_ROOT, 3, small, [])
    assert not is_consistent(0, EMPTY_ROOT, 3, small, [OTHER])
    assert not is_consistent(0, small, 3, small, [])


@pytest.mark.parametrize(("size", "peaks"), [(-1, 0), (3, 1), (3, 3), (0, 1)])
def test_a_tree_of_another_number_of_peaks_is_none(size, peaks):
    with pytest.raises(ValueError, match=rf"^a tree of {size} leaves has \d+ peaks of 32 bytes$"):
        Frontier.of(size, [OTHER] * peaks)


def test_a_tree_of_its_peaks_is_the_same_tree_and_grows_apart():
    tree = tree_of(11)
    again = Frontier.of(11, tree.peaks)
    assert (again.size, again.root(), again.subtrees()) == (11, tree.root(), tree.subtrees())
    assert list(tree.subtrees()) == [(0, 8), (8, 2), (10, 1)]
    again.append(OTHER)
    assert (tree.size, again.size) == (11, 12)
    with pytest.raises(ValueError, match="peaks of 32 bytes"):
        Frontier.of(1, [bytes(31)])
