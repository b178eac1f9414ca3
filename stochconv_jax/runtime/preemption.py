"""SIGTERM: a run stops where it can go on from, and saves; where it cannot, it ends in time and says why."""

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

SAME_SIGNAL = 2.0  # seconds


def on_sigterm(grace_seconds: float) -> Callable[[], bool]:
    """What tells, asked between steps and between batches of an evaluation, whether to stop there: SIGTERM has come.

    A process that is still there `grace_seconds` after it has noticed is ended with code 1, and says what it waited
    for. Of several processes SIGTERM may come to any, from `hosts.join` on: they agree, without the devices, on a call
    that none of them has made, so all must make the same calls; one that waits for something else notices when that
    comes, or ends in its time. Of one process a later SIGTERM ends it at once; one that follows within `SAME_SIGNAL`
    seconds is the same once more: a job's launcher signals all its processes, and a sweep hands its own on.
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
    watchdog.end_within(grace_seconds, of="SIGTERM")
