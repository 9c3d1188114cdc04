"""Which sightings are one vehicle: greedy one-to-one association on predicted position, with agreement of reads second.

Rules: a sighting belongs to one track and a track takes one sighting a frame, so two plates seen together never merge;
no two tracks are ever joined afterwards. Time is the stream's, and counts only while the source is looked at: a closed
motion gate ages no track. Every buffer is bounded. What a track's readings say is `voting`'s.
"""

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from homeplate.domain.geometry import Box
from homeplate.domain.passage import Direction, Image, Sighting
from homeplate.domain.plate import PlateReading, PlateText

SECOND = 1_000_000_000

NEAR = 0.8
"""Plate widths by which a prediction may miss at once (box jitter, braking)."""
UNSURE = 6.0
"""Plate widths a second by which it may miss more: a car that brakes or turns as hard as it can, about 0.5 g."""
FASTEST, FARTHEST = 45.0, 4.0
"""Plate widths a second of a car at 50 km/h (a US plate is 0.305 m wide), for a track whose velocity is not known yet;
and the most plate widths that this may reach, short of the next car's plate."""
FARTHEST_UNREAD = 1.5
"""The same where the track was read and the sighting is not: most such sightings are no plate at all."""
PREDICT_NS = SECOND // 2
"""How far ahead a velocity is believed."""
SMOOTHING = 0.6
"""Share of the newest step in a track's velocity."""
SIZE_STEP = 1.8
"""Most ratio of a plate's widths in two sightings in a row."""
READ_WEIGHT = 2.0
"""Plate widths that a full disagreement of the reads is worth."""
SURE_READ = 0.6
"""Least confidence of a reading that can speak for or against a track."""
STRANGER = 0.4
"""Sure reads with less likeness than this are of two plates, wherever they are."""
RECOGNISED_LENGTH = 5
"""A sure read of at least so many characters that equals a track's text is that track, wherever it is."""
WATCH_STEP_NS = SECOND // 2
"""Most stream time that one step between looks counts: a closed motion gate ages no track."""
PATIENCE_NS, PARKED_PATIENCE_NS = 3 * SECOND // 2, 10 * SECOND
"""Watched time after which a track that is not seen ends; a parked one waits for what hides it to drive on."""
PARKED_AGE_NS, PARKED_SPEED = SECOND, 0.5
"""A track is parked when it is this old and slower than this many plate widths a second."""
REPORT_NS = 30 * SECOND
"""Stream time after which a track is due though it goes on: a stopped car's passage is not held back for hours."""
MOST_READINGS = 40
"""Readings that a track keeps, the surest ones."""
MOST_TRACKS = 64
"""Open tracks a source; beyond it the ones not seen for longest end."""
MOST_BOXES = 64
"""Boxes of its way that a track keeps; every second one is forgotten where there are more."""
GROWN, MOVED = 0.2, 0.5
"""Least log ratio of plate widths, and least travel in plate widths, that are a direction."""


