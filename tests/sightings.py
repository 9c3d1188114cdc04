"""Doubles and makers for the tests of tracking, pipeline and capture: pictures and readings are said, not seen."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from homeplate.domain.geometry import Box
from homeplate.domain.passage import Detection, Frame, Image, PlateCrop, Sighting
from homeplate.domain.plate import CharReading, PlateReading

SECOND = 1_000_000_000
START_NS = 1_790_000_000 * SECOND


def reading(text: str, confidence: float = 0.95, jurisdiction: str = "unknown") -> PlateReading:
    """A reading whose every character has the same confidence."""
    return PlateReading(
        characters=tuple(CharReading(alternatives=((c, confidence),)) for c in text),
        jurisdiction=jurisdiction,
        jurisdiction_confidence=0.9 if jurisdiction != "unknown" else 0.0,
    )


def box(x: float, y: float, width: float = 100.0) -> Box:
    """A plate's box around a centre."""
    return Box(left=x - width / 2, top=y - width / 4, right=x + width / 2, bottom=y + width / 4)


def sighting(
    x: float, y: float, text: str | None, *, frame: int = 0, width: float = 100.0, confidence: float = 0.95
) -> Sighting:
    return Sighting(
        source="road",
        frame_index=frame,
        captured_ns=START_NS + frame * SECOND // 10,
        detection=Detection(box=box(x, y, width), score=0.9),
        reading=None if text is None else reading(text, confidence),
        crop=np.full((8, 16, 3), frame % 256, np.uint8),
    )


@dataclass(frozen=True)
class Plate:
    """A plate that the doubles see in one frame."""

    box: Box
    text: str
    confidence: float = 0.95
    within: Box | None = None


@dataclass
class Script:
    """Says what is to be seen in each frame. A frame's picture carries its own number, which the doubles read back."""

    plates: Mapping[int, Sequence[Plate]]
    moves: Callable[[int], bool] = lambda _: True
    detected: list[int] = field(default_factory=list)
    crops_read: int = 0

    def frame(
        self,
        index: int,
        *,
        source: str = "road",
        fps: float = 10.0,
        still: bool = False,
        size: tuple[int, int] = (480, 640),
    ) -> Frame:
        stream_ns = round(index * SECOND / fps)
        return Frame(
            source=source, index=index, stream_ns=stream_ns, captured_ns=START_NS + stream_ns,
            image=numbered(index, size), still=still,
        )  # fmt: skip

    def detect(self, image: Image) -> list[Detection]:
        index = number(image)
        self.detected.append(index)
        return [
            Detection(box=plate.box, score=(index * 8 + n) / 1e6) for n, plate in enumerate(self.plates.get(index, ()))
        ]

    def crop(self, image: Image, detection: Detection) -> PlateCrop:
        into_frame = np.array([[1, 0, detection.box.left], [0, 1, detection.box.top], [0, 0, 1]])
        return PlateCrop(image=numbered(round(detection.score * 1e6), (8, 16)), into_frame=into_frame)

    def read(self, crops: Sequence[Image]) -> list[PlateReading]:
        self.crops_read += len(crops)
        plates = [self.plates[number(crop) // 8][number(crop) % 8] for crop in crops]
        return [
            replace(reading(p.text, p.confidence), box=p.within) if p.text else PlateReading(characters=())
            for p in plates
        ]

    def open(self, image: Image, stream_ns: int) -> bool:
        return self.moves(number(image))


def numbered(value: int, size: tuple[int, int]) -> Image:
    image = np.zeros((*size, 3), np.uint8)
    image[0, 0] = [value % 256, value // 256 % 256, value // 65536]
    return image


def number(image: Image) -> int:
    low, middle, high = (int(v) for v in image[0, 0])
    return low + 256 * middle + 65536 * high
