"""Files of a run are whole or not there."""
import errno
import os
import subprocess

import pytest

from stochconv_jax import run_folder
from stochconv_jax.run_folder import METRICS, RunFolder, atomic, locked, write_csv


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
