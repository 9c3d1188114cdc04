"""Serves the blackened pictures as MJPEG over HTTP on a Unix socket, until its time is over. There is no port.

`ssh -L 8080:/run/homeplate/aim.sock NODE` brings it to a browser. The socket is its owner's alone (0600). A viewer gets
the newest picture; a slow one misses some and holds nobody up, and one that takes none for a while is let go.
"""

import errno
import os
import re
import socket
import socketserver
import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from homeplate.errors import ConfigError

NANOSECONDS = 1_000_000_000
MOST_VIEWERS = 4
MOST_CONNECTIONS = 8
PATIENCE_S = 5.0
"""How long a viewer may take to ask, and to take one picture."""
WAKE_S = 0.25
"""How often a waiting thread looks whether the time is over."""
BOUNDARY = "homeplate-picture"
# A page elsewhere that makes the technician's browser ask through the forwarded port gets nothing: its name for the
# port is another one (DNS rebinding), and what it embeds it may not read.
_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?\Z")
_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
    ("Connection", "close"),
)


class Preview:
    """The pictures of a node's sources, for whoever may open the socket.

    Args:
        path: of the socket; a dead one there is replaced.
        names: of the sources.
        minutes: after which it ends by itself.
        perf_ns: a counter of nanoseconds.

    Raises:
        ConfigError: the socket cannot be made.
    """

    def __init__(self, path: Path, names: Sequence[str], *, minutes: float, perf_ns: Callable[[], int]) -> None:
        self.names = tuple(names)
        self.viewers = self.watching = self.pictures = 0
        self._path, self._perf_ns = path, perf_ns
        self._ends_ns = perf_ns() + round(minutes * 60 * NANOSECONDS)
        self._newest: dict[str, tuple[int, bytes]] = {}
        self._change = threading.Condition()
        self._closed = threading.Event()
        self._places = threading.BoundedSemaphore(MOST_VIEWERS)
        self._server = _Server(path, self)
        self._thread = threading.Thread(target=self._serve, name="preview", daemon=True)

    def give_to(self, uid: int, gid: int) -> None:
        """Make the socket another user's, for root alone.

        Raises:
            ConfigError: something else lies in its place.
        """
        give_socket(self._path, uid, gid)

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether its time is over or it was closed."""
        return self._closed.is_set() or self._perf_ns() >= self._ends_ns

    @property
    def left_s(self) -> float:
        """Seconds until it ends by itself, never negative."""
        return max(0.0, (self._ends_ns - self._perf_ns()) / NANOSECONDS)

    def put(self, name: str, jpeg: bytes) -> None:
        """Show a picture; the one before is forgotten."""
        with self._change:
            number, _ = self._newest.get(name, (0, b""))
            self._newest[name] = (number + 1, jpeg)
            self._change.notify_all()

    def after(self, name: str, number: int) -> tuple[int, bytes] | None:
        """Wait for a picture that is newer than number `number`; None once the preview is over."""
        with self._change:
            while not self.over:
                newest = self._newest.get(name)
                if newest is not None and newest[0] > number:
                    return newest
                self._change.wait(WAKE_S)
        return None

    def watch(self) -> bool:
        """Begin to count a viewer; False where there are as many as there may be."""
        if not self._places.acquire(blocking=False):
            return False
        with self._change:
            self.viewers += 1
            self.watching += 1
        return True

    def watched(self, pictures: int) -> None:
        """End to count a viewer, who was sent so many pictures."""
        self._places.release()
        with self._change:
            self.watching -= 1
            self.pictures += pictures

    def close(self) -> None:
        """End it: the socket is gone and every viewer is let go. Idempotent."""
        self._closed.set()
        with self._change:
            self._newest.clear()
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join(PATIENCE_S)
        self._server.end()

    def _serve(self) -> None:
        while not self.over:
            self._server.handle_request()
        self._server.end()


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    timeout = WAKE_S
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, path: Path, preview: Preview) -> None:
        self.preview, self._path = preview, path
        self._open = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._ended = threading.Lock()
        if is_alive(path):
            raise ConfigError(f"a preview is served at {path} already: end that `homeplate aim` first")
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()  # whoever made it was killed
        before = os.umask(0o177)
        try:
            super().__init__(str(path), _Handler)
        except OSError as error:
            raise ConfigError(f"the preview's socket {path} cannot be made: {error.strerror}") from error
        finally:
            os.umask(before)
        self._inode = path.lstat().st_ino

    def end(self) -> None:
        """Close the socket and take its name away, unless that is another's by now. Idempotent."""
        if not self._ended.acquire(blocking=False):
            return
        self.server_close()
        with suppress(OSError):
            if self._path.lstat().st_ino == self._inode:
                self._path.unlink()

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 - socketserver's way
        """Take no more connections than there may be."""
        return self._open.acquire(blocking=False)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection; its place is free again afterwards."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a viewer that went away is no fault."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_S
    server: _Server
    server_version = "homeplate"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with the page, or with the pictures of a source."""
        preview = self.server.preview
        name = self.path.removeprefix("/").removesuffix(".mjpeg")
        if not _HOST.match(self.headers.get("Host", "")):
            self._say(HTTPStatus.FORBIDDEN, b"ask for localhost, through ssh -L\n", "text/plain")
        elif self.path == "/":
            self._say(HTTPStatus.OK, _page(preview.names), "text/html; charset=utf-8")
        elif self.path == f"/{name}.mjpeg" and name in preview.names:
            self._pictures(preview, name)
        else:
            self._say(HTTPStatus.NOT_FOUND, b"there is / and a NAME.mjpeg for each source\n", "text/plain")

    def _pictures(self, preview: Preview, name: str) -> None:
        if not preview.watch():
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, b"enough viewers already\n", "text/plain")
            return
        sent = 0
        try:
            self._head(HTTPStatus.OK, f"multipart/x-mixed-replace; boundary={BOUNDARY}")
            number = 0
            while (newest := preview.after(name, number)) is not None:
                number, jpeg = newest
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                self.wfile.write(head.encode() + jpeg + b"\r\n")
                sent += 1
        except (OSError, TimeoutError):
            pass  # gone, or too slow
        finally:
            preview.watched(sent)

    def _say(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self._head(status, kind, length=len(body))
        self.wfile.write(body)

    def _head(self, status: HTTPStatus, kind: str, *, length: int | None = None) -> None:
        self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for header, value in _HEADERS:
            self.send_header(header, value)
        self.end_headers()

    def address_string(self) -> str:
        """Return nothing: a Unix socket's peer has no address."""
        return ""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's way
        """Log nothing: who watches is the ledger's."""


