"""Every kind of picture: its pixels, its size by the header, and damage."""

import contextlib
import io
import warnings
import zlib

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from stochconv_jax.data import image_io
from tests.data.drawn import encoded, random_picture


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tiff"])
def test_lossless_files_are_read_exactly(ending):
    picture = random_picture()
    np.testing.assert_array_equal(image_io.decode(encoded(picture, ending)), picture)


def test_a_jpeg_is_read_in_the_right_colours():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (200, 40, 10), (20, 60, 220)
    assert np.abs(image_io.decode(encoded(picture, ".jpg")).astype(int) - picture)[:, [8, 56]].max() <= 4


def test_grey_deep_and_transparent_images_become_rgb_of_8_bits():
    picture = random_picture()
    grey = picture[..., 0]
    for content, expected in (
        (encoded(grey), grey[..., None]),
        (encoded(grey.astype(np.uint16) * 257), grey[..., None]),
        (encoded(picture.astype(np.uint16) * 257), picture),
        (encoded(np.dstack([picture, grey])), picture),
    ):
        decoded = image_io.decode(content)
        assert decoded.dtype == np.uint8 and decoded.shape == picture.shape
        np.testing.assert_array_equal(decoded, np.broadcast_to(expected, picture.shape))
    decoded = image_io.decode(encoded(grey, ".jpg"))
    assert decoded.shape == picture.shape and np.abs(decoded.astype(int) - grey[..., None]).mean() < 3


XMP = b'<x:xmpmeta><rdf:RDF><rdf:Description tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'


def turned(kind, how, orientation):
    """Returns the content of a picture's file, and the pixels that Pillow reads from it."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:20, :30], picture[:20, 60:] = (255, 0, 0), (0, 255, 0)
    exif, file = PIL.Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    PIL.Image.fromarray(picture).save(file, kind, **{how: exif if how == "exif" else XMP % orientation})
    return file.getvalue(), np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(file.getvalue()))))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "kind, how",
    [*((kind, "exif") for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")), ("JPEG", "xmp"), ("WEBP", "xmp")],
)
def test_orientation_is_followed_wherever_pillow_follows_it(kind, how, orientation):
    content, upright = turned(kind, how, orientation)
    decoded = image_io.decode(content)
    assert image_io.read_size(io.BytesIO(content)) == decoded.shape[:2] == upright.shape[:2]
    assert decoded.flags["C_CONTIGUOUS"] and np.abs(decoded.astype(int) - upright).mean() < 3
    assert orientation < 5 or decoded.shape == (96, 64, 3)


def test_orientation_behind_the_pixels_of_a_png_is_followed():
    content, upright = turned("PNG", "exif", 6)
    start = content.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(content[start : start + 4], "big")
    moved = content[:start] + content[end:-12] + content[start:end] + content[-12:]
    np.testing.assert_array_equal(image_io.decode(moved), upright)


SAVED = {"PNG": ".png", "BMP": ".bmp", "TIFF": ".tif", "PPM": ".ppm", "TGA": ".tga", "GIF": ".gif"}
LOSSY = {"JPEG": ".jfif", "WEBP": ".webp", "AVIF": ".avif", "JPEG2000": ".jp2"}
LEAST_MODES = {"PNG": 7, "TIFF": 8, "GIF": 6, "JPEG2000": 6, "AVIF": 8}


def saved(picture, kind, mode):
    """Returns the file's content; None if the format has no such mode."""
    image, file, options = PIL.Image.fromarray(picture), io.BytesIO(), {}
    if mode == "P with transparency":
        image, options = image.quantize(64), {"transparency": bytes([0, 128] + [255] * 62)}
    elif mode == "I;16":
        image = PIL.Image.fromarray(picture[..., 0].astype(np.uint16) * 257)
        kind = kind if kind in ("PNG", "TIFF", "JPEG2000", "PPM") else ""  # others make eight bits of them
    else:
        image = image.convert(mode)
    try:
        image.save(file, kind, **options)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return file.getvalue()


