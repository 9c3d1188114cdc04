"""The Merkle tree of RFC 6962 section 2.1, as far as a log needs it: leaf hashes in, roots out. No files.

A `Frontier` holds the roots of the complete subtrees that a tree of its size is made of, so that the root after each
append costs O(log n). `docs/decisions/0052-ledger.md` says why these lines are ours.
"""

import hashlib

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

    def root(self) -> bytes:
        """Return the tree's root; SHA-256 of nothing where it is empty."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root
