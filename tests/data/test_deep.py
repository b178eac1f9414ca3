"""TIFFs of 16 bits a channel, in all arrangements, and JPEGs 2000; Pillow misreads some of both."""

import io
import struct

import cv2
import numpy as np
import pytest

from stochconv_jax.data import image_io
from tests.data.drawn import random_picture


def tiff(pixels: np.ndarray, *, photometric: int, planes: bool = False, order: str = "<") -> bytes:
    """Returns an uncompressed TIFF 6.0 of `pixels`, uint8 or uint16 `[H, W, C]`, in one strip or a plane a channel."""
    height, width, channels = pixels.shape
    parts = np.moveaxis(pixels, 2, 0) if planes else pixels[None]
    strips = [part.astype(part.dtype.newbyteorder(order)).tobytes() for part in parts]
    start = 8 + sum(map(len, strips))
    offsets = [8 + sum(map(len, strips[:k])) for k in range(len(strips))]
    colours = 1 if photometric < 2 else 3
    tags = {256: [width], 257: [height], 258: [pixels.itemsize * 8] * channels, 259: [1], 262: [photometric]}
    tags |= {273: offsets, 277: [channels], 278: [height], 279: list(map(len, strips)), 284: [2 if planes else 1]}
    tags |= {338: [2] * (channels - colours)} if channels > colours else {}
    entries, more, place = b"", b"", start + 2 + 12 * len(tags) + 4
    for tag, values in tags.items():
        content = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            more, content = more + content, struct.pack(order + "I", place + len(more))
        entries += struct.pack(order + "HHI", tag, 4, len(values)) + content
    magic = {"<": b"II*\0", ">": b"MM\0*"}[order]
    directory = struct.pack(order + "H", len(tags)) + entries + bytes(4) + more
    return magic + struct.pack(order + "I", start) + b"".join(strips) + directory


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_every_arrangement_is_read_right_or_refused_in_a_line(order, dtype, planes, channels, white_is_zero):
    picture = random_picture(20, 30)
    stored = np.dstack([picture, picture[..., :1]])[..., [0, 3] if channels == 2 else range(channels)]
    shown = picture if channels > 2 else np.repeat(picture[..., :1], 3, axis=2)
    photometric = 2 if channels > 2 else 0 if white_is_zero else 1
    stored = (255 - stored if photometric == 0 else stored).astype(dtype)
    content = tiff(stored * (257 if dtype == np.uint16 else 1), photometric=photometric, planes=planes, order=order)
    try:
        decoded = image_io.decode(content)
    except ValueError as error:
        assert "\n" not in str(error) and channels in (2, 4) and (planes or white_is_zero)
        return
    np.testing.assert_array_equal(decoded, shown)
    assert image_io.read_size(io.BytesIO(content)) == (20, 30)


@pytest.mark.parametrize(
    "kind, channels",
    [(".pgm", 1), (".ppm", 3), *((kind, channels) for kind in (".jp2", ".png", ".tiff") for channels in (1, 3, 4))],
)
def test_all_values_of_16_bits_become_their_upper_eight(kind, channels):
    values = np.random.default_rng(0).permutation(np.arange(0, 2**16, 13, dtype=np.uint16))[:4800]
    values[:3] = 0, 2**16 - 1, 2**16 - 128
    picture = values.reshape(40, 40, 3)
    stored = np.dstack([picture[..., ::-1], picture[..., :1]])[..., [2] if channels == 1 else range(channels)]
    lossless = [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000] if kind == ".jp2" else []
    decoded = image_io.decode(cv2.imencode(kind, stored, lossless)[1].tobytes())
    shown = picture if channels > 1 else np.repeat(picture[..., :1], 3, axis=2)
    assert np.abs(decoded.astype(int) - (shown >> 8)).max() <= (kind in (".jp2", ".pgm", ".ppm"))  # which may round
