"""What distance, cheap cameras, night and compression do to a picture of a plate."""

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Random = np.random.Generator


def degrade(random: Random, image: Image) -> Image:
    """Return the picture with random resolution, blur, light, noise and compression; of the same shape."""
    height, width = image.shape[:2]
    scale = 1.0
    if random.random() < 0.65:
        scale = random.uniform(0.28, 0.9) if random.random() < 0.7 else random.uniform(0.33, 0.6)
    if random.random() < 0.2:
        image = _smeared(random, image)
    image = _lit(random, image)
    if scale < 1:
        size = (max(16, round(width * scale)), max(8, round(height * scale * random.uniform(0.75, 1.25))))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    if random.random() < 0.4:
        image = _noisy(random, image)
    if random.random() < 0.5:
        quality = int(random.uniform(15, 90))
        _, coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        image = np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)
    if scale < 1:
        how = cv2.INTER_LINEAR if random.random() < 0.75 else cv2.INTER_CUBIC
        image = cv2.resize(image, (width, height), interpolation=how).astype(np.uint8)
    return image


def _smeared(random: Random, image: Image) -> Image:
    if random.random() < 0.5:
        return cv2.GaussianBlur(image, (0, 0), random.uniform(0.5, 2.2)).astype(np.uint8)
    length = int(random.integers(3, 9))
    kernel = np.zeros((length, length), np.float32)
    angle = random.uniform(0, np.pi)
    middle, reach = (length - 1) / 2, np.array([np.cos(angle), np.sin(angle)]) * (length - 1) / 2
    start, end = np.round(middle - reach).astype(int), np.round(middle + reach).astype(int)
    cv2.line(kernel, start.tolist(), end.tolist(), 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum()).astype(np.uint8)


def _noisy(random: Random, image: Image) -> Image:
    grain = random.normal(0, random.uniform(2, 18), (*image.shape[:2], random.choice((1, 3))))
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def _lit(random: Random, image: Image) -> Image:
    """Change light and colour: grey, infrared, gamma, contrast, a cast, a glare or shadow."""
    if random.random() < 0.35:
        weights = random.dirichlet((1.5, 1.5, 1.5))
        image = np.repeat((image @ weights)[..., None], 3, axis=2).astype(np.uint8)
    elif random.random() < 0.1:
        image = image[..., random.permutation(3)]
    lut = (np.arange(256) / 255.0) ** np.exp(random.normal(0, 0.35))
    if random.random() < 0.04:
        lut = 1 - lut
    if random.random() < 0.6:
        contrast, level = random.uniform(0.2, 1.1), random.uniform(0, 1)
        lut = lut * contrast + level * (1 - contrast)
    image = cv2.LUT(np.ascontiguousarray(image), np.clip(lut * 255, 0, 255).astype(np.uint8)).astype(np.uint8)
    if random.random() < 0.15:
        image = np.clip(image * random.uniform(0.75, 1.25, 3), 0, 255).astype(np.uint8)
    if random.random() < 0.2:
        height, width = image.shape[:2]
        way = random.normal(0, 1, 2)
        slope = np.add.outer(np.linspace(-1, 1, height) * way[0], np.linspace(-1, 1, width) * way[1])
        edge = 1 / (1 + np.exp(-(slope - random.normal(0, 0.5)) * random.uniform(1, 12)))
        image = np.clip(image + (edge * random.uniform(-110, 130))[..., None], 0, 255).astype(np.uint8)
    return image
