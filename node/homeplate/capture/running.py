"""Capture's threads: one a source, which only reads frames into its mailbox, and the caller's, which does the rest.

The caller's thread takes frames, runs each source's pipeline and commits passages, so nothing it uses is shared. A
source that breaks is named, counted and in the ledger, and the others go on; a camera that is lost is opened again, and
that is in the ledger too. A stopped node forgets the open tracks of
its files, because they will be processed again from the start; a live source's are closed.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import structlog

from homeplate.camera.errors import SourceError
from homeplate.camera.mailbox import Mailbox, Mailboxes
from homeplate.capture.committing import FINISHED, LIVE, Committer, Outcome, Recovered
from homeplate.domain.passage import CameraChange, ChangeKind, Frame, Passage
from homeplate.errors import ClockError
from homeplate.pipeline import Counters, Pipeline
from homeplate.ports import Ledger, LiveSource
from homeplate.store.ledger import fit

STARTED, STOPPED, BROKEN = "capture.started", "capture.stopped", "capture.source-broken"
LOST, BACK = "capture.camera-lost", "capture.camera-back"
SOURCE_STOPPED, QUARANTINED = "capture.source-stopped", "capture.clock-quarantined"
JOIN_S = 2.0
"""How long a source's thread may take to end; one that hangs in a read is left to the end of the process."""

_log = structlog.get_logger()


class SourceState(StrEnum):
    """How a source ended."""

    RUNNING = "running"
    FINISHED = "finished"
    BROKEN = "broken"
    STOPPED = "stopped"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One source with its pipeline.

    Attributes:
        identify: returns what a file is by its content (`camera.identity`); None for a live source, of which the
            newest frame wins and nothing can be processed again.
        restarts: it is a camera that is opened again by itself.
    """

    source: LiveSource
    pipeline: Pipeline
    identify: Callable[[], str] | None
    restarts: bool = False


@dataclass(slots=True, kw_only=True)
class SourceSummary:
    """What became of one source.

    Attributes:
        overwritten: frames of a live source that were replaced before they could be processed.
        losses: how often a camera was lost.
        outcomes: what became of its passages.
        error: why it broke.
    """

    name: str
    counters: Counters
    state: SourceState = SourceState.RUNNING
    overwritten: int = 0
    losses: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What became of all sources, in the configuration's order; `records`: how many were sealed and committed."""

    sources: tuple[SourceSummary, ...]
    records: int

    @property
    def passages(self) -> Counter[Outcome]:
        """What became of all passages."""
        return sum((source.outcomes for source in self.sources), Counter())


