"""The page on formats names every key that a signed file may have: who writes a reader from it misses none."""

from pathlib import Path

import pytest

from homeplate.store import cosignatures, rows
from homeplate.store.certificates import Certificate
from homeplate.trust import chunks, hold, places, schema

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "record-format.md").read_text("utf-8")
BUNDLE = PAGE.split("## 11. The bundle")[1]
HOLDS = PAGE.split("### Evidence holds")[1].split("## 10.")[0]
LEDGER = PAGE.split("## 10. The ledger")[1].split("## 11.")[0]
FILES = [
    *((kind, BUNDLE) for kind in schema.Entry.__subclasses__() if kind.__module__ == schema.__name__),
    *((kind, BUNDLE) for kind in (places.CircleEntry, places.PolygonEntry, chunks.List, chunks.Chunk)),
    *((kind, HOLDS) for kind in (hold.HoldEntry, hold.ReleaseEntry)),
    *((kind, LEDGER) for kind in (rows.Line, rows.Row, rows.Header, rows.Shown, rows.Withheld)),
    *((kind, LEDGER) for kind in (cosignatures.RequestFile, cosignatures.RequestEntry, cosignatures.CosignedFile)),
]


@pytest.mark.parametrize(("kind", "section"), FILES, ids=[kind.__name__ for kind, _ in FILES])
def test_every_key_of_a_file_is_named_by_the_page(kind, section):
    lacking = [name for name in kind.__struct_fields__ if f"`{name}`" not in section and f'"{name}"' not in section]
    assert not lacking, f"docs/record-format.md does not name {', '.join(lacking)} of {kind.__name__}"


def test_every_key_of_a_purge_certificate_is_named_by_the_page():
    lacking = [name for name in Certificate.__struct_fields__ if f"`{name}`" not in LEDGER]
    assert not lacking, f"docs/record-format.md does not name {', '.join(lacking)}"
