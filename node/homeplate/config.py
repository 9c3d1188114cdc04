"""The node's configuration: TOML into strict structs, and those into values of the domain.

An unknown key, a wrong type or unit, a retention above the cap and an unreadable path are refused with the key's path.
Nothing here can widen what the signed bundle allows: `[narrow]` only takes away, and the bundle's loader checks that.
"""

import hashlib
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec

from homeplate.domain.passage import Direction
from homeplate.domain.profiles import Profile
from homeplate.domain.provider import Provider
from homeplate.domain.source import MINIMUM_PLATE_WIDTH, Polygon, SourceKind, SourceSettings
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


class SourceSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[source]]`: one camera, file or folder. Polygons are corners in fractions of width and height."""

    name: str
    kind: SourceKind
    path: Path
    region: list[tuple[float, float]] | None = None
    tiles: int = 1
    masks: list[list[tuple[float, float]]] = []
    minimum_plate_width_px: float = MINIMUM_PLATE_WIDTH
    directions: list[Direction] = []
    stills: bool = False
    realtime_fps: float | None = None


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
    for name, polygon in [("region", source.region), *((f"masks[{i}]", mask) for i, mask in enumerate(source.masks))]:
        if polygon is not None:
            _check_polygon(polygon, f"{key}.{name}")


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
        path=section.path,
        region=_polygon(section.region) if section.region is not None else None,
        tiles=section.tiles,
        masks=tuple(_polygon(mask) for mask in section.masks),
        minimum_plate_width=section.minimum_plate_width_px,
        directions=frozenset(section.directions),
        stills=section.stills,
        realtime_fps=section.realtime_fps,
    )


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
