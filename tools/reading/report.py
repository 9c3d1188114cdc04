"""The reading report: what was measured, its Markdown, its figure and its key figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from homeplate.domain.plate import CharReading, PlateReading
from homeplate.pipeline import READ_LEAST, SOLE_CONFIDENCE, STILL_CONFIDENCE
from homeplate.tracking.voting import INDEPENDENCE, vote
from tools.reading import figure, gate, places, prose, tables
from tools.reading.gate import Gated
from tools.reading.looks import Look
from tools.reading.measures import Accepted, Mistakes, calibration_error, least_bar, reliability
from tools.reading.tables import MOST_RISK, OTHER, PLAIN, RENDERED, US, WEARS, WORN, Judged, Rule, looks_words
from tools.reading.votes import COUNTS, HOW, STATISTICS, Passed
from tools.render.plates import CALIFORNIAN
from tools.train.reader_data import CALIFORNIA, UNKNOWN

LIGHTS: Final = {share: f"1/{round(1 / share)} of the light" for share in gate.LIGHTS} | {1.0: "day"}
BOTH, SEVERAL = "plain and worn", "all of 2 looks or more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was measured.

    Attributes:
        held_out: looks at held-out plates by set and wear; those without a text count for jurisdictions alone.
        designs: looks at rendered plates by design and wear.
        passages: of held-out US plates, by wear and number of looks.
        others: what other exponents of the readings' number make of them.
        drives, clips: what the motion gate let through.
        real: looks at real Californian crops, for their jurisdiction alone.
        weights: which models.
    """

    held_out: Mapping[str, Mapping[str, Sequence[Look]]]
    designs: Mapping[str, Mapping[str, Sequence[Look]]]
    passages: Mapping[tuple[str, int], Sequence[Passed]]
    others: Mapping[str, Rule]
    drives: Mapping[tuple[str, float], Gated]
    clips: Mapping[str, Gated] = field(default_factory=dict)
    real: Sequence[Look] = ()
    weights: str

    # --- what was counted ------------------------------------------------------------------------------------------

    def sets(self) -> dict[tuple[str, str], list[Look]]:
        """Return the looks whose text is known, by set and wear."""
        sets = {
            (name, wear): [one for one in by_wear[wear] if one.truth]
            for name, by_wear in self.held_out.items()
            for wear in WEARS
        }
        rendered = {
            (RENDERED, wear): [one for by_wear in self.designs.values() for one in by_wear[wear]] for wear in WEARS
        }
        return {**sets, **rendered}

    def plates(self) -> int:
        """Return how many held-out US plates were voted on."""
        return len(self.sets()[US, PLAIN])

    def singles(self) -> dict[str, tuple[Judged, int]]:
        """Judge single looks at held-out US plates: plain, worn, and as many of each; with the number of plates."""
        looks = {wear: self.sets()[US, wear] for wear in WEARS}
        return {
            name: (tables.plates(ones), len(ones))
            for name, ones in {**looks, BOTH: [*looks[PLAIN], *looks[WORN]]}.items()
        }

    def votes(self) -> dict[str, tuple[Judged, int]]:
        """Judge passages by the number of looks, and all of several looks; with the number of plates."""
        rows = {looks_words(*key): (tables.voted(passed), self.plates()) for key, passed in self.passages.items()}
        several = self.several()
        shown = self.plates() * len(HOW) * (len(COUNTS) - 1)
        sure, _ = tables.voted(several)
        folded = [one.right_folded for one in several]
        return {**rows, SEVERAL: (tables.voted(several), shown), f"{SEVERAL}, O as 0, I as 1": ((sure, folded), shown)}

    def several(self) -> list[Passed]:
        """Return all passages of two looks or more."""
        return [one for (_, count), passed in self.passages.items() if count > 1 for one in passed]

    def rules(self) -> dict[str, Rule]:
        """Return what a bar on each statistic of a passage leaves."""
        return {name: tables.rule(self.passages, self.plates(), statistic) for name, statistic in STATISTICS.items()}

    def bars(self) -> dict[str, Accepted | None]:
        """Return the bars that the rule gives: for a still's reading, and for a passage's vote."""
        (still, looks), (passage, shown) = self.singles()[BOTH], self.votes()[SEVERAL]
        return {"still": least_bar(*still, MOST_RISK, looks), "passage": least_bar(*passage, MOST_RISK, shown)}

    def pairs(self) -> dict[str, Mistakes]:
        """Count the mistaken characters of the sets, plain and worn together."""
        sets = self.sets()
        names = {"held-out US": US, "rendered": RENDERED}
        return {short: tables.pair_counts(sets[name, PLAIN] + sets[name, WORN]) for short, name in names.items()}

    def named(self) -> dict[str, Sequence[Look]]:
        """Return the groups whose jurisdictions are reported."""
        groups: dict[str, Sequence[Look]] = {}
        for wear in WEARS:
            groups[f"{US}, {wear}"] = self.held_out[US][wear]
            foreign = [one for one in self.held_out[OTHER][wear] if one.jurisdiction is not None]
            groups[f"held-out foreign plates, {wear}"] = foreign
            groups[f"rendered Californian plates, {wear}"] = self.californian(wear)
            groups[f"rendered plates of made-up states, {wear}"] = self.made_up(wear)
        return {**groups, "real Californian crops, only reported": self.real} if self.real else groups

    def californian(self, wear: str) -> list[Look]:
        """Return the looks at rendered Californian plates."""
        return [one for design in CALIFORNIAN for one in self.designs[design][wear]]

    def made_up(self, wear: str) -> list[Look]:
        """Return the looks at rendered US plates of no real state: no name is right for them."""
        invented = (design for design in self.designs if design.startswith("us"))
        return [replace(one, jurisdiction=UNKNOWN) for design in invented for one in self.designs[design][wear]]

    # --- Markdown --------------------------------------------------------------------------------------------------

    def page(self, plot: str) -> str:
        """Return the report."""
        parts = [*self._head(plot), *self._calibration(), *self._risk(), *self._characters()]
        return "\n\n".join([*parts, *self._places(), *self._designs(), *self._gate()])

    def _head(self, plot: str) -> list[str]:
        sets = self.sets()
        counts = ", ".join(f"{len(sets[name, PLAIN]):,} {name}" for name in (US, OTHER, RENDERED))
        return [
            "# What the reader's words are worth",
            prose.HEAD.format(counts=counts, weights=self.weights),
            f"![calibration, risk and coverage, designs, states, hard pairs and the motion gate]({plot})",
        ]

    def _calibration(self) -> list[str]:
        sets = self.sets()
        judges = {"characters": tables.characters, "plates": tables.plates}
        bins = {
            f"{what}, {wear}": reliability(*judge(sets[US, wear])) for what, judge in judges.items() for wear in WEARS
        }
        return [
            "## Calibration",
            prose.CALIBRATION,
            tables.calibration_table(tables.calibration_rows(sets, self.passages)),
            f"Bins of {US}, count and share right:",
            tables.bins_table(bins),
        ]

    def _risk(self) -> list[str]:
        singles = {f"single look, {name}": row for name, row in self.singles().items()}
        certain = PlateReading(characters=(CharReading(alternatives=(("A", 1.0),)),))
        bars = {
            name: tables.bar_words(point) + (f", wrong {point.risk:.4f}" if point else "")
            for name, point in self.bars().items()
        }
        return [
            "## Risk and coverage",
            prose.RISK.format(us=US, least=READ_LEAST, sole=SOLE_CONFIDENCE, most=vote([certain]).confidence),
            tables.risk_table({**singles, **self.votes()}),
            prose.BAR.format(risk=MOST_RISK, used=STILL_CONFIDENCE, **bars),
            prose.RULES,
            tables.rules_table("bar on", self.rules()),
            prose.EXPONENTS.format(k=f"{INDEPENDENCE:g} in use"),
            tables.rules_table("k", self.others),
        ]

    def _characters(self) -> list[str]:
        sets = self.sets()
        looks = {
            f"{name}, {wear}": tables.alternatives(tables.published(sets[name, wear]))
            for name in (US, RENDERED)
            for wear in WEARS
        }
        passages = {
            f"passages of {looks_words(*key)}": tables.alternatives([(one.truth, one.vote.ambiguity) for one in passed])
            for key, passed in self.passages.items()
            if key[1] > 1
        }
        return [
            "## Hard pairs and the ambiguity set",
            prose.PAIRS,
            tables.pairs_table(self.pairs()),
            prose.ALTERNATIVES,
            tables.alternatives_table({**looks, **passages}),
        ]

    def _places(self) -> list[str]:
        states = {wear: places.named(self.held_out[US][wear]) for wear in WEARS}
        return [
            "## Jurisdictions",
            prose.JURISDICTIONS,
            places.jurisdiction_table(self.named()),
            prose.STATES,
            places.states_table(states[PLAIN], states[WORN]),
        ]

    def _designs(self) -> list[str]:
        count = len(next(iter(self.designs.values()))[PLAIN])
        return ["## Designs", prose.DESIGNS.format(count=count), tables.designs_table(self.designs)]

    def _gate(self) -> list[str]:
        speeds = ", ".join(map(str, gate.SPEEDS_KMH))
        drives = {f"{name}, {LIGHTS[light]}": one for (name, light), one in self.drives.items()}
        parts = [
            "## The motion gate",
            prose.GATE.format(speeds=speeds, rate=gate.RATE, idle=gate.IDLE_S),
            tables.gate_table(drives),
        ]
        return [*parts, prose.CLIPS, tables.gate_table(self.clips)] if self.clips else parts

    # --- the figure and the key figures ----------------------------------------------------------------------------

    def draw(self, path: Path) -> None:
        """Draw the figure."""
        sets, votes = self.sets(), self.votes()
        held_out = {wear: [*sets[US, wear], *sets[OTHER, wear]] for wear in WEARS}
        figure.draw(
            path,
            calibration={
                "characters of held-out plates": {wear: tables.characters(ones) for wear, ones in held_out.items()},
                "held-out plates (least sure character)": {
                    **{wear: tables.plates(ones) for wear, ones in held_out.items()},
                    **{looks_words(how, 4): tables.voted(self.passages[how, 4]) for how in HOW},
                },
            },
            risks={
                "single looks at held-out US plates": self.singles(),
                "passages of held-out US plates": {
                    words: votes[words] for words in (looks_words(how, count) for how in HOW for count in COUNTS)
                },
            },
            designs=self.designs,
            states={wear: places.named(self.held_out[US][wear]) for wear in WEARS},
            pairs=self.pairs(),
            drives=self.drives,
        )

    def figures(self) -> dict[str, Any]:
        """Return the key figures."""
        sets, states = self.sets(), places.jurisdiction_figures(self.held_out[US][PLAIN])
        found: dict[str, Any] = {}
        for wear in WEARS:
            found[f"exact_{wear}"] = _share(*tables.exact(sets[US, wear]))
            for what, judge in (("character", tables.characters), ("plate", tables.plates)):
                error = calibration_error(reliability(*judge(sets[US, wear])))
                found[f"ece_{what}_{wear}"] = round(error, 4)
            shown = self.californian(wear)
            found[f"california_recall_{wear}"] = _share(
                sum(one.reading.jurisdiction == CALIFORNIA for one in shown), len(shown)
            )
        found |= {f"jurisdiction_{name}": round(value, 4) for name, value in states.items()}
        found["california_recall_real"] = _share(
            sum(one.reading.jurisdiction == CALIFORNIA for one in self.real), len(self.real)
        )
        found["made_up_named_california"] = _share(
            sum(one.reading.jurisdiction == CALIFORNIA for one in self.made_up(PLAIN)), len(self.made_up(PLAIN))
        )
        for name, point in self.bars().items():
            found[name] = {key: round(getattr(point, key), 4) for key in ("bar", "coverage", "risk")} if point else None
        drives = sum((one for one in self.drives.values() if one.cars), Gated())
        cars = {f"gate_{name}": getattr(drives, name) for name in ("cars", "reported", "reported_open")}
        return {**found, **cars, "gate_saved_empty_road": round(self.drives[gate.EMPTY, 1.0].saved, 3)}


def _share(hits: int, count: int) -> float:
    return round(hits / max(1, count), 4)
