"""Launchers and hosts for real, on one machine: `make test-clusters`, as root. No other choice of tests has these."""

import os
import shutil

import pytest

from tests.clusters.runs import pictures
from tests.modes.conftest import Main
from tests.runtime.processes import TRAINED

TOOLS = {
    "ip": "iproute2", "tc": "iproute2", "nft": "nftables", "munged": "munge", "slurmctld": "slurmctld",
    "slurmd": "slurmd", "srun": "slurm-client", "mpirun.openmpi": "openmpi-bin", "mpiexec.hydra": "mpich",
}  # fmt: skip


def pytest_ignore_collect(config):
    """They change the machine's network, so they must be asked for."""
    return None if "clusters" in config.option.markexpr else True


@pytest.fixture(scope="session", autouse=True)
def tools():
    """What a launcher is made of."""
    missing = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
    if missing or os.geteuid():
        pytest.fail(f"needs root, and of Debian's packages: {' '.join(missing) or 'all are there'}", pytrace=False)


@pytest.fixture(scope="session")
def alone(tmp_path_factory):
    """One process with two devices: trained, evaluated and applied to pictures, in the folder `pictures` beside it."""
    workdir, main = tmp_path_factory.mktemp("alone") / "run", Main()
    main(workdir, devices=2, **TRAINED)
    main(workdir, mode="evaluate", devices=2)
    main(workdir, mode="predict", devices=2, predict__images=pictures(workdir, workdir.parent / "pictures"))
    return workdir
