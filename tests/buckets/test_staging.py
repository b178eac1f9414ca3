"""A mode works in a local copy: what it writes reaches the bucket whatever ends it, and messages name the bucket."""

import contextlib
import logging
import multiprocessing
import pathlib
import subprocess
import sys
import tempfile
import time

import pytest

from stochconv_jax import config_rules
from stochconv_jax.buckets import staging
from stochconv_jax.buckets.lease import Lease, Lost
from stochconv_jax.buckets.store import Store
from stochconv_jax.runtime import watchdog


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The folder of temporary folders."""
    (folder := tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(staging, "UPLOAD_SECONDS", 0.01)
    return folder


def unreachable(*_):
    raise OSError("no answer")


@pytest.mark.parametrize("error", [None, ValueError("wrong"), KeyboardInterrupt()])
def test_the_last_changes_are_uploaded_and_the_copy_is_removed(store, temporary, error, monkeypatch):
    monkeypatch.setattr(staging, "UPLOAD_SECONDS", 1e6)
    store.write("config.json", b"old")
    with (
        pytest.raises(type(error)) if error else contextlib.nullcontext(),
        staging.local_copy(str(store.path), "train") as folder,
    ):
        file = pathlib.Path(folder) / "config.json"
        assert file.read_bytes() == b"old"
        file.write_bytes(b"newer")
        if error:
            raise error
    assert store.read("config.json") == b"newer"
    assert not list(temporary.iterdir())
    Lease(store, "train", sleep=unreachable).take()  # which was given back


def test_changes_are_uploaded_meanwhile_and_again_after_a_failure(store, monkeypatch, caplog):
    upload, deadline = Store.upload, time.monotonic() + 60
    with staging.local_copy(str(store.path), "train") as folder:
        monkeypatch.setattr(Store, "upload", unreachable)
        (pathlib.Path(folder) / "metrics.csv").write_text("1")
        while "no answer; the next try is in" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        monkeypatch.setattr(Store, "upload", upload)
        while "metrics.csv" not in store.names() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert store.read("metrics.csv") == b"1"


def test_without_the_bucket_at_the_end_the_copy_is_kept_and_named(store, monkeypatch):
    with (
        monkeypatch.context() as patched,
        pytest.raises(OSError, match=r"no answer\. The last changes are in .*kept_") as raised,
        staging.local_copy(str(store.path), "train") as folder,
    ):
        for request in ("names", "read", "write", "upload", "remove"):
            patched.setattr(Store, request, unreachable)
        (pathlib.Path(folder) / "metrics.csv").write_text("1")
    kept = pathlib.Path(str(raised.value).partition("are in ")[2].partition(" alone")[0])
    with staging.local_copy(str(store.path), "evaluate"):
        assert (kept / "metrics.csv").read_text() == "1"


def test_an_interrupted_last_upload_keeps_the_copy(store, monkeypatch, caplog):
    def interrupted(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), staging.local_copy(str(store.path), "train") as folder:
        (pathlib.Path(folder) / "metrics.csv").write_text("1")
        monkeypatch.setattr(Store, "upload", interrupted)
    kept = pathlib.Path(caplog.text.partition("are in ")[2].partition(" alone")[0])
    assert (kept / "metrics.csv").read_text() == "1"


def test_the_copy_of_a_killed_process_is_removed_and_that_of_a_living_one_is_not(store, temporary):
    program = (
        "import sys, tempfile, time; tempfile.tempdir = sys.argv[1]; from stochconv_jax.buckets import staging\n"
        "with staging._temporary_folder() as folder: print(folder, flush=True); time.sleep(1e6)"
    )
    command = [sys.executable, "-c", program, str(temporary)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    killed, living = (pathlib.Path(process.stdout.readline().strip()) for process in processes)
    processes[0].kill()
    processes[0].communicate()
    with staging.local_copy(str(store.path), "train"):
        assert living.exists() and not killed.exists()
    processes[1].kill()
    processes[1].communicate()


def test_messages_and_errors_name_the_bucket(store, caplog):
    logger = logging.getLogger("stochconv_jax")
    logger.addHandler(handler := logging.Handler())
    records = []
    handler.emit = records.append
    try:
        with (
            pytest.raises(OSError, match=rf"cannot write {store.path}/metrics\.csv: full") as raised,
            staging.local_copy(str(store.path), "train") as folder,
        ):
            logging.getLogger("stochconv_jax.modes").warning("written: %s", f"{folder}/config.json")
            raise OSError(28, f"cannot write {folder}/metrics.csv: full")
    finally:
        logger.removeHandler(handler)
    assert records[0].getMessage() == f"written: {store.path}/config.json"
    assert raised.value.errno == 28 and not handler.filters


def test_a_process_whose_lease_is_lost_ends(store, monkeypatch, capsys):
    ended = multiprocessing.Event()
    monkeypatch.setattr(watchdog, "end_process", lambda code: ended.set())

    def lost():
        raise Lost("another has taken over")

    with staging._every(0.01, lost):
        assert ended.wait(60)
    assert "stochconv_jax: another has taken over" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["s3://bucket/run", "gs://bucket", "memory://run", "az://container/runs/first"])
def test_a_workdir_may_be_an_address(address):
    config_rules.check_workdir(address, "train")
    with pytest.raises(config_rules.BadValue, match=rf"--workdir={address}: expected a path in a file system"):
        config_rules.check_workdir(address, "prepare")


@pytest.mark.parametrize("text", ["http://host/run", "https://host/run", "file:///run", "s3://a,s3://b", "run,s3://b"])
def test_other_addresses_and_lists_of_them_are_refused(text):
    with pytest.raises(config_rules.BadValue, match=r"expected a path in a file system: .*; or one address of a"):
        config_rules.check_workdir(text, "train")
