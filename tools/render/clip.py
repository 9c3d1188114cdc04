"""Renders a clip of passing cars of our own making: a two-lane road with cars that approach, drive away and cross.

Geometry is in metres, x to the right, y up, z away from the camera, which stands in the middle of the road. Cars are
boxes with windows, lights and a synthetic plate (`tools.render.plates`), drawn far to near; motion blur is the mean
over the exposure, and a rolling shutter reads each row later than the one above. Every choice comes from the generator
that is passed in, so equal seeds give equal clips.
"""

import argparse
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.render.plates import PlateImage, render_plate

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]
Random = np.random.Generator

WIDTH, HEIGHT, FPS = 1280, 720, 15.0
FOCAL, HORIZON, EYE = 2036.0, 110.0, 1.6
"""Focal length in pixels (a telephoto lens, as plate cameras have), row of the horizon, height of the camera."""
NEAR, FAR = 0.4, 70.0
EXPOSURE_S, EXPOSURES = 1 / 300, 3
LANE, KERB = 1.45, 3.5
LANE_SPEED, CROSS_SPEED, CROSS_ANGLE = 7.5, 4.5, math.radians(33)
MEET = 7.0
"""Distance at which a car is when its time comes: its plate is about 90 pixels wide there."""
LEAST_EVENT_S = 1.6
"""Least time between two cars that share a way (they would touch)."""
PLATE = (0.34, 0.17)
LENGTH, HALF = 4.4, 0.9
Colour = tuple[float, float, float]
Face = tuple[Floats, Colour, bool]
"""Corners (across, up, back) [N, 3], BGR, and whether the sun shades it."""
GLASS, DARK, RUBBER, RIM = (70.0, 62.0, 54.0), (38.0, 36.0, 34.0), (24.0, 24.0, 25.0), (120.0, 120.0, 122.0)
SUN = np.array([0.45, 0.8, -0.4]) / np.linalg.norm([0.45, 0.8, -0.4])
PAINTS = ((200, 200, 205), (60, 58, 56), (150, 60, 30), (45, 40, 150), (110, 112, 116), (225, 225, 222), (70, 90, 60))
DESIGNS = ("california", "california", "california", "california-legacy")


BRAKES = 5.0
"""Metres a second squared with which a car stops and starts: a hard half g."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutter:
    """How a camera takes a picture.

    Attributes:
        exposure_s: how long each row gathers light.
        steps: pictures that stand for the exposure.
        readout_s: from the first to the last row; 0 is a global shutter.
    """

    exposure_s: float = EXPOSURE_S
    steps: int = EXPOSURES
    readout_s: float = 0.0


DEFAULT_SHUTTER = Shutter()


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """A post beside or between the lanes that hides what is behind it: its middle (x, z) and its width, metres."""

    at: tuple[float, float]
    width: float = 0.3
    tall: float = 2.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Car:
    """A car on a straight way.

    Attributes:
        plate: what it carries, in front or behind.
        paint: BGR.
        meets_s: when its plate is at `at`.
        at: (x, z) of the plate then.
        way: (x, z) metres a second.
        rear: True where the camera sees it from behind.
        halt_s: how long it stands at `at`; it brakes before and starts after. None: it does not stop.
    """

    plate: PlateImage
    paint: tuple[int, int, int]
    meets_s: float
    at: tuple[float, float]
    way: tuple[float, float]
    rear: bool
    halt_s: float | None = None

    def place(self, time_s: float) -> tuple[float, float]:
        """Return (x, z) of the plate's end of the car."""
        x, z = self.places(np.array([time_s]))[0].tolist()
        return x, z

    def places(self, times_s: Floats) -> Floats:
        """Return (x, z) of the plate's end of the car at each time [N], as [N, 2]."""
        driven = times_s - self.meets_s
        if self.halt_s is not None:
            # Seconds of cruising that the way is worth; half the braking time is lost on either side of the halt.
            braking = float(np.hypot(*self.way)) / BRAKES
            after = np.maximum(0.0, np.abs(driven) - np.where(driven > 0, self.halt_s, 0.0))
            slow = np.minimum(after, braking)
            driven = np.sign(driven) * (slow**2 / (2 * braking) + after - slow)
        return np.asarray(np.array(self.at) + driven[:, None] * np.array(self.way), np.float64)

    @property
    def axes(self) -> tuple[Floats, Floats]:
        """Directions (x, z) across the car and back from its plate's end."""
        way = np.array(self.way) / np.hypot(*self.way)
        back = way if self.rear else -way
        return np.array([back[1], -back[0]]), back

    def world(self, points: Floats, time_s: float, readout_s: float = 0.0) -> Floats:
        """Turn points (across, up, back from the plate's end) [N, 3] into the world's, as a shutter sees them.

        A rolling shutter sees a point later, the lower its row is; the row is that of the point at `time_s`.
        """
        world = self._placed(points, np.full(len(points), time_s))
        if not readout_s:
            return world
        depth = np.maximum(world[:, 2], NEAR)
        rows = np.clip((HORIZON + FOCAL * (EYE - world[:, 1]) / depth) / HEIGHT, 0.0, 1.0)
        return self._placed(points, time_s + readout_s * rows)

    def _placed(self, points: Floats, times_s: Floats) -> Floats:
        across, back = self.axes
        flat = self.places(times_s) + points[:, :1] * across + points[:, 2:] * back
        return np.column_stack([flat[:, 0], points[:, 1], flat[:, 1]])

    def plate_corners(self, time_s: float, readout_s: float = 0.0) -> Floats | None:
        """Return the plate's corners in pixels [4, 2], left to right as seen; None behind the camera."""
        wide, tall = PLATE
        across, up = (-wide / 2, wide / 2), (0.555, 0.555 - tall)
        corners = [(across[0], up[0]), (across[1], up[0]), (across[1], up[1]), (across[0], up[1])]
        world = self.world(np.array([(*corner, -0.01) for corner in corners]), time_s, readout_s)
        if world[:, 2].min() < NEAR:
            return None
        pixels = project(world)
        return pixels[[1, 0, 3, 2]] if pixels[0, 0] > pixels[1, 0] else pixels


