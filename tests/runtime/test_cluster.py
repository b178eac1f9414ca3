"""The place of a process by settings and environment, compared with JAX's own detection where it has one."""

import os

import pytest
from jax._src.clusters import cloud_tpu_cluster, ompi_cluster, slurm_cluster

from stochconv_jax.runtime import cluster as launch

SLURM = {"SLURM_JOB_ID": "1234567", "SLURM_NTASKS": "6", "SLURM_PROCID": "4", "SLURM_LOCALID": "0"}
NODES = ("node001", "node001,host2", "node[001-015],host2", "gpu-[7,9]", "a-b1,c[1-2]")
MPI = {"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
PMI = {"PMI_SIZE": "3", "PMI_RANK": "2"}  # as MPICH, Intel MPI and Cray's launcher set it
URIS = (
    "1531576320.0;tcp://10.96.0.1,10.148.0.1,10.108.0.1:34911",
    "1531576320.0;tcp://10.96.0.1:34911",
    "1314521088.0;tcp6://[fe80::b9b:ac5d:9cf0:b858,2620:10d:c083:150e::3000:2]:43370",
)
TPU = {"TPU_WORKER_HOSTNAMES": "10.0.0.5,10.0.0.6,10.0.0.7", "TPU_WORKER_ID": "1"}
SLICES = {"MEGASCALE_COORDINATOR_ADDRESS": "first:8080", "MEGASCALE_NUM_SLICES": "4", "MEGASCALE_SLICE_ID": "2"}
KEYS = {"coordinator": "host:1234", "num_processes": 5, "process_id": 3}


def known(place):
    return place.coordinator, place.num_processes, place.process_id


def of_jax(cluster):
    address = cluster.get_coordinator_address(1, os.environ.get("JAX_COORDINATOR_PORT"))
    return address, cluster.get_process_count(), cluster.get_process_id()


LAUNCHED = [
    *((slurm_cluster.SlurmCluster, SLURM | {"SLURM_STEP_NODELIST": nodes}) for nodes in NODES),
    *((ompi_cluster.OmpiCluster, MPI | {"OMPI_MCA_orte_hnp_uri": uri}) for uri in URIS),
    (cloud_tpu_cluster.GkeTpuCluster, TPU),
    (cloud_tpu_cluster.GkeTpuCluster, TPU | SLICES),
    (cloud_tpu_cluster.GkeTpuCluster, {"TPU_PROCESS_ADDRESSES": "10.0.0.5:8476,10.0.0.6:8476", "TPU_WORKER_ID": "0"}),
]


@pytest.mark.parametrize("port", [{}, {"JAX_COORDINATOR_PORT": "4321"}])
@pytest.mark.parametrize("cluster, environ", LAUNCHED)
def test_launchers_are_read_as_jax_reads_them(cluster, environ, port, monkeypatch):
    monkeypatch.setattr(cloud_tpu_cluster, "get_tpu_env_value_from_metadata", lambda key: None)
    monkeypatch.setattr(cluster, "wait_for_coordinator", lambda *_: None, raising=False)
    for name, value in (environ | port).items():
        monkeypatch.setenv(name, value)
    place = launch.detect(environ | port)
    assert known(place) == of_jax(cluster)
    assert place.method == (cluster.name if cluster.name in ("slurm", "ompi") else "deactivate")


@pytest.mark.parametrize(
    "environ, one_a_host",
    [
        (SLURM | {"SLURM_STEP_NODELIST": NODES[0]}, {"SLURM_STEP_NUM_NODES": SLURM["SLURM_NTASKS"]}),
        (MPI | {"OMPI_MCA_orte_hnp_uri": URIS[0]}, {"OMPI_COMM_WORLD_LOCAL_SIZE": "1"}),
    ],
)
def test_a_process_alone_on_its_host_has_all_its_gpus(environ, one_a_host):
    """Uses every GPU, where JAX's own detection would use the first only."""
    assert launch.detect(environ).method != "deactivate"
    assert launch.detect(environ | one_a_host).method == "deactivate"


@pytest.mark.filterwarnings("ignore:'maxsplit' is passed:DeprecationWarning")  # in JAX's own code
@pytest.mark.parametrize("workers", ["10.0.0.5,10.0.0.6", "worker-0:0:10.0.0.5,worker-1:1:10.0.0.6"])
@pytest.mark.parametrize("slices", [{}, SLICES])
def test_a_cloud_tpu_vm_is_read_as_jax_reads_it(workers, slices, monkeypatch):
    lines = [f"{name}: '{value}'" for name, value in (slices | {"ACCELERATOR_TYPE": "v5litepod-8"}).items()]
    metadata = {"agent-worker-number": "1", "worker-network-endpoints": workers, "tpu-env": "\n".join(lines)}
    monkeypatch.setattr(cloud_tpu_cluster, "get_metadata", lambda key: (metadata[key], 200))
    monkeypatch.setattr(cloud_tpu_cluster.GceTpuCluster, "wait_for_coordinator", lambda *_: None)
    assert known(launch.detect({}, metadata=metadata.get)) == of_jax(cloud_tpu_cluster.GceTpuCluster)


ALONE = [
    {},
    SLURM | {"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "node001"},
    SLURM,  # the batch script itself, outside srun
    {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
    {"PMI_SIZE": "1", "PMI_RANK": "0"},
    {"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"},
    {"JAX_NUM_PROCESSES": "1"},
    {"JOB_COMPLETION_INDEX": "3"},  # an indexed job whose pods have nothing to do with each other
]


@pytest.mark.parametrize("environ", ALONE)
def test_one_process_is_one_process(environ):
    assert launch.detect(environ) is None
    assert launch.detect(environ, num_processes=1) is None


@pytest.mark.parametrize(
    "environ, expected",
    [
        ({"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "2"}, (4, 2)),
        ({"JAX_NUM_PROCESSES": "4", "JOB_COMPLETION_INDEX": "0"}, (4, 0)),
        ({"JAX_PROCESS_COUNT": "6", "JOB_INDEX": "1", "PROCESSES_IN_JOB": "3", "JOB_COMPLETION_INDEX": "2"}, (6, 5)),
        ({"NNODES": "2", "NODE_RANK": "1"}, (2, 1)),
    ],
)
def test_job_sets_say_it_beside_the_coordinators_address(environ, expected):
    for address, port, whole in (("a.b:99", {}, "a.b:99"), ("a.b", {"JAX_COORDINATOR_PORT": "7"}, "a.b:7")):
        place = launch.detect(environ | port | {"JAX_COORDINATOR_ADDRESS": address})
        assert known(place) == (whole, *expected) and place.found == "JAX_COORDINATOR_ADDRESS"


def test_with_pmi_only_the_address_is_to_be_given():
    named = launch.detect(PMI, coordinator="host:1234")
    by_variable = launch.detect(PMI | {"JAX_COORDINATOR_ADDRESS": "host:1234"})
    assert known(named) == known(by_variable) == ("host:1234", 3, 2)
    assert named.found == "the given values and MPICH, Intel MPI or Cray (PMI)"
    assert by_variable.found == "JAX_COORDINATOR_ADDRESS and MPICH, Intel MPI or Cray (PMI)"
    assert named.method == by_variable.method == "deactivate"


def test_slurm_sets_pmi_too_and_mpi_inherits_slurm_s_variables_of_its_daemon():
    step = SLURM | {"SLURM_STEP_NODELIST": "node001"}
    assert launch.detect(step | {"PMI_SIZE": "6", "PMI_RANK": "4"}) == launch.detect(step)
    by_pmi = launch.detect(step | PMI, coordinator="host:1234")
    assert known(by_pmi) == ("host:1234", 3, 2) and "PMI" in by_pmi.found
    environ = MPI | {"OMPI_MCA_orte_hnp_uri": URIS[0]}
    assert launch.detect(step | environ) == launch.detect(environ)
    assert launch.detect(step | {"PMI_SIZE": "1", "PMI_RANK": "0"}) is None


def test_settings_come_before_the_environment():
    environ = SLURM | {"SLURM_STEP_NODELIST": "node001"}
    assert known(launch.detect(environ, **KEYS)) == ("host:1234", 5, 3)
    mixed = launch.detect(environ, coordinator="other:77")
    assert known(mixed) == ("other:77", 6, 4) and mixed.found == "the given values and SLURM"
    assert launch.detect(environ, num_processes=1) is None


@pytest.mark.parametrize(
    "environ, keys, words",
    [
        (
            {},
            {"process_id": 1},
            "`coordinator` and `num_processes` are not known: set them",
        ),
        ({}, KEYS | {"process_id": None}, "but `process_id` is not known"),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, {}, "num_processes` and `process_id` are not known"),
        (MPI, {}, "Open MPI: several processes, but `coordinator` is not known: set it, or JAX_COORD"),
        (
            PMI,
            {},
            r"\(PMI\): .* `coordinator` is not known: set it, or JAX_COORDINATOR_ADDRESS to host:port",
        ),
        ({"PMI_SIZE": "3"}, {"coordinator": "a:1"}, "`process_id` is not known: set it$"),
        ({}, KEYS | {"process_id": 5}, "process_id is 5, expected 0..4 of 5"),
        ({}, KEYS | {"coordinator": "host"}, "the coordinator is 'host', expected host:port"),
    ],
)
def test_what_is_not_known_is_named(environ, keys, words):
    with pytest.raises(ValueError, match=words):
        launch.detect(environ, **keys)


def test_what_is_half_said_or_no_number_is_named():
    with pytest.raises(ValueError, match=r"`coordinator` is not known: set it, or JAX_COORD"):
        launch.detect({"JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "2"})
    with pytest.raises(ValueError, match=r"JAX_NUM_PROCESSES is 'four', expected a whole number"):
        launch.detect({"JAX_NUM_PROCESSES": "four", "JAX_COORDINATOR_ADDRESS": "a"})
    with pytest.raises(ValueError, match=r"this is worker 1, but the metadata has no worker-network-endpoints"):
        launch.detect({}, metadata={"agent-worker-number": "1"}.get)


def test_the_only_process_asks_nobody():
    def silent(name):
        raise OSError(name)

    assert launch.detect({}, num_processes=1, metadata=silent) is None
