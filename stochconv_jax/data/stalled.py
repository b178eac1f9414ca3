"""What to do when a read never returns: it cannot be interrupted, and an ordinary exit would wait for it."""
import multiprocessing
import os
import sys
from typing import NoReturn


class Stalled(TimeoutError):
    """A batch did not come in time; the message names it and its images."""


def end_process(code: int) -> NoReturn:
    """Ends this process and its workers at once, with exit code `code`."""
    for worker in multiprocessing.active_children():
        worker.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
