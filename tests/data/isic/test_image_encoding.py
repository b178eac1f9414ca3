"""Crop, area resize, kinds of files and perceptual hashes, compared with NumPy and PIL."""

import io

import cv2
import numpy as np
import PIL.Image
import pytest
import simplejpeg

from stochconv_jax.data import image_io
from stochconv_jax.data.isic import image_encoding
from tests.data.isic.files import picture

GREY = np.array([0.299, 0.587, 0.114])  # JPEG's brightness


def encoded(content: np.ndarray, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(content).save(buffer, kind, **options)
    return buffer.getvalue()


def area_weights(source: int, target: int) -> np.ndarray:
    """Returns the share of each source pixel in each target pixel, float64 `[target, source]`; rows sum to 1."""
    edges = np.arange(target + 1) * source / target
    pixels = np.arange(source)
    low, high = np.maximum(edges[:-1, None], pixels), np.minimum(edges[1:, None], pixels + 1)
    return np.maximum(high - low, 0) * target / source


def area_resize(content: np.ndarray, size: int) -> np.ndarray:
    """Resizes by area without OpenCV: each pixel is the mean of what it covers."""
    rows, columns = area_weights(content.shape[0], size), area_weights(content.shape[1], size)
    return np.einsum("ih,hwc,jw->ijc", rows, content.astype(float), columns, optimize=True)


@pytest.mark.parametrize(
    "height, width, crop, box",
    [
        (2000, 3048, "report", (0, 0, 2000, 3048)),  # 3048 is not above 3048
        (2000, 3049, "report", (0, 500, 2000, 2048)),
        (4000, 6000, "report", (976, 1976, 2048, 2048)),
        (1129, 1504, "report", (0, 0, 1129, 1504)),
        (1129, 1504, "square", (0, 187, 1129, 1129)),
        (4000, 3000, "square", (500, 0, 3000, 3000)),
    ],
)
def test_crop_box(height, width, crop, box):
    assert image_encoding.crop_box(height, width, crop) == box


@pytest.mark.parametrize("shape", [(64, 64), (97, 131), (128, 64), (200, 65)])
@pytest.mark.parametrize("crop", ["report", "square"])
def test_crop_and_resize_against_numpy(shape, crop):
    content = picture(*shape)
    top, left, height, width = image_encoding.crop_box(*shape, crop)
    expected = area_resize(content[top : top + height, left : left + width], 64)
    jpeg = image_encoding.prepare(encoded(content), size=64, crop=crop, quality=100)
    got = simplejpeg.decode_jpeg(jpeg, "RGB", fastupsample=False)
    # The filter itself is exact to rounding; what is left is JPEG's loss, in brightness below one level at quality 100.
    exact = image_encoding.augment.resize(content[top : top + height, left : left + width], (64, 64))
    assert np.abs(exact - expected).max() <= 1
    assert np.abs((got - expected) @ GREY).mean() < 1


def test_a_large_original_is_cropped_by_the_report_s_rule():
    content = picture(2100, 3072)
    jpeg = image_encoding.prepare(encoded(content, "JPEG", quality=98), size=1024, crop="report", quality=98)
    middle = content[26:2074, 512:2560].astype(float)
    expected = (middle[0::2, 0::2] + middle[0::2, 1::2] + middle[1::2, 0::2] + middle[1::2, 1::2]) / 4
    # Colour loses detail in the JPEGs, brightness does not.
    assert np.abs((simplejpeg.decode_jpeg(jpeg, "RGB") - expected) @ GREY).mean() < 2
    assert simplejpeg.decode_jpeg_header(jpeg)[:2] == (1024, 1024)


def test_kinds_of_files():
    content = picture(80, 96)
    sixteen = cv2.imencode(".png", content[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    kinds = {
        "png": encoded(content),
        "16 bits": sixteen,
        "jpeg": encoded(content, "JPEG", quality=98),
        "cmyk": encoded_cmyk(content),
        "alpha": encoded(np.dstack([content, np.full((80, 96), 255, np.uint8)])),
    }
    expected = area_resize(content, 64)
    for kind, data in kinds.items():
        got = simplejpeg.decode_jpeg(image_encoding.prepare(data, size=64, crop="report", quality=98), "RGB")
        assert np.abs(got - expected).mean() < 6, kind
    grey = encoded(content[..., 0], "JPEG", quality=98)
    got = simplejpeg.decode_jpeg(image_encoding.prepare(grey, size=64, crop="report", quality=98), "RGB")
    assert np.abs(got - area_resize(content[..., :1], 64)).mean() < 2 and np.ptp(got, axis=2).max() <= 2


def encoded_cmyk(content: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    PIL.Image.fromarray(content).convert("CMYK").save(buffer, "JPEG", quality=98)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_followed_in_size_and_picture(orientation, tmp_path):
    content = picture(80, 120)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    PIL.Image.fromarray(content).save(buffer, "JPEG", quality=98, exif=exif)
    file = tmp_path / "turned.jpg"
    file.write_bytes(buffer.getvalue())
    upright = np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(file)))
    assert image_io.read_size(file) == upright.shape[:2]
    got = simplejpeg.decode_jpeg(image_encoding.prepare(file.read_bytes(), size=64, crop="square", quality=98), "RGB")
    top, left, height, width = image_encoding.crop_box(*upright.shape[:2], "square")
    assert np.abs(got - area_resize(upright[top : top + height, left : left + width], 64)).mean() < 4


# A byte order and what follows it: a directory beyond the end; a directory of 65535 entries and nothing more; no order.
BROKEN_EXIF = [b"II*\0\xff\xff\xff\x7f", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\x08", b"??*\0\x08\0\0\0", b""]


@pytest.mark.parametrize("exif", BROKEN_EXIF)
def test_a_jpeg_with_broken_exif_counts_as_upright_and_its_picture_is_used(exif, tmp_path):
    content = picture(80, 120)
    buffer = io.BytesIO()
    PIL.Image.fromarray(content).save(buffer, "JPEG", quality=98, exif=b"Exif\0\0" + exif)
    file = tmp_path / "ISIC_0000001.jpg"
    file.write_bytes(buffer.getvalue())
    assert b"Exif\0\0" + exif in file.read_bytes()
    assert image_io.read_size(file) == (80, 120)
    got = simplejpeg.decode_jpeg(image_encoding.prepare(file.read_bytes(), size=64, crop="square", quality=98), "RGB")
    assert np.abs((got - area_resize(content[:, 20:100], 64)) @ GREY).mean() < 2


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda data: b"", "empty"),
        (lambda data: data[: len(data) // 2], "Premature end"),
        (lambda data: b"<html>not found</html>", "not an image"),
    ],
)
def test_damaged(spoil, words):
    data = encoded(picture(100, 100), "JPEG")
    with pytest.raises(ValueError, match=words):
        image_encoding.prepare(spoil(data), size=64, crop="report", quality=95)


@pytest.mark.parametrize("place", [2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_tiff_whose_directory_is_at_a_place_that_no_file_has_is_damaged(tmp_path, place):
    """Seeking to such a place fails with an errno, as reading from a bad disk does."""
    file = tmp_path / "ISIC_0000001.tif"
    file.write_bytes(b"II+\0\x08\0\0\0" + place.to_bytes(8, "little"))
    with pytest.raises(ValueError):
        image_io.read_size(file)


def test_too_small():
    with pytest.raises(ValueError, match=r"100x60 pixels \(width x height\), smaller than 64 on a side"):
        image_encoding.prepare(encoded(picture(60, 100)), size=64, crop="report", quality=95)


def test_perceptual_hashes_of_one_picture_are_near_and_of_another_far():
    content = picture(400, 500)
    smaller = cv2.resize(content, (250, 200), interpolation=cv2.INTER_AREA)
    paler = np.clip(content * 0.9 + 10, 0, 255).astype(np.uint8)
    kinds = [encoded(content, "JPEG", quality=60), encoded(smaller), encoded(paler), encoded(picture(400, 500, 1))]
    hashes = np.array([image_encoding.hash_encoded(data) for data in (encoded(content), *kinds)], np.uint64)
    near = {j for i, j in image_encoding.similar_hashes(hashes, 6) if i == 0}
    assert near == {1, 2, 3}