@pytest.mark.parametrize("kind", [*SAVED, *LOSSY])
def test_pictures_of_every_mode_become_the_rgb_that_they_show(kind):
    """Compares with Pillow's conversions, except for 16 bits, of which the upper eight are kept."""
    picture, modes = random_picture(40, 60), []
    for mode in ("RGB", "L", "P", "P with transparency", "1", "RGBA", "LA", "CMYK", "I;16"):
        content = saved(picture, kind, mode)
        if content is None:
            continue
        got, opened = image_io.decode(content), PIL.Image.open(io.BytesIO(content))
        if mode == "I;16":
            expected = np.repeat(picture[..., :1], 3, axis=2)
        else:
            opened = opened.convert("RGBA") if opened.mode == "P" else opened  # to RGB at once Pillow would warn
            expected = np.asarray(opened.convert("RGB"))
        assert got.dtype == np.uint8 and got.shape == (40, 60, 3)
        assert np.abs(got.astype(int) - expected).max() <= (1 if mode in ("CMYK", "I;16") else 0), mode
        modes.append(mode)
    assert len(modes) >= LEAST_MODES.get(kind, 2), modes


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_of_32_bits_are_refused_in_a_line(mode):
    file = io.BytesIO()
    PIL.Image.fromarray(random_picture()).convert(mode).save(file, "TIFF")
    with pytest.raises(ValueError, match=r"pixels of 32 bits or .*: save it with 8 or 16"):
        image_io.decode(file.getvalue())


def test_of_several_frames_the_first_is_read():
    frames = [PIL.Image.fromarray(np.full((24, 32, 3), value, np.uint8)) for value in (40, 200)]
    for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF", "MPO"):
        file = io.BytesIO()
        frames[0].save(file, kind, save_all=True, append_images=frames[1:])
        assert np.abs(image_io.decode(file.getvalue()).astype(int) - 40).max() <= 3, kind


def png_chunk(kind, content):
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def test_the_libraries_say_nothing_of_their_own(capfd, recwarn):
    """Pillow's libraries would print lines without the file's name; the error has both."""
    png, tiff = encoded(random_picture()), io.BytesIO()
    chunks = png_chunk(b"iCCP", b"no profile\0\0") + png_chunk(b"tIME", b"\0" * 3) + png_chunk(b"cHRM", bytes(32))
    PIL.Image.fromarray(random_picture()).save(tiff, "TIFF", compression="tiff_lzw", tiffinfo={50000: "x", 37000: "y"})
    contents = [png[:33] + chunks + png[33:], tiff.getvalue()]
    for content in contents:
        assert image_io.decode(content).shape == (20, 30, 3)
        for place in range(100, len(content) - 100, 50):
            damaged = bytearray(content)
            damaged[place] ^= 16
            with contextlib.suppress(ValueError):
                image_io.decode(bytes(damaged))
    told = [*capfd.readouterr(), *(str(warning.message) for warning in recwarn.list)]
    assert not any(told), told


def test_a_png_with_a_damaged_note_is_read():
    png = encoded(random_picture())
    chunk = bytearray(png_chunk(b"tEXt", b"Comment\0of a camera"))
    chunk[-6] ^= 1
    content = png[:33] + bytes(chunk) + png[33:]
    np.testing.assert_array_equal(image_io.decode(content), image_io.decode(png))
    assert image_io.read_size(io.BytesIO(content)) == (20, 30)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shrink", [1, 2, 4, 8])
