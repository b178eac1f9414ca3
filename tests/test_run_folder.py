"""Files of a run are whole or not there."""

import errno
import os
import subprocess
import sys

import pytest

from stochconv_jax import run_folder
from stochconv_jax.run_folder import METRICS, RunFolder, atomic, locked, make_writable, write_csv
from tests.conftest import ROOT


def test_a_write_that_fails_leaves_the_file_before_it(tmp_path):
    file = tmp_path / "table.csv"
    write_csv(file, ["a"], [{"a": 1}])
    with pytest.raises(RuntimeError), atomic(file) as open_file:
        open_file.write("half a li")
        raise RuntimeError
    assert file.read_text() == "a\n1\n"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small file system here")
    try:
        file = write_csv(tmp_path / "table.csv", ["a"], [{"a": 1}])
        with pytest.raises(OSError, match="No space left"):
            write_csv(file, ["a"], ({"a": "x" * 1000} for _ in range(1000)))
        assert file.read_text() == "a\n1\n"
        assert list(tmp_path.iterdir()) == [file]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_metrics_keep_every_digit(tmp_path):
    folder = RunFolder(tmp_path)
    row = dict.fromkeys(METRICS, 0.1 + 0.2) | {"epoch": 1, "step": 2}
    folder.write_metrics([row])
    assert float(folder.read_metrics()[0]["val_loss"]) == 0.1 + 0.2
    assert RunFolder(tmp_path / "none").read_metrics() == []


def test_a_damaged_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        RunFolder(tmp_path).read_config()


def test_who_holds_a_folder_is_named_and_the_last_that_did_is_not_in_the_way(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "run"), pytest.raises(OSError, match=rf"run \(process {os.getpid()} on \S+ since .*\)"):
            locked(tmp_path / "run").__enter__()
    assert (tmp_path / "run/.lock").read_bytes() == b""  # so that equal runs leave equal folders


@pytest.mark.parametrize("number, goes_on", [(errno.ENOSYS, True), (errno.ENOLCK, True), (errno.EIO, False)])
def test_where_the_file_system_has_no_locks_a_warning_says_so(tmp_path, monkeypatch, caplog, number, goes_on):
    def fails(handle, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(run_folder.fcntl, "flock", fails)
    if goes_on:
        with locked(tmp_path):
            assert f"{tmp_path} is on a file system without locks" in caplog.text
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            locked(tmp_path).__enter__()


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077, 0o002])
def test_a_file_has_the_mode_of_any_new_file_and_never_a_wider_one_than_the_file_it_replaces(tmp_path, umask):
    before = os.umask(umask)
    try:
        (tmp_path / "plain").open("w").close()
        expected = (tmp_path / "plain").stat().st_mode
        for name in ("new", "private", "public"):
            if name != "new":
                (tmp_path / name).touch()
                (tmp_path / name).chmod(0o600 if name == "private" else 0o666)
            write_csv(tmp_path / name, ["a"], [{"a": 1}])
        with locked(tmp_path):
            assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o644 & ~umask
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "public").stat().st_mode == expected
    assert (tmp_path / "private").stat().st_mode & 0o777 == 0o600


KILLED = """
import os, pathlib, signal, sys
from stochconv_jax.run_folder import atomic
with atomic(pathlib.Path(sys.argv[1])) as file:
    file.write("half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_was_writing_is_removed_and_what_is_being_written_is_not(tmp_path):
    subprocess.run([sys.executable, "-c", KILLED, tmp_path / "table.csv"], cwd=ROOT, check=False)
    own = tmp_path / ".of_the_user.tmp"
    own.touch()
    (left,) = set(tmp_path.iterdir()) - {own}
    with atomic(tmp_path / "other.csv") as file:
        RunFolder(tmp_path).create()
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