@dataclass(slots=True, kw_only=True, eq=False)
class Track:
    """One vehicle as seen so far. The tracker alone changes it."""

    first: Sighting
    last: Sighting
    first_ns: int
    last_ns: int
    watched_ns: int = 0
    velocity: tuple[float, float] | None = None
    sightings: int = 1
    reported: bool = False
    readings: list[PlateReading] = field(default_factory=list, repr=False)
    texts: Counter[PlateText] = field(default_factory=Counter, repr=False)
    boxes: list[Box] = field(default_factory=list)
    best: Sighting | None = None
    surest: float = -1.0

    @property
    def crop(self) -> Image | None:
        """The plate crop of the best reading."""
        return self.best.crop if self.best is not None else None

    @property
    def text(self) -> PlateText | None:
        """The text that was read most often; the earliest of equals."""
        return max(self.texts, key=self.texts.__getitem__) if self.texts else None

    @property
    def seen(self) -> int:
        """How many sightings had a reading."""
        return self.texts.total()

    @property
    def parked(self) -> bool:
        """Whether it stands still."""
        if self.velocity is None or self.last_ns - self.first_ns < PARKED_AGE_NS:
            return False
        return math.hypot(*self.velocity) < PARKED_SPEED * self.last.detection.box.width

    def predicted(self, stream_ns: int) -> Box:
        """Return where its plate should be."""
        box = self.last.detection.box
        if self.velocity is None:
            return box
        ahead = min(stream_ns - self.last_ns, PREDICT_NS) / SECOND
        return box.moved(self.velocity[0] * ahead, self.velocity[1] * ahead)

    def reach(self, stream_ns: int) -> float:
        """Return the most plate widths between the predicted and the true place."""
        gap = (stream_ns - self.last_ns) / SECOND
        return min(FARTHEST, NEAR + (FASTEST if self.velocity is None else UNSURE) * gap)

    def add(self, sighting: Sighting, stream_ns: int) -> None:
        """Take a sighting."""
        gap = (stream_ns - self.last_ns) / SECOND
        if gap > 0:
            (x0, y0), (x1, y1) = self.last.detection.box.centre, sighting.detection.box.centre
            step, old = ((x1 - x0) / gap, (y1 - y0) / gap), self.velocity
            share = 1.0 if old is None else SMOOTHING
            was_x, was_y = old or (0.0, 0.0)
            self.velocity = (share * step[0] + (1 - share) * was_x, share * step[1] + (1 - share) * was_y)
        self.last, self.last_ns, self.watched_ns = sighting, stream_ns, 0
        self.sightings += 1
        self.read(sighting)

    def read(self, sighting: Sighting) -> None:
        """Remember where a sighting was, count its reading, and keep its crop where it is the best so far."""
        reading = sighting.reading
        if self.reported:
            return
        self.boxes.append(sighting.detection.box)
        if len(self.boxes) > MOST_BOXES:
            del self.boxes[1:-1:2]
        if reading is None or reading.text is None:
            return
        self.texts[reading.text] += 1
        if reading.confidence > self.surest:
            self.best, self.surest = sighting, reading.confidence
        self.readings.append(reading)
        if len(self.readings) > MOST_READINGS:
            self.readings.remove(min(self.readings, key=lambda kept: kept.confidence))


class Tracker:
    """Follows the plates of one source."""

    def __init__(self) -> None:
        self._tracks: list[Track] = []
        self._now_ns: int | None = None

    @property
    def open(self) -> Sequence[Track]:
        """The tracks that have not ended, oldest first."""
        return tuple(self._tracks)

    def update(self, sightings: Sequence[Sighting], stream_ns: int) -> list[Track]:
        """Take the sightings of one frame that was looked at, and return the tracks to be reported now.

        Args:
            sightings: of one frame.
            stream_ns: the frame's time in its stream; it never goes back.

        Returns:
            Tracks that ended or are due, oldest first, each once.
        """
        step = 0 if self._now_ns is None else min(stream_ns - self._now_ns, WATCH_STEP_NS)
        self._now_ns = stream_ns
        for track in self._tracks:
            track.watched_ns += step
        taken = associate(self._tracks, sightings, stream_ns)
        for index, sighting in enumerate(sightings):
            if index in taken:
                self._tracks[taken[index]].add(sighting, stream_ns)
        for index, sighting in enumerate(sightings):
            if index not in taken:
                self._begin(sighting, stream_ns)
        return self._ended() + self._due(stream_ns)

    def flush(self) -> list[Track]:
        """End every track and return those not reported yet."""
        left = [track for track in self._tracks if not track.reported]
        self._tracks, self._now_ns = [], None
        return left

    def _begin(self, sighting: Sighting, stream_ns: int) -> None:
        track = Track(first=sighting, last=sighting, first_ns=stream_ns, last_ns=stream_ns)
        track.read(sighting)
        self._tracks.append(track)

    def _ended(self) -> list[Track]:
        by_age = sorted(self._tracks, key=lambda track: track.last_ns, reverse=True)
        crowded = {id(track) for track in by_age[MOST_TRACKS:]}
        over = [
            track
            for track in self._tracks
            if id(track) in crowded or track.watched_ns > (PARKED_PATIENCE_NS if track.parked else PATIENCE_NS)
        ]
        gone = {id(track) for track in over}
        self._tracks = [track for track in self._tracks if id(track) not in gone]
        return [track for track in over if not track.reported]

    def _due(self, stream_ns: int) -> list[Track]:
        due = [t for t in self._tracks if not t.reported and stream_ns - t.first_ns >= REPORT_NS]
        for track in due:
            track.reported = True
        return due


