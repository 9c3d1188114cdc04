"""What is counted over known readings, and the Markdown of it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from homeplate.domain.plate import PlateReading
from homeplate.pipeline import STILL_CONFIDENCE
from homeplate.tracking.voting import vote, weight
from tools.reading.gate import Gated
from tools.reading.looks import Look
from tools.reading.measures import (
    PAIRS,
    Accepted,
    Bin,
    Mistakes,
    accepted_at,
    aligned,
    calibration_error,
    least_bar,
    mistakes,
    reliability,
    wilson,
)
from tools.reading.votes import Passed
from tools.train.reader_data import CALIFORNIA

Sets = Mapping[tuple[str, str], Sequence[Look]]
"""Looks by set and wear."""
Judged = tuple[list[float], list[bool]]
"""Confidences, and whether each was right."""
PLAIN, WORN = "plain", "worn"
WEARS: Final = (PLAIN, WORN)
US, OTHER, RENDERED = "held-out US plates", "held-out plates of detect/", "rendered plates"
MOST_RISK: Final = 0.03
"""Share of wrong texts among accepted ones that a bar may leave: two in a hundred, and one for wrong labels."""
SHOWN_BARS: Final = (0.0, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)


# --- calibration ---------------------------------------------------------------------------------------------------


def characters(looks: Iterable[Look]) -> Judged:
    """Judge every character that was read, against the one of the truth that it is aligned with."""
    sure, right = list[float](), list[bool]()
    for one in looks:
        for i, j in aligned(one.truth, one.text):
            if j is not None:
                sure.append(one.reading.characters[j].confidence)
                right.append(i is not None and one.truth[i] == one.text[j])
    return sure, right


def plates(looks: Iterable[Look], confidence: Callable[[PlateReading], float] = lambda r: r.confidence) -> Judged:
    """Judge every plate of which something was read."""
    read = [one for one in looks if one.text]
    return [confidence(one.reading) for one in read], [one.text == one.truth for one in read]


def voted(passed: Iterable[Passed], confidence: Callable[[Passed], float] = lambda p: p.vote.confidence) -> Judged:
    """Judge every passage."""
    listed = list(passed)
    return [confidence(one) for one in listed], [one.right for one in listed]


def calibration_rows(sets: Sets, passages: Mapping[tuple[str, int], Sequence[Passed]]) -> dict[str, Judged]:
    """Return everything whose calibration is reported, by name."""
    rows: dict[str, Judged] = {}
    for (name, wear), looks in sets.items():
        rows[f"characters, {name}, {wear}"] = characters(looks)
    for (name, wear), looks in sets.items():
        rows[f"plates (least character), {name}, {wear}"] = plates(looks)
    for wear in WEARS:
        rows[f"plates (product of the characters), {US}, {wear}"] = plates(sets[US, wear], weight)
    for key, passed in passages.items():
        rows[f"passages of {looks_words(*key)}"] = voted(passed)
    return rows


def looks_words(how: str, count: int) -> str:
    """Name the looks that a passage is of."""
    return f"{count} look{'s' * (count > 1)}, worn {how}"


def calibration_table(rows: Mapping[str, Judged]) -> str:
    """Tabulate counts, mean confidence, share right and the expected calibration error."""
    lines = ["| confidence of | count | mean confidence | right | calibration error |", "|---" * 5 + "|"]
    for name, (sure, right) in rows.items():
        count = max(1, len(sure))
        error = calibration_error(reliability(sure, right))
        lines.append(f"| {name} | {len(sure)} | {sum(sure) / count:.4f} | {sum(right) / count:.4f} | {error:.4f} |")
    return "\n".join(lines)


def bins_table(columns: Mapping[str, Sequence[Bin]]) -> str:
    """Tabulate reliability bins side by side: how many, and the share right."""
    lines = ["| confidence | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for row in zip(*columns.values(), strict=True):
        cells = [f"{one.count}: {one.right:.3f}" if one.count else "0" for one in row]
        lines.append(f"| {row[0].low:g} to {row[0].high:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


# --- designs and mistakes ------------------------------------------------------------------------------------------


def exact(looks: Sequence[Look]) -> tuple[int, int]:
    """Return how many were read without a fault, and how many there are."""
    return sum(one.text == one.truth for one in looks), len(looks)


def share(hits: int, count: int) -> str:
    """Return a share with its count and its 95 % interval."""
    low, high = wilson(hits, count)
    return f"{hits} of {count} = {hits / max(1, count):.3f} ({low:.3f}-{high:.3f})"


def designs_table(designs: Mapping[str, Mapping[str, Sequence[Look]]]) -> str:
    """Tabulate what was read of each design, and how often the Californian ones were named."""
    lines = ["| design | exact, clean | exact, worn | `US-CA` named, clean / worn |", "|---" * 4 + "|"]
    for name, by_wear in designs.items():
        cells = [share(*exact(by_wear[wear])) for wear in WEARS]
        said = [sum(one.reading.jurisdiction == CALIFORNIA for one in by_wear[wear]) for wear in WEARS]
        rates = " / ".join(f"{n / len(by_wear[wear]):.3f}" for n, wear in zip(said, WEARS, strict=True))
        lines.append(f"| {name} | {' | '.join(cells)} | {rates} |")
    return "\n".join(lines)


def pair_counts(looks: Iterable[Look]) -> Mistakes:
    """Count the mistaken characters of looks."""
    return mistakes((one.truth, one.text) for one in looks)


def pairs_table(groups: Mapping[str, Mistakes]) -> str:
    """Tabulate the hard pairs, either way round, and what else is mistaken most."""
    lines = ["| read as | " + " | ".join(groups) + " |", "|---" * (len(groups) + 1) + "|"]
    for pair in PAIRS:
        for true, said in (pair, pair[::-1]):
            cells = [f"{one.read_as[true, said]} of {one.there[true]}" for one in groups.values()]
            lines.append(f"| {true} as {said} | {' | '.join(cells)} |")
    hard = {key for pair in PAIRS for key in (pair, pair[::-1])}
    cells = [f"{sum(one.read_as[key] for key in hard)} of {one.read_as.total()}" for one in groups.values()]
    lines.append(f"| all hard pairs, of all mistaken characters | {' | '.join(cells)} |")
    cells = [f"{one.left_out()} of {one.read_as.total()}" for one in groups.values()]
    lines.append(f"| characters left out, of the same | {' | '.join(cells)} |")
    return "\n".join(lines)


# --- the ambiguity set ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternatives:
    """How often the published ambiguity set holds the truth.

    Attributes:
        wrong: readings that are wrong.
        same_length: of them those as long as the truth.
        held: of them those whose ambiguity set holds the truth.
        right: readings that are right.
        ambiguous: of them those that publish more than one text all the same.
        texts: mean number of texts in a set, the read one included.
    """

    wrong: int
    same_length: int
    held: int
    right: int
    ambiguous: int
    texts: float


def alternatives(published: Iterable[tuple[str, Sequence[str]]]) -> Alternatives:
    """Count over (truth, ambiguity set) pairs; a set has the characters of each place, the read one first."""
    wrong = same = held = right = ambiguous = count = 0
    texts = 0.0
    for truth, places in published:
        sizes = 1
        for place in places:
            sizes *= len(place)
        texts, count = texts + sizes, count + 1
        if "".join(place[0] for place in places) == truth:
            right += 1
            ambiguous += sizes > 1
            continue
        wrong += 1
        if len(places) == len(truth):
            same += 1
            held += all(letter in place for letter, place in zip(truth, places, strict=True))
    return Alternatives(
        wrong=wrong, same_length=same, held=held, right=right, ambiguous=ambiguous, texts=texts / max(1, count)
    )


def published(looks: Iterable[Look]) -> list[tuple[str, Sequence[str]]]:
    """Return the ambiguity set of each look that would be a still's passage."""
    sure = (one for one in looks if one.text and one.reading.confidence >= STILL_CONFIDENCE)
    return [(one.truth, vote([one.reading]).ambiguity) for one in sure]


