"""Handles preemption: after SIGTERM a run stops at the next step, saves and exits, or the watchdog ends it."""

import functools
import itertools
import logging
import signal
import time
from collections.abc import Callable

import jax
from jax.experimental import multihost_utils

from stochconv_jax.runtime import watchdog

logger = logging.getLogger(__name__)

SAME_SIGNAL = 2.0  # seconds in which a second SIGTERM counts as a repetition of the first


def on_sigterm(grace_seconds: float) -> Callable[[], bool]:
    """Returns a function that returns whether SIGTERM has arrived and the run is to stop now.

    The function is called between steps and between batches of an evaluation. Once it has returned True, the process
    has `grace_seconds` seconds to end; then the watchdog ends it with code 1 and says what it was waiting for.

    Several processes: SIGTERM may arrive at any of them, at any time after `distributed.join`. JAX's preemption service
    agrees, without the devices, on a call that no process has made yet. So all processes must call the function equally
    often. A process that is waiting for something else when the signal arrives notices it at its next call.

    One process: a second SIGTERM ends it at once, unless it arrives within `SAME_SIGNAL` seconds of the first.
    Launchers signal all processes of a job and a sweep passes its signal on, so one request may arrive twice.
    """
    if jax.process_count() > 1:
        return functools.partial(_agreed, itertools.count(1), grace_seconds)
    came = []

    def handle(number, frame):
        del frame
        came.append(time.monotonic())
        if len(came) == 1:
            _notice(grace_seconds)
        elif came[-1] - came[0] > SAME_SIGNAL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    signal.signal(signal.SIGTERM, handle)
    return lambda: bool(came)


def _agreed(calls: itertools.count, grace_seconds: float) -> bool:
    if reached := multihost_utils.reached_preemption_sync_point(next(calls)):
        _notice(grace_seconds)
    return reached


def _notice(grace_seconds: float) -> None:
    logger.warning("SIGTERM: saving, then stopping")
    watchdog.end_within(grace_seconds, since="SIGTERM")
