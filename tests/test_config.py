"""The configuration is strict: what it does not know it refuses, with the key's path."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.config import MAX_CONFIG_BYTES, load_config, narrowing, parse_config, source_settings
from homeplate.domain.source import SourceKind
from homeplate.errors import ConfigError
from homeplate.policy.retention import duration_s

GOOD = b"""
[node]
data_dir = "/var/lib/homeplate"

[[source]]
name = "lane-1"
kind = "video"
path = "/clips/a.avi"
region = [[0, 0.2], [1, 0.2], [1, 1], [0, 1]]
tiles = 2
masks = [[[0, 0], [0.1, 0], [0.1, 0.1]]]
directions = ["approaching"]

[narrow]
drop_rules = ["all"]
retention = { hits = "12h" }
"""


def test_a_good_configuration_becomes_values_of_the_domain():
    config = parse_config(GOOD, name="x.toml")
    source = source_settings(config.source[0])
    assert source.kind is SourceKind.VIDEO
    assert source.region == ((0, 0.2), (1, 0.2), (1, 1), (0, 1))
    assert source.tiles == 2
    assert source.masks == (((0, 0), (0.1, 0), (0.1, 0.1)),)
    assert narrowing(config.narrow).retention_s == {"hits": 43_200}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[node]\ndata_folder = '/x'", "node: Object contains unknown field `data_folder`"),
        (
            "[[source]]\nname='a'\nkind='webcam'\npath='/x'",
            "Invalid enum value 'webcam'; it can be video, folder",
        ),
        ("[[source]]\nname='a'\nkind='video'\npath='/x'\ndirections=['up']", "it can be approaching, receding"),
        ("[[source]]\nname='Lane 1'\nkind='video'\npath='/x'", "source[0].name"),
        ("[[source]]\nname='a'\nkind='video'\npath='/x'\nstills=true", "source[0].stills"),
        ("[[source]]\nname='a'\nkind='video'\npath='/x'\nregion=[[0,0],[1,1]]", "source[0].region"),
        ("[[source]]\nname='a'\nkind='video'\npath='/x'\ntiles=0", "source[0].tiles"),
        ("[[source]]\nname='a'\nkind='video'\npath='/x'\nmasks=[[[0,0],[2,1],[1,1]]]", "source[0].masks[0]"),
        ("[[source]]\nname='a'\nkind='video'\npath='/x'\nrealtime_fps=0", "source[0].realtime_fps"),
        ("[models]\nthreads = 0", "models.threads"),
        ("[models]\nprovider = 'gpu'", "models.provider: Invalid enum value 'gpu'; it can be cpu, tensorrt"),
        ("[narrow.retention]\nhits = '12 hours'", "narrow.retention.hits"),
        ("[narrow.retention]\nhits = '61d'", "narrow.retention.hits: 61d is above the cap"),
        ("[policy", "is not TOML"),
        pytest.param("x = " + "[" * 5000, "is not TOML", id="5000 lists in lists"),
        pytest.param("x = " + "9" * 5000, "is not TOML", id="a number of 5000 digits"),
        (
            "[[source]]\nname='a'\nkind='video'\npath='/x'\n[[source]]\nname='a'\nkind='video'\npath='/y'",
            "source[1].name",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_the_path_of_its_key(text, said):
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode(), name="x.toml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("x.toml: ")


def test_a_missing_an_oversized_and_an_unreadable_file_are_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "none.toml")
    (tmp_path / "big.toml").write_bytes(b"#" * (MAX_CONFIG_BYTES + 1))
    with pytest.raises(ConfigError, match="larger than"):
        load_config(tmp_path / "big.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


@given(st.binary(max_size=200))
def test_no_input_raises_anything_but_a_config_error(raw):
    with contextlib.suppress(ConfigError):
        parse_config(raw, name="x.toml")


@given(st.integers(min_value=1, max_value=60 * 24))
def test_minutes_are_sixty_seconds(minutes):
    assert duration_s(f"{minutes}min", key="k") == minutes * 60


@pytest.mark.parametrize("board", ["raspberry-pi", "jetson"])
def test_the_configurations_that_we_ship_are_good(board):
    root = Path(__file__).resolve().parent.parent
    config = load_config(root / "firmware_configs" / board / "homeplate.toml")
    assert source_settings(config.source[0]).name == "lane-1"
