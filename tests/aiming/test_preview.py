"""The preview's socket: its owner's alone, for a while, for a few viewers who do not hold each other up."""

import os
import socket
import stat
import threading
import time

import pytest

from homeplate.aiming import preview as module
from homeplate.aiming.preview import MOST_CONNECTIONS, MOST_VIEWERS, Preview, is_alive
from homeplate.errors import ConfigError

JPEG = b"\xff\xd8picture\xff\xd9"
MINUTE_NS = 60 * 1_000_000_000


class Counter:
    """A counter of nanoseconds that a test moves on."""

    def __init__(self):
        self.ahead_ns = 0

    def __call__(self):
        return time.perf_counter_ns() + self.ahead_ns


@pytest.fixture
def counter():
    return Counter()


@pytest.fixture
def served(tmp_path, counter):
    preview = Preview(tmp_path / "aim.sock", ["lane-1", "lane-2"], minutes=1, perf_ns=counter)
    preview.start()
    yield preview
    preview.close()


@pytest.fixture
def ask(tmp_path):
    """Return a function that asks the socket for something and returns the connection; all are closed at the end."""
    opened = []

    def connect(path="/lane-1.mjpeg", host="localhost:8080"):
        connection = socket.socket(socket.AF_UNIX)
        opened.append(connection)
        connection.settimeout(20)
        connection.connect(str(tmp_path / "aim.sock"))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return connection

    yield connect
    for one in opened:
        one.close()


def until(connection, wanted):
    """Receive until `wanted` came; return all."""
    got = b""
    while wanted not in got:
        piece = connection.recv(65536)
        assert piece, f"ended before {wanted!r}: {got[-200:]!r}"
        got += piece
    return got


def the_rest(connection):
    got = b""
    while piece := connection.recv(65536):
        got += piece
    return got


def wait_for(condition):
    give_up = time.perf_counter() + 20
    while not condition():
        assert time.perf_counter() < give_up, "waited in vain"
        time.sleep(0.01)


def test_the_socket_is_its_owners_alone_and_gone_at_the_end(served, tmp_path):
    path = tmp_path / "aim.sock"
    assert stat.S_ISSOCK(path.lstat().st_mode)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    served.close()
    assert not path.exists()
    served.close()


@pytest.mark.parametrize("hard", [False, True])
def test_what_the_owner_of_the_folder_plants_in_the_sockets_place_is_not_given_away(tmp_path, counter, hard):
    path, other = tmp_path / "aim.sock", tmp_path / "shadow"
    other.touch()
    before = other.stat()
    preview = Preview(path, ["lane-1"], minutes=1, perf_ns=counter)
    path.unlink()
    if hard:
        path.hardlink_to(other)
    else:
        path.symlink_to(other)
    nobody = 65534 if os.geteuid() == 0 else os.getuid()
    with pytest.raises(ConfigError, match="is not the socket that was made there"):
        preview.give_to(nobody, nobody)
    assert (other.stat().st_uid, other.stat().st_gid) == (before.st_uid, before.st_gid)
    preview.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, who alone gives something away")
def test_a_socket_that_is_given_to_somebody_is_theirs(served, tmp_path):
    served.give_to(65534, 65533)
    found = (tmp_path / "aim.sock").lstat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (65534, 65533, 0o600)


def test_a_page_names_the_sources_and_each_has_its_pictures(served, ask):
    page = the_rest(ask("/"))
    assert b'src="/lane-1.mjpeg"' in page
    assert b'src="/lane-2.mjpeg"' in page
    assert b"no-store" in page
    viewer = ask("/lane-2.mjpeg")
    served.put("lane-1", b"another's")
    served.put("lane-2", JPEG)
    got = until(viewer, JPEG)
    assert b"multipart/x-mixed-replace" in got
    assert b"another's" not in got


def test_a_second_viewer_sees_the_same_and_leaves_the_first_alone(served, ask):
    first, second = ask(), ask()
    wait_for(lambda: served.watching == 2)
    served.put("lane-1", JPEG)
    until(first, JPEG)
    until(second, JPEG)
    second.close()
    for number in range(3):
        served.put("lane-1", b"next%d" % number)
        until(first, b"next%d" % number)
    assert served.viewers == 2


