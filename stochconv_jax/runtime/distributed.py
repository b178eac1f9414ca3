"""Several processes, on one host or many, that train, evaluate or predict as one."""

import logging
import os
import socket
import sys
import threading
import time
import urllib.request

import numpy as np
from ml_collections import ConfigDict

from stochconv_jax.runtime import cluster, rendezvous

logger = logging.getLogger(__name__)

# Seconds without a sign of life after which a process counts as dead, at most. A thread of JAX's own gives it, whatever
# else the process does: neither a slow step nor a long compilation is a reason to wait for longer. So it does not grow
# with `distributed.timeout_seconds`, which is about those that come late; it is JAX's default.
HEARTBEAT = 100
METADATA = "http://{}/computeMetadata/v1/instance/attributes/{}"
PAUSES = (1, 2, 4, 8)  # seconds between two requests for metadata, whose server may be busy when a pod starts


def join(settings: ConfigDict, *, stops_together: bool) -> None:
    """Connects this process with the others of the run, if there are any; call it before JAX looks for devices.

    `settings`: config.distributed. `stops_together`: SIGTERM in one process is to reach all, see `stopping`;
    otherwise it ends the process as usual. Raises rendezvous.NotAllHere, naming who is missing.
    """
    import jax  # half a second that other modes need not wait for; it also says in `environ` whether there are TPUs

    names = ("coordinator", "num_processes", "process_id")
    given = {name: settings[name] for name in names}
    place = cluster.detect(os.environ, metadata=_metadata if _on_tpu_vm() else lambda name: None, **given)
    if place is None:
        logger.info("one process")
        return
    timeout = int(settings.timeout_seconds)
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
            initialization_timeout=2 * timeout,  # at which it would abort; the guard speaks before
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
    """A first sum over all devices. Gloo wants all processes to be there for it within 30 s of each other, and later
    waits; they would not be, where the first sum comes after a compilation that one has cached and another has not.
    """
    import jax
    from jax.experimental import multihost_utils

    from stochconv_jax.training import mesh

    multihost_utils.sync_global_devices("joined")
    devices = mesh.create()
    ones = np.ones(jax.local_device_count(), np.float32)
    ones = jax.make_array_from_process_local_data(mesh.batch_sharding(devices), ones)
    jax.block_until_ready(jax.jit(lambda x: x.sum(), out_shardings=mesh.replicated(devices))(ones))


def _give_up(place: cluster.Place, timeout: int) -> None:
    """Ends the process, which waits inside JAX and cannot be interrupted."""
    print(
        f"stochconv_jax: all {place.num_processes} processes came to {place.coordinator}, but JAX could not connect "
        f"them within {timeout} s, says process {place.process_id}: one has ended since, see its log",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def _on_tpu_vm() -> bool:
    """Whether JAX, when imported, found TPUs and is to use them; it says so in these variables."""
    there = os.environ.get("TPU_ML_PLATFORM") == "JAX" and "TPU_SKIP_MDS_QUERY" not in os.environ
    return there and "tpu" in os.environ.get("JAX_PLATFORMS", "tpu")


def _metadata(name: str) -> str | None:
    """An attribute of this Cloud VM; None where there is no such attribute or no such server.

    OSError naming it where the server does not answer: this process would take itself for the only one.
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
                raise OSError(f"{message}set config.distributed.num_processes=1") from error
        time.sleep(pause)
