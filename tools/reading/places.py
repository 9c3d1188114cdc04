"""How looks at plates were named: recall and precision of the jurisdictions, and what is taken for Californian."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tools.reading.looks import Look
from tools.train.reader_data import CALIFORNIA, UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Jurisdictions that were there, that were named, and that were named rightly."""

    there: Counter[str]
    named: Counter[str]
    right: Counter[str]

    def recall(self, name: str) -> float:
        """Share of its plates that are named so."""
        return self.right[name] / self.there[name] if self.there[name] else 0.0

    def precision(self, name: str) -> float:
        """Share of the plates named so that are."""
        return self.right[name] / self.named[name] if self.named[name] else 0.0


def named(looks: Iterable[Look]) -> Named:
    """Count the jurisdictions of the looks whose own is known."""
    there, said, right = Counter[str](), Counter[str](), Counter[str]()
    for one in looks:
        if one.jurisdiction is not None:
            there[one.jurisdiction] += 1
            said[one.reading.jurisdiction] += 1
            right[one.jurisdiction] += one.jurisdiction == one.reading.jurisdiction
    return Named(there=there, named=said, right=right)


def jurisdiction_figures(looks: Sequence[Look]) -> dict[str, float]:
    """Sum up how looks at plates of known jurisdictions were named: recall, precision, unknown, falsely Californian."""
    one = named(looks)
    states = [name for name in one.there if name != UNKNOWN]
    right, claimed = sum(one.right[name] for name in states), one.named.total() - one.named[UNKNOWN]
    return {
        "plates": one.there.total(),
        "recall": right / max(1, sum(one.there[name] for name in states)),
        "recall_mean_of_states": sum(one.recall(name) for name in states) / max(1, len(states)),
        "precision": right / max(1, claimed),
        "unknown": one.named[UNKNOWN] / max(1, one.there.total()),
        "false_california": one.named[CALIFORNIA] - one.right[CALIFORNIA],
    }


def jurisdiction_table(groups: Mapping[str, Sequence[Look]]) -> str:
    """Tabulate the sums of groups of looks."""
    head = "| | plates | recall | mean recall of the states | precision of the named | `unknown` | falsely `US-CA` |"
    lines = [head, "|---" * 7 + "|"]
    for name, looks in groups.items():
        one = jurisdiction_figures(looks)
        # Plates of no US state have no recall, and whatever state is named is wrong.
        foreign = all(look.jurisdiction in {UNKNOWN, None} for look in looks)
        recalls = ["", ""] if foreign else [f"{one['recall']:.3f}", f"{one['recall_mean_of_states']:.3f}"]
        cells = [*recalls, "" if foreign else f"{one['precision']:.3f}", f"{one['unknown']:.3f}"]
        lines.append(f"| {name} | {one['plates']:.0f} | {' | '.join(cells)} | {one['false_california']:.0f} |")
    return "\n".join(lines)


def states_table(plain: Named, worn: Named) -> str:
    """Tabulate recall and precision of every jurisdiction, three in a row."""
    cells = [
        f"{name} | {plain.there[name]} | {plain.recall(name):.2f} / {worn.recall(name):.2f} "
        f"| {plain.precision(name):.2f} / {worn.precision(name):.2f}"
        for name in sorted(plain.there)
        if name != UNKNOWN
    ]
    cells += [" | | | "] * (-len(cells) % 3)
    lines = ["| " + " | ".join(["state | plates | recall | precision"] * 3) + " |", "|---" * 12 + "|"]
    lines += [f"| {' | '.join(cells[start : start + 3])} |" for start in range(0, len(cells), 3)]
    return "\n".join(lines)
