"""JPEGs of which libjpeg warns are read if they have all pixels, and refused with the reason otherwise."""

import io

import numpy as np
import PIL.Image
import pytest

from stochconv_jax.data import image_io, jpeg
from tests.data.drawn import random_picture

MARKERS = {"quantisation": b"\xff\xdb", "frame": b"\xff\xc0", "Huffman": b"\xff\xc4", "scan": b"\xff\xda"}


def saved(shape=(64, 96), mode="RGB", **options) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(random_picture(*shape)).convert(mode).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def by_pillow(content: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(content)).convert("RGB"))


def scans(content: bytes) -> list[int]:
    """Returns the place at which each scan's header begins."""
    places, place = [], content.find(b"\xff\xda")
    while place >= 0:
        places.append(place)
        place = content.find(b"\xff\xda", place + 2)
    return places


def scan_parameters(content: bytes, values: bytes) -> bytes:
    (start,) = scans(content)
    end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
    return content[: end - 3] + values + content[end:]


def with_adobe(content: bytes, transform: int) -> bytes:
    return content[:2] + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0" + bytes([transform]) + content[2:]


CLEAN = saved()


def oddities() -> dict[str, bytes]:
    clean, progressive = CLEAN, saved(progressive=True)
    version = clean.index(b"JFIF\0") + 5
    last = scans(progressive)[-1]
    found = {
        "before the end": clean[:-2] + bytes(8) + clean[-2:],
        "many before the end": clean[:-2] + b"\x13" * 900 + clean[-2:],
        "progressive, before the end": progressive[:-2] + bytes(9) + progressive[-2:],
        "progressive, before the last scan": progressive[:last] + bytes(9) + progressive[last:],
        "revision 0": clean[:version] + b"\0\0" + clean[version + 2 :],
        "revision 7": clean[:version] + b"\7\7" + clean[version + 2 :],
        "scan of no spectrum": scan_parameters(clean, b"\0\0\0"),
        "scan of half the spectrum": scan_parameters(clean, b"\1\x20\x11"),
        "Adobe's unknown transform": with_adobe(clean, 9),
        "CMYK of an unknown transform": saved(mode="CMYK").replace(b"Adobe\0\x64\0\0\0\0\2", b"Adobe\0\x64\0\0\0\0\7"),
        "two at once": (clean[:version] + b"\0\0" + clean[version + 2 : -2]) + bytes(5) + clean[-2:],
        "after the end": clean + b"a trailer" * 9,
    }
    for name, marker in MARKERS.items():
        found[f"before {name}"] = clean.replace(marker, b"\0\0\0" + marker, 1)
        found[f"other bytes before {name}"] = clean.replace(marker, b"\x13\x07" + marker, 1)
    found["before and behind the pixels"] = found["other bytes before frame"][:-2] + bytes(9) + clean[-2:]
    restarts = saved(restart_marker_blocks=4)
    place = restarts.index(b"\xff\xd3")
    return found | {"before a restart": restarts[:place] + bytes(5) + restarts[place:]}


@pytest.mark.parametrize("name", oddities())
@pytest.mark.parametrize("shrink", [1, 4])
def test_what_costs_no_pixel_is_read_as_pillow_reads_it(name, shrink):
    content = oddities()[name]
    got = image_io.decode(content, shrink=shrink)
    assert image_io.read_size(io.BytesIO(content)) == (64, 96)
    # Of headers with other bytes in between Pillow reads none: those are the clean file's pixels.
    whole = by_pillow(CLEAN if "before and" in name or "other bytes" in name else content)
    if shrink == 1:
        assert np.abs(got.astype(int) - whole).max() <= ("CMYK" in name)  # CMYK to RGB rounds otherwise
    else:
        expected = whole.reshape(16, 4, 24, 4, 3).mean((1, 3))
        assert got.shape == expected.shape and np.abs(got - expected).mean() < 3


@pytest.mark.parametrize("name", oddities())
def test_behind_what_costs_no_pixel_lost_ones_are_still_found(name):
    content = oddities()[name]
    if name != "after the end":
        with pytest.raises(ValueError, match=r"[Pp]remature end|truncated|Bogus Huffman table"):
            image_io.decode(content[: -len(content) // 4])


@pytest.mark.parametrize("progressive", [False, True])
def test_damage_inside_a_scan_behind_an_oddity_is_no_picture(progressive):
    """Bits that are no code: a run of zeros in place of the entropy-coded data's, with its length kept."""
    content, found = saved(progressive=progressive), 0
    start = scans(content)[0]
    start += 2 + int.from_bytes(content[start + 2 : start + 4], "big")
    for fill in (b"\0", b"\x55", b"\xaa", b"\xfe"):
        version = content.index(b"JFIF\0") + 5
        damaged = bytearray(content[:version] + b"\0\0" + content[version + 2 :])
        damaged[start + 20 : start + 320] = fill * 300
        try:
            jpeg.decode(content[:version] + b"\1\1" + bytes(damaged[version + 2 :]), (64, 96), 1)
        except ValueError as error:
            found += 1
            with pytest.raises(ValueError, match=str(error)):
                jpeg.decode(bytes(damaged), (64, 96), 1)
    assert found


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP"])
def test_a_header_of_absurd_size_is_refused_before_memory_is_taken(kind, monkeypatch):
    """Pillow's own limits are lower, and warn of or refuse pictures that may be sound."""
    file = io.BytesIO()
    PIL.Image.fromarray(random_picture(64, 96)).save(file, kind)
    plugin = type(PIL.Image.open(file))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1)
    assert image_io.decode(file.getvalue()).shape == (64, 96, 3)
    assert image_io.read_size(io.BytesIO(file.getvalue())) == (64, 96)
    monkeypatch.setattr(image_io, "MAX_PIXELS", 64 * 96 - 1)
    for owner, name in ((plugin, "load"), (jpeg, "decode")):
        monkeypatch.setattr(owner, name, lambda *arguments: pytest.fail("it is decoded"))
    for read in (image_io.decode, lambda content: image_io.read_size(io.BytesIO(content))):
        with pytest.raises(ValueError, match=r"64x96 pixels .*header.* more than 6143"):
            read(file.getvalue())


def test_a_jpeg_of_60000_by_60000_pixels_is_refused_as_such():
    content = bytearray(saved())
    frame = content.index(b"\xff\xc0")
    content[frame + 5 : frame + 9] = (60000).to_bytes(2, "big") * 2
    for read in (image_io.decode, lambda content: image_io.read_size(io.BytesIO(content))):
        with pytest.raises(ValueError, match=r"60000x60000 pixels .*header"):
            read(bytes(content))
