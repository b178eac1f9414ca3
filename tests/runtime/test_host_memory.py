"""Freed memory is used again without page faults, and a large heap is returned to the system."""

import ctypes
import platform
import subprocess
import sys

import pytest

of_glibc = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="the allocator is not that of glibc 2.33 or later",
)

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


@of_glibc
def test_memory_used_again_is_not_fetched_again():
    _, again = faults("keep")
    assert again < min(faults("return")) / 10  # tens of thousands of small pages, or some fifty huge ones


LARGE = """
import mmap, sys, time
from stochconv_jax.runtime import host_memory
assert host_memory.keep_freed(int(sys.argv[1]))
size = 100_000_000
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * mmap.PAGESIZE
blocks = [b"x" * size for _ in range(4)]
del blocks
small = []
for _ in range(4):
    block = b"x" * size
    del block
    small.append(b"y" * 1_000_000)  # in the freed block, into which the next one then does not fit
while sys.argv[2] == "wait" and resident() > size:
    time.sleep(0.1)
print(resident())
"""


def resident(largest_heap, wait):
    """Returns the bytes in memory after 400 MB were used and freed. `wait`: once they are fewer than 100 MB."""
    arguments = [sys.executable, "-c", LARGE, str(largest_heap), wait]
    return int(subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, timeout=120).stdout)


@of_glibc
def test_a_large_heap_is_returned():
    assert resident(2**40, "at once") > 400_000_000
    assert resident(50_000_000, "wait") < 100_000_000
