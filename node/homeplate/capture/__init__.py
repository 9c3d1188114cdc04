"""The process that sees plates: sources -> pipelines -> signed rules -> sealed records -> spool -> ledger. No network.

`committing` decides, seals and commits one passage; `running` has the threads. `app` builds both.
"""

from homeplate.capture.committing import COALESCED, Committer, Outcome, Recovered, Terms, recover
from homeplate.capture.running import Capture, Feed, SourceState, SourceSummary, Summary

__all__ = [
    "COALESCED",
    "Capture",
    "Committer",
    "Feed",
    "Outcome",
    "Recovered",
    "SourceState",
    "SourceSummary",
    "Summary",
    "Terms",
    "recover",
]
