"""SIGTERM: a run stops where it can go on from, and saves."""
import itertools
import logging
import signal
import time
from collections.abc import Callable

import jax
from jax.experimental import multihost_utils

logger = logging.getLogger(__name__)

SAME_SIGNAL = 2.0  # seconds


def on_sigterm() -> Callable[[], bool]:
    """What tells, asked between steps and between batches of an evaluation, whether to stop there: SIGTERM has come.

    Of several processes it may come to any, from `hosts.join` on: they agree, without the devices, on a call that none
    of them has made, so all must make the same calls. Of one process a later SIGTERM ends it at once; one that follows
    within `SAME_SIGNAL` seconds is the same once more: a job's launcher signals all its processes, and a sweep hands
    its own on.
    """
    if jax.process_count() > 1:
        calls = itertools.count(1)
        return lambda: multihost_utils.reached_preemption_sync_point(next(calls))
    came = []

    def handle(number, frame):
        del frame
        came.append(time.monotonic())
        if len(came) == 1:
            logger.warning("SIGTERM: saving after this step, then stopping")
        elif came[-1] - came[0] > SAME_SIGNAL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    signal.signal(signal.SIGTERM, handle)
    return lambda: bool(came)
