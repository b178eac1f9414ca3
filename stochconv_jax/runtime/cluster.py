"""Finds the other processes of a run: coordinator address, number of processes and this process's number. No JAX here.

JAX detects SLURM, Open MPI and TPU pods itself, but only inside `jax.distributed.initialize`, which connects at once.
The address is needed before that, for `rendezvous` and for the log, and JAX has no public function that returns it. The
tests compare these values with those of JAX. PMI launchers and JobSets of Kubernetes are known here only.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

Fields = dict[str, Any]
KEYS = ("coordinator", "num_processes", "process_id")
TPU_PORT = 8482  # the coordinator's port that JAX chooses on TPUs


@dataclasses.dataclass(frozen=True)
class Place:
    """The place of this process among the processes of a run.

    `coordinator` is 'host:port' of process 0. `found` names the source of these values, for messages.

    `method` is JAX's name of the launcher, by which JAX finds the one GPU that this process is to use. It is
    'deactivate' if the process uses every local device, as the only process on a host does.
    """

    coordinator: str
    num_processes: int
    process_id: int
    found: str
    method: str = "deactivate"


def detect(
    environ: Mapping[str, str],
    *,
    coordinator: str = "",
    num_processes: int | None = None,
    process_id: int | None = None,
    metadata: Callable[[str], str | None] = lambda name: None,
) -> Place | None:
    """Returns the place of this process, or None if it is the only process of the run.

    The three settings come first, then the JAX_* variables, then the variables of a launcher. `metadata` returns an
    attribute of a Cloud TPU VM by its name, or None.

    Raises ValueError if there are several processes and one of the three values is missing or wrong.
    """
    if num_processes == 1:  # an explicit 1 overrides the environment
        return None
    given = {"coordinator": coordinator or None, "num_processes": num_processes, "process_id": process_id}
    launcher, method, fields = _launcher(environ, metadata)
    sources = {launcher: fields, "JAX_COORDINATOR_ADDRESS": _jax_variables(environ), "the given values": given}
    known, found = {}, []
    for name, fields in sources.items():
        if fields := {field: value for field, value in fields.items() if value is not None}:
            known |= fields
            found.append(name)
    if not known or known.get("num_processes") == 1:
        return None
    found = " and ".join(reversed(found))
    missing = [f"`{key}`" for key in KEYS if key not in known]
    if missing:
        address = "" if "coordinator" in known else ", or JAX_COORDINATOR_ADDRESS to host:port of process 0"
        verb, pronoun = ("are", "them") if len(missing) > 1 else ("is", "it")
        message = f"{found}: several processes, but {' and '.join(missing)} {verb} not known: set {pronoun}{address}"
        raise ValueError(message)
    if not 0 <= known["process_id"] < known["num_processes"]:
        count = known["num_processes"]
        raise ValueError(f"{found}: process_id is {known['process_id']}, expected 0..{count - 1} of {count} processes")
    if not re.fullmatch(r".+:\d+", known["coordinator"]):
        raise ValueError(f"{found}: the coordinator is {known['coordinator']!r}, expected host:port")
    everything_given = all(value is not None for value in given.values())
    return Place(**known, found=found, method="deactivate" if everything_given else method)


def _launcher(environ: Mapping[str, str], metadata: Callable[[str], str | None]) -> tuple[str, str, Fields]:
    """Returns the launcher's name for messages, its name in JAX and the values of its variables.

    The values are {} if no launcher is found or if it started one process.
    """
    port = environ.get("JAX_COORDINATOR_PORT")
    # Under SLURM, MPI launchers start their daemons with srun, and the processes inherit the daemon's SLURM variables.
    # So MPI's own variables are read first.
    if _count(environ, "OMPI_COMM_WORLD_SIZE") > 1:
        one_per_host = environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"
        return "Open MPI", "deactivate" if one_per_host else "ompi", _open_mpi(environ, port)
    if _count(environ, "SLURM_NTASKS") > 1 and "SLURM_STEP_NODELIST" in environ and _pmi_agrees_with_slurm(environ):
        one_per_host = environ.get("SLURM_STEP_NUM_NODES") == environ["SLURM_NTASKS"]
        return "SLURM", "deactivate" if one_per_host else "slurm", _slurm(environ, port)
    if _count(environ, "PMI_SIZE") > 1:  # PMI has no variable with the address of process 0
        fields = {"num_processes": _count(environ, "PMI_SIZE"), "process_id": _first(environ, "PMI_RANK")}
        return "MPICH, Intel MPI or Cray (PMI)", "deactivate", fields
    hosts = environ.get("TPU_PROCESS_ADDRESSES", environ.get("TPU_WORKER_HOSTNAMES"))
    if hosts and "TPU_WORKER_ID" in environ:
        return "TPU_WORKER_HOSTNAMES", "deactivate", _tpu(hosts.split(","), environ["TPU_WORKER_ID"], environ.get, port)
    if number := metadata("agent-worker-number"):
        lines = (line.split(":", 1) for line in (metadata("tpu-env") or "").splitlines() if ":" in line)
        slices = {name.strip(): value.strip().strip("'") for name, value in lines} | dict(environ)
        # An endpoint is a host name or, on older VMs, name:number:address.
        if not (endpoints := metadata("worker-network-endpoints")):
            raise ValueError(
                f"Cloud TPU VM: this is worker {number}, but the metadata has no worker-network-endpoints, the list of "
                "all workers: set `coordinator`, `num_processes` and `process_id`"
            )
        workers = [worker.split(":")[-1] for worker in endpoints.split(",")]
        return "Cloud TPU VM", "deactivate", _tpu(workers, number, slices.get, port)
    return "", "deactivate", {}


def _pmi_agrees_with_slurm(environ: Mapping[str, str]) -> bool:
    """Returns whether the PMI variables, which SLURM may set too, are missing or equal to SLURM's."""
    pairs = ("PMI_SIZE", "SLURM_NTASKS"), ("PMI_RANK", "SLURM_PROCID")
    return all(environ.get(pmi, environ.get(slurm)) == environ.get(slurm) for pmi, slurm in pairs)


