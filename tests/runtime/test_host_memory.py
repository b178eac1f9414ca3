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
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    b"x" * size
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
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
import ctypes, mmap, sys, time
from stochconv_jax.runtime import host_memory
assert host_memory.keep_freed(int(sys.argv[1]))
library = ctypes.CDLL(None)
library.mallinfo2.restype = host_memory.Mallinfo2
size = 100_000_000
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * mmap.PAGESIZE
blocks = [b"x" * count for _ in range(4) for count in (size, 1_000_000)]
del blocks[::2]  # leaves holes between the small blocks
while sys.argv[2] == "wait" and resident() > size:
    time.sleep(0.1)
resident_bytes, mapped_before = resident(), library.mallinfo2().hblks
block = b"x" * (2 * size)  # fits into no hole
print(resident_bytes, library.mallinfo2().hblks - mapped_before)
"""


def large(largest_heap, wait):
    """Returns the bytes in memory after 400 MB were freed, and the number of mappings that a block of 200 MB takes.

    `wait`: measures once fewer than 100 MB are in memory.
    """
    arguments = [sys.executable, "-c", LARGE, str(largest_heap), wait]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    return map(int, done.stdout.split())


@of_glibc
def test_a_large_heap_is_returned():
    resident, mappings = large(2**40, "at once")
    assert resident > 400_000_000
    assert mappings == 0
    resident, mappings = large(50_000_000, "wait")
    assert resident < 100_000_000
    assert mappings == 1
