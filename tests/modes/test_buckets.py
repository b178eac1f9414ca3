"""Runs in a bucket, as real processes: killed, and continued by another machine, they are those of a folder."""

import os
import signal
import socket
import subprocess
import sys
import time

import fsspec
import numpy as np
import pytest

import stochconv_jax
from stochconv_jax.buckets.mirror import MARKER
from stochconv_jax.buckets.store import Store
from stochconv_jax.runtime.watchdog import STOPPED
from tests.conftest import ROOT, free_port
from tests.modes.conftest import SIGKILL, when
from tests.modes.runs import assert_same_run, rows, step_of

# A killed process is known to be dead sooner, and uploads come in quick succession.
SOON = """
from stochconv_jax.buckets import lease, staging
lease.DEAD_SECONDS, lease.POLL_SECONDS, staging.RENEW_SECONDS, staging.UPLOAD_SECONDS = 3.0, 0.1, 0.2, 0.1
"""


@pytest.fixture(params=["local", "s3"])
def bucket(request, tmp_path, monkeypatch):
    """An address: of a folder that fsspec uses as a bucket, or of a server for S3, which needs moto and s3fs."""
    if request.param == "local":
        monkeypatch.setenv("FSSPEC_LOCAL_AUTO_MKDIR", "true")  # for the processes that the test starts
        monkeypatch.setitem(fsspec.config.conf, "local", {"auto_mkdir": True})
        # A relative path, because pathlib leaves one slash of two at the beginning of an absolute one.
        yield f"local://{os.path.relpath(tmp_path / 'bucket')}"
        return
    pytest.importorskip("s3fs", reason="s3fs, the extra `s3`, is not installed")
    pytest.importorskip("moto.server", reason="moto, a server for S3, is not installed")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    monkeypatch.setitem(fsspec.config.conf, "s3", {"endpoint_url": url})
    for name, value in {
        "FSSPEC_S3_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
    }.items():
        monkeypatch.setenv(name, value)
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as tried:
                if not tried.connect_ex(("127.0.0.1", port)):
                    break
            assert time.monotonic() < deadline
            time.sleep(0.1)
        fsspec.filesystem("s3").mkdir("bucket")
        yield "s3://bucket/runs"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def fetched(address, folder):
    """Copies the objects at an address into a folder, as a user does, and returns it."""
    store = Store(address)
    store.download({name: folder / name for name in store.names()})
    return folder


def complete_step(address):
    """Returns the last step of which a checkpoint is complete in a bucket."""
    return max(
        (step_of(name.split("/")[-2]) for name in Store(address).names() if name.endswith(f"/{MARKER}")), default=0
    )


def wait_for_step(process, address, step):
    deadline = time.monotonic() + 240
    while complete_step(address) < step:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_a_killed_run_in_a_bucket_continues_to_the_same_bits(main, finished, bucket, tmp_path):
    address, settings = f"{bucket}/killed", {"checkpoint__every_steps": 1, "before": SOON}
    process = main.start(address, environ={"TMPDIR": str(tmp_path)}, **settings)
    wait_for_step(process, address, 2)
    process.kill()
    process.communicate()
    upload = when("buckets.store.Store.upload", SIGKILL, call=8)  # in the third of its uploads
    for number in range(2):
        (machine := tmp_path / f"machine_{number}").mkdir()
        main(address, environ={"TMPDIR": str(machine)}, code=-signal.SIGKILL, **settings | {"before": SOON + upload})
    reached = complete_step(address)
    (machine := tmp_path / "last").mkdir()
    output = main(address, environ={"TMPDIR": str(machine)}, **settings)
    assert f"starting at step {reached} of 20" in output and "finished at step 20" in output
    assert str(machine) not in output and not list(machine.iterdir())
    assert_same_run(finished, fetched(address, tmp_path / "fetched"))
    assert not list((tmp_path / "fetched/checkpoints").glob("*damaged*"))


@pytest.mark.slow
def test_a_run_in_a_bucket_is_evaluated_reported_and_loaded(main, finished, bucket, tmp_path):
    address = f"{bucket}/first"
    there = [path for path in finished.rglob("*") if path.is_file()]
    Store(address).upload({path.relative_to(finished).as_posix(): path for path in there})
    main(address, mode="evaluate")
    main(bucket, mode="report")
    run = fetched(bucket, tmp_path / "fetched") / "first"
    assert rows(run / "predictions.csv") and (run.parent / "report.html").exists()
    image = np.zeros((80, 96, 3), np.uint8)
    mine, there = (stochconv_jax.load(run).predict([image]).probability for run in (finished, address))
    np.testing.assert_array_equal(mine, there)
    assert rows(run / "metrics.csv") == rows(finished / "metrics.csv")


@pytest.mark.slow
def test_two_processes_do_not_train_in_one_bucket_and_sigterm_saves_there(main, bucket, tmp_path):
    address, settings = f"{bucket}/run", {"checkpoint__every_steps": 1, "num_epochs": 2000, "before": SOON}
    process = main.start(address, optimizer__schedule="constant", **settings)
    wait_for_step(process, address, 1)
    output = main(address, code=1, optimizer__schedule="constant", **settings)
    assert f"stochconv_jax: another process works in {address} (process {process.pid} on " in output
    process.terminate()
    output = process.communicate(timeout=240)[0]
    assert process.returncode == STOPPED, output
    assert f"stopped and saved at step {complete_step(address)}" in output


def test_several_processes_in_a_bucket_are_refused(main, tmp_path):
    settings = {"distributed__coordinator": f"localhost:{free_port()}", "distributed__num_processes": 2}
    processes = [main.start("local://run", distributed__process_id=number, **settings) for number in range(2)]
    for process in processes:
        output = process.communicate(timeout=240)[0]
        assert process.returncode == 1
        assert "stochconv_jax: --workdir=local://run: several processes need a folder that all of them share" in output
    assert not (ROOT / "run").exists()


def test_a_bucket_without_its_package_or_for_another_mode_is_named(main):
    assert "--workdir=s3://bucket/run: expected a path in a file system: mount" in main(
        "s3://bucket/run", mode="prepare", code=1
    )
    output = main("abfs://bucket/run", code=1)
    assert "abfs://" in output and "cannot be read: " in output and "Traceback" not in output
