"""The public export from the node to a stranger's verifier: past days only, no time of day, and still it verifies."""

import json
import re
import shutil
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from homeplate import cli
from homeplate.clock import NANOSECONDS, SimulatedClock, WallClock
from homeplate.domain.record import DAY_SECONDS
from homeplate.store.archive import archive
from homeplate.store.ledger import MerkleLog
from homeplate.store.publishing import PUBLIC, publish
from homeplate.store.reading import closed_segments
from homeplate_custodian.cli import main
from tests.custodian.test_verify import NOW_S, PSEUDONYM, Ledgers
from tools import stage

CAMERA, CASE, RECORD = "lane-by-the-clinic", "case-2231", "c0ffee" * 5 + "00"
PASSED_S = WallClock().now_ns() // NANOSECONDS // DAY_SECONDS * DAY_SECONDS - 7_391  # last evening, to the second


def rows_of_a_day(log):
    log.append("capture.started", sources=1, provider="cpu")
    log.append("capture.sealed", source=CAMERA, captured_s=PASSED_S - 3, records=RECORD, recipients="demo-city-pd")
    log.append("capture.refused", rule="hits", recipient="border-patrol", reason="not-state: a federal body")
    log.append("capture.sealed", source=CAMERA, captured_s=PASSED_S - 1, records=RECORD, recipients="demo-city-pd")
    log.append("an.event-of-tomorrow", at=PASSED_S)


