"""A file is written completely or not at all."""

import errno
import os
import subprocess
import sys

import pytest

from stochconv_jax.atomic_files import make_writable, open_text, replace, write_bytes, write_csv, write_text
from tests.conftest import ROOT


def write_by_path(file, text):
    with replace(file) as temporary:
        temporary.write_text(text)


def write_by_stream(file, text):
    with open_text(file) as stream:
        stream.write(text)


def write_encoded(file, text):
    write_bytes(file, text.encode())


WRITERS = [write_by_path, write_by_stream, write_encoded, write_text]


@pytest.mark.parametrize("opened", [replace, open_text])
def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path, opened):
    file = write_csv(tmp_path / "table.csv", ["a"], [{"a": 1}])
    with pytest.raises(RuntimeError), opened(file) as half:
        half.write("half a li") if opened is open_text else half.write_text("half a li")
        raise RuntimeError
    assert file.read_text() == "a\n1\n"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_would_not_change_is_left_as_it_is(tmp_path, write):
    file = tmp_path / "text.txt"
    write(file, "one")
    os.utime(file, ns=(1, 1))
    write(file, "one")
    assert file.stat().st_mtime_ns == 1
    write(file, "two")
    assert file.stat().st_mtime_ns != 1 and file.read_text() == "two"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small file system here")
    try:
        file = write_csv(tmp_path / "table.csv", ["a"], [{"a": 1}])
        with pytest.raises(OSError, match=f"cannot write {file}: No space left on device; make room"):
            write_csv(file, ["a"], ({"a": "x" * 1000} for _ in range(1000)))
        with pytest.raises(OSError, match=f"cannot write {file}: No space left on device; make room"):
            write_bytes(file, bytes(10**6))
        assert file.read_text() == "a\n1\n"
        assert list(tmp_path.iterdir()) == [file]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_only_errors_of_the_write_itself_name_the_file(tmp_path):
    """Whoever makes a file from others may fail to read those, and says so."""
    with pytest.raises(OSError, match=r"^.Errno 5. another file cannot be read$"), replace(tmp_path / "a"):
        raise OSError(errno.EIO, "another file cannot be read")
    with pytest.raises(OSError, match=f"cannot write {tmp_path}/none/a: No such file or directory"):
        write_text(tmp_path / "none" / "a", "")


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002])
@pytest.mark.parametrize("write", WRITERS)
def test_a_file_has_the_mode_of_any_new_file_and_never_a_wider_one_than_the_file_it_replaces(tmp_path, umask, write):
    before = os.umask(umask)
    try:
        (tmp_path / "plain").open("w").close()
        expected = (tmp_path / "plain").stat().st_mode
        for name in ("new", "private", "public"):
            if name != "new":
                (tmp_path / name).touch()
                (tmp_path / name).chmod(0o600 if name == "private" else 0o666)
            write(tmp_path / name, "a")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "public").stat().st_mode == expected
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600


KILLED = """
import os, pathlib, signal, sys
from stochconv_jax.atomic_files import open_text
with open_text(pathlib.Path(sys.argv[1])) as file:
    file.write("half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_was_writing_is_removed_and_what_is_being_written_is_not(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, tmp_path / "table.csv"], cwd=ROOT, check=False)
    own = tmp_path / ".of_the_user.tmp"
    own.touch()
    (left,) = set(tmp_path.iterdir()) - {own}
    with open_text(tmp_path / "other.csv") as file:
        make_writable(tmp_path, "")
        assert not left.exists() and len(list(tmp_path.iterdir())) == 2
        file.write("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"other.csv", own.name}
    assert (tmp_path / "other.csv").read_text() == "whole"


def test_a_folder_that_is_read_only_is_refused_with_what_to_do(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)], check=False).returncode:
        pytest.skip("may not mount a file system here")
    try:
        for folder in (tmp_path, tmp_path / "below"):
            with pytest.raises(OSError, match=f"cannot write into {folder}: Read-only file system; set a key"):
                make_writable(folder, "set a key")
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
