"""Writes what a run found: JUnit XML for machines, one HTML page with its plots inside for people."""

import html
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tools.hil.soak import Sample, by_unit
from tools.hil.steps import Result

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
COLOURS = {"passed": "#1b7837", "failed": "#b2182b", "skipped": "#777777"}
ORDER = ("motion", "detect", "crop", "read", "track")
"""In which a frame goes through the stages."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 62em; padding: 0 1em; color: #222; }
h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; width: 100%; } td, th { text-align: left; padding: .35em .7em; vertical-align: top; }
tr { border-bottom: 1px solid #eee; } td.seconds { text-align: right; white-space: nowrap; }
.state { color: #fff; border-radius: 3px; padding: .1em .5em; font-size: .85em; }
pre { background: #f6f6f6; padding: .7em; overflow-x: auto; font-size: .85em; } svg { max-width: 100%; height: auto; }
dl { display: grid; grid-template-columns: max-content auto; gap: .2em 1.2em; } dt { color: #777; } dd { margin: 0; }
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """All that a report is made of.

    Attributes:
        node: as it was named.
        began: date and time in UTC, as text.
        stages_ms: milliseconds a frame by stage.
        pending: records that waited, as (seconds since the cut, count).
        mended_s: when the cut was mended, in the same seconds.
    """

    node: str
    began: str
    results: Sequence[Result]
    facts: Mapping[str, str]
    stages_ms: Mapping[str, float]
    pending: Sequence[tuple[float, int]]
    mended_s: float | None = None
    samples: Sequence[Sample]

    @property
    def failed(self) -> int:
        """How many steps failed."""
        return sum(result.state == "failed" for result in self.results)


def printable(text: str) -> str:
    """Return a text without what XML cannot hold."""
    return _NOT_XML.sub("?", text)


def write_junit(path: Path, found: Found) -> None:
    """Write a JUnit file: a test case a step."""
    counts = {state: sum(result.state == state for result in found.results) for state in COLOURS}
    seconds = sum(result.seconds for result in found.results)
    suite = ET.Element(
        "testsuite", name="homeplate hardware in the loop", tests=str(len(found.results)), errors="0",
        failures=str(counts["failed"]), skipped=str(counts["skipped"]), time=f"{seconds:.3f}",
        hostname=printable(found.node), timestamp=found.began,
    )  # fmt: skip
    properties = ET.SubElement(suite, "properties")
    for name, value in found.facts.items():
        ET.SubElement(properties, "property", name=printable(name), value=printable(value))
    for result in found.results:
        case = ET.SubElement(
            suite, "testcase", classname="tools.hil", name=printable(result.name), time=f"{result.seconds:.3f}"
        )
        if result.state != "passed":
            kind = "failure" if result.state == "failed" else "skipped"
            ET.SubElement(case, kind, message=printable(result.text))
        if result.lines:
            ET.SubElement(case, "system-out").text = printable("\n".join([result.text, *result.lines]))
    root = ET.Element("testsuites")
    root.append(suite)
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)


def write_html(path: Path, found: Found) -> None:
    """Write the page; it needs nothing else and runs nothing."""
    path.write_text("".join(_page(found)), encoding="utf-8")


def _page(found: Found) -> Iterator[str]:
    verdict = f"{found.failed} of {len(found.results)} steps failed" if found.failed else "no step failed"
    title = html.escape(printable(f"{found.node}: {verdict}"))
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    yield f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{STYLE}</style></head><body>'
    yield f"<h1>Hardware in the loop: {title}</h1>"
    yield "<dl>"
    for name, value in {"began": found.began, **found.facts}.items():
        yield f"<dt>{html.escape(printable(name))}</dt><dd>{html.escape(printable(value))}</dd>"
    yield "</dl><h2>Steps</h2><table><tr><th>step</th><th></th><th>seconds</th><th>what was found</th></tr>"
    for result in found.results:
        state = f'<span class="state" style="background:{COLOURS[result.state]}">{result.state}</span>'
        name, text = html.escape(printable(result.name)), html.escape(printable(result.text))
        yield f'<tr><td>{name}</td><td>{state}</td><td class="seconds">{result.seconds:.1f}</td><td>{text}</td></tr>'
    yield "</table>"
    for heading, figure in plots(found):
        yield f"<h2>{html.escape(heading)}</h2>{svg(figure)}"
    for result in found.results:
        if result.lines:
            yield f"<h2>{html.escape(printable(result.name))}</h2>"
            yield f"<pre>{html.escape(printable(chr(10).join(result.lines)))}</pre>"
    yield "</body></html>\n"


def plots(found: Found) -> Iterator[tuple[str, Figure]]:
    """Yield each plot of which there are figures, with its heading."""
    if found.stages_ms:
        yield "Time of each stage", _stages(found.stages_ms)
    if found.pending:
        yield "Records that wait for the broker, through the cut", _waiting(found.pending, found.mended_s)
    if any(sample.celsius is not None for sample in found.samples):
        yield (
            "Heat",
            _lines(
                [("hottest zone", [(s.at_s, s.celsius) for s in found.samples if s.celsius is not None])],
                "degrees Celsius",
            ),
        )
    rates = [(s.at_s, s.frequency_mhz) for s in found.samples if s.frequency_mhz is not None]
    if rates:
        yield "Clock rate", _lines([("first processor", rates)], "MHz")
    if memory := by_unit(found.samples):
        yield "Memory of each unit, by its proportional share", _lines(list(memory.items()), "MB")
    if memory := by_unit(found.samples, resident=True):
        yield "Resident memory of each unit", _lines(list(memory.items()), "MB")
    if found.samples:
        free = [(s.at_s, s.available_mb) for s in found.samples if s.available_mb is not None]
        yield "Memory that is left", _lines([("available", free)], "MB")


def _axes() -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=(8, 2.8), layout="constrained")
    axes.grid(visible=True, alpha=0.3)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _stages(stages_ms: Mapping[str, float]) -> Figure:
    figure, axes = _axes()
    names = sorted(stages_ms, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    bars = axes.barh(names, [stages_ms[name] for name in names], color="#2166ac")
    axes.bar_label(bars, fmt="%.2f", padding=3)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.set_xlabel("milliseconds a frame")
    return figure


def _waiting(pending: Sequence[tuple[float, int]], mended_s: float | None) -> Figure:
    figure, axes = _axes()
    if mended_s is not None:
        axes.axvspan(0, mended_s, color=COLOURS["failed"], alpha=0.08, label="cut")
        axes.legend(frameon=False, fontsize=8)
    axes.step([at for at, _ in pending], [count for _, count in pending], where="post", color="#2166ac")
    axes.set_xlabel("seconds")
    axes.set_ylabel("records")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    return figure


def _lines(lines: Sequence[tuple[str, Sequence[tuple[float, float]]]], unit: str) -> Figure:
    figure, axes = _axes()
    for name, points in lines:
        axes.plot(
            [at / 60 for at, _ in points],
            [value for _, value in points],
            label=name,
            marker="." if len(points) < 60 else "",
        )
    axes.set_xlabel("minutes")
    axes.set_ylabel(unit)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8)
    return figure


def svg(figure: Figure) -> str:
    """Return a figure as an SVG element, and close it."""
    made = io.StringIO()
    figure.savefig(made, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    text = made.getvalue()
    return text[text.index("<svg") :]
