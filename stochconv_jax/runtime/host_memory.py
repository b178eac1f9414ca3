"""Sets the host's memory allocator to keep freed memory for the next step instead of returning it to the system."""

import ctypes
import platform

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_PAD = 64 * 2**20  # bytes that the heap grows by in addition to a request


def keep_freed() -> bool:
    """Makes glibc's allocator keep freed memory, and returns whether it does. Call it before other threads allocate.

    XLA allocates a CPU program's temporaries anew in every call, a gigabyte in a training step of B0, and reading an
    image allocates its pixels. By default each such block comes from the system, which hands it over page by page and
    zeroed. That takes more than a quarter of a step, and of the time to read an image of 1024x1024. The price: the
    process's memory stays at its maximum. Without glibc nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # One arena, because only the main one can hold blocks of any size; no separate mappings; never trimmed.
    settings = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: _PAD}
    return 0 not in [mallopt(parameter, value) for parameter, value in settings.items()]
