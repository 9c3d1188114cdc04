"""The node's configuration: TOML into strict structs, and those into values of the domain.

An unknown key, a wrong type or unit, a retention above the cap and an unreadable path are refused with the key's path.
Nothing here can widen what the signed bundle allows: `[narrow]` only takes away, and the bundle's loader checks that.
"""

import hashlib
import re
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path, PurePath
from typing import Annotated
from urllib.parse import unquote, urlsplit

import msgspec

from homeplate.domain.passage import Direction
from homeplate.domain.profiles import Profile
from homeplate.domain.provider import Provider
from homeplate.domain.source import (
    BOARD_KINDS,
    LIVE_KINDS,
    MINIMUM_PLATE_WIDTH,
    CameraSettings,
    NetworkSettings,
    NightSettings,
    Polygon,
    SourceKind,
    SourceSettings,
)
from homeplate.errors import ConfigError
from homeplate.policy.disclosure import Narrowing
from homeplate.policy.egress import UPLINK_USER
from homeplate.policy.retention import duration_s

DEFAULT_PATH = Path("/etc/homeplate/homeplate.toml")
MAX_CONFIG_BYTES = 256 * 1024
_NAME = r"^[a-z0-9][a-z0-9-]{0,31}$"
_MIN_CORNERS = 3
_ENUMS: dict[str, type[StrEnum]] = {".kind": SourceKind, ".provider": Provider, ".profile": Profile}


class NodeSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[node]`: where things lie."""

    data_dir: Path = Path("/var/lib/homeplate")
    runtime_dir: Path = Path("/run/homeplate")
    """Memory-backed: slot keys shorter than a day live here and die with the power."""
    allow_swap: bool = False
    """True only where swap is encrypted or memory-backed in a way that the node cannot see."""
    uplink_user: Annotated[str, msgspec.Meta(pattern=r"^([a-z_][a-z0-9_-]{0,31}|[0-9]{1,10})\Z")] = UPLINK_USER
    """Whose packets the kernel's rules judge."""


class ModelsSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[models]`: another folder with a manifest, what runs the models, how many CPU threads they may use."""

    dir: Path | None = None
    provider: Provider = Provider.CPU
    threads: int = msgspec.field(default=1)


MOST_TILES = 4
"""A side; each piece costs an inference a frame."""


class NightSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[source.camera.night]`: when a camera of kind "picamera" turns to night, in lux, and what is switched then."""

    below_lux: float = 10.0
    above_lux: float = 40.0
    lamp: str | None = None
    cut_filter: str | None = None


class CameraSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[source.camera]`: a camera on this board (kinds "picamera", "csi" and "v4l2")."""

    number: int = 0
    model: str | None = None
    width: int = 1280
    height: int = 720
    fps: float = 30.0
    speed_kmh: float = 50.0
    blur_px: float = 2.0
    distance_m: float | None = None
    night: NightSection | None = None


class NetworkSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[source.network]`: the one address of a network camera (kind "rtsp"); its password is in a file."""

    url: str
    user: str | None = None
    password_file: Path | None = None
    authority: Path | None = None


class SourceSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[source]]`: one camera, file or folder. Polygons are corners in fractions of width and height."""

    name: str
    kind: SourceKind
    path: Path | None = None
    region: list[tuple[float, float]] | None = None
    tiles: int = 1
    masks: list[list[tuple[float, float]]] = []
    minimum_plate_width_px: float = MINIMUM_PLATE_WIDTH
    directions: list[Direction] = []
    stills: bool = False
    realtime_fps: float | None = None
    camera: CameraSection | None = None
    network: NetworkSection | None = None


class NarrowSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[narrow]`: what this node leaves out of the signed rules."""

    drop_rules: list[str] = []
    drop_recipients: list[str] = []
    retention: dict[str, str] = {}
    """Rule name to a shorter retention, as "20s", "5min", "12h" or "30d"."""
    profile: Profile | None = None
    """A retention profile that caps every rule, as "chp"."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a configuration file may say."""

    node: NodeSection = NodeSection()
    models: ModelsSection = ModelsSection()
    source: list[SourceSection] = []
    narrow: NarrowSection = NarrowSection()


class Config(_File, frozen=True, forbid_unknown_fields=True):
    """A whole configuration file, with the SHA-256 of its bytes (hexadecimal), which the ledger names at each start."""

    sha256: str = ""


def load_config(path: Path) -> Config:
    """Read and check a configuration file.

    Raises:
        ConfigError: where it is missing, unreadable, too large, not TOML, or says something that is not known; the
            message names the key's path.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CONFIG_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path}: no such file; write one (see firmware_configs/), or name it with --config"
        ) from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_CONFIG_BYTES} bytes; that is no configuration of ours")
    return parse_config(raw, name=str(path))


def parse_config(raw: bytes, *, name: str) -> Config:
    """Check a configuration's text; `name` is what messages call it.

    Raises:
        ConfigError: see `load_config`.
    """
    try:
        file = msgspec.toml.decode(raw, type=_File, dec_hook=_decode_path)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{name}: {_keyed(str(error))}") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:  # tomllib passes on numbers of 4300 digits
        raise ConfigError(f"{name}: is not TOML: {error}") from error
    config = Config(**msgspec.structs.asdict(file), sha256=hashlib.sha256(raw).hexdigest())
    try:
        _check(config)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error
    return config


def _decode_path(kind: type, value: object) -> Path:
    """Read a path; the one type here that TOML does not have."""
    if kind is not Path or not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("expected a path")
    return Path(value)


def _keyed(message: str) -> str:
    """Put msgspec's path in front, as a person would write it: `source[0].name: ...`."""
    text, _, path = message.partition(" - at `$")
    key = path.rstrip("`").lstrip(".")
    if text.startswith("Invalid enum value"):
        known = next((kinds for end, kinds in _ENUMS.items() if key.endswith(end)), Direction)
        text += f"; it can be {', '.join(known)}"
    return f"{key}: {text}" if key else text