def associate(tracks: Sequence[Track], sightings: Sequence[Sighting], stream_ns: int) -> dict[int, int]:
    """Return the track of each sighting that has one, by index: cheapest pairs first, one to one."""
    pairs = sorted(
        (cost, s, t)
        for t, track in enumerate(tracks)
        for s, sighting in enumerate(sightings)
        if (cost := _cost(track, sighting, stream_ns)) is not None
    )
    taken: dict[int, int] = {}
    for _, s, t in pairs:
        if s not in taken and t not in taken.values():
            taken[s] = t
    return taken


def _cost(track: Track, sighting: Sighting, stream_ns: int) -> float | None:
    """Return how badly a sighting fits a track, in plate widths; None where it cannot be that vehicle."""
    box, old = sighting.detection.box, track.predicted(stream_ns)
    width = max(1.0, (box.width + old.width) / 2)
    (x0, y0), (x1, y1) = old.centre, box.centre
    distance = math.hypot(x1 - x0, y1 - y0) / width
    likeness = _likeness(track.text, sighting.reading)
    if likeness is not None and likeness < STRANGER:
        return None
    recognised = likeness == 1.0 and track.text is not None and len(track.text) >= RECOGNISED_LENGTH
    ratio = max(box.width, old.width, 1.0) / max(1.0, min(box.width, old.width))
    reach = track.reach(stream_ns)
    if track.text is not None and sighting.reading is None:
        reach = min(reach, FARTHEST_UNREAD)
    if not recognised and (distance > reach or ratio > SIZE_STEP):
        return None
    return distance + READ_WEIGHT * (0.5 if likeness is None else 1 - likeness)


def _likeness(text: PlateText | None, reading: PlateReading | None) -> float | None:
    """Return 1 for the same text down to 0 for nothing alike; None where a side has nothing sure to say."""
    if text is None or reading is None or reading.text is None or reading.confidence < SURE_READ:
        return None
    a, b = text.reveal(), reading.text.reveal()
    return 1 - edit_distance(a, b) / max(len(a), len(b))


def edit_distance(a: str, b: str) -> int:
    """Return the Levenshtein distance."""
    previous = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        current = [i]
        for j, y in enumerate(b, 1):
            current.append(min(previous[j] + 1, current[-1] + 1, previous[j - 1] + (x != y)))
        previous = current
    return previous[-1]


def direction(boxes: Sequence[Box]) -> Direction:
    """Return the direction of travel of a plate by its way: by size, else sideways, else up or down.

    The first and the last third of the way are compared by their medians, because a plate that enters or leaves the
    picture is cut off there. A plate that moves down the picture comes nearer, because cameras look down on the road.

    Args:
        boxes: the plate's boxes in order, at least one.
    """
    third = max(1, len(boxes) // 3)
    (x0, y0, width0), (x1, y1, width1) = _typical(boxes[:third]), _typical(boxes[-third:])
    grown = math.log(max(1.0, width1) / max(1.0, width0))
    if abs(grown) >= GROWN:
        return Direction.APPROACHING if grown > 0 else Direction.RECEDING
    width = max(1.0, (width0 + width1) / 2)
    dx, dy = (x1 - x0) / width, (y1 - y0) / width
    if max(abs(dx), abs(dy)) < MOVED:
        return Direction.STILL
    if abs(dx) >= abs(dy):
        return Direction.RIGHT if dx > 0 else Direction.LEFT
    return Direction.APPROACHING if dy > 0 else Direction.RECEDING


def _typical(boxes: Sequence[Box]) -> tuple[float, float, float]:
    """Return the median centre and width."""
    return (
        statistics.median(box.centre[0] for box in boxes),
        statistics.median(box.centre[1] for box in boxes),
        statistics.median(box.width for box in boxes),
    )
