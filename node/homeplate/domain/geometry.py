"""Boxes and quadrilaterals in picture coordinates: x to the right, y down, in pixels."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """An axis-aligned rectangle in pixels; `right` and `bottom` are exclusive."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Width in pixels, never negative."""
        return max(0.0, self.right - self.left)

    @property
    def height(self) -> float:
        """Height in pixels, never negative."""
        return max(0.0, self.bottom - self.top)

    @property
    def area(self) -> float:
        """Area in square pixels."""
        return self.width * self.height

    @property
    def centre(self) -> tuple[float, float]:
        """The middle, as (x, y) in pixels."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def moved(self, dx: float, dy: float) -> "Box":
        """Return the same box, `dx` pixels to the right and `dy` down."""
        return Box(left=self.left + dx, top=self.top + dy, right=self.right + dx, bottom=self.bottom + dy)

    def scaled(self, across: float, down: float) -> "Box":
        """Return the box with the same centre, `across` times as wide and `down` times as high."""
        (x, y), width, height = self.centre, self.width * across / 2, self.height * down / 2
        return Box(left=x - width, top=y - height, right=x + width, bottom=y + height)

    def stretched(self, across: float, down: float) -> "Box":
        """Return the box in a picture that was stretched: `across` times as wide and `down` times as high."""
        return Box(left=self.left * across, top=self.top * down, right=self.right * across, bottom=self.bottom * down)

    def iou(self, other: "Box") -> float:
        """Return intersection over union with `other`, 0..1; 0 where both are empty."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        both = max(0.0, width) * max(0.0, height)
        union = self.area + other.area - both
        return both / union if union > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quad:
    """Corners of a plate as (x, y) in pixels, as the text is read: top left, top right, bottom right, bottom left."""

    corners: tuple[tuple[float, float], tuple[float, float], tuple[float, float], tuple[float, float]]

    @property
    def box(self) -> Box:
        """The smallest box around the four corners."""
        xs, ys = [x for x, _ in self.corners], [y for _, y in self.corners]
        return Box(left=min(xs), top=min(ys), right=max(xs), bottom=max(ys))


def inside(point: tuple[float, float], polygon: Sequence[tuple[float, float]]) -> bool:
    """Tell whether `point` lies in `polygon` (at least three corners, not closed), by counting crossings."""
    x, y = point
    odd = False
    for (x1, y1), (x2, y2) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            odd = not odd
    return odd
