"""DICOM files become pictures of 8 bits as a viewer shows them."""

import io

import numpy as np
import pytest
import simplejpeg

from stochconv_jax.data import image_checks, image_files, image_formats, image_io
from stochconv_jax.data.sources import FolderSource
from tests.data.drawn import random_picture

pydicom = pytest.importorskip("pydicom", reason="pydicom, the extra `dicom`, is not installed")
JPEG = simplejpeg.encode_jpeg(np.zeros((16, 16, 1), np.uint8), colorspace="GRAY")
COLUMN = np.arange(256).reshape(16, 16)


def written(pixels, photometric="MONOCHROME2", syntax=None, samples=None, bits=None, **tags) -> bytes:
    """Returns the content of a DICOM file with these pixels, an array or an encoded picture."""
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = syntax or pydicom.uid.ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = pydicom.uid.generate_uid()
    encoded = isinstance(pixels, bytes)
    shape, kind = (simplejpeg.decode_jpeg(pixels).shape, np.uint8) if encoded else (pixels.shape, pixels.dtype)
    file.Rows, file.Columns = shape[:2]
    file.SamplesPerPixel = samples or (3 if len(shape) == 3 else 1)
    file.PhotometricInterpretation, file.PlanarConfiguration = photometric, 0
    file.BitsAllocated = 8 * np.dtype(kind).itemsize
    file.BitsStored = bits or file.BitsAllocated
    file.HighBit, file.PixelRepresentation = file.BitsStored - 1, int(np.issubdtype(kind, np.signedinteger))
    file.PixelData = pydicom.encaps.encapsulate([pixels]) if encoded else pixels.tobytes()
    for name, value in tags.items():
        setattr(file, name, value)
    content = io.BytesIO()
    pydicom.dcmwrite(content, file, enforce_file_format=True)
    return content.getvalue()


def grey(content):
    picture = image_io.decode(content)
    assert picture.dtype == np.uint8 and (picture == picture[..., :1]).all()
    return picture[..., 0]


def test_grey_of_8_bits_is_as_it_is_and_monochrome1_inverted():
    pixels = COLUMN.astype(np.uint8)
    np.testing.assert_array_equal(grey(written(pixels)), pixels)
    np.testing.assert_array_equal(grey(written(pixels, "MONOCHROME1")), 255 - pixels)


@pytest.mark.parametrize("bits, kind, low", [(16, np.uint16, 0), (12, np.uint16, 0), (16, np.int16, -(2**15))])
def test_without_a_window_the_range_of_the_stored_bits_is_0_to_255(bits, kind, low):
    pixels = (low + COLUMN * (2**bits - 1) // 255).astype(kind)
    np.testing.assert_array_equal(grey(written(pixels, bits=bits)), COLUMN)
    rescaled = written(pixels, bits=bits, RescaleSlope="2", RescaleIntercept="-1024")
    np.testing.assert_array_equal(grey(rescaled), COLUMN)
    falling = written(pixels, bits=bits, RescaleSlope="-2", RescaleIntercept="0")
    np.testing.assert_array_equal(grey(falling), 255 - COLUMN)


@pytest.mark.parametrize("function, low, high", [(None, -160, 239), ("LINEAR", -160, 239), ("LINEAR_EXACT", -160, 240)])
def test_a_window_is_of_rescaled_values_and_its_ends_are_0_and_255(function, low, high):
    """A window of a computed tomogram: centre 40 and width 400 Hounsfield units."""
    stored = np.linspace(0, 2047, 256, dtype=np.uint16).reshape(16, 16)
    tags = {"WindowCenter": ["40", "600"], "WindowWidth": ["400", "1500"], "RescaleSlope": "1"}
    tags |= {"VOILUTFunction": function} if function else {}
    content = written(stored, bits=12, RescaleIntercept="-1024", **tags)
    expected = np.clip((stored - 1024.0 - low) / (high - low), 0, 1) * 255
    np.testing.assert_array_equal(grey(content), np.rint(expected))
    inverted = written(stored, "MONOCHROME1", bits=12, RescaleIntercept="-1024", **tags)
    np.testing.assert_array_equal(grey(inverted), np.rint(255 - expected))


def test_colours_are_rgb_whether_compressed_or_not():
    picture = random_picture(32, 48)
    np.testing.assert_array_equal(image_io.decode(written(picture, "RGB")), picture)
    jpeg = simplejpeg.encode_jpeg(picture, quality=95)
    content = written(jpeg, "YBR_FULL_422", pydicom.uid.JPEGBaseline8Bit)
    assert np.abs(image_io.decode(content).astype(int) - simplejpeg.decode_jpeg(jpeg)).mean() < 2


def test_a_grey_jpeg_is_decompressed():
    pixels = random_picture(32, 48)[..., :1]
    jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality=95, colorspace="GRAY")
    content = written(jpeg, syntax=pydicom.uid.JPEGBaseline8Bit, samples=1)
    assert np.abs(grey(content).astype(int) - pixels[..., 0]).mean() < 2


def test_the_first_of_several_frames_is_read():
    frames = np.stack([COLUMN, 255 - COLUMN]).astype(np.uint8)
    content = written(frames[0], NumberOfFrames="2", PixelData=frames.tobytes())
    np.testing.assert_array_equal(grey(content), frames[0])


def test_a_folder_of_dicom_files_is_one_of_images(tmp_path):
    for name in ("a/1.dcm", "b/2.DCM", "b/3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(written(COLUMN.astype(np.uint8)))
    source = FolderSource.from_class_folders(str(tmp_path), num_classes=2)
    assert source.names == ["a/1.dcm", "b/2.DCM", "b/3"] and source.read(2).shape == (16, 16, 3)
    assert image_io.read_size(source.files[0]) == (16, 16) and "DICOM" in image_formats.supported()
    options = {"decode": False, "hashes": False, "timeout_seconds": 60}
    assert not any(one.problem for one in image_checks.check_source(source, least=(16, 16), **options))
    (one, *_) = image_checks.check_source(source, least=(17, 16), **options)
    assert "16x16 pixels (height x width) is smaller" in one.problem


@pytest.mark.parametrize(
    "content, message",
    [
        (lambda: written(COLUMN.astype(np.uint8))[:-10], "its pixels cannot be read: .*256"),
        (lambda: written(COLUMN.astype(np.uint8))[:200], "DICOM file"),
        (lambda: written(JPEG, syntax=pydicom.uid.JPEGLosslessSV1), "its pixels cannot be read: .*pylibjpeg"),
        (
            lambda: written(COLUMN.astype(np.uint8), WindowCenter="1", WindowWidth="2", VOILUTFunction="SIGMOID"),
            "window function SIGMOID is not supported",
        ),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(content, message):
    with pytest.raises(ValueError, match=message) as caught:
        image_io.decode(content())
    assert "\n" not in str(caught.value)


def test_without_the_package_a_line_says_what_to_install(tmp_path, monkeypatch):
    content = written(COLUMN.astype(np.uint8))
    monkeypatch.setattr(image_formats, "reads_dicom", lambda: False)
    image_formats.endings.cache_clear()
    try:
        with pytest.raises(ValueError, match=r"DICOM, is not read: pip install pydicom \(the extra `dicom`\)"):
            image_io.decode(content)
        (file := tmp_path / "1.dcm").write_bytes(content)
        assert image_files.sort_out([file]) == ([], [file]) and "pip install pydicom" in image_files.why_unread(file)
        assert image_files.describe_others([file]).startswith("1 .dcm (1.dcm: its format, DICOM, is not read: pip")
    finally:
        image_formats.endings.cache_clear()
