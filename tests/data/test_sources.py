"""Folders, their CSV files and the images in them: what is read, and how each fault is named."""
import io
import pathlib
import pickle

import cv2
import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest

from stochconv_jax.data import sources
from stochconv_jax.data.sources import BadImage, FolderSource, Subset

RANDOM = np.random.default_rng(0)


def random_picture(height=20, width=30):
    """Smooth noise, RGB."""
    noise = RANDOM.integers(0, 256, (height, width, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def encoded(picture, ending=".png"):
    """The file's content for an RGB, RGBA or grey picture."""
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[picture.shape[2]])
    return cv2.imencode(ending, picture)[1].tobytes()


@pytest.fixture
def folder(tmp_path):
    """Three images and no CSV."""
    (images := tmp_path / "images").mkdir()
    for name in ("a.png", "b.jpg", "c.d.jpg"):
        (images / name).write_bytes(encoded(random_picture(), pathlib.Path(name).suffix))
    return images


def from_csv(folder, text, num_classes=2):
    """The source of a CSV with this text (or these bytes)."""
    path = folder.parent / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return FolderSource.from_csv(str(folder), str(path), num_classes=num_classes)


def test_a_csv_with_or_without_endings(folder):
    source = from_csv(folder, "image,target,patient_id\nb,1,p1\na.png,0,p2\nc.d,1,p1\n")
    assert len(source) == 3
    assert source.names == ["b.jpg", "a.png", "c.d.jpg"]
    assert source.labels.dtype == np.int32 and source.labels.tolist() == [1, 0, 1]
    assert sources.column(source, "Patient_ID", "data.group_by") == ["p1", "p2", "p1"]
    for index, name in enumerate(source.names):
        np.testing.assert_array_equal(source.read(index), sources.decode((folder / name).read_bytes()))
    with pytest.raises(ValueError, match=r"'lesion_id': no such column in .*labels\.csv, which has image, target, pat"):
        sources.column(source, "lesion_id", "data.group_by")


@pytest.mark.parametrize(
    "text", [b"\xef\xbb\xbfimage,target\r\na,0\r\n", b'"image","target"\na,0', b"target,image\n0,a\n\n"]
)
def test_csv_dialects(folder, text):
    source = from_csv(folder, text)
    assert (source.names, source.labels.tolist()) == (["a.png"], [0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"labels\.csv is empty"),
        ("name,class\na,0\n", r"labels\.csv: no column image nor target; its columns are \['name', 'class'\]"),
        ("image,class\na,0\n", r"labels\.csv: no column target; its columns are \['image', 'class'\]"),
        ("image,target\n", r"labels\.csv has no rows"),
        ("image,target\na,0\nd.jpg,1\n", r"labels\.csv, row 3: there is no image 'd\.jpg' in .*images"),
        ("image,target\na,0\n,1\n", r"row 3: no image is named"),
        ("image,target\na,0\nb,1\na.png,0\n", r"row 4: image 'a\.png' stands in row 2 already"),
        ("image,target\na,2\n", r"row 2: target '2' is not a class 0\.\.1 \(config\.data\.num_classes\)"),
        ("image,target\na,-1\n", r"row 2: target '-1' is not a class"),
        ("image,target\na,0.5\n", r"row 2: target '0\.5' is not a class"),
        ("image,target\na,malignant\n", r"row 2: target 'malignant' is not a class"),
        ("image,target\na\n", r"row 2: 1 cells, and the header has 2"),
        ('image,target,note\na,0,"two\nlines"\n\nb,7,\n', r"row 5: target '7' is not a class"),
        ("image,target\nä,0\n".encode("latin-1"), r"labels\.csv is not in UTF-8"),
        ("image,target\n" + "a" * 200_000 + ",0\n", r"labels\.csv, row 2: not a CSV file"),
    ],
)
def test_faults_of_a_csv_are_named_with_file_and_row(folder, text, message):
    with pytest.raises(ValueError, match=message):
        from_csv(folder, text)


def test_a_name_that_fits_two_files_must_have_its_ending(folder):
    (folder / "a.jpg").write_bytes(encoded(random_picture(), ".jpg"))
    with pytest.raises(ValueError, match=r"row 2: 'a' may be any of a\.jpg, a\.png in .*; give the ending"):
        from_csv(folder, "image,target\na,0\n")
    assert from_csv(folder, "image,target\na.jpg,0\na.png,1\n").names == ["a.jpg", "a.png"]


