"""Invariant 3 on real files with real users: uplink's user reads outgoing records and slots, and nothing local.

Files are made as root plays capture, folders have uplink's group as the installation gives them. Needs root.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from homeplate.domain.agency import KemKind
from homeplate.domain.record import RecordId, StorageClass
from homeplate.sealing.keys import generate_sealing_key, save_sealing_key
from homeplate.sealing.slots import SlotStore
from homeplate.store.spool import FileSpool

UPLINK_USER, UPLINK_GROUP = 54_321, 54_322
LOCAL_ID, OUTGOING_ID = RecordId(b"l" * 16), RecordId(b"o" * 16)

AS_UPLINK = """
import os, sys
from pathlib import Path
from homeplate.domain.record import RecordId
from homeplate.sealing.slots import SlotStore
from homeplate.store.spool import FileSpool
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[1]))
root = Path(sys.argv[3])
local_id, outgoing_id = RecordId(b"l" * 16), RecordId(b"o" * 16)

def attempt(name, call):
    try:
        print(name, call(), sep=": ", flush=True)
    except Exception as error:
        print(name, type(error).__name__, sep=": ", flush=True)

spool = FileSpool(root / "spool")
store = SlotStore.open_existing(root / "outgoing.slots", root / "outgoing.memory")
attempt("pending", lambda: [str(record_id) for record_id in spool.pending()])
attempt("unwrap", lambda: store.unwrap(spool.get(outgoing_id)))
attempt("local record", lambda: spool.get(local_id))
attempt("local file", lambda: (root / "spool/local" / f"{local_id}.rec").read_bytes())
attempt("local list", lambda: list((root / "spool/local").iterdir()))
attempt("staging list", lambda: list((root / "spool/staging/outgoing").iterdir()))
attempt("local slots", lambda: SlotStore.open_existing(root / "local.slots", root / "local.memory"))
attempt("writing slots", lambda: SlotStore(root / "outgoing.slots", root / "outgoing.memory"))
attempt("lock", lambda: (root / "outgoing.slots.lock").read_bytes())
attempt("remove", lambda: spool.remove(outgoing_id))
"""


@pytest.fixture
def root():
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("changing the user needs root on Linux")
    folder = Path(tempfile.mkdtemp(prefix="homeplate-users-"))
    folder.chmod(0o755)
    old = os.umask(0o007)
    yield folder
    os.umask(old)
    shutil.rmtree(folder)


def test_uplinks_user_reads_what_is_outgoing_and_nothing_else(root):
    spool = FileSpool(root / "spool")
    (root / "spool").chmod(0o755)
    (root / "spool/staging").chmod(0o755)
    os.chown(root / "spool/outgoing", -1, UPLINK_GROUP)
    (root / "spool/outgoing").chmod(0o2770)
    for storage, record_id in ((StorageClass.LOCAL, LOCAL_ID), (StorageClass.OUTGOING, OUTGOING_ID)):
        mode = 0o640 if storage is StorageClass.OUTGOING else 0o600
        store = SlotStore(root / f"{storage}.slots", root / f"{storage}.memory", mode=mode)
        blob = store.wrap(store.slot_for("hits", 1, 60), record_id, f"sealed {storage}".encode())
        spool.stage(record_id, blob, storage)
        store.close()
    # In an installation the staging folder has the group (and passes it on); a rename keeps the file's.
    os.chown(root / "spool/staging/outgoing" / f"{OUTGOING_ID}.rec", -1, UPLINK_GROUP)
    for name in ("outgoing.slots", "outgoing.memory"):
        os.chown(root / name, -1, UPLINK_GROUP)
    spool.release([LOCAL_ID, OUTGOING_ID])
    command = [sys.executable, "-c", AS_UPLINK, str(UPLINK_USER), str(UPLINK_GROUP), str(root)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert dict(line.split(": ", 1) for line in output.splitlines()) == {
        "pending": f"['{OUTGOING_ID}']",
        "unwrap": "b'sealed outgoing'",
        "local record": "StoreError",
        "local file": "PermissionError",
        "local list": "PermissionError",
        "staging list": "PermissionError",
        "local slots": "SlotError",
        "writing slots": "SlotError",
        "lock": "PermissionError",
        "remove": "None",
    }
    assert spool.pending() == ()
    assert spool.released(StorageClass.LOCAL) == (LOCAL_ID,)


AS_ANYONE = """
import os, sys
from pathlib import Path
os.setgroups([int(sys.argv[2])])
os.setgid(int(sys.argv[2]))
os.setuid(int(sys.argv[1]))
try:
    print(len(Path(sys.argv[3]).read_bytes()))
except PermissionError:
    print("refused")
"""


def test_the_key_of_the_hot_list_is_read_by_captures_user_alone(root):
    folder = root / "keys" / "capture"
    folder.mkdir(parents=True)
    folder.parent.chmod(0o755)
    folder.chmod(0o700)
    key = folder / "hot-list.key"
    save_sealing_key(generate_sealing_key(KemKind.X25519), key)
    capture = 54_320
    for path in (folder, key):
        os.chown(path, capture, capture)

    def reads(user, group):
        command = [sys.executable, "-c", AS_ANYONE, str(user), str(group), str(key)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    assert int(reads(capture, capture)) > 64
    assert reads(UPLINK_USER, UPLINK_GROUP) == "refused"
    folder.chmod(0o755)  # the file alone keeps it too
    assert reads(UPLINK_USER, capture) == "refused"