def plan(rng: Random, seconds: float, plates: int) -> list[Car]:
    """Decide who passes when: pairs in the two lanes and single cars that cross, in turns.

    Raises:
        ValueError: the cars do not fit into the time.
    """
    sizes = [1, 1] if plates == 2 else [2 if i % 2 == 0 else 1 for i in range(plates)]
    while sum(sizes) - sizes[-1] >= plates:
        sizes.pop()
    sizes[-1] = plates - sum(sizes[:-1])
    each = seconds / len(sizes)
    if plates < 1 or each < LEAST_EVENT_S:
        raise ValueError(f"{plates} cars need at least {LEAST_EVENT_S * len(sizes):.1f} s, and at least one car")
    cars: list[Car] = []
    for number, size in enumerate(sizes):
        time = (number + 0.5) * each
        if number % 2:
            cars.append(_car(rng, cars, time, "cross"))
            continue
        ways = ["left", "right"] if size == 2 else [str(rng.choice(["left", "right"]))]
        cars += [_car(rng, cars, time + 0.25 * n + float(rng.uniform(0, 0.1)), way) for n, way in enumerate(ways)]
    return cars


def _car(rng: Random, others: Sequence[Car], time: float, way: str) -> Car:
    plate = render_plate(rng, design=str(rng.choice(DESIGNS)))
    while plate.text in {other.plate.text for other in others}:
        plate = render_plate(rng, design="california")
    speed = float(rng.uniform(0.92, 1.05))
    side = float(rng.choice([-1.0, 1.0]))
    at, heading = {
        "left": ((-LANE + float(rng.uniform(-0.1, 0.1)), MEET), (0.0, -LANE_SPEED)),
        "right": ((LANE + float(rng.uniform(-0.1, 0.1)), MEET), (0.0, LANE_SPEED)),
        "cross": (
            (0.0, MEET),
            (side * CROSS_SPEED * math.sin(CROSS_ANGLE), -CROSS_SPEED * math.cos(CROSS_ANGLE)),
        ),
    }[way]
    paint = PAINTS[int(rng.integers(len(PAINTS)))]
    moves = (heading[0] * speed, heading[1] * speed)
    return Car(plate=plate, paint=paint, meets_s=time, at=at, way=moves, rear=way == "right")


# --- drawing -------------------------------------------------------------------------------------------------------


