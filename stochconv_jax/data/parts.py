"""Opens as a file what can only be read in parts, such as an object in a bucket."""

import errno
import functools
import io
import os
from collections.abc import Callable
from typing import Any


class Parts(io.RawIOBase):
    """A file opened to read bytes, each part of which is a request.

    `read(start, end)` returns the bytes from `start` to before `end`, which is `size()` at most.
    """

    def __init__(self, read: Callable[[int, int], bytes], size: Callable[[], int]):
        self._read, self._ask_size, self._position = read, size, 0

    @functools.cached_property
    def _size(self) -> int:
        return self._ask_size()

    def readable(self) -> bool:
        """Overrides `io.RawIOBase.readable`."""
        return True

    def seekable(self) -> bool:
        """Overrides `io.RawIOBase.seekable`."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Overrides `io.RawIOBase.seek`."""
        position = offset + (0 if whence == os.SEEK_SET else self._position if whence == os.SEEK_CUR else self._size)
        if position < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = position
        return position

    def readinto(self, buffer: Any) -> int:
        """Overrides `io.RawIOBase.readinto`."""
        end = min(self._position + len(buffer), self._size)
        part = self._read(self._position, end) if end > self._position else b""
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)