def test_more_viewers_than_there_may_be_hear_so(served, ask):
    for _ in range(MOST_VIEWERS):
        ask()
    wait_for(lambda: served.watching == MOST_VIEWERS)
    assert b"503" in the_rest(ask())
    assert served.viewers == MOST_VIEWERS


def test_more_connections_than_there_may_be_are_closed(served, tmp_path):
    waiting = []
    for _ in range(MOST_CONNECTIONS + 1):
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(str(tmp_path / "aim.sock"))
        waiting.append(connection)
    assert waiting[-1].recv(1) == b""
    for connection in waiting:
        connection.close()


def test_a_slow_viewer_is_let_go_and_holds_nobody_up(tmp_path, counter, ask, monkeypatch):
    monkeypatch.setattr(module._Handler, "timeout", 0.5)
    preview = Preview(tmp_path / "aim.sock", ["lane-1"], minutes=1, perf_ns=counter)
    preview.start()
    slow, quick = ask(), ask()
    wait_for(lambda: preview.watching == 2)
    until(slow, b"\r\n\r\n")
    received = 0
    picture = b"x" * 400_000  # more than the socket takes for one who does not read
    while preview.watching == 2:
        preview.put("lane-1", picture + b"%06d" % received)
        until(quick, b"%06d" % received)
        received += 1
    assert received >= 2
    preview.put("lane-1", JPEG)
    until(quick, JPEG)
    preview.close()


def test_it_ends_by_itself_and_lets_every_viewer_go(served, ask, counter, tmp_path):
    viewer = ask()
    served.put("lane-1", JPEG)
    until(viewer, JPEG)
    assert not served.over
    counter.ahead_ns = MINUTE_NS
    assert the_rest(viewer).strip() == b""
    wait_for(lambda: not (tmp_path / "aim.sock").exists())
    assert served.over
    assert served.left_s == 0


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:8080", "", "10.0.0.7:8080"])
def test_a_page_of_another_name_gets_nothing(served, ask, host):
    served.put("lane-1", JPEG)
    answer = the_rest(ask(host=host))
    assert answer.startswith(b"HTTP/1.1 403")
    assert JPEG not in answer


@pytest.mark.parametrize("path", ["/lane-3.mjpeg", "/../etc/passwd", "/%6cane-1.mjpeg", "/lane-1"])
def test_what_is_no_source_is_not_found(served, ask, path):
    assert the_rest(ask(path)).startswith(b"HTTP/1.1 404")


def test_only_asking_for_something_is_understood(served, tmp_path):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(tmp_path / "aim.sock"))
        connection.sendall(b"DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert the_rest(connection).startswith(b"HTTP/1.1 501")


def test_a_dead_socket_is_replaced_and_a_live_one_or_a_file_is_not(tmp_path, counter, served):
    assert is_alive(tmp_path / "aim.sock")
    with pytest.raises(ConfigError, match=r"served at .* already"):
        Preview(tmp_path / "aim.sock", ["lane-1"], minutes=1, perf_ns=counter)
    served.close()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "aim.sock"))
    dead.close()
    assert not is_alive(tmp_path / "aim.sock")
    Preview(tmp_path / "aim.sock", ["lane-1"], minutes=1, perf_ns=counter).close()
    (tmp_path / "aim.sock").write_text("a file")
    with pytest.raises(ConfigError, match="cannot be made"):
        Preview(tmp_path / "aim.sock", ["lane-1"], minutes=1, perf_ns=counter)
    assert (tmp_path / "aim.sock").read_text() == "a file"


def test_the_umask_is_as_before_and_no_thread_is_left(tmp_path, counter):
    before = os.umask(0o022)
    preview = Preview(tmp_path / "aim.sock", ["lane-1"], minutes=1, perf_ns=counter)
    preview.start()
    assert os.umask(before) == 0o022
    preview.close()
    wait_for(lambda: not [one for one in threading.enumerate() if one.name == "preview"])
