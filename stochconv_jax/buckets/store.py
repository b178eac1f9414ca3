"""The objects of a bucket below an address such as s3://bucket/runs/first."""

import contextlib
import pathlib
from collections.abc import Iterable, Mapping

from stochconv_jax.data.paths import AddressPath, request


class Store:
    """Reads, writes and removes the objects below `address`; their names are relative to it.

    All methods raise OSError, naming the address, if the store refuses or does not answer, and ValueError if the
    package that reads such addresses is missing.
    """

    def __init__(self, address: str):
        self.path = AddressPath(address)

    def names(self) -> list[str]:
        """Returns the names of all objects, sorted. The store is asked anew each time."""

        def find(system, place):
            system.invalidate_cache()
            names = (name.removeprefix(place).lstrip("/") for name in system.find(place))
            return sorted(name for name in names if name and not name.endswith("/"))

        found = request(self.path, find)
        if unsafe := [name for name in found if ".." in pathlib.PurePosixPath(name).parts]:
            raise ValueError(f"{self.path}: the object {unsafe[0]!r} would be outside of a local copy: remove it")
        return found

    def read(self, name: str) -> bytes:
        """Returns the content of an object. Raises FileNotFoundError if there is none."""
        return request(self.path / name, lambda system, place: system.cat_file(place))

    def write(self, name: str, content: bytes) -> None:
        """Writes an object, or replaces it."""
        request(self.path / name, lambda system, place: system.pipe_file(place, content))

    def create(self, name: str, content: bytes) -> bool:
        """Writes an object that must not exist. Returns whether it has this content, and False if it existed.

        The store compares and writes in one operation, so of several processes one alone creates the object.
        """

        def write(system, place):
            try:
                system.pipe_file(place, content, mode="create")
            except FileExistsError:
                return False
            return True

        try:
            # A request that was repeated, because its answer was lost, finds the object that it has created itself.
            return request(self.path / name, write) or self.read(name) == content
        except FileNotFoundError:  # removed since
            return False

    def download(self, files: Mapping[str, pathlib.Path]) -> None:
        """Downloads each object to the file by its name. Raises FileNotFoundError if one has been removed."""
        for file in files.values():
            file.parent.mkdir(parents=True, exist_ok=True)
        if files:
            places = list(map(str, files.values()))
            request(self.path, lambda system, place: system.get([f"{place}/{name}" for name in files], places))

    def upload(self, files: Mapping[str, pathlib.Path]) -> None:
        """Uploads each file to the object by its name. Their order is not defined."""
        if files:
            places = list(map(str, files.values()))
            request(self.path, lambda system, place: system.put(places, [f"{place}/{name}" for name in files]))

    def remove(self, names: Iterable[str]) -> None:
        """Removes objects; those that are gone already are left out."""

        def remove(system, place):
            with contextlib.suppress(FileNotFoundError):
                system.rm_file(place)

        for name in names:
            request(self.path / name, remove)
