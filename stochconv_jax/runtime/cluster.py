"""Where this process stands among those that train together, as its settings and its environment tell. No JAX here."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

Fields = dict[str, Any]
KEYS = ("coordinator", "num_processes", "process_id")
TPU_PORT = 8482  # of the coordinator, as JAX chooses it on TPUs


@dataclasses.dataclass(frozen=True)
class Place:
    """`coordinator`: 'host:port' of process 0. `found`: what told, in words.

    `method`: the launcher's name in JAX, which knows by it which GPU is this process's own; 'deactivate' where every
    local device is, as for the only process on a host.
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
    """The place that the settings name; what they leave open the environment says. None for a process of its own.

    `metadata`: of a Cloud TPU VM, the value of an instance's attribute. ValueError naming what is not known.
    """
    if num_processes == 1:  # said, so that nothing need be asked
        return None
    given = {"coordinator": coordinator or None, "num_processes": num_processes, "process_id": process_id}
    launcher, method, fields = _launcher(environ, metadata)
    sources = {launcher: fields, "JAX_COORDINATOR_ADDRESS": _jax_variables(environ), "config.distributed": given}
    known, found = {}, []
    for name, said in sources.items():
        if said := {field: value for field, value in said.items() if value is not None}:
            known |= said
            found.append(name)
    if not known or known.get("num_processes") == 1:
        return None
    found = " and ".join(reversed(found))
    missing = [f"config.distributed.{key}" for key in KEYS if key not in known]
    if missing:
        address = "" if "coordinator" in known else ", or JAX_COORDINATOR_ADDRESS to host:port of process 0"
        raise ValueError(f"{found}: several processes, but nothing says {' nor '.join(missing)}: set it{address}")
    if not 0 <= known["process_id"] < known["num_processes"]:
        count = known["num_processes"]
        raise ValueError(f"{found}: process_id is {known['process_id']}, expected 0..{count - 1} of {count} processes")
    if not re.fullmatch(r".+:\d+", known["coordinator"]):
        raise ValueError(f"{found}: the coordinator is {known['coordinator']!r}, expected host:port")
    everything_given = all(value is not None for value in given.values())
    return Place(**known, found=found, method="deactivate" if everything_given else method)


def _launcher(environ: Mapping[str, str], metadata: Callable[[str], str | None]) -> tuple[str, str, Fields]:
    """Its name in words and in JAX, and what it says; no fields where there is none, or it started one process."""
    port = environ.get("JAX_COORDINATOR_PORT")
    # MPI's launchers start their daemons by srun, whose variables, of the daemon, its processes inherit.
    if _count(environ, "OMPI_COMM_WORLD_SIZE") > 1:
        alone = environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"
        return "Open MPI", "deactivate" if alone else "ompi", _open_mpi(environ, port)
    if _count(environ, "SLURM_NTASKS") > 1 and "SLURM_STEP_NODELIST" in environ and _pmi_is_slurms(environ):
        alone = environ.get("SLURM_STEP_NUM_NODES") == environ["SLURM_NTASKS"]
        return "SLURM", "deactivate" if alone else "slurm", _slurm(environ, port)
    if _count(environ, "PMI_SIZE") > 1:  # says nothing of process 0's address
        fields = {"num_processes": _count(environ, "PMI_SIZE"), "process_id": _first(environ, "PMI_RANK")}
        return "MPICH, Intel MPI or Cray (PMI)", "deactivate", fields
    hosts = environ.get("TPU_PROCESS_ADDRESSES", environ.get("TPU_WORKER_HOSTNAMES"))
    if hosts and "TPU_WORKER_ID" in environ:
        return "TPU_WORKER_HOSTNAMES", "deactivate", _tpu(hosts.split(","), environ["TPU_WORKER_ID"], environ.get, port)
    if number := metadata("agent-worker-number"):
        lines = (line.split(":", 1) for line in (metadata("tpu-env") or "").splitlines() if ":" in line)
        slices = {name.strip(): value.strip().strip("'") for name, value in lines} | dict(environ)
        # Each worker is a host's name or, as older VMs have it, name:number:address.
        if not (endpoints := metadata("worker-network-endpoints")):
            raise ValueError(f"Cloud TPU VM: this is worker {number}, but no worker-network-endpoints name the others")
        workers = [worker.split(":")[-1] for worker in endpoints.split(",")]
        return "Cloud TPU VM", "deactivate", _tpu(workers, number, slices.get, port)
    return "", "deactivate", {}