@pytest.fixture
def node(tmp_path, monkeypatch):
    """A node that was made two days ago and saw something yesterday and today."""
    with monkeypatch.context() as then:
        then.setattr(stage, "now_s", lambda: WallClock().now_ns() // NANOSECONDS - 2 * DAY_SECONDS)
        built = stage.build(tmp_path / "stage")
    built.paths.log("bundle").unlink()  # the stage installed its bundle today
    for name, event in (("bundle", "bundle.installed"), ("uplink", "uplink.started"), ("purge", "purge.done")):
        with MerkleLog(built.paths.log(name), SimulatedClock((PASSED_S - 60) * NANOSECONDS)) as log:
            log.append(event)
    with MerkleLog(built.paths.log("capture"), SimulatedClock(PASSED_S * NANOSECONDS)) as log:
        rows_of_a_day(log)
    with MerkleLog(built.paths.log("capture"), WallClock()) as log:
        log.append("capture.stopped", records=2)
    with MerkleLog(built.paths.log("hold"), SimulatedClock(PASSED_S * NANOSECONDS)) as log:
        log.append("hold.accepted", ground="case", case=CASE, camera=CAMERA, from_s=PASSED_S, records=1)
    yield built
    built.runtime.cleanup()


def homeplate(node, *words):
    return CliRunner().invoke(cli.main, ["--config", str(node.config), "ledger", *map(str, words)])


def verify(node, folder, *more):
    """What an auditor runs: the published bundle and the root, no private key."""
    public = folder.parent / "public"
    if not public.exists():
        shutil.copytree(node.custody / "bundle", public / "bundle")
        shutil.copy(node.custody / "root.json", public)
    where = ["--bundle", str(public / "bundle"), "--root", str(public / "root.json")]
    return CliRunner().invoke(main, ["verify", str(folder), *where, *more])


def test_an_export_verifies_with_public_keys_only_and_shows_past_days_without_a_time(node, tmp_path):
    homeplate(node, "sign")
    folder = tmp_path / "export"
    done = homeplate(node, "export", folder)
    assert done.exit_code == 0, done.output
    assert "capture: rows 1 to 5, 1 of them withheld" in done.output
    said = verify(node, folder)
    assert said.exit_code == 0, said.output
    assert "capture: 5 rows are good, 1 of them withheld" in said.output
    texts = [path.read_text() for path in folder.rglob("*") if path.is_file()]
    assert any("border-patrol" in text for text in texts)
    for secret in (CAMERA, CASE, RECORD, "event-of-tomorrow", "capture.stopped"):
        assert not any(secret in text for text in texts), secret
    digits = {int(run) for text in texts for run in re.findall(r"(?<![0-9a-f])\d{9,19}(?![0-9a-f])", text)}
    assert not [run for run in digits if run >= NOW_S // 2], "a time in seconds or nanoseconds"


def test_a_years_figures_are_counted_from_an_export_too(node, tmp_path):
    folder = tmp_path / "export"
    homeplate(node, "export", folder)
    year = str(datetime.fromtimestamp(PASSED_S, tz=UTC).year)
    where = ["--bundle", str(node.custody / "bundle"), "--root", str(node.custody / "root.json")]
    said = CliRunner().invoke(main, ["report", "disclosures", str(folder), "--year", year, *where])
    assert said.exit_code == 0, said.output
    assert "border-patrol: 1 not-state" in said.output
    assert "1 are withheld" in said.output


@pytest.mark.parametrize(
    ("row", "change"),
    [
        (3, lambda line: line.replace(b"border-patrol", b"highway-patrol")),
        (2, lambda line: line.replace(b'{"day":', b'{"day":1')),
        (5, lambda line: line.replace(b'{"leaf":"', b'{"leaf":"0')[:-2] + b"\n"),
        (4, lambda _: b""),
    ],
    ids=["field", "day", "withheld", "deleted"],
)
def test_an_export_that_was_altered_is_refused_and_its_first_bad_row_named(node, tmp_path, row, change):
    folder = tmp_path / "export"
    assert homeplate(node, "export", folder).exit_code == 0
    path = folder / "capture.export"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[row - 1] = change(lines[row - 1])
    path.write_bytes(b"".join(lines))
    said = verify(node, folder)
    assert said.exit_code == 10
    assert f"error: ledger capture, row {row}: " in said.output


def test_an_event_can_be_withheld_whole_and_one_that_is_not_known_is_refused(node, tmp_path):
    folder = tmp_path / "export"
    assert "3 of them withheld" in homeplate(node, "export", folder, "--withhold", "capture.sealed").output
    assert "capture.sealed" not in (folder / "capture.export").read_text()
    assert verify(node, folder).exit_code == 0
    again = homeplate(node, "export", folder)
    assert again.exit_code == 2
    assert "is there already" in again.output
    unknown = homeplate(node, "export", tmp_path / "other", "--withhold", "capture.seeled")
    assert unknown.exit_code == 2
    assert "capture.sealed" in unknown.output
    assert not (tmp_path / "other").exists()


def test_a_log_that_is_bad_or_not_what_was_signed_is_not_exported(node, tmp_path):
    homeplate(node, "sign")
    path = node.paths.log("capture")
    path.unlink()
    with MerkleLog(path, SimulatedClock(PASSED_S * NANOSECONDS)) as log:
        rows_of_a_day(log)
    done = homeplate(node, "export", tmp_path / "export")
    assert done.exit_code == 10
    assert "is not what capture-000000000006.note signed; nothing was exported" in done.output


def test_a_day_that_is_not_over_is_not_exported(simulation_node, tmp_path):
    done = homeplate(simulation_node, "export", tmp_path / "export")
    assert done.exit_code == 1, "no ledger is bad"
    assert "no log has a row of a day that is over" in done.output


def test_an_export_of_a_log_whose_beginning_is_archived_verifies_and_its_header_tells_no_time(tmp_path):
    ledgers = Ledgers(tmp_path)
    path, folder, public = ledgers.path("capture"), tmp_path / "archive", tmp_path / "public"
    with MerkleLog(path, ledgers.clock, segment_bytes=1_500) as log:
        for _ in range(20):
            log.append("capture.refused", rule="hits", recipient="nobody", reason="not-listed")
    ledgers.sign("capture")
    raw = ledgers.key.public_key().public_bytes_raw()
    later_ns = (NOW_S + 2 * DAY_SECONDS) * NANOSECONDS
    assert archive(path, folder, checkpoints=ledgers.checkpoints, public=raw, before_ns=later_ns)
    signer = {"checkpoints": ledgers.checkpoints, "key": ledgers.key, "pseudonym": PSEUDONYM, "now_ns": later_ns}
    part = publish(path, public, **signer)
    assert part.first > 1
    assert part.last == 20
    header = json.loads((public / "capture.export").read_bytes().splitlines()[0])
    assert header["time_ns"] % (DAY_SECONDS * NANOSECONDS) == 0
    exported = Ledgers(tmp_path, ledgers.key)
    exported.folder, exported.checkpoints = public, public / "checkpoints"
    assert exported.bad(partial=True) is None
    whole = publish(path, tmp_path / "whole", **signer, archives=[folder])
    assert (whole.first, whole.last) == (1, 20)
    assert len(closed_segments(path)) == 1


def test_no_field_that_an_export_shows_is_a_time_a_camera_a_person_or_a_case():
    named = set().union(*PUBLIC.values())
    assert not [name for name in named if name.endswith(("_s", "_ns", "_at"))]
    assert not named & {"camera", "who", "reference", "case", "hold", "slot", "input", "first_frame", "last_frame"}
    assert "source" not in set().union(*(fields for event, fields in PUBLIC.items() if event.startswith("capture.")))
