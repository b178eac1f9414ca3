"""Faults of archives and of addresses are named, and a failure of the network is tried again."""

import importlib.util
import zipfile

import fsspec
import numpy as np
import pytest

from stochconv_jax import modes
from stochconv_jax.data import image_files, paths, requested
from stochconv_jax.data.image_checks import check_source
from stochconv_jax.data.sources import BadImage, FolderSource
from tests.data import stores
from tests.data.stores import IMAGES

pytestmark = pytest.mark.usefixtures("addresses")
NAMES = sorted(IMAGES)


def source_of(place):
    return FolderSource.from_class_folders(str(place), num_classes=2)


@pytest.mark.parametrize("name", ["images.zip", "images.hdf5"])
@pytest.mark.parametrize("fault", ["half of it", "another format", "empty"])
def test_a_damaged_archive_is_named(tmp_path, name, fault):
    (whole := tmp_path / name).write_bytes(b"")
    (stores.write_zip if name.endswith("zip") else stores.write_hdf5)(whole)
    content = {"half of it": whole.read_bytes()[: whole.stat().st_size // 2], "another format": b"text" * 99}
    whole.write_bytes(content.get(fault, b""))
    with pytest.raises(ValueError, match=rf"{whole}: not a zip or HDF5 file, or damaged"):
        source_of(whole)
    with pytest.raises(ValueError, match=rf"{whole}: not a zip or HDF5 file, or damaged"):
        requested.find(str(whole), "predict.images")


def flipped(archive, name):
    """Flips a bit in the content of a file in a zip."""
    with zipfile.ZipFile(archive) as opened:
        about = opened.getinfo(name)
    content = bytearray(archive.read_bytes())
    content[about.header_offset + 30 + len(name.encode()) + about.compress_size // 2] ^= 1
    archive.write_bytes(content)


def encrypted(archive, name):
    """Sets the flag of an encrypted file in a zip's directory."""
    content = bytearray(archive.read_bytes())
    start = content.index(b"PK\1\2")
    content[content.index(name.encode(), start) - 46 + 8] |= 1
    archive.write_bytes(content)


@pytest.mark.parametrize("spoil, reason", [(flipped, "Bad CRC-32|invalid|Error -3"), (encrypted, "encrypted")])
@pytest.mark.parametrize("name", ["cat/1.png", "dog/6.jpg"])
def test_a_file_that_cannot_be_read_from_its_zip_is_named_with_the_zip(tmp_path, spoil, reason, name):
    spoil(archive := stores.write_zip(tmp_path / "images.zip"), name)
    source = source_of(archive)
    with pytest.raises(BadImage, match=rf"^{archive}/{name}: it cannot be read from its archive \(.*({reason})"):
        source.read(NAMES.index(name))
    source.read(NAMES.index("dog/4.png"))
    found = check_source(source, decode=True, hashes=False, least=(1, 1), timeout_seconds=60)
    assert [bool(one.problem) for one in found] == [one == name for one in NAMES]


class Failing:
    """Makes the first `count` reads of fsspec's memory fail, and counts all of them."""

    def __init__(self, monkeypatch, count, error):
        memory = type(fsspec.filesystem("memory"))
        self.calls, real = 0, memory.cat_file

        def read(*arguments, **keys):
            self.calls += 1
            if self.calls <= count:
                raise error
            return real(*arguments, **keys)

        monkeypatch.setattr(memory, "cat_file", read)


def test_a_read_that_fails_is_tried_three_times_and_then_an_error_with_its_address(monkeypatch):
    waits = []
    monkeypatch.setattr(paths, "WAITS", (1.0, 4.0))
    monkeypatch.setattr(paths.time, "sleep", waits.append)
    source = source_of(stores.write_memory("images"))
    failing = Failing(monkeypatch, 2, ConnectionResetError("cut"))
    source.read(0)
    assert failing.calls == 3 and waits == [1, 4]
    failing = Failing(monkeypatch, 99, TimeoutError("late"))
    with pytest.raises(paths.Unreachable, match=r"no answer in 3 tries \(TimeoutError: late\): 'memory://images/cat/1"):
        source.read(0)
    assert failing.calls == 3


def test_the_check_of_images_takes_no_failure_of_the_network_for_damage(monkeypatch):
    source = source_of(stores.write_memory("images"))
    Failing(monkeypatch, 99, TimeoutError("late"))
    with pytest.raises(paths.Unreachable, match="no answer in 3 tries"):
        check_source(source, decode=False, hashes=False, least=(1, 1), timeout_seconds=60)


def test_an_image_without_an_ending_is_not_left_out_for_a_failure_of_the_network(monkeypatch):
    place = stores.write_memory("bare", {"1": IMAGES["cat/1.png"]})
    assert image_files.images_of(paths.parse(place).iterdir()) == [paths.parse(f"{place}/1")]
    Failing(monkeypatch, 99, TimeoutError("late"))
    with pytest.raises(paths.Unreachable, match="no answer in 3 tries"):
        image_files.images_of(paths.parse(place).iterdir())


def test_a_file_that_is_not_there_is_not_asked_for_again(monkeypatch):
    stores.write_memory("images")
    failing = Failing(monkeypatch, 0, OSError)
    with pytest.raises(FileNotFoundError, match=r"memory://images/gone\.png"):
        paths.parse("memory://images/gone.png").read_bytes()
    assert failing.calls == 1


def test_the_programs_one_line_has_the_address():
    with pytest.raises(FileNotFoundError) as raised:
        list(paths.parse("memory://nothing/images").iterdir())
    assert modes._message(raised.value) == "memory://nothing/images: No such file or directory"
    assert modes._message(OSError(28, "cannot write a.csv: no space")) == "cannot write a.csv: no space"


def test_an_archive_that_is_cut_off_is_not_called_damaged(tmp_path, monkeypatch):
    """zipfile itself takes a read that fails for damage."""
    content = stores.write_zip(tmp_path / "i.zip").read_bytes()
    place = stores.write_memory("cut", {"i.zip": content}) + "/i.zip"
    Failing(monkeypatch, 99, ConnectionResetError("cut"))
    with pytest.raises(paths.Unreachable, match=r"no answer in 3 tries .*memory://cut/i\.zip"):
        source_of(place)


@pytest.mark.parametrize("address, package", [("gs", "gcsfs"), ("s3", "s3fs"), ("https", "aiohttp")])
def test_a_missing_package_is_one_line_with_the_command_that_installs_it(address, package):
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(ValueError, match=rf"{address}://b/images: .*pip install {package} \(the extra `\w+`\)$"):
        source_of(f"{address}://b/images")


def test_an_unknown_scheme_is_named():
    with pytest.raises(ValueError, match="gss"):
        source_of("gss://bucket/images")


def test_a_local_name_with_a_colon_or_an_archives_ending_stays_local(tmp_path):
    for name in ("a:b", "data.zip", "x.h5/in"):
        folder = stores.write_folder(tmp_path / name)
        source = source_of(folder)
        assert not any(isinstance(file, paths.VirtualPath) for file in source.files) and source.names == NAMES
        assert isinstance(source.read(0), np.ndarray)
        assert source_of(f"file://{folder}").names == NAMES
