"""The files of a run, and the lock of its folder."""

import errno
import os

import pytest

from stochconv_jax import run_folder
from stochconv_jax.run_folder import METRICS, RunFolder, locked


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
def test_the_lock_file_may_be_written_by_its_owner_alone(tmp_path, umask):
    before = os.umask(umask)
    try:
        with locked(tmp_path):
            assert (tmp_path / ".lock").stat().st_mode & 0o777 == 0o644 & ~umask
    finally:
        os.umask(before)


def test_several_folders_have_the_common_folder_in_which_they_lie(tmp_path):
    found = run_folder.split_workdirs(f"{tmp_path}/runs/a, {tmp_path}/runs/../b")
    assert found == [tmp_path / "runs" / "a", tmp_path / "b"] and run_folder.common_folder(found) == tmp_path
