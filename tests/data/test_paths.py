"""Files in archives and at addresses are read as those in a folder."""

import concurrent.futures
import importlib.util
import os
import pickle

import fsspec
import h5py
import numpy as np
import pytest
from fsspec.implementations.zip import ZipFileSystem

from stochconv_jax.data import image_checks, image_io, paths, requested
from stochconv_jax.data.names import FileIndex
from stochconv_jax.data.sources import BadImage, FolderSource
from tests.data import stores
from tests.data.drawn import encoded, random_picture
from tests.data.stores import IMAGES

pytestmark = pytest.mark.usefixtures("addresses")
needs_http = pytest.mark.skipif(importlib.util.find_spec("aiohttp") is None, reason="the extra `http` is not installed")


@pytest.fixture(
    params=["zip", "zip in a folder", "hdf5", "memory", "zip in memory", pytest.param("http", marks=needs_http)]
)
def place(request, tmp_path):
    """The images in a place that is no folder, as a user names it."""
    if request.param == "http":
        with stores.served(stores.write_folder(tmp_path / "served")) as address:
            yield address
        return
    archive = stores.write_zip(tmp_path / "images.ZIP")
    yield {
        "zip": lambda: str(archive),
        "zip in a folder": lambda: str(stores.write_zip(tmp_path / "in.zip", _below(stores.FILES)) / "images"),
        "hdf5": lambda: str(stores.write_hdf5(tmp_path / "images.hdf5")),
        "memory": lambda: stores.write_memory("images"),
        "zip in memory": lambda: f"{stores.write_memory('b', {'i.zip': archive.read_bytes()})}/i.zip",
    }[request.param]()


def _below(files):
    return {f"images/{name}": content for name, content in files.items()}


def test_class_folders_have_the_names_classes_and_pixels_that_they_have_in_a_folder(place, tmp_path):
    expected = FolderSource.from_class_folders(str(stores.write_folder(tmp_path / "plain")), num_classes=2)
    source = pickle.loads(pickle.dumps(FolderSource.from_class_folders(place, num_classes=2)))
    assert source.names == expected.names == sorted(IMAGES)
    assert source.classes == ("cat", "dog") and (source.labels == expected.labels).all()
    for index, name in enumerate(source.names):
        np.testing.assert_array_equal(source.read(index), image_io.decode(IMAGES[name]), err_msg=name)
        assert source.files[index] == paths.parse(f"{place}/{name}") and str(source.files[index]) == f"{place}/{name}"


def test_a_table_in_the_place_names_images_in_it_by_every_name(place):
    source = FolderSource.from_csv(place, f"{place}/labels.csv", num_classes=2)
    assert source.names == ["cat/1.png", "dog/4.png", "cat/two words.jpg", "dog/naïve.png"]
    np.testing.assert_array_equal(source.read(3), image_io.decode(IMAGES["dog/naïve.png"]))
    found = requested.find(f"{place}/labels.csv", "predict.images")
    assert [file.name for file in found.files] == ["1.png", "4.png", "two words.jpg", "naïve.png"]


def test_images_are_asked_for_by_folder_file_and_pattern(place):
    def texts(asked):
        return requested.find(asked, "predict.images").texts

    assert texts(f"{place}/cat") == ["1.png", "two words.jpg"]
    assert texts(f"{place}/cat/1.png") == ["1.png"]
    assert texts(f"{place}/*/*.jpg") == ["cat/two words.jpg", "dog/6.jpg"]
    assert texts(f"{place}/**/*.png") == ["cat/1.png", "cat/deep/3.png", "dog/4.png", "dog/naïve.png"]
    with pytest.raises(ValueError, match="no such file or folder"):
        texts(f"{place}/bird")
    with pytest.raises(ValueError, match="no file matches"):
        texts(f"{place}/bird/*.png")


def test_what_is_missing_is_named_with_its_place(place):
    with pytest.raises(ValueError, match=rf"there is no image 'gone' in {place}"):
        FileIndex(paths.parse(place)).find_one("gone")
    gone = FolderSource.from_files([f"{place}/gone.png"])
    with pytest.raises(BadImage, match=rf"{place}/gone\.png: .*No such file or directory"):
        gone.read(0)
    with pytest.raises(ValueError, match=r"labels\.tsv cannot be read: No such file"):
        FolderSource.from_csv(place, f"{place}/labels.tsv", num_classes=2)
    with pytest.raises(ValueError, match="is not a folder"):
        FolderSource.from_class_folders(f"{place}/bird", num_classes=2)


