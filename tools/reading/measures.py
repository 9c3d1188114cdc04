"""Statistics of readings whose truth is known: calibration, risk against coverage, and which characters were mistaken.

Pure functions; nothing here reads a picture or knows of a model.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
EDGES: Final = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 1.0)
"""Bounds of the reliability bins: tenths, and finer at the top, where nearly all readings are."""
BARS: Final = (*tuple(k / 200 for k in range(200)), 0.998, 0.999)
"""Bars on a confidence that are tried."""
PAIRS: Final = (("O", "0"), ("I", "1"), ("B", "8"), ("D", "0"), ("S", "5"), ("Z", "2"), ("Q", "0"))
"""Characters that plates and weather make alike."""
Z: Final = 1.96
"""Standard deviations of a 95 % interval."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """The readings whose confidence is at least `low` and below `high` (the last bin holds 1 as well).

    Attributes:
        count: of them.
        confidence: their mean confidence, 0..1; 0 where there is none.
        right: the share that is right, 0..1; 0 where there is none.
    """

    low: float
    high: float
    count: int
    confidence: float
    right: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What a bar lets through.

    Attributes:
        bar: least confidence.
        accepted: readings of at least that confidence.
        wrong: of them, those that are wrong.
        total: all plates, those without a reading included.
    """

    bar: float
    accepted: int
    wrong: int
    total: int

    @property
    def coverage(self) -> float:
        """Share accepted, 0..1."""
        return self.accepted / self.total if self.total else 0.0

    @property
    def risk(self) -> float:
        """Share wrong among the accepted, 0..1; 0 where nothing is accepted."""
        return self.wrong / self.accepted if self.accepted else 0.0


def _arrays(confidences: Sequence[float], right: Sequence[bool]) -> tuple[Floats, NDArray[np.bool_]]:
    sure, hits = np.asarray(confidences, np.float64), np.asarray(right, np.bool_)
    if sure.shape != hits.shape:
        raise ValueError(f"{sure.size} confidences and {hits.size} verdicts; give one verdict a confidence")
    if sure.size and not (sure.min() >= -1e-6 and sure.max() <= 1 + 1e-6):
        raise ValueError("a confidence lies between 0 and 1")
    return np.clip(sure, 0.0, 1.0), hits


def reliability(confidences: Sequence[float], right: Sequence[bool], edges: Sequence[float] = EDGES) -> list[Bin]:
    """Sort readings by their confidence into bins, and say how many of each were right.

    Raises:
        ValueError: as many verdicts as confidences are needed, and confidences of 0 to 1.
    """
    sure, hits = _arrays(confidences, right)
    places = np.clip(np.digitize(sure, edges) - 1, 0, len(edges) - 2)
    bins = []
    for place in range(len(edges) - 1):
        inside = places == place
        count = int(inside.sum())
        bins.append(
            Bin(
                low=edges[place],
                high=edges[place + 1],
                count=count,
                confidence=float(sure[inside].mean()) if count else 0.0,
                right=float(hits[inside].mean()) if count else 0.0,
            )
        )
    return bins


def calibration_error(bins: Sequence[Bin]) -> float:
    """Return the expected calibration error (Naeini et al. 2015): the gaps of the bins, weighted by their counts."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.right - one.confidence) for one in bins) / total if total else 0.0


def accepted_at(confidences: Sequence[float], right: Sequence[bool], bar: float, total: int | None = None) -> Accepted:
    """Return what a bar lets through, of `total` plates (as many as there are readings, where None).

    Raises:
        ValueError: as for `reliability`, or there are more readings than plates.
    """
    sure, hits = _arrays(confidences, right)
    whole = sure.size if total is None else total
    if whole < sure.size:
        raise ValueError(f"{sure.size} readings of {whole} plates; a plate is read once")
    over = sure >= bar
    return Accepted(bar=bar, accepted=int(over.sum()), wrong=int((over & ~hits).sum()), total=whole)


def least_bar(
    confidences: Sequence[float], right: Sequence[bool], most_risk: float, total: int | None = None
) -> Accepted | None:
    """Return the least bar of BARS at which no more than a share `most_risk` of the accepted is wrong.

    None where no bar that accepts anything is so good.
    """
    for bar in BARS:
        point = accepted_at(confidences, right, bar, total)
        if point.accepted and point.risk <= most_risk:
            return point
    return None


def risk_curve(confidences: Sequence[float], right: Sequence[bool], total: int | None = None) -> tuple[Floats, Floats]:
    """Return coverage and risk [N] at every confidence that occurs, from the surest readings to all of them."""
    sure, hits = _arrays(confidences, right)
    order = np.argsort(-sure, kind="stable")
    # Readings of one confidence are accepted together: only the last of them is a point.
    last = np.append(np.diff(sure[order]) != 0, True)[: sure.size]
    counted = np.arange(1, sure.size + 1)
    wrong = np.cumsum(~hits[order])
    return (counted / max(1, sure.size if total is None else total))[last], (wrong / counted)[last]


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % Wilson interval of a share; (0, 1) where nothing was counted."""
    if not count:
        return 0.0, 1.0
    share = hits / count
    middle = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    half = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count)) / (1 + Z * Z / count)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def aligned(truth: str, read: str) -> list[tuple[int | None, int | None]]:
    """Align what was read with the truth, with the fewest replaced, missing and additional characters.

    Returns:
        Places in `truth` and in `read` that belong together, in order; None where the other has no counterpart.
    """
    cost = [[i + j if not i or not j else 0 for j in range(len(read) + 1)] for i in range(len(truth) + 1)]
    for i, true in enumerate(truth, 1):
        for j, said in enumerate(read, 1):
            cost[i][j] = min(cost[i - 1][j - 1] + (true != said), cost[i - 1][j] + 1, cost[i][j - 1] + 1)
    i, j = len(truth), len(read)
    pairs: list[tuple[int | None, int | None]] = []
    while i or j:
        if i and j and cost[i][j] == cost[i - 1][j - 1] + (truth[i - 1] != read[j - 1]):
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif i and cost[i][j] == cost[i - 1][j] + 1:
            i -= 1
            pairs.append((i, None))
        else:
            j -= 1
            pairs.append((None, j))
    return pairs[::-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistakes:
    """How often a character was there, and how often it was read as another one ("" where it was left out)."""

    there: Counter[str]
    read_as: Counter[tuple[str, str]]

    def left_out(self) -> int:
        """Return how many characters were left out."""
        return sum(count for (_, said), count in self.read_as.items() if not said)


def mistakes(texts: Iterable[tuple[str, str]]) -> Mistakes:
    """Count the characters of (truth, read) pairs."""
    there, read_as = Counter[str](), Counter[tuple[str, str]]()
    for truth, read in texts:
        there.update(truth)
        for i, j in aligned(truth, read):
            if i is not None:
                said = read[j] if j is not None else ""
                if said != truth[i]:
                    read_as[truth[i], said] += 1
    return Mistakes(there=there, read_as=read_as)
