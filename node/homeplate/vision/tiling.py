"""Looks at a region of interest alone, in pieces if asked: what is far away is larger in the network's input then."""

from collections.abc import Sequence
from dataclasses import dataclass

from homeplate.domain.geometry import Box, Quad
from homeplate.domain.passage import Detection, Image
from homeplate.domain.source import WHOLE_PICTURE, Polygon, SourceSettings
from homeplate.ports import PlateDetector

OVERLAP = 0.25
"""Share of a piece's width that its neighbour shows too. A plate on a seam is seen whole by one of the two if it is
narrower than that; wider ones are seen in the look at the whole region that goes with the pieces."""
AROUND = 0.1
"""How far the pieces reach beyond the region, as a share of the frame: a plate with its centre inside is seen whole if
it is narrower than twice that."""
ASPECT = 16 / 9
"""Width to height of the network's input."""
SAME = 0.4
"""Detections of two pieces that overlap (IoU) by more are one plate."""
CLOSER, SURE = 2, 0.5
"""Pieces side by side in which a still is looked at again where no plate has this score."""
WORTH_IT = 640
"""Width in pixels of a picture that pieces show more of."""
CUT = (0.1, 0.15)
"""A plate that comes this near to a piece's edge, as a share of its own width and height, is cut off there: what a
detector says of a fragment ends before the edge does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a frame, in pixels; `right` and `bottom` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


def looking_at(detector: PlateDetector, settings: SourceSettings) -> PlateDetector:
    """Return a detector that looks where a source's plates count, in as many pieces as its settings say."""
    if settings.region is None and settings.tiles == 1:
        return PatientDetector(detector) if settings.stills else detector
    return RegionDetector(detector, region=settings.region or WHOLE_PICTURE, tiles=settings.tiles)


def pieces_of(width: int, height: int, region: Polygon, tiles: int) -> list[Piece]:
    """Cut what lies around a region into pieces that overlap, in up to `tiles` rows to keep about the input's shape.

    The undivided region comes first where there are several.

    Args:
        width: of the frame in pixels.
        height: of the frame in pixels.
        region: corners as fractions of the frame.
        tiles: how many pieces side by side, at least 1.
    """
    xs, ys = [x for x, _ in region], [y for _, y in region]
    left, right = max(0.0, min(xs) - AROUND) * width, min(1.0, max(xs) + AROUND) * width
    top, bottom = max(0.0, min(ys) - AROUND) * height, min(1.0, max(ys) + AROUND) * height
    rows = min(tiles, max(1, round(tiles * (bottom - top) / max(1.0, right - left) * ASPECT)))
    spans = [(left, top, right, bottom)] if tiles > 1 else []
    spans += [(x0, y0, x1, y1) for y0, y1 in _spans(top, bottom, rows) for x0, x1 in _spans(left, right, tiles)]
    pieces = (
        Piece(left=int(x0), top=int(y0), right=min(width, round(x1)), bottom=min(height, round(y1)))
        for x0, y0, x1, y1 in spans
    )
    return [piece for piece in pieces if piece.right > piece.left and piece.bottom > piece.top]


def _spans(low: float, high: float, count: int) -> list[tuple[float, float]]:
    """Return the bounds of `count` equal parts, each of which shows OVERLAP of its length of the next."""
    length = (high - low) / (count - (count - 1) * OVERLAP)
    starts = (low + index * length * (1 - OVERLAP) for index in range(count))
    return [(start, start + length) for start in starts]


def merged(found: Sequence[Detection]) -> list[Detection]:
    """Return the detections, best first, without the weaker ones of one plate."""
    kept: list[Detection] = []
    for detection in sorted(found, key=lambda one: -one.score):
        if all(detection.box.iou(other.box) <= SAME for other in kept):
            kept.append(detection)
    return kept


class RegionDetector:
    """Implements `ports.PlateDetector`: asks another detector about each piece of a region."""

    def __init__(self, detector: PlateDetector, *, region: Polygon, tiles: int) -> None:
        self._detector, self._region, self._tiles = detector, region, tiles

    def detect(self, image: Image) -> list[Detection]:
        """Return the plates in the region's pieces of a BGR picture [H, W, 3], best first.

        Raises:
            ModelError: the model cannot be run.
        """
        height, width = image.shape[:2]
        return merged(_found_in(self._detector, image, pieces_of(width, height, self._region, self._tiles)))


class PatientDetector:
    """Implements `ports.PlateDetector` for stills, which nobody looks at twice: looks closer where nothing is sure."""

    def __init__(self, detector: PlateDetector) -> None:
        self._detector = detector

    def detect(self, image: Image) -> list[Detection]:
        """Return the plates in a BGR picture [H, W, 3], best first.

        Raises:
            ModelError: the model cannot be run.
        """
        found = self._detector.detect(image)
        if image.shape[1] < WORTH_IT or any(detection.score >= SURE for detection in found):
            return found
        _, *closer = pieces_of(image.shape[1], image.shape[0], WHOLE_PICTURE, CLOSER)  # the whole was looked at
        return merged([*found, *_found_in(self._detector, image, closer)])


def _found_in(detector: PlateDetector, image: Image, pieces: Sequence[Piece]) -> list[Detection]:
    """Return what a detector finds whole in pieces of a picture, in the picture's pixels."""
    height, width = image.shape[:2]
    return [
        _moved(detection, piece.left, piece.top)
        for piece in pieces
        for detection in detector.detect(image[piece.top : piece.bottom, piece.left : piece.right])
        if not _cut(detection.box, piece, width, height)
    ]


def _cut(box: Box, piece: Piece, width: int, height: int) -> bool:
    """Tell whether a plate (in the piece's pixels) is cut off at an edge of the piece that is none of the frame's."""
    across, down = CUT[0] * box.width, CUT[1] * box.height
    return (
        (piece.left > 0 and box.left < across)
        or (piece.top > 0 and box.top < down)
        or (piece.right < width and box.right > piece.right - piece.left - across)
        or (piece.bottom < height and box.bottom > piece.bottom - piece.top - down)
    )


def _moved(detection: Detection, dx: int, dy: int) -> Detection:
    quad = detection.quad
    if quad is not None:
        first, second, third, fourth = ((x + dx, y + dy) for x, y in quad.corners)
        quad = Quad(corners=(first, second, third, fourth))
    return Detection(box=detection.box.moved(dx, dy), score=detection.score, quad=quad)
