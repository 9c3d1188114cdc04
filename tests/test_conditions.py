"""Inside a sensitive place neither a start nor a running capture reads."""

import pytest
from click.testing import CliRunner

from homeplate import cli
from homeplate.app.capture import InstalledTerms
from homeplate.app.node import load_identity
from homeplate.clock import WallClock
from homeplate.domain.place import PlaceKind
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