def alternatives_table(groups: Mapping[str, Alternatives]) -> str:
    """Tabulate the ambiguity sets."""
    head = "| | wrong | of the right length | truth among the alternatives | right, yet ambiguous | texts a set, mean |"
    lines = [head, "|---" * 6 + "|"]
    for name, one in groups.items():
        held = f"{one.held} ({one.held / max(1, one.wrong):.2f} of the wrong)"
        unsure = f"{one.ambiguous} of {one.right} ({one.ambiguous / max(1, one.right):.2f})"
        lines.append(f"| {name} | {one.wrong} | {one.same_length} | {held} | {unsure} | {one.texts:.2f} |")
    return "\n".join(lines)


# --- risk and coverage ---------------------------------------------------------------------------------------------


def risk_table(rows: Mapping[str, tuple[Judged, int]]) -> str:
    """Tabulate risk and coverage by bar, and the least bar that leaves no more than MOST_RISK wrong."""
    head = "| accepted (wrong among them) at a bar of | " + " | ".join(f"{bar:g}" for bar in SHOWN_BARS)
    lines = [f"{head} | least bar for {MOST_RISK:.0%} wrong |", "|---" * (len(SHOWN_BARS) + 2) + "|"]
    for name, ((sure, right), total) in rows.items():
        points = [accepted_at(sure, right, bar, total) for bar in SHOWN_BARS]
        cells = [f"{one.coverage:.3f} ({one.risk:.3f})" if one.accepted else "0" for one in points]
        lines.append(f"| {name} | {' | '.join(cells)} | {bar_words(least_bar(sure, right, MOST_RISK, total))} |")
    return "\n".join(lines)


