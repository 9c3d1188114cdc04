"""Keys that systemd hands to a unit (`LoadCredentialEncrypted=`): decrypted files in a folder of memory, for it alone.

Where the folder has a file of a key's name, that is the key, and none has to lie on the disk in clear.
"""

import os
from pathlib import Path

from homeplate.errors import SealingError

DEVICE_KEY = "device-key"
DEVICE_KEY_BYTES = 32
_FOLDER = "CREDENTIALS_DIRECTORY"  # systemd.exec(5)


def key_file(path: Path) -> Path:
    """Return where a key is to be read: the credential of its file's name, else the file on the disk."""
    given = _credential(path.name)
    return path if given is None else given


def device_key() -> bytes | None:
    """Return the key that wraps slots' keys on the disk, 32 bytes; None where systemd was not told of one.

    Raises:
        SealingError: where what was handed over is no such key.
    """
    given = _credential(DEVICE_KEY)
    if given is None:
        return None
    try:
        with given.open("rb") as file:
            key = file.read(DEVICE_KEY_BYTES + 1)
    except OSError as error:
        raise SealingError(f"the credential {DEVICE_KEY} cannot be read: {error.strerror}") from error
    if len(key) != DEVICE_KEY_BYTES:
        raise SealingError(f"the credential {DEVICE_KEY} has to have {DEVICE_KEY_BYTES} bytes; see homeplate-prepare")
    return key


def _credential(name: str) -> Path | None:
    folder = os.environ.get(_FOLDER)
    path = Path(folder) / name if folder else None
    return path if path is not None and path.is_file() else None
