"""Freed memory is used again without page faults."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from stochconv_jax.runtime import host_memory
if sys.argv[1] == "keep":
    assert host_memory.keep_freed()
size = 100_000_000  # a variable: Python would compute a product of constants at compile time
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * size
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults(), faults())
"""


def faults(how):
    """Returns the numbers of page faults when 100 MB are touched for the first and for the second time."""
    done = subprocess.run([sys.executable, "-c", FAULTS, how], stdout=subprocess.PIPE, text=True, check=True)
    return map(int, done.stdout.split())


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the allocator is not glibc's")
def test_memory_used_again_is_not_fetched_again():
    _, again = faults("keep")
    assert again < min(faults("return")) / 10  # tens of thousands of small pages, or some fifty huge ones