def bar_words(point: Accepted | None) -> str:
    """Say what a bar leaves."""
    return "none" if point is None else f"{point.bar:g}, coverage {point.coverage:.3f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Something that a bar on a passage may look at, and what the least good enough bar leaves.

    Attributes:
        error: expected calibration error over all passages, those of one look included.
        point: of the passages of two looks or more; None where no bar is good enough.
        sole: share of the passages of one look that this bar lets through.
    """

    error: float
    point: Accepted | None
    sole: float


def rule(
    passages: Mapping[tuple[str, int], Sequence[Passed]], plates: int, confidence: Callable[[Passed], float]
) -> Rule:
    """Find the least bar on a confidence of passages; `plates` are shown to every kind of passage."""
    several = [passed for (_, count), passed in passages.items() if count > 1]
    judged = voted([one for passed in several for one in passed], confidence)
    point = least_bar(*judged, MOST_RISK, plates * len(several))
    alone = [confidence(one) for (_, count), passed in passages.items() if count == 1 for one in passed]
    everything = voted([one for passed in passages.values() for one in passed], confidence)
    return Rule(
        error=calibration_error(reliability(*everything)),
        point=point,
        sole=sum(one >= point.bar for one in alone) / max(1, len(alone)) if point else 0.0,
    )


def rules_table(head: str, rules: Mapping[str, Rule]) -> str:
    """Tabulate what bars may look at."""
    lines = [f"| {head} | calibration error | least bar | passages of one look that it leaves |", "|---" * 4 + "|"]
    lines += [f"| {name} | {one.error:.4f} | {bar_words(one.point)} | {one.sole:.2f} |" for name, one in rules.items()]
    return "\n".join(lines)


# --- the gate ------------------------------------------------------------------------------------------------------


def gate_table(rows: Mapping[str, Gated]) -> str:
    """Tabulate what a gate let through and what came of it."""
    head = (
        "| | cars | reported, gate / none | passages, gate / none | frames looked at | with a legible plate | saved |"
    )
    lines = [head, "|---" * 7 + "|"]
    for name, one in rows.items():
        clear = f"{one.clear_looked} of {one.clear}" if one.clear else ""
        lines.append(
            f"| {name} | {one.cars} | {one.reported} / {one.reported_open} | {one.passages} / {one.passages_open} "
            f"| {one.looked} of {one.frames} | {clear} | {one.saved:.0%} |"
        )
    return "\n".join(lines)
