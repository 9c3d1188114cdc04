"""The configuration is strict: what it does not know it refuses, with the key's path."""

import contextlib
import re
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


CAMERA = "[[source]]\nname='a'\nkind='picamera'\n[source.camera]\n"
NETWORK = "[[source]]\nname='a'\nkind='rtsp'\n[source.network]\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[source]]\nname='a'\nkind='v4l2'", 'source[0].path: a source of kind "v4l2" needs the path'),
        ("[[source]]\nname='a'\nkind='picamera'\npath='/dev/video0'", "source[0].path"),
        ("[[source]]\nname='a'\nkind='video'\npath='/x'\n[source.camera]\nfps=30", "source[0].camera"),
        ("[[source]]\nname='a'\nkind='picamera'\nrealtime_fps=5", "source[0].realtime_fps"),
        ("[[source]]\nname='a'\nkind='picamera'\nstills=true", "source[0].stills"),
        (CAMERA + "gain = 3", "source[0].camera: Object contains unknown field `gain`"),
        (CAMERA + "number = 8", "source[0].camera.number: between 0 and 7"),
        (CAMERA + "width = 1281", "source[0].camera.width: an even number of pixels"),
        (CAMERA + "height = 5000", "source[0].camera.height"),
        (CAMERA + "fps = 0", "source[0].camera.fps"),
        (CAMERA + "speed_kmh = 0", "source[0].camera.speed_kmh"),
        (CAMERA + "blur_px = 0", "source[0].camera.blur_px"),
        (CAMERA + "distance_m = 0", "source[0].camera.distance_m"),
        (CAMERA + "night = { below_lux = 40, above_lux = 10 }", "source[0].camera.night: below_lux"),
        (CAMERA + "night = { lamp = '../../etc' }", "source[0].camera.night.lamp: a name in /sys/class/leds"),
        ("[[source]]\nname='a'\nkind='csi'\n[source.camera]\nnight = {}", 'night: only a camera of kind "picamera"'),
        (
            "[[source]]\nname='a'\nkind='csi'\n[source.camera]\nmodel='imx219'",
            'model: only a camera of kind "picamera"',
        ),
        ("[[source]]\nname='a'\nkind='rtsp'", 'source[0].network: a source of kind "rtsp" needs the url'),
        ("[[source]]\nname='a'\nkind='csi'\n[source.network]\nurl='rtsp://10.0.0.1/'", "source[0].network"),
        (NETWORK + "url='http://10.0.0.1/'", "source[0].network.url: rtsp:// or rtsps://"),
        (NETWORK + "url='file:///etc/passwd'", "source[0].network.url: rtsp:// or rtsps://"),
        (NETWORK + "url='concat:a|b'", "source[0].network.url: rtsp:// or rtsps://"),
        (NETWORK + "url='rtspt://10.0.0.1/'", "source[0].network.url: rtsp:// or rtsps://"),
        (NETWORK + "url='rtsp://camera.lan/'", "source[0].network.url: its host is a literal address"),
        (NETWORK + "url='rtsp:///x'", "source[0].network.url: its host is a literal address"),
        (NETWORK + "url='rtsp://10.1/'", "source[0].network.url: its host is a literal address"),
        (NETWORK + "url='rtsp://239.0.0.1/'", "source[0].network.url: its host is the address of one camera"),
        (NETWORK + "url='rtsp://0.0.0.0/'", "source[0].network.url: its host is the address of one camera"),
        (NETWORK + "url='rtsp://10.0.0.1:0/'", "source[0].network.url: is no address"),
        (NETWORK + "url='rtsp://10.0.0.1:99999/'", "source[0].network.url: is no address"),
        (NETWORK + "url='rtsp://10.0.0.1/a b'", "source[0].network.url: is no address"),
        (NETWORK + "url='rtsp://10.0.0.1/'\nuser='u'", "source[0].network: user and password_file belong together"),
        (NETWORK + "url='rtsp://10.0.0.1/'\npassword='p'", "unknown field `password`"),
        (NETWORK + "url='rtsp://10.0.0.1/'\nauthority='/ca.pem'", "source[0].network.authority"),
    ],
)
def test_what_is_wrong_with_a_camera_is_refused_with_the_path_of_its_key(text, said):
    with pytest.raises(ConfigError) as caught:
        parse_config(text.encode(), name="x.toml")
    assert said in str(caught.value)


def test_a_password_in_a_cameras_address_is_refused_and_not_repeated():
    with pytest.raises(ConfigError) as caught:
        parse_config((NETWORK + "url='rtsp://admin:Tr0ub4dor@10.0.0.1/'").encode(), name="x.toml")
    assert "network.password_file" in str(caught.value)
    assert "Tr0ub4dor" not in str(caught.value)


@pytest.mark.parametrize(
    "rest",
    [
        "stream?user=admin&password=Tr0ub4dor",
        "stream?channel=1&PWD=Tr0ub4dor",
        "stream?channel=1;pass=Tr0ub4dor",
        "stream?p%61ssword=Tr0ub4dor",
        "user=admin_password=Tr0ub4dor_channel=1_stream=0.sdp",
        "user=admin&password=Tr0ub4dor&channel=1",
        *(f"stream?{name}=Tr0ub4dor" for name in ("username", "token", "auth", "key")),
    ],
)
def test_a_credential_among_an_addresss_parameters_is_refused_by_its_name_and_not_repeated(rest):
    with pytest.raises(ConfigError) as caught:
        parse_config((NETWORK + f"url='rtsp://10.0.0.1/{rest}'").encode(), name="x.toml")
    assert re.search(r"network\.url: '\w+' names a credential", str(caught.value))
    assert "network.password_file" in str(caught.value)
    assert "Tr0ub4dor" not in str(caught.value)


def test_an_address_keeps_parameters_that_choose_a_stream():
    url = "rtsp://10.0.0.1/cam/realmonitor?channel=1&subtype=0&monkey=2"
    (section,) = parse_config((NETWORK + f"url='{url}'").encode(), name="x.toml").source
    assert section.network.url == url


def test_cameras_become_values_of_the_domain():
    text = """
[[source]]
name = "pi"
kind = "picamera"
[source.camera]
number = 1
model = "imx296"
width = 1456
height = 1088
distance_m = 9
[source.camera.night]
lamp = "infrared"

[[source]]
name = "usb"
kind = "v4l2"
path = "/dev/v4l/by-id/usb-camera"

[[source]]
name = "gate"
kind = "rtsp"
[source.network]
url = "rtsps://[2001:db8::20]:322/stream?channel=1"
user = "homeplate"
password_file = "gate.password"
authority = "/etc/homeplate/gate.pem"
"""
    pi, usb, gate = (source_settings(section) for section in parse_config(text.encode(), name="x.toml").source)
    assert (pi.camera.number, pi.camera.width, pi.camera.night.lamp, pi.live) == (1, 1456, "infrared", True)
    assert (usb.camera.width, str(usb.path), usb.camera.night) == (1280, "/dev/v4l/by-id/usb-camera", None)
    assert (gate.network.user, gate.camera, gate.live) == ("homeplate", None, True)


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
