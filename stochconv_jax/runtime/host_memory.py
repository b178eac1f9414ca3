"""Sets the host's memory allocator to keep freed memory for the next step, up to a limit."""

import ctypes
import platform
import threading
import time

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -2, -3, -4, -8
_PAD = 64 * 2**20  # bytes that the heap grows by in addition to a request
_LARGEST_SEPARATELY = 32 * 2**20  # glibc's maximum of _MMAP_THRESHOLD: all larger blocks are separate mappings
LARGEST_HEAP = 8 * 2**30  # bytes; twice what a step of the full split on B0 with 16 images needs


class Mallinfo2(ctypes.Structure):
    """Declares `struct mallinfo2` of glibc 2.33. `arena` is the size of the heap in bytes."""

    _names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = tuple((name, ctypes.c_size_t) for name in _names)


def keep_freed(largest_heap: int = LARGEST_HEAP) -> bool:
    """Makes glibc's allocator keep freed memory, and returns whether it does. Call it before other threads allocate.

    XLA allocates a CPU program's temporaries anew in every call, a gigabyte in a training step of B0, and reading an
    image allocates its pixels. By default each such block comes from the system, which hands it over page by page and
    zeroed. That takes more than a quarter of a step, and of the time to read an image of 1024x1024. The price: memory
    stays at its maximum.

    A process can take two or three times the memory of its step. In many steps, XLA allocates the temporaries some
    microseconds to milliseconds before it frees those of the previous step (seen with jax 0.12.0). A small block in a
    freed large one makes the next large one grow the heap too. Therefore, once the heap has more than `largest_heap`
    bytes, freed memory is returned to the system again: large blocks at once, and holes in the heap every second. In a
    step that needs 12 GiB, this takes half of the time or more. Without glibc 2.33 or later nothing is done.
    """
    if platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"):
        return False
    # One arena, because only the main one can hold blocks of any size; no separate mappings; never trimmed.
    kept = _set({_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: -1, _TOP_PAD: _PAD})
    if kept:
        threading.Thread(target=_return_large, args=(largest_heap,), daemon=True, name="host_memory").start()
    return kept


def _set(settings: dict[int, int]) -> bool:
    mallopt = ctypes.CDLL(None).mallopt
    return 0 not in [mallopt(parameter, value) for parameter, value in settings.items()]


def _return_large(largest_heap: int) -> None:
    """Waits until the heap is larger than `largest_heap` bytes, then returns large blocks and holes in the heap."""
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = Mallinfo2
    while library.mallinfo2().arena <= largest_heap:
        time.sleep(1)
    _set({_MMAP_THRESHOLD: _LARGEST_SEPARATELY, _MMAP_MAX: 2**16, _TRIM_THRESHOLD: _PAD})
    while True:
        # A large block may still go into a hole of the heap, so this has to be repeated.
        library.malloc_trim(0)
        time.sleep(1)
