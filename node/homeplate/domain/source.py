"""What the configuration says of one source of frames, as a value."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath

from homeplate.domain.passage import Direction

Polygon = tuple[tuple[float, float], ...]
"""Corners as fractions of the picture's width and height, 0..1, at least three, not closed."""

WHOLE_PICTURE: Polygon = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))

MINIMUM_PLATE_WIDTH = 60.0
"""Pixels of the full frame below which a plate is not read unless the configuration says otherwise."""


class SourceKind(StrEnum):
    """How frames are got."""

    VIDEO = "video"
    FOLDER = "folder"
    PICAMERA = "picamera"
    CSI = "csi"
    V4L2 = "v4l2"
    RTSP = "rtsp"


LIVE_KINDS = frozenset({SourceKind.PICAMERA, SourceKind.CSI, SourceKind.V4L2, SourceKind.RTSP})
"""Cameras: the newest frame wins, and one that breaks is opened again."""
BOARD_KINDS = LIVE_KINDS - {SourceKind.RTSP}
"""Cameras that capture opens itself; those of the network are a grabber's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NightSettings:
    """When a camera turns to night, and what it switches then.

    Attributes:
        below_lux: night begins where the light stays below this.
        above_lux: day begins where it stays above this; well above the other, because the lamp's own light counts.
        lamp: the infrared lamp's name in /sys/class/leds, lit at night; None: there is none.
        cut_filter: the infrared cut filter's name there, in the light's way by day; None: it cannot be moved.
    """

    below_lux: float
    above_lux: float
    lamp: str | None = None
    cut_filter: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraSettings:
    """How a camera on the board is set.

    Attributes:
        number: which of the board's cameras, from 0.
        model: the sensor that has to be there, as "imx296"; None: any.
        width, height: pixels of the picture.
        fps: pictures a second.
        speed_kmh: of the fastest vehicle that is to be read.
        blur_px: by how much its plate may smear, pixels, where it is as narrow as the narrowest that is read.
        distance_m: where the lens is focused, metres; None: by hand.
        night: None: the camera stays as it is by day.
    """

    number: int = 0
    model: str | None = None
    width: int = 1280
    height: int = 720
    fps: float = 30.0
    speed_kmh: float = 50.0
    blur_px: float = 2.0
    distance_m: float | None = None
    night: NightSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """The address of one network camera. Nothing of it can hold a password.

    Attributes:
        url: rtsp or rtsps with a literal address.
        user: None: it asks for none.
        password_file: a file, or a name in systemd's credentials.
        authority: certificates that an rtsps camera's has to come from.
    """

    url: str
    user: str | None = None
    password_file: PurePath | None = None
    authority: PurePath | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """One source.

    Attributes:
        path: of a file, a folder or a V4L2 device; empty where the source is none of these.
        region: a plate counts only where its centre lies in this polygon; None means everywhere.
        tiles: pieces side by side (and as many below each other as keep their shape) in which the region is looked at;
            more see plates that are further away.
        masks: painted over before any copy of the frame is made.
        minimum_plate_width: pixels of the full frame; narrower plates are counted as `too_small` and not read.
        directions: directions of travel that count; empty means all.
        stills: each picture is its own sighting.
        realtime_fps: imitate a live camera at this rate, newest frame wins; None: every frame is processed.
        camera: of a camera on the board.
        network: of a camera on the network.
    """

    name: str
    kind: SourceKind
    path: PurePath
    region: Polygon | None = None
    tiles: int = 1
    masks: tuple[Polygon, ...] = ()
    minimum_plate_width: float = MINIMUM_PLATE_WIDTH
    directions: frozenset[Direction] = frozenset()
    stills: bool = False
    realtime_fps: float | None = None
    camera: CameraSettings | None = None
    network: NetworkSettings | None = None

    @property
    def live(self) -> bool:
        """Tell whether the newest frame wins and nothing can be processed again."""
        return self.kind in LIVE_KINDS or self.realtime_fps is not None
