"""Helpers for tests that start several real processes."""

import concurrent.futures


def outputs_of(processes, timeout=300):
    """Returns the output of each process when all have ended.

    The outputs are read at the same time: a process whose pipe is full waits, and the others wait for it.
    """
    with concurrent.futures.ThreadPoolExecutor(len(processes)) as pool:
        return list(pool.map(lambda process: process.communicate(timeout=timeout)[0], processes))