def _pmi_is_slurms(environ: Mapping[str, str]) -> bool:
    """Whether PMI, which SLURM may set too, says the same as SLURM, or nothing."""
    pairs = ("PMI_SIZE", "SLURM_NTASKS"), ("PMI_RANK", "SLURM_PROCID")
    return all(environ.get(pmi, environ.get(slurm)) == environ.get(slurm) for pmi, slurm in pairs)


def _slurm(environ: Mapping[str, str], port: str | None) -> Fields:
    # 'node001', 'node001,host2', 'node[001-015],host2': the first host of the step.
    prefix, number = re.match(r"([^,\[]+)(?:\[(\w+))?", environ["SLURM_STEP_NODELIST"]).groups("")
    return {
        "coordinator": f"{prefix}{number}:{port or _port_of_job(int(environ['SLURM_JOB_ID']))}",
        "num_processes": _count(environ, "SLURM_NTASKS"),
        "process_id": _first(environ, "SLURM_PROCID"),
    }


def _open_mpi(environ: Mapping[str, str], port: str | None) -> Fields:
    # '1531576320.0;tcp://10.96.0.1,10.148.0.1:34911', the launcher's own address, up to version 4 of Open MPI.
    uri = re.match(r"(\d+)\..*?tcp6?://\[?([^,\]]+?)(?=[,\]]|:\d+$)", environ.get("OMPI_MCA_orte_hnp_uri", ""))
    return {
        "coordinator": f"{uri[2]}:{port or _port_of_job(int(uri[1]) // 2**12)}" if uri else None,
        "num_processes": _count(environ, "OMPI_COMM_WORLD_SIZE"),
        "process_id": _first(environ, "OMPI_COMM_WORLD_RANK"),
    }


def _port_of_job(job: int) -> int:
    """Above the ports that the system gives out, another one for each of 4096 jobs in a row."""
    return 2**16 - 2**12 + job % 2**12


def _tpu(workers: list[str], number: str, slices: Callable[[str], str | None], port: str | None) -> Fields:
    """`workers`: hosts of this slice; `number`: this one's; `slices`: the variables of multislice, if there are any."""
    first = (slices("MEGASCALE_COORDINATOR_ADDRESS") or workers[0]).split(":")[0]
    return {
        "coordinator": f"{first}:{port or TPU_PORT}",
        "num_processes": len(workers) * int(slices("MEGASCALE_NUM_SLICES") or 1),
        "process_id": int(number) + len(workers) * int(slices("MEGASCALE_SLICE_ID") or 0),
    }


def _jax_variables(environ: Mapping[str, str]) -> Fields:
    """What JobSets of Kubernetes say, as XPK, Kubeflow and indexed jobs name it, beside JAX_COORDINATOR_ADDRESS."""
    address = environ.get("JAX_COORDINATOR_ADDRESS")
    count = _first(environ, "JAX_NUM_PROCESSES", "JAX_PROCESS_COUNT")
    if not address:  # others read the other names too, for purposes of their own
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
    """Processes by a launcher's variable; 1 where it is not set."""
    return _first(environ, name) or 1


def _first(environ: Mapping[str, str], *names: str) -> int | None:
    """The number in the first of the variables that is set. ValueError naming one that holds none."""
    for name in names:
        if text := environ.get(name):
            if not text.isdecimal():
                raise ValueError(f"the variable {name} is {text!r}, expected a whole number")
            return int(text)
    return None
