"""Keeps image libraries quiet while files are read: their warnings do not say which file they are about."""

import threading
import warnings

import PIL.Image


class _Quiet:
    """Switches off warnings and Pillow's limit of pixels while any thread is inside."""

    def __init__(self):
        self._lock, self._inside = threading.Lock(), 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._outside = warnings.catch_warnings()
                self._outside.__enter__()
                warnings.simplefilter("ignore")
                self._limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
            self._inside += 1

    def __exit__(self, *_) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                PIL.Image.MAX_IMAGE_PIXELS = self._limit
                self._outside.__exit__(None, None, None)


QUIET = _Quiet()
