"""The recipes for Open MPI and MPICH under real ones, over two hosts: as one process, and stopped by a signal."""
import re
import subprocess

import pytest

from tests.clusters.hosts import Hosts
from tests.clusters.runs import LAUNCHERS, assert_same_results, environ, flags, mode_flags
from tests.conftest import ROOT

pytestmark = pytest.mark.clusters
OPEN_MPI, MPICH = "openmpi.sh", "mpich.sh"


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
    assert re.search(rf"config.distributed and {found}: process 0 of 2, coordinator n1:12355", output), output
    mpi(recipe, *mode_flags(tmp_path / "run", "evaluate"))
    mpi(recipe, *mode_flags(tmp_path / "run", "predict", predict__images=alone.parent / "pictures"))
    assert_same_results(tmp_path / "run", alone)
