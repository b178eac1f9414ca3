"""Reads images from the ArrayRecord shards that --mode=prepare writes, by tfds.data_source without TensorFlow."""

import json
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow_datasets as tfds

from stochconv_jax.data import image_io, table_reader
from stochconv_jax.data.isic import isic_melanoma, shards
from stochconv_jax.data.isic.records import image_id
from stochconv_jax.data.sources import BadImage, Source


class TfdsSource(Source):
    """The labelled images of the prepared data set at `path`, in the order of its labels.csv.

    `path`: the folder of dataset_info.json, or a folder above it that has no other data set. `num_classes`: labels are
    below it. `classes`: the names of the classes, if any. Raises ValueError naming the shard that is missing or does
    not have the size that was written. A shard with damaged content is found when the damaged record is read, see
    `read`.
    """

    def __init__(self, path: str, *, num_classes: int, classes: Sequence[str] = ()):
        self._folder = _find_data_set(pathlib.Path(os.path.expanduser(path)))
        self._records = None
        train = tfds.builder_from_directory(self._folder).info.splits[isic_melanoma.SPLITS[0]]
        self._shards = sorted(pathlib.Path(file).name for file in train.filenames)
        self._ends = np.cumsum(train.shard_lengths)
        _check_sizes(self._folder, self._shards)
        table = table_reader.read(self._folder / "labels.csv")
        labels = np.array(list(map(int, table.columns["target"])), np.int32)
        super().__init__(table.columns["image"], labels, columns=table.columns, table=table.path, classes=classes)
        if len(self) != train.num_examples:
            raise ValueError(f"{self._folder}: {train.num_examples} images in the shards, {len(self)} in labels.csv")
        if self.labels.max() >= num_classes:
            raise ValueError(f"{self._folder}: class {self.labels.max()}, and `num_classes`={num_classes}")

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_records": None}  # each process opens the files itself

    def read(self, index: int, **limits) -> np.ndarray:
        """Overrides `Source.read`."""
        try:
            if self._records is None:
                builder = tfds.builder_from_directory(self._folder)
                self._records = builder.as_data_source(  # TFDS's decorator hides the parameters from the type checker
                    isic_melanoma.SPLITS[0],  # pyright: ignore[reportCallIssue]
                    decoders={"image": tfds.decode.SkipDecoding()},
                )
            record = self._records[index]  # ArrayRecord checks it against its own checksum
        except (OSError, RuntimeError) as error:
            reason = f"the shard is damaged ({error}); run --mode=prepare again to mend it"
            raise self.bad_image(index, reason) from error
        if image_id(record["image_id"].decode()) != image_id(self.names[index]):
            raise self.bad_image(index, f"labels.csv has this image there, the shard {record['image_id'].decode()}")
        try:
            return image_io.decode(record["image"], **limits)
        except ValueError as error:
            raise self.bad_image(index, error) from error

    def bad_image(self, index: int, reason: object) -> BadImage:
        """Overrides `Source.bad_image`; names the image and its shard."""
        shard = self._folder / self._shards[int(np.searchsorted(self._ends, index, "right"))]
        return BadImage(f"{self.names[index]} in {shard}: {reason}")


def _find_data_set(path: pathlib.Path) -> pathlib.Path:
    """Returns the folder of the dataset_info.json in `path` or below. Raises ValueError unless there is just one."""
    found = sorted(file.parent for file in path.rglob(shards.DESCRIPTION)) if path.is_dir() else []
    found = [folder for folder in found if not folder.name.startswith(".")]  # left by a killed preparation
    if len(found) != 1:
        there = f"it holds {len(found)}: {', '.join(map(str, found))}" if found else "it holds none"
        raise ValueError(f"`path`={str(path)!r}: expected one prepared data set (--mode=prepare); {there}")
    return found[0]


def _check_sizes(folder: pathlib.Path, names: Sequence[str]) -> None:
    """Raises ValueError naming the first shard that is missing or does not have the size that was written."""
    written = json.loads((folder / shards.CHECKSUMS).read_text())
    for name in names:
        size = (folder / name).stat().st_size if (folder / name).exists() else None
        if name not in written or size != written[name]["bytes"]:
            state = "is gone" if size is None else f"is damaged: {size} bytes, not what was written"
            raise ValueError(f"{folder / name} {state}; run --mode=prepare again to mend it")
