"""The legal map names a test for every duty, and every test that it names exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "legal-map.md").read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| section ")
]
DUTIES = (
    "1798.90.5(f)", "1798.90.51(a)", "1798.90.51(b)", "1798.90.52", "1798.90.53", "1798.90.55(a)", "1798.90.55(b)",
    "Veh. Code 2413", "Auditor 31, 32", "Auditor 33, 47", "Auditor 34, 57", "1798.29/.82", "CJIS 5.10.1.2",
)  # fmt: skip
"""The first column of the table of requirements."""


@cache
def names_of_tests():
    return {
        found.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for found in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(found, ast.FunctionDef) and found.name.startswith("test_")
    }


@pytest.mark.parametrize("duty", DUTIES)
def test_each_duty_has_one_row(duty):
    named = [row[0] for row in ROWS if re.search(rf"(^|[ :]){re.escape(duty)}(:|$)", row[0])]
    assert len(named) == 1, f"docs/legal-map.md has {len(named)} rows for {duty}"


@pytest.mark.parametrize("duty", DUTIES)
def test_each_duty_has_a_test_that_bears_its_name(duty):
    law = "cjis" if duty.startswith("CJIS") else "auditor" if duty.startswith("Auditor") else "code"
    numbers = "_".join(re.findall(r"\d+|\([a-z]\)", duty)).replace("(", "").replace(")", "")
    bearing = re.compile(rf"test_(\w+_)?{law}_{numbers.replace('_', '_(and_)?')}_")
    assert [name for name in names_of_tests() if bearing.match(name)], f"no test bears the name of {duty}"


@pytest.mark.parametrize("row", ROWS, ids=[row[0].split(":")[0] for row in ROWS])
def test_each_row_says_a_behaviour_and_names_tests_that_exist(row):
    section, behaviour, shown = row
    named = re.findall(r"`(test_\w+)`", shown)
    assert named, f"docs/legal-map.md: {section} names no test"
    assert behaviour
    assert not set(named) - names_of_tests(), f"docs/legal-map.md: {section} names tests that do not exist"


def test_the_shared_table_of_requirements_has_no_duty_that_is_missing_here():
    table = ROOT.parent / "shared" / "docs" / "REQUIREMENTS.md"
    if not table.exists():
        pytest.skip("the table of requirements (../shared/docs) is not on this machine")
    rows = re.findall(r"^\| ([^|]+) \|", table.read_text("utf-8").split("## 3")[0], re.MULTILINE)
    wanted = [row.strip() for row in rows if row.strip() not in {"source", "---"}]
    have = [row[0] for row in ROWS]
    assert wanted
    for duty in wanted:
        short = duty.removeprefix("Civ. Code ").lstrip(".")
        assert any(short in section for section in have), duty
