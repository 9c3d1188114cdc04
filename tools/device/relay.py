"""Passes connections on into a network namespace: `relay.py FD ADDRESS PORT`, run inside it by `tools.device.node`.

FD is a listening socket that was opened outside; a socket stays in the namespace in which it was made.
"""

import socket
import sys
import threading
from contextlib import suppress


def main() -> None:
    """Accept for ever."""
    with socket.socket(fileno=int(sys.argv[1])) as outside:
        while True:
            caller, _ = outside.accept()
            threading.Thread(target=relay, args=(caller,), daemon=True).start()


def relay(caller: socket.socket) -> None:
    """Join a caller with a new connection until either end is over; a node that is off hangs up on it."""
    with caller, suppress(OSError), socket.create_connection((sys.argv[2], int(sys.argv[3])), 30) as inside:
        inside.settimeout(None)
        threading.Thread(target=pump, args=(inside, caller), daemon=True).start()
        pump(caller, inside)


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copy what comes; end both directions with it."""
    try:
        while data := source.recv(65_536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


if __name__ == "__main__":
    main()
