"""A plate crop as a JPEG that fits the record format's largest size."""

import cv2

from homeplate.domain.passage import Image
from homeplate.errors import SealingError
from homeplate.sealing.facts import MAX_CROP_BYTES

WIDTH = 480
"""Pixels: as wide as a crop is kept; a character of a seven-character plate then has about 60."""
QUALITIES = (90, 75, 60, 45)


def encode_crop(image: Image, limit: int = MAX_CROP_BYTES) -> bytes:
    """Return a crop as a JPEG of at most `limit` bytes: lower quality first, then half the size, again and again.

    Args:
        image: [h, w, 3] BGR, not empty.
        limit: bytes.

    Raises:
        SealingError: where it cannot be encoded at all.
    """
    picture = image
    if picture.shape[1] > WIDTH:
        picture = _resized(picture, WIDTH / picture.shape[1])
    while True:
        for quality in QUALITIES:
            good, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
            if not good:
                raise SealingError(f"a plate crop of shape {image.shape} cannot be encoded as JPEG")
            if encoded.size <= limit:
                return bytes(encoded)
        if max(picture.shape[:2]) == 1:
            raise SealingError(f"a plate crop does not fit into {limit} bytes")
        picture = _resized(picture, 0.5)


def _resized(image: Image, share: float) -> Image:
    size = (max(1, round(image.shape[1] * share)), max(1, round(image.shape[0] * share)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype("uint8")
