"""The grabber: the process that has the network of one camera. It holds no key, no store and no hot list.

It decides when the camera is asked again and hands its pictures to capture through `camera.shared`; it looks at none of
them. It knows one address, which is in the configuration as a literal, and a password that is in a file.
"""

import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import structlog

from homeplate.camera.errors import Reason, SourceError
from homeplate.camera.gstreamer import DECODED, GStreamerStream
from homeplate.camera.planes import Planes
from homeplate.camera.shared import FrameWriter, state_of
from homeplate.domain.source import NetworkSettings
from homeplate.errors import ConfigError

BACKOFF_S, BACKOFF_MOST_S = 1.0, 15.0
"""Before the camera is asked again: doubles with each failure, up to the second."""
UNAUTHORIZED_S = 60.0
"""After a wrong password: cameras lock an account after some of them."""
PASSWORD_MOST_BYTES = 1024
LATENCY_MS = 200
"""How long packets that came out of order are waited for."""
TCP_TIMEOUT_US = 4_000_000
DESCRIPTION = (
    f"rtspsrc name=camera protocols=tcp latency={LATENCY_MS} drop-on-latency=true tcp-timeout={TCP_TIMEOUT_US} "
    f"! application/x-rtp,media=(string)video ! decodebin ! {DECODED}"
)
"""Pictures come over the one TCP connection that the grabber opens: no port of its own, and no second address."""

_log = structlog.get_logger()


class Stream(Protocol):
    """A network camera that is open."""

    def pull(self) -> Planes:
        """Wait for the next picture.

        Raises:
            SourceError: none comes.
        """
        ...

    def close(self) -> None:
        """End the connection."""
        ...


def read_password(path: Path) -> str:
    """Return the first line of a password file.

    Raises:
        ConfigError: it is missing, empty, too long, or others may read it.
    """
    try:
        with path.open("rb") as file:
            found = stat.S_IMODE(path.stat().st_mode)
            raw = file.read(PASSWORD_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; write the camera's password into it, one line") from error
    if found & stat.S_IROTH:
        raise ConfigError(f"{path}: anybody may read it; chmod 0400, and its owner is the grabber's user")
    try:
        password = raw.decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8; write the camera's password into it, one line") from error
    if not password or "\n" in password or len(raw) > PASSWORD_MOST_BYTES:
        raise ConfigError(f"{path}: has to be one line of at most {PASSWORD_MOST_BYTES} bytes")
    return password


def stream_properties(settings: NetworkSettings, password: str | None) -> Mapping[str, Mapping[str, object]]:
    """Return what the pipeline's source is set to; none of it may stand in a text that somebody could see."""
    camera: dict[str, object] = {"location": settings.url}
    if settings.user is not None:
        camera |= {"user-id": settings.user, "user-pw": password or ""}
    if settings.authority is not None:
        camera["tls-database"] = settings.authority
    return {"camera": camera}


def open_stream(source: str, settings: NetworkSettings, password: str | None) -> GStreamerStream:
    """Connect to the camera.

    Raises:
        SourceError: GStreamer or a plugin is missing.
    """
    host = urlsplit(settings.url).hostname or ""
    guard = {"camera": {"before-send": lambda _, message: to_host(message, host)}}
    return GStreamerStream(source, DESCRIPTION, stream_properties(settings, password), guard)


def to_host(message: Any, host: str) -> bool:
    """Tell whether an RTSP request is for the one address: GStreamer would follow a camera that moves it elsewhere.

    Nothing is sent to another one, an answer to its demand for a password least of all. That no connection is made
    there either is the kernel's: the grabber's unit names its address (docs/cameras.md).
    """
    _, _, url, _ = message.parse_request()
    return bool(urlsplit(url).hostname == host)


class Grabber:
    """Runs one camera's stream until it is told to stop.

    Args:
        source: the source's name.
        connect: opens the camera; may raise SourceError.
        writer: where pictures go.
        beat: called for each picture and each failure that was dealt with.
    """

    def __init__(
        self, source: str, connect: Callable[[], Stream], writer: FrameWriter, beat: Callable[[], None]
    ) -> None:
        self._source, self._connect, self._writer, self._beat = source, connect, writer, beat

    def run(self, stop: threading.Event) -> None:
        """Run until `stop` is set; a camera that is lost is asked again."""
        failures = 0
        while not stop.is_set():
            try:
                for _ in self._pictures(stop):
                    failures = 0
            except SourceError as error:
                failures += 1
                self._writer.tell(state_of(error.reason))
                _log.error("grabber.camera-lost", source=self._source, reason=error.reason.value, message=str(error))
                self._pause(failures, error.reason, stop)

    def _pictures(self, stop: threading.Event) -> Iterator[None]:
        stream = self._connect()
        running = False
        try:
            while not stop.is_set():
                picture = stream.pull()
                try:
                    self._writer.write(picture)
                except ValueError as error:
                    raise SourceError(self._source, Reason.FORMAT, str(error)) from error
                if not running:
                    size = f"{picture.layout.width}x{picture.layout.height}"
                    _log.info("grabber.camera-running", source=self._source, pictures=size)
                running = True
                self._beat()
                yield
        finally:
            stream.close()

    def _pause(self, failures: int, reason: Reason, stop: threading.Event) -> None:
        """Wait before the next attempt, in pieces that the watchdog outlives."""
        left_s = min(BACKOFF_S * 2 ** min(failures - 1, 16), BACKOFF_MOST_S)
        if reason is Reason.UNAUTHORIZED:
            left_s = UNAUTHORIZED_S
        while left_s > 0 and not stop.is_set():
            self._beat()
            stop.wait(min(left_s, BACKOFF_MOST_S))
            left_s -= BACKOFF_MOST_S
            self._writer.tell(state_of(reason))