def project(points: Floats) -> Floats:
    """Project world points [N, 3] with z > 0 to pixels [N, 2]."""
    return np.column_stack(
        [WIDTH / 2 + FOCAL * points[:, 0] / points[:, 2], HORIZON + FOCAL * (EYE - points[:, 1]) / points[:, 2]]
    )


def _clipped(points: Floats) -> Floats:
    """Cut a polygon at the near plane."""
    kept: list[Floats] = []
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        if a[2] >= NEAR:
            kept.append(a)
        if (a[2] >= NEAR) != (b[2] >= NEAR):
            kept.append(a + (b - a) * (NEAR - a[2]) / (b[2] - a[2]))
    return np.array(kept)


def _fill(image: Image, points: Floats, colour: Sequence[float]) -> None:
    cut = _clipped(points)
    if len(cut) < 3:
        return
    pixels = np.clip(project(cut), -20000, 20000)
    cv2.fillPoly(image, [np.rint(pixels * 16).astype(np.int32)], [float(c) for c in colour], cv2.LINE_AA, 4)


def _quad(
    left: float, right: float, bottom: tuple[float, float], top: tuple[float, float], inset: float = 0.0
) -> Floats:
    """A face that faces the plate's end: `bottom` and `top` are (up, back); the top may be narrower by `inset`."""
    return np.array([
        (left, *bottom), (right, *bottom), (right - inset, *top), (left + inset, *top),
    ])  # fmt: skip


def _side(sign: float, outline: Sequence[tuple[float, float]], inset: float = 0.0) -> Floats:
    """A face at a side: an outline of (up, back); points above the body lean in by `inset`."""
    return np.array([(sign * (HALF - (inset if up > 0.9 else 0.0)), up, back) for up, back in outline])


def _faces(car: Car, side: float) -> list[Face]:
    """Return a car's faces, far to near as seen from its plate's end and one `side` (-1 or 1)."""
    paint = _colour(car.paint)
    hood = 0.55 if car.rear else 1.05
    lamp = (40.0, 30.0, 190.0) if car.rear else (235.0, 240.0, 245.0)
    faces = [(_quad(-0.62, 0.62, (1.44, hood + 0.75), (1.44, 3.5)), paint, True), *_side_faces(paint, hood, side)]
    faces += [
        (_quad(-0.85, -0.59, (0.0, 0.35), (0.32, 0.35)), RUBBER, False),
        (_quad(0.59, 0.85, (0.0, 0.35), (0.32, 0.35)), RUBBER, False),
        (_quad(-HALF, HALF, (0.78, 0.0), (0.9, hood)), paint, True),
        (_quad(-0.86, 0.86, (0.9, hood), (1.44, hood + 0.75), 0.24), paint, True),
        (_quad(-0.76, 0.76, (0.94, hood + 0.06), (1.4, hood + 0.7), 0.2), GLASS, False),
        (_quad(-0.55, 0.1, (0.96, hood + 0.08), (1.38, hood + 0.68), 0.14), _colour(GLASS, 1.35), False),
        (_quad(-HALF, HALF, (0.24, 0.0), (0.78, 0.0)), paint, True),
        (_quad(-HALF, HALF, (0.2, 0.0), (0.34, 0.0)), DARK, False),
        (_quad(-0.42, 0.42, (0.6, 0.0), (0.74, 0.0)), _colour(car.paint, 0.8) if car.rear else DARK, False),
        (_quad(-0.84, -0.52, (0.6, 0.0), (0.74, 0.0)), lamp, False),
        (_quad(0.52, 0.84, (0.6, 0.0), (0.74, 0.0)), lamp, False),
        (_quad(-0.2, 0.2, (0.365, 0.0), (0.58, 0.0)), _colour(car.paint, 0.55), False),
    ]
    return faces


