"""Frames of one source in, closed passages out. No threads, no files, no clock but the stage times' counter.

Order: motion gate, detector, region of interest and plate width, crops at full resolution, reader, association, vote.
Whatever is dropped on the way is counted under a reason. A passage exists after two agreeing sightings, or one above a
stricter bar; a still is its own sighting and has neither gate, second look nor track. What is kept of a passage is not
decided here.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, TypeVar

from homeplate.domain.geometry import inside
from homeplate.domain.passage import Detection, Direction, Frame, Image, Passage, PlateCrop, Sighting, located
from homeplate.domain.plate import PlateReading
from homeplate.domain.source import SourceSettings
from homeplate.ports import PlateDetector, PlateReader
from homeplate.tracking.grammar import UNKNOWN, rerank
from homeplate.tracking.tracker import Track, Tracker, direction
from homeplate.tracking.voting import Vote, vote

# The bars were chosen on the held-out fifth of the training pictures: the first two with tools/measure_bars.py and the
# weights of that time, the others with tools/measure_reader.py. What share may be wrong is argued in decision 0031.
READ_LEAST = 0.50
"""Readings with a less sure character are not counted. It cost 1.8 % of the right readings and let 5 of 145 false
alarms through, each of which then needs a second one that agrees."""
SOLE_CONFIDENCE = 0.98
"""Confidence from which one sighting alone is a passage: 1 % of such readings differ from their label, as labels do."""
AGREEING = 2
"""Sightings that have to agree otherwise."""
STILL_CONFIDENCE = 0.81
"""Confidence from which a still's plate is a passage: nobody looks twice. This bar and the next are the least at which
three in a hundred texts of held-out US plates are wrong, one of them by its label (`tools/measure_reader.py`): a wrong
read is worse than none."""
PASSAGE_CONFIDENCE = 0.78
"""Confidence of the vote from which a track is a passage."""
LEAST_CHARACTERS = 2
"""The shortest plate: Californian vanity plates have 2 to 7 characters (REQUIREMENTS 4)."""
EDGE = 0.005
"""A plate that comes this near to the picture's edge, as a share of its width and height, is cut off there: it is
followed but not read, since what is left of it would be another plate."""
CLOSE_UP = 0.6
"""A plate that takes up this share of the picture's width is a picture of a plate, and may come near its edge."""
REPEAT_NS = 5_000_000_000
"""Node time for which a passage's text is remembered: the same plate in sight again so soon has not left."""
MOST_REMEMBERED = 32

T = TypeVar("T")


class Drop(StrEnum):
    """Why something went no further: a frame, a detection, a reading, or a passage."""

    NO_MOTION = "no_motion"
    OUTSIDE_REGION = "outside_region"
    TOO_SMALL = "too_small"
    CUT_OFF = "cut_off"
    UNREADABLE = "unreadable"
    UNCONFIRMED = "unconfirmed"
    UNSURE = "unsure"
    REPEATED = "repeated"
    WRONG_DIRECTION = "wrong_direction"


class Stage(StrEnum):
    """What time is spent on."""

    MOTION = "motion"
    DETECT = "detect"
    CROP = "crop"
    READ = "read"
    TRACK = "track"


@dataclass(slots=True, kw_only=True)
class Counters:
    """What went in, what came out, and why the rest did not."""

    frames: int = 0
    detections: int = 0
    readings: int = 0
    passages: int = 0
    dropped: Counter[Drop] = field(default_factory=Counter)
    stage_ns: Counter[Stage] = field(default_factory=Counter)


class Gate(Protocol):
    """The motion gate of one source."""

    def open(self, image: Image, stream_ns: int) -> bool:
        """Tell whether a frame is worth looking at."""
        ...