def test_missing_and_empty_places(folder, tmp_path):
    labels = tmp_path / "labels.csv"
    with pytest.raises(ValueError, match=r"labels\.csv cannot be read: No such file"):
        FolderSource.from_csv(str(folder), str(labels), num_classes=2)
    labels.write_text("image,target\na,0\n")
    with pytest.raises(ValueError, match=r"config\.data\.path='.*nowhere' is not a folder"):
        FolderSource.from_csv(str(tmp_path / "nowhere"), str(labels), num_classes=2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"config\.data\.path='.*empty' holds no image \(.*\.jpg"):
        FolderSource.from_csv(str(tmp_path / "empty"), str(labels), num_classes=2)


def test_files_without_labels(tmp_path):
    files = [tmp_path / "x" / "1.png", tmp_path / "y" / "2.png"]
    source = FolderSource.from_files(files)
    assert source.names == ["1.png", "2.png"] and source.labels.tolist() == [sources.UNKNOWN] * 2
    with pytest.raises(BadImage, match=r"1\.png: .*No such file"):
        source.read(0)


def test_a_subset_is_the_images_at_its_indices(folder):
    source = from_csv(folder, "image,target\nb,1\na,0\nc.d,1\n")
    part = Subset(source, [2, 0])
    assert len(part) == 2 and part.names == ["c.d.jpg", "b.jpg"] and part.labels.tolist() == [1, 1]
    np.testing.assert_array_equal(part.read(0), source.read(2))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(part)).read(1), source.read(0))


def test_class_counts_include_classes_without_images():
    assert sources.class_counts(np.array([0, 2, 2, 0, 2]), 4) == [2, 0, 3, 0]


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tiff"])
def test_lossless_files_are_read_exactly(ending):
    picture = random_picture()
    np.testing.assert_array_equal(sources.decode(encoded(picture, ending)), picture)


def test_a_jpeg_is_read_in_the_right_colours():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[:, :32], picture[:, 32:] = (200, 40, 10), (20, 60, 220)
    assert np.abs(sources.decode(encoded(picture, ".jpg")).astype(int) - picture)[:, [8, 56]].max() <= 4


def test_grey_deep_and_transparent_images_become_rgb_of_8_bits():
    picture = random_picture()
    grey = picture[..., 0]
    for content, expected in (
        (encoded(grey), grey[..., None]),
        (encoded(grey.astype(np.uint16) * 257), grey[..., None]),
        (encoded(picture.astype(np.uint16) * 257), picture),
        (encoded(np.dstack([picture, grey])), picture),
    ):
        decoded = sources.decode(content)
        assert decoded.dtype == np.uint8 and decoded.shape == picture.shape
        np.testing.assert_array_equal(decoded, np.broadcast_to(expected, picture.shape))
    decoded = sources.decode(encoded(grey, ".jpg"))
    assert decoded.shape == picture.shape and np.abs(decoded.astype(int) - grey[..., None]).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_is_followed(kind, orientation):
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:20, :30], picture[:20, 60:] = (255, 0, 0), (0, 255, 0)
    exif, file = PIL.Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    PIL.Image.fromarray(picture).save(file, kind, exif=exif)
    upright = PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(file.getvalue())))
    decoded = sources.decode(file.getvalue())
    assert decoded.shape == np.asarray(upright).shape and decoded.flags["C_CONTIGUOUS"]
    assert np.abs(decoded.astype(int) - np.asarray(upright)).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("shrink", [1, 2, 4, 8])