def test_the_check_before_a_run_sees_what_it_sees_in_a_folder(place, tmp_path):
    source, plain = (
        FolderSource.from_class_folders(str(folder), num_classes=2)
        for folder in (place, stores.write_folder(tmp_path / "plain"))
    )
    options = {"decode": False, "hashes": False, "least": (40, 50), "timeout_seconds": 60}
    found, expected = (image_checks.check_source(one, **options) for one in (source, plain))
    assert [(one.problem, one.file[0], one.head) for one in found] == [
        (one.problem, one.file[0], one.head) for one in expected
    ]
    assert [one.file for one in found] == [image_checks.file_state(file) for file in source.files]
    assert image_checks.identical_pairs(source, plain, (found, expected), 60) == [(k, k) for k in range(len(source))]
    assert "smaller than" in image_checks.check_source(source, **options | {"least": (41, 50)})[0].problem


def test_threads_may_read_at_once(place):
    files = [paths.parse(f"{place}/{name}") for name in IMAGES] * 20
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(lambda file: file.read_bytes(), files))
    assert contents == list(IMAGES.values()) * 20


def test_an_archive_that_is_opened_has_its_list_of_files_before_threads_ask_for_it(tmp_path, monkeypatch):
    system = paths._open_archive(str(stores.write_zip(tmp_path / "images.zip")), 0, 0)
    monkeypatch.setattr(ZipFileSystem, "_all_dirnames", lambda *_: pytest.fail("listed at a read"))
    assert system.cat_file("cat/1.png") == IMAGES["cat/1.png"]
    assert {len(about) for about in system.dir_cache.values()} == {3}  # the rest would be half of the memory


@pytest.mark.parametrize("form", ["/{}", "./{}", ".//{}", "/./a/../{}"])
def test_files_of_a_zip_are_found_by_their_paths_from_its_top_however_they_are_written(tmp_path, form):
    (tmp_path / "names").mkdir()
    archive = stores.write_zip(tmp_path / "i.zip", {"./": b""} | {form.format(name): IMAGES[name] for name in IMAGES})
    top = paths.parse(archive)
    assert [file.relative_to(top).as_posix() for file in top.files_below()] == sorted(IMAGES)
    assert {name: (top / name).read_bytes() for name in IMAGES} == IMAGES
    assert [path.name for path in top.iterdir()] == ["cat", "dog"]


def test_hdf5_arrays_of_any_length_are_read_in_full_and_an_empty_group_is_no_file(tmp_path):
    content = encoded(random_picture(40, 50))
    with h5py.File(tmp_path / "a.h5", "w") as archive:
        archive.create_group("nothing")
        archive.create_dataset("one", (), dtype=h5py.vlen_dtype(np.uint8))[()] = np.frombuffer(content, np.uint8)
    file, nothing = (paths.parse(tmp_path / "a.h5" / name) for name in ("one.jpg", "nothing.jpg"))
    assert file.read_bytes() == content and paths.state(file)[0] == len(content)
    assert image_io.read_size(file) == (40, 50)
    assert not nothing.is_file()
    with pytest.raises(FileNotFoundError, match=r"nothing\.jpg"):
        nothing.read_bytes()


def test_each_process_opens_an_archive_once_and_again_when_it_has_changed(tmp_path, monkeypatch):
    archive = stores.write_zip(tmp_path / "images.zip")
    file = paths.parse(f"{archive}/cat/1.png")

    def opened():
        return file._ask(lambda system, place: system)

    first = opened()
    assert opened() is first
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as in a fork
    second = opened()
    assert second is not first and opened() is second
    changed = encoded(random_picture(40, 50))
    stores.write_zip(archive, {"cat/1.png": changed})
    os.utime(archive, ns=(1, 1))
    assert file.read_bytes() == changed and paths.state(file) == (len(changed), 1)


def test_a_part_of_a_file_is_read_from_an_address(monkeypatch):
    content = encoded(np.random.default_rng(0).integers(0, 256, (600, 600, 3), np.uint8), ".jpg")
    file = paths.parse(stores.write_memory("big", {"1.jpg": content}) + "/1.jpg")
    real, asked = type(fsspec.filesystem("memory")).cat_file, []

    def counted(self, path, start=None, end=None, **keys):
        part = real(self, path, start, end, **keys)
        asked.append(len(part))
        return part

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "cat_file", counted)
    with file.open("rb", buffering=2**14) as opened:
        assert image_io.read_size(opened) == (600, 600)
    assert sum(asked) < len(content) / 4
    with file.open("rb") as opened:
        opened.seek(-9, os.SEEK_END)
        assert opened.read() == content[-9:] and opened.read(1) == b""
        with pytest.raises(OSError, match="Invalid argument"):
            opened.seek(-1)


@needs_http
def test_a_web_server_that_sends_the_whole_file_for_a_part_is_understood(tmp_path):
    content = np.random.default_rng(0).bytes(100_000)
    (tmp_path / "1.bin").write_bytes(content)
    with stores.served(tmp_path) as address, paths.parse(f"{address}/1.bin").open("rb") as opened:
        opened.seek(50_000)
        assert opened.read(10) == content[50_000:50_010]
