"""Runs over hosts of their own network: trained as one, and what happens where a host, its network or its disk fails.

Each fault ends in the bounded way that docs/launchers.md names, and the same command goes on to the same run.
"""

import contextlib
import re
import signal
import subprocess

import pytest

from stochconv_jax.runtime.watchdog import STOPPED
from tests.clusters.hosts import Hosts, run
from tests.clusters.runs import environ, flags, slow_python
from tests.conftest import ROOT
from tests.modes.runs import assert_same_run, last_step, wait_for_step
from tests.runtime.processes import assert_same_to_rounding, finish, outputs_of

pytestmark = pytest.mark.clusters
BOUND = 20  # seconds that a process may give no sign of life, in tests in which one goes
HEARTBEAT = r"Task 1 heartbeat timeout|\(stopped sending heartbeats\):\n1\n"


class Cluster:
    """Starts a run as one process a host, with the words of the launch by hand of docs/launchers/processes.md."""

    def __init__(self, hosts, folder):
        self.hosts, self._slow, self._started = hosts, slow_python(folder, unless="false"), []

    def start(self, workdir, *, slow=False, first=(), **settings):
        """`slow`: a second a step; `first`: words before the command of the last host."""
        coordinator = f"{self.hosts.address('n1')}:12355"
        keys = {"coordinator": coordinator, "num_processes": len(self.hosts.names), "timeout_seconds": BOUND}
        settings |= {f"distributed__{name}": value for name, value in keys.items()}
        python = self._slow if slow else environ()["PYTHON"]
        processes = []
        for number, name in enumerate(self.hosts.names):
            words = flags(workdir, distributed__process_id=number, checkpoint__every_steps=1, **settings)
            before = first if number == len(self.hosts.names) - 1 else ()
            command = self.hosts.command(name, *before, python, "main.py", *words)
            streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            processes.append(subprocess.Popen(command, env=environ(), cwd=ROOT, **streams))
        self._started += processes
        return processes

    def close(self):
        for process in self._started:
            process.kill()
            process.stdout.close()
            process.wait()


@pytest.fixture(scope="module", params=[2], ids=["two"])
def cluster(request, tmp_path_factory):
    with Hosts(request.param) as hosts, contextlib.closing(Cluster(hosts, tmp_path_factory.mktemp("hosts"))) as made:
        yield made


@pytest.fixture(scope="module")
def whole(cluster, tmp_path_factory):
    """A run of two hosts that nothing interrupts."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    finish(cluster.start(workdir))
    return workdir


def assert_goes_on(cluster, workdir, whole):
    """The same command ends like the run that nothing has interrupted."""
    saved = last_step(workdir)
    assert f": starting at step {saved} of 13" in finish(cluster.start(workdir))[0] and saved
    assert_same_run(workdir, whole)


def test_two_hosts_train_as_one(whole, alone):
    assert_same_to_rounding(whole, alone)


def test_a_host_that_is_cut_off_ends_all_in_time_and_is_named(cluster, whole, tmp_path):
    processes = cluster.start(tmp_path, slow=True)
    wait_for_step(processes[0], tmp_path, step=2)
    cluster.hosts.cut("n2")
    try:
        first, second = outputs_of(processes, timeout=4 * BOUND)
    finally:
        cluster.hosts.mend("n2")
    assert all(process.returncode not in (0, STOPPED) for process in processes)
    assert re.search(HEARTBEAT, first), first
    assert re.search(r"CoordinationService|coordination service", second), second
    assert_goes_on(cluster, tmp_path, whole)


def test_a_process_that_is_stopped_for_longer_than_the_heartbeat_ends_all(cluster, whole, tmp_path):
    processes = cluster.start(tmp_path, slow=True)
    wait_for_step(processes[0], tmp_path, step=2)
    stopped = cluster.hosts.processes("n2")
    run("kill", "-STOP", *stopped)
    output, _ = processes[0].communicate(timeout=4 * BOUND)
    assert processes[0].returncode not in (0, STOPPED) and re.search(HEARTBEAT, output), output
    run("kill", "-CONT", *stopped)
    output, _ = processes[1].communicate(timeout=4 * BOUND)
    assert processes[1].returncode not in (0, STOPPED), output
    assert_goes_on(cluster, tmp_path, whole)


def test_a_full_disk_ends_all_in_time_and_is_named(cluster, whole, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk)
    try:
        processes = cluster.start(disk / "run", slow=True, checkpoint__grace_seconds=BOUND)
        wait_for_step(processes[0], disk / "run", step=2)
        with contextlib.suppress(OSError), (disk / "filled").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(2**16))
        outputs = outputs_of(processes, timeout=4 * BOUND)
        assert all(process.returncode not in (0, STOPPED) for process in processes)
        assert any("No space left on device" in output or "ENOSPC" in output for output in outputs), outputs
        (disk / "filled").unlink()
        assert_goes_on(cluster, disk / "run", whole)
    finally:
        run("umount", disk)


def test_shared_memory_that_is_too_small_on_one_host_ends_all_and_is_named(cluster, tmp_path):
    small = ("sh", "-c", 'mount -t tmpfs -o size=64k tmpfs /dev/shm && exec "$@"', "sh")
    processes = cluster.start(tmp_path, first=small, data__num_workers=1)
    outputs = outputs_of(processes, timeout=4 * BOUND)
    assert all(process.returncode not in (0, STOPPED) for process in processes)
    assert "/dev/shm" in outputs[1] and "data.num_workers" in outputs[1], outputs[1]


def test_sigterm_on_one_host_stops_all_and_the_same_command_goes_on(cluster, whole, tmp_path):
    processes = cluster.start(tmp_path, slow=True)
    wait_for_step(processes[0], tmp_path, step=2)
    processes[1].send_signal(signal.SIGTERM)
    assert "stopped and saved at step" in finish(processes, STOPPED)[0]
    assert_goes_on(cluster, tmp_path, whole)


def test_four_hosts_train_as_one_and_go_on_as_two(alone, tmp_path):
    with Hosts(4) as hosts, contextlib.closing(Cluster(hosts, tmp_path)) as four:
        processes = four.start(tmp_path / "run", slow=True)
        wait_for_step(processes[0], tmp_path / "run", step=3)
        processes[3].send_signal(signal.SIGTERM)
        assert "stopped and saved at step" in finish(processes, STOPPED)[0]
        hosts.names = hosts.names[:2]
        assert "finished at step 13" in finish(four.start(tmp_path / "run"))[0]
    assert_same_to_rounding(tmp_path / "run", alone)


def test_a_slow_network_that_loses_packets_changes_nothing(whole, tmp_path):
    with Hosts(2) as hosts, contextlib.closing(Cluster(hosts, tmp_path)) as cluster:
        for name in hosts.names:
            hosts.disturb(name, rate="20mbit", latency="50ms", loss=2)
        finish(cluster.start(tmp_path / "run"))
    assert_same_run(tmp_path / "run", whole)