class Capture:
    """Runs the sources of one node until they end or it is told to stop."""

    def __init__(
        self,
        *,
        feeds: Sequence[Feed],
        committer: Committer,
        ledger: Ledger,
        recovered: Recovered,
        models: Mapping[str, str],
        perf_ns: Callable[[], int],
        advance: Callable[[int], None] = lambda _: None,
        progress: Callable[[str, int], None] = lambda _source, _index: None,
    ) -> None:
        """Put together what a run needs; nothing starts yet.

        Args:
            feeds: the sources; names are unique.
            committer: keeps passages.
            ledger: capture's own.
            recovered: what `committing.recover` returned.
            models: what runs them and the configuration's hash, for the ledger.
            perf_ns: a counter of nanoseconds, by which a stalled source is known.
            advance: told each frame's capture time before it is processed (a simulated clock follows it).
            progress: told source and index of each frame that was processed, and of each attempt to open a lost
                camera the frames so far (the watchdog lives on it).
        """
        self._feeds = {feed.source.name: feed for feed in feeds}
        self._committer, self._ledger, self._finished = committer, ledger, recovered.finished
        self._models = models
        self._advance, self._progress = advance, progress
        self._mail = Mailboxes(
            [(name, feed.identify is None) for name, feed in self._feeds.items()],
            perf_ns=perf_ns,
            restarting=frozenset(name for name, feed in self._feeds.items() if feed.restarts),
        )
        self._inputs = dict.fromkeys(self._feeds, LIVE)
        self._skipped: set[str] = set()
        self._sources = {
            name: SourceSummary(name=name, counters=feed.pipeline.counters) for name, feed in self._feeds.items()
        }

    def run(self, stop: threading.Event) -> Summary:
        """Process frames until every source has ended or `stop` is set.

        Raises:
            ClockError: the time is quarantined; the ledger says so.
            ModelError, SealingError, StoreError: nothing more can be read, sealed or written.
        """
        self._ledger.append(STARTED, sources=len(self._feeds), **self._models)
        threads = [
            threading.Thread(target=self._read, args=(feed,), name=f"source-{name}", daemon=True)
            for name, feed in self._feeds.items()
        ]
        for thread in threads:
            thread.start()
        try:
            while (item := self._mail.take(stop)) is not None:
                if isinstance(item, Frame):
                    self._process(item)
                elif isinstance(item, CameraChange):
                    self._changed(item)
                else:
                    self._ended(item)
            self._stop_the_rest()
        except ClockError as error:
            self._ledger.append(QUARANTINED, reason=fit(str(error)))
            raise
        finally:
            self._mail.close()
            for feed in self._feeds.values():
                feed.source.close()
            for thread in threads:
                thread.join(JOIN_S)
        summary = Summary(sources=tuple(self._sources.values()), records=self._committer.records)
        self._ledger.append(STOPPED, records=summary.records, **_outcomes(summary.passages))
        return summary

    def _read(self, feed: Feed) -> None:
        """Run one source's thread."""
        name = feed.source.name
        try:
            if feed.identify is not None:
                self._inputs[name] = feed.identify()
                if (name, self._inputs[name]) in self._finished:
                    self._skipped.add(name)
                    self._mail.end(name)
                    return
            self._mail.begin(name)
            items = iter(feed.source.frames())
            while self._mail.wait_free(name) and (item := next(items, None)) is not None:
                if isinstance(item, CameraChange):
                    self._mail.tell(item)
                elif not self._mail.put(item):
                    return
            self._mail.end(name)
        except Exception as error:  # noqa: BLE001 - a thread's top: what is not ours ends the process in `take`
            self._mail.end(name, error)

    def _process(self, frame: Frame) -> None:
        self._advance(frame.captured_ns)
        self._commit(frame.source, self._feeds[frame.source].pipeline.process(frame))
        self._progress(frame.source, frame.index)

    def _commit(self, name: str, passages: Sequence[Passage]) -> None:
        for passage in passages:
            outcome = self._committer.commit(passage, source_input=self._inputs[name])
            self._sources[name].outcomes[outcome] += 1

    def _changed(self, change: CameraChange) -> None:
        """Close the tracks of a lost camera; a loss and a return are a row each, attempts in between are not."""
        source = self._sources[change.source]
        if change.kind is ChangeKind.BACK:
            self._ledger.append(BACK, source=change.source, attempts=change.attempts)
            _log.info("capture.camera-back", source=change.source, attempts=change.attempts)
        else:
            self._commit(change.source, self._feeds[change.source].pipeline.flush())
            _log.error("capture.camera-lost", source=change.source, reason=change.reason, message=change.message)
            if change.attempts == 0:
                source.losses += 1
                self._ledger.append(LOST, source=change.source, reason=change.reason)
        self._progress(change.source, source.counters.frames)

    def _ended(self, box: Mailbox) -> None:
        source = self._sources[box.name]
        if box.name in self._skipped:
            source.state = SourceState.SKIPPED
            _log.info("capture.source-skipped", source=box.name)
            return
        self._commit(box.name, self._feeds[box.name].pipeline.flush())
        if box.error is None:
            # Passages that no bundle could judge are not done with: the file is processed again once there is one.
            unjudged = source.outcomes[Outcome.NO_BUNDLE] > 0
            source.state = SourceState.STOPPED if unjudged else SourceState.FINISHED
            self._row(SOURCE_STOPPED if unjudged else FINISHED, source)
            return
        source.state, source.error = SourceState.BROKEN, str(box.error)
        reason = box.error.reason.value if isinstance(box.error, SourceError) else type(box.error).__name__
        self._row(BROKEN, source, reason=reason)
        _log.error("capture.source-broken", source=box.name, reason=reason)

    def _stop_the_rest(self) -> None:
        for name, source in self._sources.items():
            if source.state is SourceState.RUNNING:
                source.state = SourceState.STOPPED
                if self._feeds[name].identify is None:
                    self._commit(name, self._feeds[name].pipeline.flush())
                self._row(SOURCE_STOPPED, source)

    def _row(self, event: str, source: SourceSummary, **fields: str) -> None:
        """Write what a source came to, with a count for every reason why something was dropped."""
        source.overwritten = self._mail.overwritten(source.name)
        counters = source.counters
        self._ledger.append(
            event,
            source=source.name,
            input=self._inputs[source.name],
            frames=counters.frames,
            overwritten=source.overwritten,
            detections=counters.detections,
            readings=counters.readings,
            passages=counters.passages,
            **{f"dropped_{reason}": count for reason, count in sorted(counters.dropped.items())},
            **_outcomes(source.outcomes),
            **fields,
        )


def _outcomes(outcomes: Counter[Outcome]) -> dict[str, int]:
    return {f"passages_{outcome}": count for outcome, count in sorted(outcomes.items())}
