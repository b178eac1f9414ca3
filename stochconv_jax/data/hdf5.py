"""Reads an HDF5 file as a folder, as fsspec reads a zip: each dataset in it is a file."""

import io
from typing import Any, BinaryIO

import h5py
import numpy as np
from fsspec.archive import AbstractArchiveFileSystem

ENDING = ".jpg"  # of a file whose dataset's name has none; how it is decoded depends on its content alone


class Hdf5FileSystem(AbstractArchiveFileSystem):
    """The files in an HDF5 file: groups are folders, and a dataset holds the bytes of one encoded image.

    The bytes are a string, an opaque value or an array of uint8. The datasets of ISIC 2024's train-image.hdf5 are named
    by isic_id, without an ending, and hold JPEGs.
    """

    root_marker = ""
    protocol = "hdf5"
    cachable = False

    def __init__(self, file: BinaryIO):
        super().__init__()
        is_local = isinstance(getattr(file, "raw", None), io.FileIO)  # HDF5 itself reads a local file much faster
        self.fo, self._file = file, h5py.File(file.name if is_local else file, "r")
        self.dir_cache, self._datasets = {}, {}

    def _get_dirs(self) -> None:
        """Implements `AbstractArchiveFileSystem._get_dirs`; `info` adds sizes, which take a while for many datasets."""
        if self.dir_cache:
            return
        names: list[str] = []
        self._file.visit(names.append)
        folders = self._all_dirnames(names)
        self._datasets = {_file_name(name): name for name in names if name not in folders}
        found = {name: {"name": name, "size": 0, "type": "directory"} for name in folders}
        files = {name: {"name": name, "size": None, "type": "file"} for name in self._datasets}
        self.dir_cache = found | files

    def info(self, path: str, **_) -> dict[str, Any]:
        """Overrides `AbstractArchiveFileSystem.info`."""
        about = super().info(path)
        if about["type"] == "directory":
            return about
        dataset = self._dataset(path)
        has_size = dataset.dtype.kind != "O"  # else its length varies, and HDF5 knows only that of a pointer
        return about | {"size": dataset.nbytes if has_size else None}

    def _open(self, path: str, mode: str = "rb", **_) -> BinaryIO:
        """Implements `AbstractFileSystem._open`."""
        del mode
        self._get_dirs()
        value = self._dataset(path)[()]
        return io.BytesIO(value if isinstance(value, bytes) else np.asarray(value).tobytes())

    def _dataset(self, path: str) -> Any:
        """Returns the dataset of a file. Raises FileNotFoundError if there is none, such as for an empty group."""
        found = self._file[self._datasets[path]] if path in self._datasets else None
        if not isinstance(found, h5py.Dataset):
            raise FileNotFoundError(path)
        return found


def _file_name(dataset: str) -> str:
    return dataset if "." in dataset.rpartition("/")[2] else dataset + ENDING