def _slurm(environ: Mapping[str, str], port: str | None) -> Fields:
    # The first host of the step: node001 in 'node001', 'node001,host2' and 'node[001-015],host2'.
    first = re.match(r"([^,\[]+)(?:\[(\w+))?", environ["SLURM_STEP_NODELIST"])
    prefix, number = first.groups("") if first else ("", "")
    return {
        "coordinator": f"{prefix}{number}:{port or _port_of_job(int(environ['SLURM_JOB_ID']))}",
        "num_processes": _count(environ, "SLURM_NTASKS"),
        "process_id": _first(environ, "SLURM_PROCID"),
    }


def _open_mpi(environ: Mapping[str, str], port: str | None) -> Fields:
    # The launcher's own address, such as '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911'. Open MPI 5 does not set it.
    uri = re.match(r"(\d+)\..*?tcp6?://\[?([^,\]]+?)(?=[,\]]|:\d+$)", environ.get("OMPI_MCA_orte_hnp_uri", ""))
    return {
        "coordinator": f"{uri[2]}:{port or _port_of_job(int(uri[1]) // 2**12)}" if uri else None,
        "num_processes": _count(environ, "OMPI_COMM_WORLD_SIZE"),
        "process_id": _first(environ, "OMPI_COMM_WORLD_RANK"),
    }


def _port_of_job(job: int) -> int:
    """Returns a port above the system's ephemeral ports; 4096 successive job numbers get different ports."""
    return 2**16 - 2**12 + job % 2**12


def _tpu(workers: list[str], number: str, slices: Callable[[str], str | None], port: str | None) -> Fields:
    """Returns the values for a TPU slice, or for several slices that run as one.

    `workers` are the hosts of this slice, `number` is the number of this host in it, and `slices` returns a
    MEGASCALE_* variable by its name, or None.
    """
    first = (slices("MEGASCALE_COORDINATOR_ADDRESS") or workers[0]).split(":")[0]
    return {
        "coordinator": f"{first}:{port or TPU_PORT}",
        "num_processes": len(workers) * int(slices("MEGASCALE_NUM_SLICES") or 1),
        "process_id": int(number) + len(workers) * int(slices("MEGASCALE_SLICE_ID") or 0),
    }


def _jax_variables(environ: Mapping[str, str]) -> Fields:
    """Returns the values of JAX_COORDINATOR_ADDRESS and the variables that come with it.

    Besides JAX's own names these are the names that XPK, Kubeflow and indexed jobs of Kubernetes use.
    """
    address = environ.get("JAX_COORDINATOR_ADDRESS")
    count = _first(environ, "JAX_NUM_PROCESSES", "JAX_PROCESS_COUNT")
    if not address:  # without it, names such as NODE_RANK and NNODES may belong to another program
        return {"num_processes": count, "process_id": _first(environ, "JAX_PROCESS_ID") if count else None}
    if ":" not in address:
        address = f"{address}:{environ.get('JAX_COORDINATOR_PORT', TPU_PORT)}"
    number = _first(environ, "JAX_PROCESS_ID", "NODE_RANK")
    if number is None and (index := _first(environ, "JOB_COMPLETION_INDEX")) is not None:
        job, processes = (_first(environ, name) or 0 for name in ("JOB_INDEX", "PROCESSES_IN_JOB"))
        number = job * processes + index
    if count is None:
        count = _first(environ, "NNODES")
    return {"coordinator": address, "num_processes": count, "process_id": number}


def _count(environ: Mapping[str, str], name: str) -> int:
    """Returns the number of processes in a launcher's variable, or 1 if the variable is not set."""
    return _first(environ, name) or 1


def _first(environ: Mapping[str, str], *names: str) -> int | None:
    """Returns the number in the first of the variables that is set, or None. Raises ValueError if it is no number."""
    for name in names:
        if text := environ.get(name):
            if not text.isdecimal():
                raise ValueError(f"the variable {name} is {text!r}, expected a whole number")
            return int(text)
    return None