def _check(config: Config) -> None:
    if not 1 <= config.models.threads <= 16:  # noqa: PLR2004 - no node of ours has more cores
        raise ValueError("models.threads: between 1 and 16")
    names = [source.name for source in config.source]
    for index, source in enumerate(config.source):
        _check_source(source, f"source[{index}]")
        if names.index(source.name) != index:
            raise ValueError(f"source[{index}].name: {source.name!r} is taken by source[{names.index(source.name)}]")
    for rule, text in config.narrow.retention.items():
        duration_s(text, key=f"narrow.retention.{rule}")


def _check_source(source: SourceSection, key: str) -> None:
    if not re.match(_NAME, source.name):
        raise ValueError(f"{key}.name: 1 to 32 characters of a-z, 0-9 and hyphen, not {source.name!r}")
    if not 0 <= source.minimum_plate_width_px <= 4096:  # noqa: PLR2004 - wider than any frame
        raise ValueError(f"{key}.minimum_plate_width_px: pixels of the full frame, 0 to 4096")
    if not 1 <= source.tiles <= MOST_TILES:
        raise ValueError(f"{key}.tiles: pieces a side in which the region is looked at, 1 to {MOST_TILES}")
    if source.realtime_fps is not None and not 0 < source.realtime_fps <= 240:  # noqa: PLR2004 - no camera is faster
        raise ValueError(f"{key}.realtime_fps: frames a second, above 0 and at most 240")
    if source.stills and source.kind is not SourceKind.FOLDER:
        raise ValueError(f'{key}.stills: only a source of kind "folder" holds stills')
    _check_kind(source, key)
    if source.camera is not None:
        _check_camera(source.camera, source.kind, f"{key}.camera")
    if source.network is not None:
        _check_network(source.network, f"{key}.network")
    for name, polygon in [("region", source.region), *((f"masks[{i}]", mask) for i, mask in enumerate(source.masks))]:
        if polygon is not None:
            _check_polygon(polygon, f"{key}.{name}")


_WITH_PATH = frozenset({SourceKind.VIDEO, SourceKind.FOLDER, SourceKind.V4L2})


def _check_kind(source: SourceSection, key: str) -> None:
    """Refuse what does not belong to a source of this kind, and name what is missing."""
    kind = source.kind.value
    if (source.path is not None) != (source.kind in _WITH_PATH):
        wanted = "needs the path of its file, folder or device" if source.path is None else "has no path"
        raise ValueError(f'{key}.path: a source of kind "{kind}" {wanted}')
    if source.camera is not None and source.kind not in BOARD_KINDS:
        raise ValueError(f'{key}.camera: a source of kind "{kind}" has no camera on this board')
    if (source.network is not None) != (source.kind is SourceKind.RTSP):
        wanted = "needs the url of its camera" if source.network is None else "has no address"
        raise ValueError(f'{key}.network: a source of kind "{kind}" {wanted}')
    if source.realtime_fps is not None and source.kind in LIVE_KINDS:
        raise ValueError(f'{key}.realtime_fps: a source of kind "{kind}" is a live camera; see camera.fps')


_LED = r"^[A-Za-z0-9][A-Za-z0-9:_-]{0,63}\Z"
_SIDES = range(64, 4097)


def _check_camera(camera: CameraSection, kind: SourceKind, key: str) -> None:
    limits: list[tuple[str, float | None, float, float]] = [
        ("number", camera.number, 0, 7),
        ("fps", camera.fps, 1, 240),
        ("speed_kmh", camera.speed_kmh, 1, 300),
        ("blur_px", camera.blur_px, 0.1, 20),
        ("distance_m", camera.distance_m, 0.5, 200),
    ]
    for name, value, least, most in limits:
        if value is not None and not least <= value <= most:
            raise ValueError(f"{key}.{name}: between {least:g} and {most:g}")
    for name, side in (("width", camera.width), ("height", camera.height)):
        if side not in _SIDES or side % 2:
            raise ValueError(f"{key}.{name}: an even number of pixels, {_SIDES[0]} to {_SIDES[-1]}")
    for name, given in (("distance_m", camera.distance_m), ("night", camera.night), ("model", camera.model)):
        if given is not None and kind is not SourceKind.PICAMERA:
            raise ValueError(f'{key}.{name}: only a camera of kind "picamera" can be told')
    if camera.night is not None:
        _check_night(camera.night, f"{key}.night")