class Pipeline:
    """The way of one source's frames."""

    def __init__(
        self,
        *,
        settings: SourceSettings,
        detector: PlateDetector,
        reader: PlateReader,
        gate: Gate,
        crop: Callable[[Image, Detection], PlateCrop],
        perf_ns: Callable[[], int],
        home: str = UNKNOWN,
    ) -> None:
        """Build the pipeline of one source.

        Args:
            settings: what the configuration says of the source.
            detector: finds plates; may be shared between pipelines.
            reader: reads them; may be shared.
            gate: this source's motion gate.
            crop: cuts (and straightens) a plate out of a frame.
            perf_ns: a counter of nanoseconds, for the stage times alone.
            home: the node's jurisdiction, such as "US-CA".
        """
        self.counters = Counters()
        self._settings = settings
        self._detector, self._reader, self._gate, self._crop = detector, reader, gate, crop
        self._perf_ns, self._home = perf_ns, home
        self._tracker = Tracker()
        self._recent: deque[Passage] = deque(maxlen=MOST_REMEMBERED)

    def process(self, frame: Frame) -> list[Passage]:
        """Take the source's next frame and return the passages that it closes.

        Raises:
            ModelError: a model cannot be run.
        """
        self.counters.frames += 1
        small = frame.image if frame.grey is None else frame.grey
        if not frame.still and not self._timed(Stage.MOTION, lambda: self._gate.open(small, frame.stream_ns)):
            self.counters.dropped[Drop.NO_MOTION] += 1
            return []
        sightings = self._look(frame)
        if frame.still:
            return self._kept([p for s in sightings if (p := self._still(s)) is not None])
        ended = self._timed(Stage.TRACK, lambda: self._tracker.update(sightings, frame.stream_ns))
        return self._kept([p for track in ended if (p := self._conclude(track)) is not None])

    def flush(self) -> list[Passage]:
        """Close every open track at the end of the source and return the passages."""
        return self._kept([p for track in self._tracker.flush() if (p := self._conclude(track)) is not None])

    def _kept(self, passages: list[Passage]) -> list[Passage]:
        self.counters.passages += len(passages)
        return passages

    def _timed(self, stage: Stage, work: Callable[[], T]) -> T:
        begun = self._perf_ns()
        try:
            return work()
        finally:
            self.counters.stage_ns[stage] += self._perf_ns() - begun

    def _look(self, frame: Frame) -> list[Sighting]:
        found = self._timed(Stage.DETECT, lambda: self._detector.detect(frame.image))
        self.counters.detections += len(found)
        wanted = [detection for detection in found if self._wanted(detection, frame.image)]
        crops = self._timed(Stage.CROP, lambda: [self._crop(frame.image, detection) for detection in wanted])
        whole = [not self._cut_off(detection, frame.image) for detection in wanted]
        read = [crop.image for crop, entire in zip(crops, whole, strict=True) if entire]
        readings = iter(self._timed(Stage.READ, lambda: self._reader.read(read)) if read else [])
        return [
            self._sighting(frame, detection, crop, next(readings) if entire else None)
            for detection, entire, crop in zip(wanted, whole, crops, strict=True)
        ]

    def _sighting(self, frame: Frame, detection: Detection, crop: PlateCrop, reading: PlateReading | None) -> Sighting:
        least = STILL_CONFIDENCE if frame.still else READ_LEAST
        return Sighting(
            source=frame.source,
            frame_index=frame.index,
            captured_ns=frame.captured_ns,
            detection=located(detection, crop, reading) if reading is not None else detection,
            reading=self._legible(reading, least) if reading is not None else None,
            crop=crop.image,
        )

    def _wanted(self, detection: Detection, image: Image) -> bool:
        height, width = image.shape[:2]
        x, y = detection.box.centre
        region = self._settings.region
        if region is not None and not inside((x / width, y / height), region):
            self.counters.dropped[Drop.OUTSIDE_REGION] += 1
            return False
        if detection.box.width < self._settings.minimum_plate_width:
            self.counters.dropped[Drop.TOO_SMALL] += 1
            return False
        return True

    def _cut_off(self, detection: Detection, image: Image) -> bool:
        height, width = (float(side) for side in image.shape[:2])
        box, across, down = detection.box, EDGE * width, EDGE * height
        if detection.box.width > CLOSE_UP * width:
            return False
        near: bool = box.left < across or box.top < down or box.right > width - across or box.bottom > height - down
        if near:
            self.counters.dropped[Drop.CUT_OFF] += 1
        return near

    def _legible(self, reading: PlateReading, least: float) -> PlateReading | None:
        if len(reading.characters) < LEAST_CHARACTERS or reading.confidence < least:
            self.counters.dropped[Drop.UNREADABLE] += 1
            return None
        self.counters.readings += 1
        return reading

    def _still(self, sighting: Sighting) -> Passage | None:
        """Return a still's plate as a passage. It has no direction, so none is asked of it."""
        if sighting.reading is None or sighting.reading.text is None:
            return None
        track = Track(first=sighting, last=sighting, first_ns=0, last_ns=0)
        track.read(sighting)
        return _passage(track, vote(track.readings), self._home, still=True)

    def _conclude(self, track: Track) -> Passage | None:
        """Return the passage of a track that ended, or count why it is none."""
        decided = vote(track.readings) if track.readings else None
        if decided is None or not confirmed(track, decided):
            self.counters.dropped[Drop.UNCONFIRMED] += 1
            return None
        if decided.confidence < PASSAGE_CONFIDENCE:
            self.counters.dropped[Drop.UNSURE] += 1
            return None
        passage = _passage(track, decided, self._home, still=False)
        repeated = any(_same_visit(earlier, passage) for earlier in self._recent)
        self._recent.append(passage)
        if repeated:
            self.counters.dropped[Drop.REPEATED] += 1
            return None
        if self._settings.directions and passage.direction not in self._settings.directions:
            self.counters.dropped[Drop.WRONG_DIRECTION] += 1
            return None
        return passage


