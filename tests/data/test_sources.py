"""Sources read images by a table or a list of files, and name each fault."""

import pathlib
import pickle

import numpy as np
import PIL.Image
import pytest

from stochconv_jax.data import image_io, sources
from stochconv_jax.data.sources import BadImage, FolderSource, Subset
from stochconv_jax.data.synthetic import SyntheticSource
from tests.data.drawn import Noise, encoded, random_picture


@pytest.fixture
def folder(tmp_path):
    """A folder with three images and no CSV."""
    (images := tmp_path / "images").mkdir()
    for name in ("a.png", "b.jpg", "c.d.jpg"):
        (images / name).write_bytes(encoded(random_picture(), pathlib.Path(name).suffix))
    return images


def from_csv(folder, text, num_classes=2):
    """Returns the source of a CSV with this text or these bytes."""
    path = folder.parent / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return FolderSource.from_csv(str(folder), str(path), num_classes=num_classes)


def test_a_csv_with_or_without_endings(folder):
    source = from_csv(folder, "image,target,patient_id\nb,1,p1\na.png,0,p2\nc.d,1,p1\n")
    assert len(source) == 3
    assert source.names == ["b.jpg", "a.png", "c.d.jpg"]
    assert source.labels.dtype == np.int32 and source.labels.tolist() == [1, 0, 1]
    assert source.column("Patient_ID") == ["p1", "p2", "p1"]
    for index, name in enumerate(source.names):
        np.testing.assert_array_equal(source.read(index), image_io.decode((folder / name).read_bytes()))
    with pytest.raises(ValueError, match=r"no such column in .*labels\.csv, which has image, target, pat"):
        source.column("lesion_id")


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
        ("image,target\na,0\nb,1\na.png,0\n", r"row 4: row 2 names image 'a\.png' already"),
        ("image,target\na,2\n", r"row 2: target '2' is not a class 0\.\.1 \(`num_classes`\)"),
        ("image,target\na,-1\n", r"row 2: target '-1' is not a class"),
        ("image,target\na,0.5\n", r"row 2: target '0\.5' is not a class"),
        ("image,target\na,malignant\nb,1\n", r"row 2: target 'malignant' is not a class"),
        ("image,target\na,malignant\n", r"labels\.csv: the names of the classes are malignant, 1 in all"),
        ("image,target\na,cat\nb,dog\nc.d,Dog\n", r"labels\.csv: .* are Dog, cat, dog, 3 in all, and `num_classes`=2"),
        ("image,target\na,cat\nb,dog\nc.d,\n", r"row 4: target '' is none of the classes cat, dog"),
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


def test_a_listed_file_of_another_format_is_called_that(folder):
    png = (folder / "a.png").read_bytes()
    for name, content in {"e.xyz": png, "f": png, "g.HEIC": b"", "h.psd": b"8BPS", "notes.txt": b"a.png"}.items():
        (folder / name).write_bytes(content)
    assert from_csv(folder, "image,target\na.png,0\ne.xyz,1\nf,1\n").names == ["a.png", "e.xyz", "f"]
    for name, words in (
        ("h.psd", "its format is not supported; supported are JPEG"),
        ("notes", "its format is not supported"),
    ):
        with pytest.raises(ValueError, match=rf"row 3: .*images/{name}.* is there, but {words}"):
            from_csv(folder, f"image,target\na,0\n{name},1\n")
    for name in ("../images", "nowhere", "../images/g"):
        with pytest.raises(ValueError, match=r"row 3: there is no image"):
            from_csv(folder, f"image,target\na,0\n{name},1\n")


def test_missing_and_empty_places(folder, tmp_path):
    labels = tmp_path / "labels.csv"
    with pytest.raises(ValueError, match=r"labels\.csv cannot be read: No such file"):
        FolderSource.from_csv(str(folder), str(labels), num_classes=2)
    labels.write_text("image,target\na,0\n")
    with pytest.raises(ValueError, match=r"`path`='.*nowhere' is not a folder"):
        FolderSource.from_csv(str(tmp_path / "nowhere"), str(labels), num_classes=2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"`path`='.*empty': there is no image in .* 1 \.txt \(notes\.txt\).* JPEG,"):
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
    assert part.texts == part.column("IMAGE") == ["c.d", "b"] and part.files == [source.files[2], source.files[0]]
    assert str(part.bad_image(1, "torn")) == str(source.bad_image(0, "torn")) and part.origin == source.origin
    np.testing.assert_array_equal(part.read(0), source.read(2))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(part)).read(1), source.read(0))


def test_a_source_without_columns_files_or_table_says_so(folder):
    """Holds for a source of drawn images and for a subset."""
    for source in (SyntheticSource(size=4, image_size=(8, 8), seed=0), Subset(Noise(4), range(4))):
        assert source.texts == source.names and not source.files and not source.columns
        with pytest.raises(ValueError, match="no such column in the images' source, which has no columns"):
            source.column("patient_id")


def test_class_counts_include_classes_without_images():
    assert sources.class_counts(np.array([0, 2, 2, 0, 2]), 4) == [2, 0, 3, 0]


def damaged():
    """Returns the contents of damaged files by the kind of damage."""
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


def test_real_images_are_all_read(shared_data):
    source = FolderSource.from_csv(str(shared_data / "images_1024"), str(shared_data / "labels.csv"), num_classes=2)
    assert len(source) == 250 and sources.class_counts(source.labels, 2) == [188, 62]
    assert len(set(source.columns["origin"])) > 1
    for index in np.random.default_rng(0).choice(len(source), 8, replace=False):
        picture = source.read(int(index))
        assert picture.shape == (1024, 1024, 3)
        other = np.asarray(PIL.Image.open(source.files[index]).convert("RGB"))
        assert np.abs(picture.astype(int) - other).mean() < 1.5
