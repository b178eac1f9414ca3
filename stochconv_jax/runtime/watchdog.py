"""A watchdog that ends the process when it is blocked in a wait that can be neither interrupted nor left by exiting."""

import contextlib
import multiprocessing
import os
import pathlib
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import NoReturn

PACKAGE = pathlib.Path(__file__).parents[1]
STOPPED = os.EX_TEMPFAIL  # 75: stopped and saved; the same command goes on


class Stalled(TimeoutError):
    """An error for a batch that did not arrive in time; the message names the batch and its images."""


def end_within(seconds: float, since: str) -> threading.Timer:
    """Starts a timer that ends this process with code 1 in `seconds` seconds and prints which line it was waiting in.

    `since` names the event that starts the timer, for the message. Returns the timer, which can be cancelled.
    """
    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), _end, (seconds, since))
    timer.daemon = True  # a process that has finished exits without waiting for the timer
    timer.start()
    return timer


@contextlib.contextmanager
def within(seconds: float, since: str) -> Iterator[None]:
    """Ends this process as `end_within` does, unless the body of the `with` statement ends within `seconds` seconds."""
    timer = end_within(seconds, since)
    try:
        yield
    finally:
        timer.cancel()


def end_process(code: int) -> NoReturn:
    """Ends this process and its worker processes at once, with exit code `code`."""
    for worker in multiprocessing.active_children():
        worker.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _end(seconds: float, since: str) -> NoReturn:
    import jax  # imported long before by every mode that starts a timer; the other modes do not wait for its import

    main_thread = threading.main_thread().ident
    stack = traceback.extract_stack(next(f for ident, f in sys._current_frames().items() if ident == main_thread))
    # The innermost line of this package. At exit there may be none: then libraries wait for each other.
    ours = (frame for frame in reversed(stack) if PACKAGE in pathlib.Path(frame.filename).parents)
    place = next((frame for frame in ours if frame.filename != __file__), stack[-1])
    others = "; the logs of the other processes may show the cause" if jax.process_count() > 1 else ""
    print(
        f"stochconv_jax: process {jax.process_index()} has not ended within {seconds:g} s of {since} "
        f"(`grace_seconds`): it waits in {place.filename}, line {place.lineno}, for {place.line}"
        f"{others}. Complete checkpoints are unchanged; run the same command again",
        file=sys.stderr,
    )
    end_process(1)
