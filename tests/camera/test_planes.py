"""Planes of luma and chroma become the picture that they are of, with and without padding."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeplate.camera.planes import Layout, PixelFormat, luma, to_bgr


def scene(width=64, height=48):
    rng = np.random.default_rng(3)
    return cv2.resize(rng.integers(30, 220, (6, 8, 3), dtype=np.uint8), (width, height))


def as_planes(image, pixels, padding=0):
    """Return a picture's bytes, each line of luma `padding` bytes longer."""
    height, width = image.shape[:2]
    i420 = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420).reshape(-1)
    y, chroma = i420[: width * height].reshape(height, width), i420[width * height :]
    u, v = chroma.reshape(2, height // 2, width // 2)
    if pixels is PixelFormat.NV12:
        planes = [y, np.stack([u, v], -1).reshape(height // 2, width)]
        pads = [padding, padding]
    else:
        planes, pads = [y, u, v], [padding, padding // 2, padding // 2]
    padded = [np.pad(p, ((0, 0), (0, n)), constant_values=255) for p, n in zip(planes, pads, strict=True)]
    layout = Layout(width=width, height=height, stride=width + padding, pixels=pixels)
    return np.concatenate([p.reshape(-1) for p in padded]), layout


@pytest.mark.parametrize("padding", [0, 32])
@pytest.mark.parametrize("pixels", list(PixelFormat))
def test_the_picture_comes_out_as_it_went_in(pixels, padding):
    image = scene()
    data, layout = as_planes(image, pixels, padding)
    assert data.size == layout.size
    out = to_bgr(data, layout)
    assert out.flags.owndata or out.base.flags.owndata
    assert np.abs(out.astype(int) - image).mean() < 6
    grey = luma(data, layout)
    assert np.abs(grey.astype(int) - cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)).mean() < 20
    assert grey.shape == (48, 64)


def test_fewer_bytes_than_the_layout_has_are_an_error():
    data, layout = as_planes(scene(), PixelFormat.I420)
    with pytest.raises(ValueError, match="reshape"):
        to_bgr(data[:-1], layout)


@given(st.integers(-5, 20_000), st.integers(-5, 20_000), st.integers(-5, 70_000))
def test_a_layout_that_exists_can_be_converted(width, height, stride):
    try:
        layout = Layout(width=width, height=height, stride=stride, pixels=PixelFormat.NV12)
    except ValueError:
        return
    assert 16 <= layout.width <= layout.stride <= 16_384
    assert layout.size == stride * height * 3 // 2