def _page(names: Sequence[str]) -> bytes:
    pictures = "".join(f'<h2>{name}</h2><img src="/{name}.mjpeg" alt="{name}">' for name in names)
    style = "body{background:#222;color:#ddd;font-family:sans-serif}img{width:100%;max-width:960px}"
    return (
        f'<!doctype html><html lang="en"><title>homeplate aim</title><style>{style}</style>{pictures}</html>\n'
    ).encode()


def is_alive(path: Path) -> bool:
    """Tell whether somebody serves a socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0)  # one with a full queue would keep us waiting
        return probe.connect_ex(str(path)) in {0, errno.EAGAIN}


def give_socket(path: Path, uid: int, gid: int) -> None:
    """Give a socket that this process made to a user.

    The folder is capture's, who could put a link there by which root would give away any file: what lies there is held
    first (O_PATH), looked at, and then given by that handle and not by its name.

    Raises:
        ConfigError: what lies there is no socket of this process's user with one name.
    """
    try:
        held = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigError(f"the preview's socket {path} is gone: {error.strerror}") from error
    try:
        found = os.fstat(held)
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid() or found.st_nlink != 1:
            raise ConfigError(f"{path} is not the socket that was made there; see who writes into its folder")
        os.chown(f"/proc/self/fd/{held}", uid, gid)  # a handle of O_PATH is no file to fchown
    finally:
        os.close(held)
