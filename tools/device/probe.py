"""Tries, inside a unit's sandbox, what that unit must not be able to do; prints one JSON object. Standard library only.

Its one argument is a JSON object: `connect` lists addresses and ports, `listen` ports, `read` and `write` paths.
An answer is "yes" or the name of the error ("EACCES"); `interfaces` are the network interfaces that it sees.
"""

import errno
import json
import os
import socket
import sys
from collections.abc import Callable

PATIENCE_S = 4.0


def main() -> None:
    """Try it all."""
    asked = json.loads(sys.argv[1])
    found = {
        "user": os.geteuid(),
        "interfaces": interfaces(),
        "connect": {f"{host}:{port}": tried(lambda: connect(host, port)) for host, port in asked["connect"]},  # noqa: B023
        "listen": {str(port): tried(lambda: listen(port)) for port in asked["listen"]},  # noqa: B023
        "read": {path: tried(lambda: read(path)) for path in asked["read"]},  # noqa: B023
        "write": {path: tried(lambda: write(path)) for path in asked["write"]},  # noqa: B023
    }
    print(json.dumps(found))


def interfaces() -> list[str]:
    """Return the names of the network's interfaces, without netlink, which not every unit may speak."""
    with open("/proc/self/net/dev", encoding="ascii") as table:  # noqa: PTH123 - nothing of ours is imported here
        return [line.split(":")[0].strip() for line in table.readlines()[2:]]


def tried(attempt: Callable[[], object]) -> str:
    """Return "yes", or the error's name."""
    try:
        attempt()
    except TimeoutError:
        return "ETIMEDOUT"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "yes"


def connect(host: str, port: int) -> None:
    """Open a TCP connection and close it."""
    socket.create_connection((host, port), PATIENCE_S).close()


def listen(port: int) -> None:
    """Open a listening socket and close it."""
    with socket.socket() as server:
        server.bind(("0.0.0.0", port))  # noqa: S104 - what must fail
        server.listen()


def read(path: str) -> None:
    """Read a byte of a file, or a folder's names."""
    if os.path.isdir(path):  # noqa: PTH112 - nothing of ours is imported in the machine
        os.listdir(path)  # noqa: PTH208
        return
    with open(path, "rb") as file:  # noqa: PTH123
        file.read(1)


def write(path: str) -> None:
    """Open a file for writing, or make one in a folder."""
    if os.path.isdir(path):  # noqa: PTH112
        made = os.path.join(path, "probe")  # noqa: PTH118
        os.close(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        os.unlink(made)  # noqa: PTH108
        return
    os.close(os.open(path, os.O_WRONLY))


if __name__ == "__main__":
    main()