def confirmed(track: Track, decided: Vote) -> bool:
    """Tell whether two sightings agree with the vote, or one that is sure enough stands alone."""
    if decided.support(track.texts) >= AGREEING:
        return True
    sure = (reading.text for reading in track.readings if reading.confidence >= SOLE_CONFIDENCE)
    return any(text is not None and decided.support({text: 1}) for text in sure)


def _same_visit(earlier: Passage, later: Passage) -> bool:
    """Tell whether two passages that were never in sight together are one vehicle that was lost and found again."""
    gap = later.first_captured_ns - earlier.last_captured_ns
    if later.first_frame <= earlier.last_frame or not 0 <= gap <= REPEAT_NS:
        return False
    alike = zip(earlier.ambiguity, later.ambiguity, strict=False)
    return len(earlier.text) == len(later.text) and all(set(one) & set(other) for one, other in alike)


def _passage(track: Track, decided: Vote, home: str, *, still: bool) -> Passage:
    jurisdiction = _jurisdiction(track.readings)
    text = rerank(decided, jurisdiction, home=home)
    last = track.best or track.last
    return Passage(
        source=track.first.source,
        first_frame=track.first.frame_index,
        last_frame=track.last.frame_index,
        first_captured_ns=track.first.captured_ns,
        last_captured_ns=track.last.captured_ns,
        text=text,
        raw_text=decided.text,
        confidence=decided.confidence,
        ambiguity=decided.ambiguity,
        jurisdiction=jurisdiction,
        seen=track.seen,
        agreeing=decided.support(track.texts),
        direction=Direction.STILL if still else direction(track.boxes),
        box=last.detection.box,
        crop=track.crop,
        still=still,
    )


def _jurisdiction(readings: Sequence[PlateReading]) -> str:
    """Return the jurisdiction with the most confidence over all readings that name one, else "unknown"."""
    weights: dict[str, float] = {}
    for reading in readings:
        if reading.jurisdiction != UNKNOWN:
            weights[reading.jurisdiction] = weights.get(reading.jurisdiction, 0.0) + reading.jurisdiction_confidence
    return max(weights, key=lambda name: (weights[name], name)) if weights else UNKNOWN
