"""The Merkle tree of RFC 6962 section 2.1, as far as a log needs it: leaf hashes in, roots and proofs out. No files.

A `Frontier` holds the roots of the complete subtrees that a tree of its size is made of, so that the root after each
append costs O(log n). `docs/decisions/0052-ledger.md` says why these lines are ours.
"""

import hashlib
from collections.abc import Mapping, Sequence

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Return SHA-256(0x00 || data): the prefix keeps a leaf from passing for a node."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """A tree that grows at its right edge."""

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []  # roots of the complete subtrees, largest first: one a set bit of `size`

    @classmethod
    def of(cls, size: int, peaks: Sequence[bytes]) -> "Frontier":
        """Return the tree of `size` leaves with these peaks, largest first.

        Raises:
            ValueError: where a tree of that size has another number of peaks.
        """
        if size < 0 or len(peaks) != size.bit_count() or any(len(peak) != HASH_BYTES for peak in peaks):
            raise ValueError(f"a tree of {size} leaves has {size.bit_count()} peaks of {HASH_BYTES} bytes")
        tree = cls()
        tree.size, tree._peaks = size, list(peaks)
        return tree

    def copy(self) -> "Frontier":
        """Return a tree that grows apart from this one."""
        other = Frontier()
        other.size, other._peaks = self.size, list(self._peaks)
        return other

    def append(self, leaf: bytes) -> None:
        """Add a leaf hash. Each trailing one-bit of the old size is a subtree that the new leaf completes."""
        size = self.size
        while size & 1:
            leaf = node_hash(self._peaks.pop(), leaf)
            size >>= 1
        self._peaks.append(leaf)
        self.size += 1

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """The roots of the complete subtrees it is made of, largest first."""
        return tuple(self._peaks)

    def subtrees(self) -> Mapping[tuple[int, int], bytes]:
        """Return its peaks by the first leaf (from 0) and the number of leaves of each."""
        found: dict[tuple[int, int], bytes] = {}
        start = 0
        for peak in self._peaks:
            leaves = 1 << ((self.size - start).bit_length() - 1)
            found[start, leaves] = peak
            start += leaves
        return found

    def root(self) -> bytes:
        """Return the tree's root; SHA-256 of nothing where it is empty."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root


def consistency_proof(old: Frontier, leaves: Sequence[bytes]) -> list[bytes]:
    """Return the proof (RFC 6962, section 2.1.2) that `old` is the beginning of the tree that `leaves` make of it.

    The hashes of `old`'s own leaves are not needed: all that the proof takes from its left side are its peaks.

    Args:
        old: the smaller tree; its proof is empty where it is empty.
        leaves: the leaf hashes that were appended to it, in order.
    """
    if not old.size or not leaves:
        return []
    proof: list[bytes] = []
    peaks = old.subtrees()
    start, end, first = 0, old.size + len(leaves), old.size
    while (start, end - start) not in peaks:
        middle = start + _split(end - start)
        if first <= middle:
            proof.append(_tree_hash(leaves[middle - old.size : end - old.size]))
            end = middle
        else:
            proof.append(peaks[start, middle - start])
            start = middle
    if start:
        proof.append(peaks[start, end - start])
    proof.reverse()
    return proof


def is_consistent(old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Tell whether `proof` shows that the tree of `old_size` is the beginning of that of `new_size`.

    Source: RFC 9162, section 2.1.4.2. A tree without leaves is the beginning of every tree, with an empty proof.
    """
    if not old_size or old_size == new_size:
        return not proof and (old_root == EMPTY_ROOT if not old_size else old_root == new_root)
    if not 0 < old_size < new_size or not proof:
        return False
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    left, right = old_size - 1, new_size - 1
    while left & 1:
        left, right = left >> 1, right >> 1
    old, new = path[0], path[0]
    for part in path[1:]:
        if not right:
            return False
        if left & 1 or left == right:
            old, new = node_hash(part, old), node_hash(part, new)
            while left and not left & 1:
                left, right = left >> 1, right >> 1
        else:
            new = node_hash(new, part)
        left, right = left >> 1, right >> 1
    return not right and (old, new) == (old_root, new_root)


def _split(size: int) -> int:
    """Return the largest power of two below `size` (2 or more)."""
    return 1 << ((size - 1).bit_length() - 1)


def _tree_hash(leaves: Sequence[bytes]) -> bytes:
    tree = Frontier()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()