def _side_faces(paint: Colour, hood: float, side: float) -> list[Face]:
    """Return the side that the camera sees: body, cabin, windows and wheels."""
    body = [(0.24, 0.0), (0.78, 0.0), (0.9, hood), (0.9, LENGTH), (0.24, LENGTH)]
    cabin = [(0.9, hood), (1.44, hood + 0.75), (1.44, 3.5), (0.9, 4.0)]
    window = [(0.95, hood + 0.3), (1.38, hood + 0.85), (1.38, 3.35), (0.95, 3.6)]
    faces = [
        (_side(side, body), paint, True),
        (_side(side, cabin, 0.28), paint, True),
        (_side(side * 1.002, window, 0.26), GLASS, False),
    ]
    turns = np.linspace(0, 2 * math.pi, 20, endpoint=False)
    for axle in (0.8, 3.5):
        for radius, colour in ((0.31, RUBBER), (0.18, RIM)):
            wheel = [(0.31 + radius * math.sin(t), axle + radius * math.cos(t)) for t in turns]
            faces.append((_side(side * (1.01 - radius / 50), wheel), colour, False))
    return faces


def _colour(colour: Sequence[float], bright: float = 1.0) -> Colour:
    return colour[0] * bright, colour[1] * bright, colour[2] * bright


def _draw_car(image: Image, car: Car, time_s: float, light: float, readout_s: float) -> None:
    _shadow(image, car, time_s)
    middle = np.array([0.0, EYE, 0.0])
    for points, colour, shaded in _faces(car, _seen_side(car, time_s)):
        world = car.world(points, time_s, readout_s)
        normal = np.cross(world[1] - world[0], world[2] - world[1])
        normal = normal / max(1e-9, float(np.linalg.norm(normal)))
        if normal @ (middle - world.mean(axis=0)) < 0:
            normal = -normal
        bright = light * (0.62 + 0.42 * max(0.0, float(normal @ SUN)) if shaded else 1.0)
        haze = min(0.75, max(0.0, float(world[:, 2].mean()) - 6) / 70)
        _fill(image, world, [(1 - haze) * bright * c + haze * 195 for c in colour])
    target = car.plate_corners(time_s, readout_s)
    if target is not None:
        _draw_plate(image, car.plate.image, target, light)


def _seen_side(car: Car, time_s: float) -> float:
    """Return -1 or 1: which side of the car faces the camera."""
    sides = car.world(np.array([(-HALF, 0.5, 2.0), (HALF, 0.5, 2.0)]), time_s)
    return 1.0 if np.hypot(*sides[1, ::2]) < np.hypot(*sides[0, ::2]) else -1.0


def _shadow(image: Image, car: Car, time_s: float) -> None:
    ground = np.array([(-1.05, 0.0, -0.1), (1.15, 0.0, -0.1), (1.25, 0.0, LENGTH + 0.2), (-0.95, 0.0, LENGTH + 0.2)])
    cut = _clipped(car.world(ground, time_s))
    if len(cut) < 3:
        return
    pixels = np.clip(project(cut), -9000, 9000)
    left, top = np.clip(np.floor(pixels.min(axis=0)).astype(int) - 12, 0, (WIDTH, HEIGHT)).tolist()
    right, bottom = np.clip(np.ceil(pixels.max(axis=0)).astype(int) + 12, 0, (WIDTH, HEIGHT)).tolist()
    if right <= left or bottom <= top:
        return
    shade = np.full((bottom - top, right - left, 3), 255, np.uint8)
    cv2.fillPoly(shade, [np.rint(pixels - (left, top)).astype(np.int32)], (110, 110, 110))
    part = image[top:bottom, left:right]
    part[:] = cv2.multiply(part, cv2.blur(shade, (21, 9)), scale=1 / 255)


def _draw_post(image: Image, post: Post) -> None:
    (x, z), half = post.at, post.width / 2
    edges = [(x - half, x, 118.0), (x, x + half, 84.0)]
    for left, right, grey in edges:
        face = np.array([(left, 0.0, z), (right, 0.0, z), (right, post.tall, z), (left, post.tall, z)])
        _fill(image, face, (grey, grey, grey))


def _draw_plate(image: Image, plate: Image, target: Floats, light: float) -> None:
    """Warp the plate into the picture at twice its resolution, and average down."""
    left, top = (np.floor(target.min(axis=0)).astype(int) - 2).tolist()
    right, bottom = (np.ceil(target.max(axis=0)).astype(int) + 2).tolist()
    if right <= 0 or left >= WIDTH or bottom <= 0 or top >= HEIGHT or not 6 <= right - left <= WIDTH:
        return
    pixels, cover = _warped(plate, target - (left, top), (right - left, bottom - top))
    x0, y0, x1, y1 = max(0, left), max(0, top), min(WIDTH, right), min(HEIGHT, bottom)
    part = np.s_[y0 - top : y1 - top, x0 - left : x1 - left]
    under = image[y0:y1, x0:x1]
    lit = pixels[part] * min(1.0, 0.93 * light)
    image[y0:y1, x0:x1] = np.clip(under + (lit - under) * cover[part], 0, 255).astype(np.uint8)


