"""Inside a sensitive place neither a start nor a running capture reads."""

import pytest
from click.testing import CliRunner

from homeplate import cli
from homeplate.app.capture import InstalledTerms
from homeplate.app.node import load_identity
from homeplate.app.refusals import refusals_written
from homeplate.clock import NANOSECONDS, SimulatedClock, WallClock
from homeplate.domain.place import PlaceKind
from homeplate.errors import CameraError, ConfigError, ModelError
from homeplate.store.ledger import MerkleLog, read_rows
from homeplate.trust.places import CircleEntry, PlacesFile
from homeplate.trust.reasons import NamedTrustError
from homeplate.trust.schema import PositionEntry
from homeplate_custodian import provision

CLINIC = CircleEntry(
    name="Clinic", kind=PlaceKind.CLINIC, source="the county",
    centre=PositionEntry(latitude_deg=32.7, longitude_deg=-117.1), radius_m=200,
)  # fmt: skip


def stands(node, latitude_deg):
    provision.set_places(node.custody, PlacesFile(places=[CLINIC]))
    pseudonym = load_identity(node.paths).pseudonym
    provision.set_position(node.custody, pseudonym, latitude_deg=latitude_deg, longitude_deg=-117.1)
    node.publish()


def test_a_start_inside_a_sensitive_place_is_refused_and_says_why(simulation_node, rendered):
    stands(simulation_node, 32.7)
    words = ["--config", str(simulation_node.config), "simulate", "--no-publish", str(rendered[0])]
    started = CliRunner().invoke(cli.main, words)
    assert started.exit_code == 6
    assert "sensitive-place" in started.stderr
    assert "stands in Clinic (clinic, after the county)" in started.stderr


def test_a_place_that_is_signed_while_capture_runs_ends_what_it_may_see(simulation_node):
    paths = simulation_node.paths
    terms = InstalledTerms(
        simulation_node.load(), paths, load_identity(paths), WallClock(), cameras=["lane-1"], manifest_sha256=bytes(32)
    )
    assert terms().demo
    stands(simulation_node, 32.7)
    for _ in range(2):
        with pytest.raises(NamedTrustError) as caught:
            terms()
        assert caught.value.reason == "sensitive-place"
    stands(simulation_node, 32.8)
    assert terms().demo


def start(node, clip, code):
    words = ["--config", str(node.config), "simulate", "--no-publish", str(clip)]
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == code, done.output


def not_started(node):
    path = node.paths.log("capture")
    return [row.fields for row in read_rows(path) if row.event == "capture.not-started"] if path.exists() else []


def test_a_start_inside_a_sensitive_place_is_a_row_by_its_reason_and_its_repeats_are_not(simulation_node, rendered):
    stands(simulation_node, 32.7)
    for _ in range(3):
        start(simulation_node, rendered[0], 6)
    (row,) = not_started(simulation_node)
    assert row["reason"] == "sensitive-place"
    assert "Clinic" in row["detail"]


def test_a_start_that_would_widen_the_rules_is_a_row(simulation_node, rendered):
    config = simulation_node.config
    config.write_text(config.read_text() + '\n[narrow]\nretention = { publish-everything = "2d" }\n')
    start(simulation_node, rendered[0], 2)
    (row,) = not_started(simulation_node)
    assert row["reason"] == "widened"


def test_a_start_on_an_edited_bundle_is_a_row(simulation_node, rendered):
    (rules,) = (simulation_node.paths.bundle / "targets").glob("*.rules.json")
    rules.write_bytes(rules.read_bytes().replace(b"demonstration", b"demonstratiom"))
    start(simulation_node, rendered[0], 6)
    (row,) = not_started(simulation_node)
    assert row["reason"] == "altered"
    assert str(simulation_node.folder) not in row["detail"]


@pytest.mark.parametrize(
    ("error", "reason"), [(CameraError, "source"), (ConfigError, "configuration"), (ModelError, "model")]
)
def test_a_refusal_that_may_name_a_file_is_a_row_by_its_kind_alone(tmp_path, error, reason):
    with pytest.raises(error), refusals_written(tmp_path / "capture.log", WallClock()):
        raise error("/media/7ABC123.mp4 cannot be read")
    (row,) = read_rows(tmp_path / "capture.log")
    assert row.fields == {"reason": reason}


def test_the_same_refusal_is_a_row_again_after_an_hour_and_another_one_at_once(tmp_path):
    clock, log = SimulatedClock(10**18), tmp_path / "capture.log"

    def refuse(reason):
        with pytest.raises(NamedTrustError), refusals_written(log, clock):
            raise NamedTrustError(reason, f"{reason}: it is")
        return len(list(read_rows(log)))

    assert [refuse("expired"), refuse("expired"), refuse("missing"), refuse("expired")] == [1, 1, 2, 3]
    clock.advance_to(10**18 + 3600 * NANOSECONDS - 1)
    assert refuse("expired") == 3
    clock.advance_to(10**18 + 3600 * NANOSECONDS)
    assert refuse("expired") == 4


def test_a_refusal_is_raised_on_where_the_ledger_cannot_be_written(tmp_path):
    log = tmp_path / "capture.log"
    with MerkleLog(log, WallClock()), pytest.raises(CameraError), refusals_written(log, WallClock()):
        raise CameraError("none")
