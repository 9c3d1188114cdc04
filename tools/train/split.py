"""Which training pictures are held out, decided once for the detector and the reader alike.

Pictures that show the same thing go to the same side: near-duplicates (difference hashes within one source) and
pictures that show a plate of the same text are joined into groups, and a group's name decides, through SHA-256, whether
it is in the held-out fifth. Nothing here is random or depends on order.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

HELD_OUT_OF = 5
"""One group in this many is held out."""
SCENE_HASH_SIDE, SCENE_HASH_BITS = 8, 4
"""Side of the difference hash of a scene, and the most bits in which near-duplicates differ."""
CROP_HASH_SIDE, CROP_HASH_BITS = 16, 24
"""The same for plate crops, which look alike within a state, so the hash is finer."""


def difference_hash(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint64]:
    """Return the difference hash of a picture.

    Args:
        picture: grey picture, [H, W] uint8.
        side: the hash has side x side bits; a multiple of 8.

    Returns:
        side * side / 64 words of 64 bits.
    """
    small = cv2.resize(picture, (side + 1, side), interpolation=cv2.INTER_AREA)
    bits = np.packbits(small[:, 1:] > small[:, :-1])
    return bits.view(np.uint64)


class _Groups:
    """Union of names: `join` makes two names one group, `name_of` gives the group's smallest name."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def name_of(self, name: str) -> str:
        root = name
        while (above := self._parent.setdefault(root, root)) != root:
            root = above
        while name != root:
            self._parent[name], name = root, self._parent[name]
        return root

    def join(self, one: str, other: str) -> None:
        low, high = sorted((self.name_of(one), self.name_of(other)))
        self._parent[high] = low


def group_pictures(
    hashes: Mapping[str, NDArray[np.uint64]], texts: Iterable[tuple[str, str]], limits: Mapping[str, int]
) -> dict[str, str]:
    """Join pictures that show the same thing.

    Args:
        hashes: difference hash of each picture, by path `set/source/name`.
        texts: (path, plate text) pairs; pictures with an equal text are joined.
        limits: by set (the first part of the path), the most differing bits of near-duplicates.

    Returns:
        The group of each path in `hashes`: the smallest path in it.
    """
    groups, by_source = _Groups(), dict[str, list[str]]()
    for path in sorted(hashes):
        by_source.setdefault(path.rsplit("/", 1)[0], []).append(path)
    for source, paths in by_source.items():
        words = np.stack([hashes[path] for path in paths])
        limit = limits[source.split("/", 1)[0]]
        for index, path in enumerate(paths):
            apart = np.bitwise_count(words[index + 1 :] ^ words[index]).sum(axis=1)
            for near in np.flatnonzero(apart <= limit):
                groups.join(path, paths[index + 1 + int(near)])
    first: dict[str, str] = {}
    for path, text in texts:
        groups.join(path, first.setdefault(text, path))
    return {path: groups.name_of(path) for path in hashes}


def is_held_out(group: str) -> bool:
    """Return whether the group of this name is in the held-out fifth."""
    return hashlib.sha256(group.encode()).digest()[0] % HELD_OUT_OF == 0


def held_out_paths(data: Path, cache: Path) -> frozenset[str]:
    """Return the paths (relative to `data`) of the held-out pictures of detect/ and read/.

    Args:
        data: folder with `detect/` and `read/` and their label files.
        cache: JSON file that keeps the answer, since hashing all pictures takes a minute; delete it to decide anew.

    Raises:
        OSError: a label file or a picture cannot be read.
    """
    if cache.exists():
        return frozenset(json.loads(cache.read_text()))
    sides = {"detect": SCENE_HASH_SIDE, "read": CROP_HASH_SIDE}
    hashes: dict[str, NDArray[np.uint64]] = {}
    texts: list[tuple[str, str]] = []
    for name in ("detect/labels.jsonl", "detect/machine_read.jsonl", "read/labels.jsonl"):
        for row in map(json.loads, (data / name).read_text().splitlines()):
            path, reading = row["path"], row.get("machine_read")
            if reading and reading["agree"]:
                texts.append((path, reading["a"]))
            if path not in hashes:
                picture = cv2.imread(str(data / path), cv2.IMREAD_GRAYSCALE)
                if picture is None:
                    message = f"{data / path}: not a picture; fetch the training data again"
                    raise OSError(message)
                hashes[path] = difference_hash(picture.astype(np.uint8), sides[path.split("/", 1)[0]])
    limits = {"detect": SCENE_HASH_BITS, "read": CROP_HASH_BITS}
    groups = group_pictures(hashes, texts, limits)
    held_out = sorted(path for path, group in groups.items() if is_held_out(group))
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text(json.dumps(held_out))
    return frozenset(held_out)


def data_sha256(data: Path) -> str:
    """Return one hash of everything under detect/, read/ and synth/: file by file, by name, with what is in it."""
    whole = hashlib.sha256()
    for folder in ("detect", "read", "synth"):
        for file in sorted((data / folder).rglob("*")):
            if file.is_file():
                content = hashlib.sha256(file.read_bytes()).hexdigest()
                whole.update(f"{file.relative_to(data).as_posix()} {content}\n".encode())
    return whole.hexdigest()
