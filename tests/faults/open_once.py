"""A process to kill: opens the one record of a desk's folder and prints its plate."""

import sys
from pathlib import Path

from homeplate.clock import SimulatedClock
from homeplate.domain.node import NodeEntry
from homeplate.sealing.keys import load_sealing_key
from homeplate_custodian.access import Query, record_access
from homeplate_custodian.records import Accessor, Inbox, Opener
from tests.custodian.sealed_kit import NOW_S


def main(folder, node):
    """Open once."""
    clock, inbox = SimulatedClock(NOW_S * 10**9), Inbox(folder / "received")
    files = inbox.files()
    pseudonym, public = bytes.fromhex(node[:32]), bytes.fromhex(node[32:])
    entry = NodeEntry(
        pseudonym=pseudonym, record_public=public, ledger_public=public, hot_list_public=public, cameras=(),
        not_before_s=0, not_after_s=NOW_S, revoked=False,
    )  # fmt: skip

    def open_now():
        key = load_sealing_key(folder / "agency.key")
        return Opener(inbox, {key.key_id: key}, [entry], clock).open(files)

    who = Accessor(user="u", organisation="o", purpose="p", case="26-1")
    query = Query(text="all", records=[file.record_id for file in files])
    for one in record_access(folder, clock, who, query, open_now).opened:
        print(one.facts.plate, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
