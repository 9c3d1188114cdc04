"""Small videos and pictures, made on the spot and named by what is wrong with them."""

from pathlib import Path

import cv2
import numpy as np
import pytest


def picture(value: int, size=(48, 64)):
    image = np.full((*size, 3), value, np.uint8)
    image[:, : size[1] // 2] //= 2
    return image


@pytest.fixture
def video(tmp_path):
    """Returns a function that writes an MJPG AVI of grey frames, each brighter than the one before."""

    def make(name: str = "good.avi", *, frames: int = 20, fps: float = 10.0, codec: str = "MJPG") -> Path:
        path = tmp_path / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), fps, (64, 48))
        assert writer.isOpened()
        for i in range(frames):
            writer.write(picture(10 + 5 * i))
        writer.release()
        return path

    return make
