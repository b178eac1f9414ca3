"""Images from the ArrayRecord shards that --mode=prepare writes, read by tfds.data_source without TensorFlow."""

import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds

from stochconv_jax.data import image_io, table_reader
from stochconv_jax.data.isic import isic_melanoma, shards
from stochconv_jax.data.isic.records import image_id
from stochconv_jax.data.sources import BadImage


class TfdsSource:
    """The labelled images of the prepared data set at `path`, in the order of its labels.csv.

    `path`: the folder of dataset_info.json, or one above it that has no other. `num_classes`: labels are below it.
    `columns`: the columns of labels.csv. ValueError naming the shard that is gone or not as long as it was written; a
    shard damaged inside is found, and named, when the record is read.
    """

    def __init__(self, path: str, *, num_classes: int):
        self._folder = _find(pathlib.Path(os.path.expanduser(path)))
        self._records = None
        train = tfds.builder_from_directory(self._folder).info.splits[isic_melanoma.SPLITS[0]]
        self._shards = sorted(pathlib.Path(file).name for file in train.filenames)
        self._ends = np.cumsum(train.shard_lengths)
        _check_sizes(self._folder, self._shards)
        self.table = self._folder / "labels.csv"
        self.columns = table_reader.read(self.table).columns
        self.names: Sequence[str] = self.columns["image"]
        self.labels = np.array(list(map(int, self.columns["target"])), np.int32)
        if len(self) != train.num_examples:
            raise ValueError(f"{self._folder}: {train.num_examples} images in the shards, {len(self)} in labels.csv")
        if self.labels.max() >= num_classes:
            raise ValueError(f"{self._folder}: class {self.labels.max()}, and config.data.num_classes={num_classes}")

    def __len__(self) -> int:
        return len(self.names)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_records": None}  # each process opens the files itself

    def read(self, index: int, **limits) -> np.ndarray:
        """See `Source.read`."""
        shard = self._folder / self._shards[int(np.searchsorted(self._ends, index, "right"))]
        where = f"{self.names[index]} in {shard}"
        try:
            if self._records is None:
                self._records = tfds.builder_from_directory(self._folder).as_data_source(
                    isic_melanoma.SPLITS[0], decoders={"image": tfds.decode.SkipDecoding()}
                )
            record = self._records[index]  # ArrayRecord checks it against its own checksum
        except (OSError, RuntimeError) as error:
            raise BadImage(f"{where}: the shard is damaged ({error}); run --mode=prepare again to mend it") from error
        if image_id(record["image_id"].decode()) != image_id(self.names[index]):
            raise BadImage(f"{where}: labels.csv has this image there, the shard {record['image_id'].decode()}")
        try:
            return image_io.decode(record["image"], **limits)
        except ValueError as error:
            raise BadImage(f"{where}: {error}") from error


def _find(path: pathlib.Path) -> pathlib.Path:
    """The folder of the one dataset_info.json in `path` or below."""
    found = sorted(file.parent for file in path.rglob(shards.DESCRIPTION)) if path.is_dir() else []
    found = [folder for folder in found if not folder.name.startswith(".")]  # what a killed preparation has left
    if len(found) != 1:
        there = f"it holds {len(found)}: {', '.join(map(str, found))}" if found else "it holds none"
        raise ValueError(f"config.data.path={str(path)!r}: expected one prepared data set (--mode=prepare); {there}")
    return found[0]


def _check_sizes(folder: pathlib.Path, names: Sequence[str]) -> None:
    written = json.loads((folder / shards.CHECKSUMS).read_text())
    for name in names:
        size = (folder / name).stat().st_size if (folder / name).exists() else None
        if name not in written or size != written[name]["bytes"]:
            state = "is gone" if size is None else f"is damaged: {size} bytes, not what was written"
            raise ValueError(f"{folder / name} {state}; run --mode=prepare again to mend it")
