"""Starts JAX over several processes, on one host or many, which then train, evaluate or predict together."""

import logging
import os
import socket
import sys
import threading
import time
import urllib.request
from typing import Any

import numpy as np

from stochconv_jax.runtime import cluster, rendezvous

logger = logging.getLogger(__name__)

# Seconds without a heartbeat after which a process counts as dead; JAX's default. A thread of JAX sends the heartbeats
# whatever else the process does, so neither a slow step nor a long compilation needs more. It does not grow with
# `distributed.timeout_seconds`, which is for processes that start late.
HEARTBEAT = 100
METADATA = "http://{}/computeMetadata/v1/instance/attributes/{}"
PAUSES = (1, 2, 4, 8)  # seconds between attempts to read metadata; the server may be busy when a whole pod starts


def join(
    *, coordinator: str, num_processes: int | None, process_id: int | None, timeout_seconds: float, stops_together: bool
) -> None:
    """Connects this process with the other processes of the run, if there are any.

    Call it before JAX looks for devices. The first three settings take precedence over what the launcher's variables
    say, see `cluster.detect`. With `stops_together` SIGTERM in one process stops all of them, see `preemption`; without
    it SIGTERM ends the process that receives it.

    Raises rendezvous.RendezvousError, which names the missing processes.
    """
    import jax  # imported here because it takes half a second; its import also sets the TPU variables in os.environ

    given: Any = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    place = cluster.detect(os.environ, metadata=_metadata if _on_tpu_vm() else lambda name: None, **given)
    if place is None:
        logger.info("running in one process")
        return
    timeout = int(timeout_seconds)
    about = (place.found, place.process_id, place.num_processes, place.coordinator)
    logger.info("%s: process %d of %d, coordinator %s", *about)
    rendezvous.meet(place, timeout)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", stops_together)
    guard = threading.Timer(timeout, _give_up, (place, timeout))
    guard.start()
    try:
        jax.distributed.initialize(
            coordinator_address=place.coordinator,
            num_processes=place.num_processes,
            process_id=place.process_id,
            cluster_detection_method=place.method,
            initialization_timeout=2 * timeout,  # JAX aborts then without a reason; `guard` prints one before that
            heartbeat_timeout_seconds=min(HEARTBEAT, timeout),
            shutdown_timeout_seconds=min(HEARTBEAT, timeout),
        )
    finally:
        guard.cancel()
    if jax.default_backend() == "cpu":
        _begin_together()
    if place.process_id:
        logging.getLogger("stochconv_jax").setLevel(logging.WARNING)


def _begin_together() -> None:
    """Sums over all devices once, while all processes are at the same point of the program.

    In its first collective Gloo waits at most 30 s for the other processes; in later ones it waits without a limit. The
    first collective of the run itself may come after a compilation that one process has cached and another has not.
    """
    import jax
    from jax.experimental import multihost_utils

    from stochconv_jax.runtime import mesh

    multihost_utils.sync_global_devices("joined")
    devices = mesh.create()
    ones = np.ones(jax.local_device_count(), np.float32)
    ones = jax.make_array_from_process_local_data(mesh.batch_sharding(devices), ones)
    jax.block_until_ready(jax.jit(lambda x: x.sum(), out_shardings=mesh.replicated(devices))(ones))


def _give_up(place: cluster.Place, timeout: int) -> None:
    """Ends this process, which waits inside JAX and cannot be interrupted, and prints the likely cause."""
    print(
        f"stochconv_jax: all {place.num_processes} processes came to {place.coordinator}, but JAX could not connect "
        f"them within {timeout} s, says process {place.process_id}: one has ended since, see its log",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def _on_tpu_vm() -> bool:
    """Returns whether JAX has found TPUs and is allowed to use them, by the variables that its import sets."""
    there = os.environ.get("TPU_ML_PLATFORM") == "JAX" and "TPU_SKIP_MDS_QUERY" not in os.environ
    return there and "tpu" in os.environ.get("JAX_PLATFORMS", "tpu")


def _metadata(name: str) -> str | None:
    """Returns an attribute of this Cloud VM, or None if there is no such attribute or no metadata server.

    Raises OSError if the server exists and does not answer. Without its answer each worker of a TPU pod would run
    alone.
    """
    url = METADATA.format(os.environ.get("GCE_METADATA_IP", "metadata.google.internal"), name)
    request = urllib.request.Request(url, headers={"Metadata-Flavor": "Google"})
    for pause in (*PAUSES, None):
        try:
            with urllib.request.urlopen(request, timeout=10) as page:
                return page.read().decode()
        except OSError as error:
            if getattr(error, "code", 0) == 404 or isinstance(getattr(error, "reason", None), socket.gaierror):
                return None
            if pause is None:
                message = f"which worker of the TPU this is cannot be told: {url}: {error}; if it is the only one, "
                raise OSError(f"{message}set `num_processes`=1") from error
        time.sleep(pause)
