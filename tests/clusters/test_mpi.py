"""The recipes for Open MPI and MPICH under real ones, over two hosts: as one process, and stopped by a signal."""

import os
import pathlib
import re
import signal
import subprocess

import pytest

from stochconv_jax.runtime.watchdog import STOPPED
from tests.clusters.hosts import Hosts
from tests.clusters.runs import LAUNCHERS, assert_same_results, environ, flags, mode_flags, slow_python
from tests.conftest import ROOT
from tests.modes.runs import wait_for_step

pytestmark = pytest.mark.clusters
OPEN_MPI, MPICH = "openmpi.sh", "mpich.sh"


def runs_python(pid):
    """Whether a process is a Python, and not a launcher with its command line."""
    return "python" in pathlib.Path(f"/proc/{pid}/exe").readlink().name


class Mpi:
    """Two hosts, and launchers on the first of them that reach the other as by ssh."""

    def __init__(self, hosts, folder):
        self._hosts = hosts
        agent = str(hosts.agent(folder / "agent"))
        (folder / "hosts.txt").write_text("".join(f"{name}\n" for name in hosts.names))
        self._environ = environ(
            HOSTS=str(folder / "hosts.txt"),
            MPIRUN="mpirun.openmpi",
            OMPI_ALLOW_RUN_AS_ROOT="1",
            OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
            OMPI_MCA_plm_rsh_agent=agent,
            MPIEXEC="mpiexec.hydra",
            HYDRA_LAUNCHER="ssh",
            HYDRA_LAUNCHER_EXEC=agent,
        )

    def start(self, recipe, *words, **more):
        """The launcher's process."""
        command = self._hosts.command("n1", "bash", LAUNCHERS / recipe, *words)
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(command, env=self._environ | more, cwd=ROOT, **streams)

    def signal(self, host, number):
        """Sends a signal to the run's process on a host."""
        (pid,) = (pid for pid in self._hosts.processes(host) if runs_python(pid))
        os.kill(pid, number)

    def __call__(self, recipe, *words, **more):
        """What a launch printed, which must succeed."""
        process = self.start(recipe, *words, **more)
        output, _ = process.communicate(timeout=240)
        assert process.returncode == 0, output
        return output


@pytest.fixture(scope="module")
def mpi(tmp_path_factory):
    with Hosts(2) as hosts:
        yield Mpi(hosts, tmp_path_factory.mktemp("mpi"))


@pytest.mark.parametrize(("recipe", "found"), [(OPEN_MPI, "Open MPI"), (MPICH, r"MPICH, Intel MPI or Cray \(PMI\)")])
def test_a_process_a_host_trains_evaluates_and_predicts_as_one_process(mpi, alone, tmp_path, recipe, found):
    output = mpi(recipe, *flags(tmp_path / "run"))
    assert re.search(rf"the given values and {found}: process 0 of 2, coordinator n1:12355", output), output
    mpi(recipe, *mode_flags(tmp_path / "run", "evaluate"))
    mpi(recipe, *mode_flags(tmp_path / "run", "predict", predict__images=alone.parent / "pictures"))
    assert_same_results(tmp_path / "run", alone)


@pytest.mark.parametrize("recipe", [OPEN_MPI, MPICH])
def test_sigterm_to_one_process_stops_all_and_the_same_launch_goes_on(mpi, tmp_path, recipe):
    words = flags(tmp_path / "run", checkpoint__every_steps=1)
    process = mpi.start(recipe, *words, PYTHON=str(slow_python(tmp_path, unless="false")))
    wait_for_step(process, tmp_path / "run", step=2)
    mpi.signal("n2", signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    stopped = re.search(r"stopped and saved at step (\d+)", output)
    assert process.returncode == STOPPED and stopped, output
    output = mpi(recipe, *words)
    assert f": starting at step {stopped[1]} of 13" in output and "finished at step 13" in output