def _check_night(night: NightSection, key: str) -> None:
    if not 0 < night.below_lux < night.above_lux <= 100_000:  # noqa: PLR2004 - sunlight
        raise ValueError(f"{key}: below_lux is above 0 and less than above_lux, which is at most 100000")
    for name, led in (("lamp", night.lamp), ("cut_filter", night.cut_filter)):
        if led is not None and not re.match(_LED, led):
            raise ValueError(f"{key}.{name}: a name in /sys/class/leds, not {led!r}")


_SCHEMES = {"rtsp": 554, "rtsps": 322}
_CREDENTIALS = frozenset({"user", "username", "usr", "password", "passwd", "pwd", "pass", "token", "auth", "key"})


def _check_network(network: NetworkSection, key: str) -> None:
    """Refuse an address that is none: a name would be looked up, and another scheme is another protocol."""
    # The url is not in the messages: a person may have written a password into it.
    try:
        url = urlsplit(network.url)
        host, port = url.hostname or "", url.port
    except ValueError:
        raise ValueError(f"{key}.url: is no address; write rtsp://192.0.2.20:554/stream") from None
    if url.scheme not in _SCHEMES:
        raise ValueError(f"{key}.url: rtsp:// or rtsps:// and no other scheme")
    if url.username is not None or url.password is not None:
        raise ValueError(f"{key}.url: holds no user and password; write network.user and network.password_file")
    if name := _credential_in(f"{url.path}?{url.query}#{url.fragment}"):
        raise ValueError(
            f"{key}.url: '{name}' names a credential, and everybody may read this file; write network.user and "
            "network.password_file"
        )
    if not network.url.isprintable() or not network.url.isascii() or " " in network.url or port == 0:
        raise ValueError(f"{key}.url: is no address; write rtsp://192.0.2.20:554/stream")
    try:
        address = ip_address(host)
    except ValueError:
        raise ValueError(f"{key}.url: its host is a literal address, since the node asks no name server") from None
    if address.is_multicast or address.is_unspecified:
        raise ValueError(f"{key}.url: its host is the address of one camera")
    if (network.user is None) != (network.password_file is None):
        raise ValueError(f"{key}: user and password_file belong together")
    if network.authority is not None and url.scheme != "rtsps":
        raise ValueError(f"{key}.authority: only rtsps:// has certificates")


def _credential_in(rest: str) -> str | None:
    """Return which credential a parameter of an address names; some cameras take it in the path (user=A_password=B)."""
    for part in re.split(r"[?&;/#_]", unquote(rest)):
        name, equals, _ = part.partition("=")
        if equals and name.strip().lower() in _CREDENTIALS:
            return name.strip().lower()
    return None


def _check_polygon(polygon: list[tuple[float, float]], key: str) -> None:
    if len(polygon) < _MIN_CORNERS:
        raise ValueError(f"{key}: a polygon has at least {_MIN_CORNERS} corners")
    if any(not 0 <= value <= 1 for corner in polygon for value in corner):
        raise ValueError(f"{key}: corners are fractions of the picture's width and height, 0 to 1")


def source_settings(section: SourceSection) -> SourceSettings:
    """Return a source as a value of the domain."""
    return SourceSettings(
        name=section.name,
        kind=section.kind,
        path=section.path or PurePath(),
        region=_polygon(section.region) if section.region is not None else None,
        tiles=section.tiles,
        masks=tuple(_polygon(mask) for mask in section.masks),
        minimum_plate_width=section.minimum_plate_width_px,
        directions=frozenset(section.directions),
        stills=section.stills,
        realtime_fps=section.realtime_fps,
        camera=_camera(section),
        network=_network(section.network) if section.network is not None else None,
    )


def _camera(section: SourceSection) -> CameraSettings | None:
    if section.kind not in BOARD_KINDS:
        return None
    values = msgspec.structs.asdict(section.camera or CameraSection())
    night = values.pop("night")
    return CameraSettings(**values, night=NightSettings(**msgspec.structs.asdict(night)) if night else None)


def _network(section: NetworkSection) -> NetworkSettings:
    return NetworkSettings(**msgspec.structs.asdict(section))


def _polygon(corners: list[tuple[float, float]]) -> Polygon:
    return tuple((x, y) for x, y in corners)


def narrowing(section: NarrowSection) -> Narrowing:
    """Return what the node leaves out, as a value of the policy."""
    return Narrowing(
        drop_rules=frozenset(section.drop_rules),
        drop_recipients=frozenset(section.drop_recipients),
        retention_s={
            rule: duration_s(text, key=f"narrow.retention.{rule}") for rule, text in section.retention.items()
        },
        profile=section.profile,
    )