def _warped(plate: Image, corners: Floats, area: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a plate's pixels [h, w, 3] and cover [h, w, 1] in an area (w, h), averaged down from twice its size."""
    span = min(plate.shape[1], 2 * area[0])
    size = (span, max(2, round(span * plate.shape[0] / plate.shape[1])))
    small = cv2.resize(plate, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    source = np.array([(0, 0), (size[0], 0), size, (0, size[1])], np.float32)
    warp = cv2.getPerspectiveTransform(source, (corners * 2).astype(np.float32))
    double = (area[0] * 2, area[1] * 2)
    pixels = cv2.warpPerspective(small, warp, double, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpPerspective(np.ones(small.shape[:2], np.float32), warp, double, flags=cv2.INTER_LINEAR)
    pixels = cv2.resize(pixels, area, interpolation=cv2.INTER_AREA)
    cover = cv2.resize(cover, area, interpolation=cv2.INTER_AREA)[..., None]
    return np.asarray(pixels, np.float32), np.asarray(cover, np.float32)


# --- the place -----------------------------------------------------------------------------------------------------


def backdrop(rng: Random) -> Image:
    """Draw the empty road under its sky, [HEIGHT, WIDTH, 3]."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    rise = np.linspace(0, 1, int(HORIZON))[:, None, None]
    image[: int(HORIZON)] = np.array((232, 214, 190)) * (1 - rise) + np.array((226, 222, 214)) * rise
    _skyline(rng, image)
    rows = np.arange(int(HORIZON) + 1, HEIGHT)
    z = (FOCAL * EYE / (rows - HORIZON))[:, None]
    x = (np.arange(WIDTH)[None] - WIDTH / 2) * z / FOCAL
    fine, coarse = rng.normal(0, 1, (512, 512)), cv2.GaussianBlur(rng.normal(0, 1, (256, 256)), (0, 0), 6) * 9
    grain = fine[(z * 60).astype(int) % 512, (x * 60).astype(int) % 512] * np.minimum(1, 12 / z)
    stains = coarse[(z * 8).astype(int) % 256, (x * 20).astype(int) % 256]
    road = (98 + 5 * grain + 6 * stains)[..., None] * np.array((1.02, 1.0, 0.98))
    grass = (92 + 14 * grain + 16 * stains)[..., None] * np.array((0.55, 1.0, 0.8))
    kerb = (150 + 6 * grain)[..., None] * np.ones(3)
    off = np.abs(x)[..., None]
    ground = np.where(off > KERB + 0.25, grass, np.where(off > KERB, kerb, road))
    line = ((np.abs(x) < 0.06) & (z % 5 < 2.5)) | (np.abs(np.abs(x) - KERB + 0.35) < 0.05)
    ground = np.where(line[..., None], 0.3 * ground + 0.7 * np.array((205, 212, 214)), ground)
    haze = np.clip((z - 10) / 160, 0, 0.8)[..., None]
    image[int(HORIZON) + 1 :] = ground * (1 - haze) + 200 * haze
    image[int(HORIZON)] = image[int(HORIZON) + 1]
    return np.clip(cv2.GaussianBlur(image, (0, 0), 0.7), 0, 255).astype(np.uint8)


def _skyline(rng: Random, image: NDArray[np.float32]) -> None:
    """Draw houses and trees along the horizon."""
    base = int(HORIZON)
    for _ in range(7):
        left, wide, tall = int(rng.integers(-60, WIDTH)), int(rng.integers(90, 230)), int(rng.integers(25, 80))
        shade = np.array((150, 165, 178)) * float(rng.uniform(0.8, 1.15))
        image[base - tall : base, max(0, left) : left + wide] = shade
        for x in range(left + 10, left + wide - 14, 24):
            for y in range(base - tall + 8, base - 12, 20):
                image[y : y + 9, max(0, x) : max(0, x + 11)] = shade * 0.62
    for _ in range(60):
        centre = (int(rng.integers(0, WIDTH)), base - int(rng.integers(2, 26)))
        size = (int(rng.integers(14, 46)), int(rng.integers(10, 30)))
        green = np.array((70, 105, 82)) * float(rng.uniform(0.7, 1.15))
        cv2.ellipse(image, centre, size, 0, 0, 360, [float(c) for c in green], -1, cv2.LINE_AA)


def frames(rng: Random, cars: Sequence[Car], seconds: float) -> Iterator[Image]:
    """Yield the clip's frames, [HEIGHT, WIDTH, 3] BGR."""
    return pictures(rng, cars, [number / FPS for number in range(round(seconds * FPS))])


def pictures(
    rng: Random,
    cars: Sequence[Car],
    times_s: Sequence[float],
    *,
    shutter: Shutter = DEFAULT_SHUTTER,
    posts: Sequence[Post] = (),
) -> Iterator[Image]:
    """Yield a picture, [HEIGHT, WIDTH, 3] BGR, whose first row begins to see at each of the times."""
    empty, light = backdrop(rng), float(rng.uniform(0.92, 1.04))
    noise = rng.normal(0, 2.2, (HEIGHT + 64, WIDTH + 64, 1)).astype(np.float32)
    for begins in times_s:
        total = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        for step in range(shutter.steps):
            time = begins + shutter.exposure_s * step / shutter.steps
            picture = empty.copy()
            _draw_all(picture, cars, posts, time, light, shutter.readout_s)
            total += picture
        dx, dy = int(rng.integers(64)), int(rng.integers(64))
        grained = total / shutter.steps + noise[dy : dy + HEIGHT, dx : dx + WIDTH]
        yield np.clip(grained, 0, 255).astype(np.uint8)


def _draw_all(
    image: Image, cars: Sequence[Car], posts: Sequence[Post], time: float, light: float, readout_s: float
) -> None:
    """Draw cars and posts, far to near."""
    far_to_near = [(math.hypot(*car.place(time)), car) for car in cars] + [(math.hypot(*p.at), p) for p in posts]
    for _, thing in sorted(far_to_near, key=lambda one: -one[0]):
        if isinstance(thing, Post):
            _draw_post(image, thing)
        elif -LENGTH < thing.place(time)[1] < FAR:
            _draw_car(image, thing, time, light, readout_s)


def render_clip(path: Path, rng: Random, *, seconds: float = 8.0, plates: int = 4) -> list[str]:
    """Render a clip as MJPG in an AVI (OpenCV's own writer, the same on every platform).

    Args:
        path: where to write it, ending in .avi.
        rng: source of every choice.
        seconds: its length.
        plates: cars that pass.

    Returns:
        The plates' texts in the order of their passing.

    Raises:
        ValueError: the cars do not fit into the time, or the file cannot be written.
    """
    cars = plan(rng, seconds, plates)
    fourcc = cv2.VideoWriter.fourcc(*"MJPG")
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, fourcc, FPS, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise ValueError(f"{path}: cannot be written; name an .avi file in a folder that exists")
    try:
        for picture in frames(rng, cars, seconds):
            writer.write(picture)
    finally:
        writer.release()
    return [car.plate.text for car in cars]


def repeat_clip(clip: Path, path: Path, times: int) -> None:
    """Write a clip that shows another one again and again.

    Raises:
        ValueError: the clip cannot be read, or the file cannot be written.
    """
    reader, pictures = cv2.VideoCapture(str(clip)), []
    while (read := reader.read())[0]:
        pictures.append(read[1])
    reader.release()
    if not pictures:
        raise ValueError(f"{clip}: no frame can be read")
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter.fourcc(*"MJPG"), FPS, (WIDTH, HEIGHT))
    if not writer.isOpened():
        raise ValueError(f"{path}: cannot be written; name an .avi file in a folder that exists")
    try:
        for picture in pictures * times:
            writer.write(picture)
    finally:
        writer.release()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT.avi")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--plates", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    for text in render_clip(given.out, np.random.default_rng(given.seed), seconds=given.seconds, plates=given.plates):
        print(text)


if __name__ == "__main__":
    main()