def test_a_jpeg_is_reduced_but_measured_in_full(shrink, orientation):
    picture, exif, file = random_picture(93, 141), PIL.Image.Exif(), io.BytesIO()
    picture = cv2.GaussianBlur(picture, (0, 0), 2 * shrink)
    exif[0x0112] = orientation
    PIL.Image.fromarray(picture).save(file, "JPEG", exif=exif, quality=98, subsampling=0)
    upright = np.asarray(PIL.ImageOps.exif_transpose(PIL.Image.open(io.BytesIO(file.getvalue()))))
    height, width = upright.shape[:2]
    reduced = sources.decode(file.getvalue(), least=(height, width), shrink=shrink)
    assert reduced.shape == (-(-height // shrink), -(-width // shrink), 3)
    blocks = upright[: height // shrink * shrink, : width // shrink * shrink]
    means = blocks.reshape(height // shrink, shrink, width // shrink, shrink, 3).mean((1, 3))
    assert np.abs(reduced[: height // shrink, : width // shrink] - means).mean() < 1.5
    for least in ((height + 1, width), (height, width + 1)):
        with pytest.raises(ValueError, match=f"{height}x{width} pixels.* smaller than .*{least[0]}x{least[1]}"):
            sources.decode(file.getvalue(), least=least, shrink=shrink)
    with pytest.raises(ValueError, match=r"20x30 pixels .* smaller than .*, 21x30"):
        sources.decode(encoded(random_picture(20, 30)), least=(21, 30), shrink=shrink)


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
    assert sources.decode(content).shape == (96, 64, 3)


def test_damaged_exif_does_not_matter():
    """The picture is whole: it is read, as it lies in the file or turned, without a warning."""
    random, exif = np.random.default_rng(0), PIL.Image.Exif()
    exif[0x0112] = 6
    content = with_exif(exif)
    start = content.index(b"Exif\0\0") + 6
    shapes = set()
    for _ in range(300):
        damaged = bytearray(content)
        for place in random.integers(start, start + 26, 2):
            damaged[place] = random.integers(0, 256)
        shapes.add(sources.decode(bytes(damaged)).shape)
    assert shapes == {(64, 96, 3), (96, 64, 3)}


def damaged():
    """Contents that are no whole image, by what is wrong with them."""
    jpeg, png = encoded(random_picture(200, 300), ".jpg"), encoded(random_picture(200, 300))
    header = bytearray(encoded(random_picture(), ".bmp"))
    header[18:26] = b"\xff\xff\xff\x7f" * 2  # width and height
    return {
        "empty": b"",
        "text": b"<html>404 Not Found</html>",
        "half a JPEG": jpeg[: len(jpeg) // 2],
        "a JPEG without its last bytes": jpeg[:-20],
        "the first bytes of a JPEG": jpeg[:10],
        "half a PNG": png[: len(png) // 2],
        "a PNG without its last row": png[:-200],
        "a header of impossible size": bytes(header),
    }


@pytest.mark.parametrize("fault", damaged())
def test_a_damaged_file_is_named_with_its_row(folder, fault):
    (folder / "b.jpg").write_bytes(damaged()[fault])
    source = from_csv(folder, 'image,target,note\na,0,"two\nlines"\nb,1,\n')
    source.read(0)
    for reader, index in ((source, 1), (Subset(source, [1]), 0)):
        with pytest.raises(BadImage, match=r"images/b\.jpg \(row 4 of .*labels\.csv\): ."):
            reader.read(index)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".tiff", ".webp"])
def test_a_file_cut_anywhere_is_an_error_and_never_a_part_of_a_picture(ending):
    content = encoded(random_picture(60, 90), ending)
    for cut in {1, 2, 10, *np.random.default_rng(0).integers(1, len(content), 30).tolist()}:
        with pytest.raises(ValueError):
            sources.decode(content[:-cut])


def test_an_empty_file_is_called_empty():
    with pytest.raises(ValueError, match="the file is empty"):
        sources.decode(b"")


def test_a_jpeg_of_rare_subsampling_is_named_as_such():
    jpeg = bytearray(encoded(random_picture(64, 64), ".jpg"))
    jpeg[jpeg.find(b"\xff\xc0") + 11] = 0x14  # the luminance's sampling factors in the frame header: 1 x 4
    with pytest.raises(ValueError, match=r"subsampling 4:4:1.*save it anew"):
        sources.decode(bytes(jpeg))


def test_random_damage_is_never_another_error():
    random = np.random.default_rng(0)
    for ending in (".jpg", ".png", ".bmp", ".tiff", ".webp"):
        whole = encoded(random_picture(), ending)
        for _ in range(60):
            content = bytearray(whole)
            for place in random.integers(0, min(len(content), 300), 4):
                content[place] = random.integers(0, 256)
            try:
                picture = sources.decode(bytes(content))
            except ValueError:
                continue
            assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3


def test_real_images_are_all_read(shared_data):
    source = FolderSource.from_csv(str(shared_data / "images_1024"), str(shared_data / "labels.csv"), num_classes=2)
    assert len(source) == 250 and sources.class_counts(source.labels, 2) == [188, 62]
    assert len(set(source.columns["origin"])) > 1
    for index in np.random.default_rng(0).choice(len(source), 8, replace=False):
        picture = source.read(int(index))
        assert picture.shape == (1024, 1024, 3)
        other = np.asarray(PIL.Image.open(source.files[index]).convert("RGB"))
        assert np.abs(picture.astype(int) - other).mean() < 1.5
