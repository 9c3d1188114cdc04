"""The reports: JUnit that parses, a page that needs nothing else, and neither broken by what a node says."""

import re
import xml.etree.ElementTree as ET  # our own writer made what is parsed
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.hil.report import Found, plots, printable, svg, write_html, write_junit
from tools.hil.soak import Sample
from tools.hil.steps import Result

STAGES = {"motion": 0.4, "detect": 6.1, "read": 2.0}
SAMPLES = [
    Sample(
        at_s=10.0 * n,
        celsius=50.0 + n,
        frequency_mhz=1500.0,
        available_mb=300.0,
        share_mb=(("homeplate-capture.service", 120.0 + n),),
        rss_mb=(("homeplate-capture.service", 140.0),),
    )
    for n in range(30)
]


def found(results, **changes):
    given_ = {"node": "pi@node", "began": "2026-11-26T05:00:00Z", "facts": {"board": "Raspberry Pi 5"}}
    return Found(**(given_ | {"results": results, "stages_ms": {}, "pending": [], "samples": []} | changes))


RESULTS = [
    Result(name="reach", seconds=1.5, text="Linux"),
    Result(
        name="check", state="failed", seconds=2.0, text="WRONG clock: <never set> & more", lines=["ok    keys", "WRONG"]
    ),
    Result(name="power cycle", state="skipped", text="no [power]"),
]


def test_junit_has_a_case_a_step_with_its_failure_in_words(tmp_path):
    write_junit(tmp_path / "hil.xml", found(RESULTS))
    suite = ET.parse(tmp_path / "hil.xml").getroot()[0]  # noqa: S314 - our own writer's
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")} == {
        "tests": "3", "failures": "1", "errors": "0", "skipped": "1", "time": "3.500",
    }  # fmt: skip
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert list(cases) == ["reach", "check", "power cycle"]
    assert cases["check"].find("failure").get("message") == "WRONG clock: <never set> & more"
    assert cases["power cycle"].find("skipped").get("message") == "no [power]"
    assert len(cases["reach"]) == 0
    assert "ok    keys" in cases["check"].find("system-out").text


class Page(HTMLParser):
    """What a page would load, and its text."""

    def __init__(self):
        super().__init__()
        self.loads, self.text, self.tags = [], "", []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loads += [value for name, value in attributes if name in {"src", "href", "data"} and tag != "use"]

    def handle_data(self, data):
        self.text += data


def read(path):
    page = Page()
    page.feed(path.read_text("utf-8"))
    return page


def test_the_page_is_one_file_with_its_plots_inside(tmp_path):
    one = found(RESULTS, stages_ms=STAGES, pending=[(0.0, 0), (5.0, 4), (20.0, 0)], mended_s=15.0, samples=SAMPLES)
    write_html(tmp_path / "hil.html", one)
    page = read(tmp_path / "hil.html")
    assert page.loads == []
    assert "script" not in page.tags
    assert page.tags.count("svg") == 7
    assert "1 of 3 steps failed" in page.text
    assert "WRONG clock: <never set> & more" in page.text
    assert [heading for heading, figure in plots(one) if svg(figure)] == [
        "Time of each stage", "Records that wait for the broker, through the cut", "Heat", "Clock rate",
        "Memory of each unit, by its proportional share", "Resident memory of each unit", "Memory that is left",
    ]  # fmt: skip


def test_what_was_not_measured_has_no_plot(tmp_path):
    write_html(tmp_path / "hil.html", found(RESULTS[:1]))
    page = read(tmp_path / "hil.html")
    assert "svg" not in page.tags
    assert "no step failed" in page.text


@given(
    st.text(max_size=60), st.text(max_size=60), st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3)
)
def test_whatever_a_node_says_leaves_both_reports_whole(tmp_path_factory, text, line, facts):
    folder = tmp_path_factory.mktemp("report")
    one = found([Result(name=text or "x", state="failed", text=line, lines=[text, line])], facts=facts)
    write_junit(folder / "hil.xml", one)
    write_html(folder / "hil.html", one)
    [case] = ET.parse(folder / "hil.xml").getroot().iter("testcase")  # noqa: S314 - our own writer's
    wanted = re.sub(r"[\t\n\r]", " ", printable(line))  # attributes hold no line ends
    assert re.sub(r"[\t\n\r]", " ", case.find("failure").get("message")) == wanted
    assert "script" not in read(folder / "hil.html").tags


@pytest.mark.parametrize("bad", ["\0", "\x1b[31m", "\ud800", "\ufffe"])
def test_what_xml_cannot_hold_is_replaced(bad):
    assert printable(f"a{bad}b").startswith("a?")