def test_a_jpeg_is_reduced_but_measured_in_full(shrink, orientation):
    picture, exif, file = random_picture(93, 141), PIL.Image.Exif(), io.BytesIO()
    picture = cv2.GaussianBlur(picture, (0, 0), 2 * shrink)
    exif[0x0112] = orientation
    PIL.Image.fromarray(picture).save(file, "JPEG", exif=exif, quality=98, subsampling=0)
    upright = np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(file.getvalue()))))
    height, width = upright.shape[:2]
    reduced = image_io.decode(file.getvalue(), least=(height, width), shrink=shrink)
    assert reduced.shape == (-(-height // shrink), -(-width // shrink), 3)
    blocks = upright[: height // shrink * shrink, : width // shrink * shrink]
    means = blocks.reshape(height // shrink, shrink, width // shrink, shrink, 3).mean((1, 3))
    assert np.abs(reduced[: height // shrink, : width // shrink] - means).mean() < 1.5
    for least in ((height + 1, width), (height, width + 1)):
        with pytest.raises(ValueError, match=f"{height}x{width} pixels.* smaller than .*{least[0]}x{least[1]}"):
            image_io.decode(file.getvalue(), least=least, shrink=shrink)
    with pytest.raises(ValueError, match=r"20x30 pixels .* smaller than .*, 21x30"):
        image_io.decode(encoded(random_picture(20, 30)), least=(21, 30), shrink=shrink)


def with_exif(exif):
    """A JPEG of 64 x 96 pixels with this EXIF."""
    file = io.BytesIO()
    PIL.Image.fromarray(random_picture(64, 96)).save(file, "JPEG", exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("endian", ["<", ">"])
def test_exif_of_either_byte_order_is_read_at_any_size_of_image(endian, monkeypatch):
    exif = PIL.Image.Exif()
    exif.endian = endian
    exif[0x010F], exif[0x0112] = "a maker of cameras", 6
    content = with_exif(exif)
    assert {"<": b"Exif\0\0II", ">": b"Exif\0\0MM"}[endian] in content
    # The largest images are what windows are for; PIL refuses those above this size.
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1)
    assert image_io.decode(content).shape == (96, 64, 3)


def test_damaged_exif_does_not_matter():
    """The pixels are sound, so the picture is read without a warning, turned or not."""
    random, exif = np.random.default_rng(0), PIL.Image.Exif()
    exif[0x0112] = 6
    content = with_exif(exif)
    start = content.index(b"Exif\0\0") + 6
    shapes = set()
    for _ in range(300):
        damaged = bytearray(content)
        for place in random.integers(start, start + 26, 2):
            damaged[place] = random.integers(0, 256)
        shapes.add(image_io.decode(bytes(damaged)).shape)
    assert shapes == {(64, 96, 3), (96, 64, 3)}


@pytest.mark.parametrize("kind", [*SAVED, *LOSSY])
def test_a_file_cut_anywhere_is_an_error_and_never_a_part_of_a_picture(kind):
    """The end mark of a PNG or the padding of a BMP may be missing without loss of pixels."""
    file = io.BytesIO()
    PIL.Image.fromarray(random_picture(60, 90)).save(file, kind)
    content, errors = file.getvalue(), 0
    whole = image_io.decode(content)
    cuts = {1, 2, 10, *np.random.default_rng(0).integers(1, len(content), 30).tolist()}
    for cut in cuts:
        try:
            np.testing.assert_array_equal(image_io.decode(content[:-cut]), whole)
        except ValueError:
            errors += 1
    assert errors > len(cuts) - 5


def test_an_empty_file_is_called_empty():
    with pytest.raises(ValueError, match="the file is empty"):
        image_io.decode(b"")


def test_a_jpeg_of_rare_subsampling_is_named_as_such():
    jpeg = bytearray(encoded(random_picture(64, 64), ".jpg"))
    jpeg[jpeg.find(b"\xff\xc0") + 11] = 0x14  # the luminance's sampling factors in the frame header: 1 x 4
    with pytest.raises(ValueError, match=r"subsampling 4:4:1.*save it anew"):
        image_io.decode(bytes(jpeg))


def test_random_damage_is_never_another_error():
    random = np.random.default_rng(0)
    for kind in (*SAVED, *LOSSY):
        file = io.BytesIO()
        PIL.Image.fromarray(random_picture()).save(file, kind)
        whole = file.getvalue()
        for _ in range(60):
            content = bytearray(whole)
            for place in random.integers(0, min(len(content), 300), 4):
                content[place] = random.integers(0, 256)
            try:
                picture = image_io.decode(bytes(content))
            except ValueError:
                continue
            assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3


def test_several_pictures_are_open_at_once_and_python_and_pillow_are_left_as_they_were():
    """No thread sees a warning while another one is still inside, whichever leaves first."""
    before, limit = list(warnings.filters), PIL.Image.MAX_IMAGE_PIXELS
    opened = [contextlib.ExitStack(), contextlib.ExitStack()]
    for stack in opened:
        stack.enter_context(image_io._opened(io.BytesIO(encoded(random_picture()))))
    opened[0].close()
    warnings.warn("of damage, without a name", stacklevel=1)
    opened[1].close()
    assert warnings.filters == before and limit == PIL.Image.MAX_IMAGE_PIXELS
