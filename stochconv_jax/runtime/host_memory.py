"""Memory of the host that a step has freed is kept for the next one, instead of going back to the system."""

import ctypes
import platform

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_PAD = 64 * 2**20  # bytes by which the heap grows beyond what is asked for


def keep_freed() -> bool:
    """Asks glibc's allocator to keep what is freed; returns whether it does. Call it before other threads allocate.

    XLA allocates a CPU program's temporaries anew in every call, a gigabyte in a training step of B0, and who reads an
    image allocates its pixels. By default each such block comes fresh from the system, which hands it over page by
    page, zeroed: more than a quarter of the step, and of the time to read an image of 1024x1024. The process's memory
    then stays at its highest. Elsewhere than on Linux with glibc nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # One arena, the only one that can hold blocks of any size; no blocks of their own; never trimmed.
    settings = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: _PAD}
    return 0 not in [mallopt(parameter, value) for parameter, value in settings.items()]
