"""Which logs a node always has, and which of those that are not here must have been there. Pure: rows come in.

A log that was taken away with its checkpoints leaves nothing of itself. But the other logs speak of it: records
were sealed for recipients, so uplink has a log; a purge destroyed keys, so capture has one. Of a log that no row speaks
of, it can only be said that nothing was verified: perhaps its process has never run.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from homeplate.domain.record import DAY_SECONDS, NANOSECONDS, StorageClass
from homeplate.store.rows import AnyLine, Line, Row, Shown, Withheld, span_of

NODE_LOGS = ("bundle", "capture", "purge", "uplink")
"""What each node has once it reads the road; `hold` and `aim` are there where somebody used them."""

_BUNDLE = "the {0} log says that a bundle was in force"
_RAN = frozenset({"capture.started", "capture.sealed", "delivery.intended"})
_COUNTS = ("keys_destroyed", "outgoing_files", "local_files")
_HELD = ("holds", "held_records")


@dataclass(slots=True)
class Signs:
    """What the rows that are here say of logs that may not be here. Attributes: of: by log, why it must exist."""

    of: dict[str, str] = field(default_factory=dict)
    _sealed: bool = False
    _first_ns: int | None = None
    _last_ns: int = 0

    def visit(self, name: str, line: AnyLine) -> None:
        """Take one good row of the log `name`; a row that an export withholds says nothing."""
        span = span_of(line)
        if span is None or isinstance(line, Withheld):
            return
        # As an export shows days, the time between two rows is the least that it can be.
        self._first_ns = span.last if self._first_ns is None else min(self._first_ns, span.last)
        self._last_ns = max(self._last_ns, span.first)
        what: Row | Shown = line.row if isinstance(line, Line) else line
        if what.event in _RAN:
            self.of.setdefault("bundle", _BUNDLE.format(name))
        if what.event == "capture.sealed":
            self._sealed = True
            if str(StorageClass.OUTGOING) in str(what.fields.get("storages", "")).split(","):
                self.of.setdefault("uplink", "the capture log says that records were sealed for recipients")
        if what.event in {"delivery.intended", "delivery.forgotten"}:
            self.of.setdefault("capture", "the uplink log speaks of its records")
        if what.event == "purge.done":
            self._purged(what)

    def _purged(self, what: Row | Shown) -> None:
        if any(what.fields.get(count) not in {None, 0} for count in _COUNTS):
            self.of.setdefault("capture", "the purge log says that its records were destroyed")
        if any(what.fields.get(count) not in {None, 0} for count in _HELD):
            self.of.setdefault("hold", "the purge log speaks of evidence holds")

    def missing(self, present: Collection[str]) -> dict[str, str]:
        """Return each log that must exist and is not in `present`, with the reason."""
        found = dict(self.of)
        if self._sealed and self._last_ns - (self._first_ns or 0) > DAY_SECONDS * NANOSECONDS:
            found["purge"] = "records were sealed, rows of more than a day are here, and a purge runs each minute"
        return {name: why for name, why in sorted(found.items()) if name not in present}
