"""Ending a process that waits for what may never come: it cannot be interrupted, and an ordinary exit would wait."""
import contextlib
import multiprocessing
import os
import pathlib
import sys
import threading
import traceback
from collections.abc import Iterator
from typing import NoReturn

PACKAGE = pathlib.Path(__file__).parent
STOPPED = os.EX_TEMPFAIL  # 75, the exit code of work that was stopped, is saved, and goes on with the same command


class Stalled(TimeoutError):
    """A batch did not come in time; the message names it and its images."""


def end_within(seconds: float, of: str) -> threading.Timer:
    """Ends this process with code 1 if it is still there `seconds` from now, and says what it waited for.

    `of`: what happened now, for that message. The timer that is returned may be cancelled. `seconds` are those of
    config.checkpoint.grace_seconds.
    """
    guard = threading.Timer(min(seconds, threading.TIMEOUT_MAX), _give_up, (seconds, of))
    guard.daemon = True  # it keeps no process that has done its work
    guard.start()
    return guard


@contextlib.contextmanager
def within(seconds: float, of: str) -> Iterator[None]:
    """Ends this process as `end_within` does where what is inside has not ended in `seconds`."""
    guard = end_within(seconds, of)
    try:
        yield
    finally:
        guard.cancel()


def end_process(code: int) -> NoReturn:
    """Ends this process and its workers at once, with exit code `code`."""
    for worker in multiprocessing.active_children():
        worker.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _give_up(seconds: float, of: str) -> NoReturn:
    import jax  # known by then; modes that start no run need not wait for it

    stack = traceback.extract_stack(sys._current_frames()[threading.main_thread().ident])
    # After our last line the libraries leave each other, which may wait too.
    ours = (frame for frame in reversed(stack) if PACKAGE in pathlib.Path(frame.filename).parents)
    place = next((frame for frame in ours if frame.filename != __file__), stack[-1])
    others = "; the other processes may say why" if jax.process_count() > 1 else ""
    print(
        f"stochconv_jax: not ended within {seconds:g} s of {of} (config.checkpoint.grace_seconds), says process "
        f"{jax.process_index()}: it waits in {place.filename}, line {place.lineno}, for {place.line}{others}. Complete "
        "checkpoints are as they were; run the same command again",
        file=sys.stderr,
    )
    end_process(1)
