"""Writes ArrayRecord shards of `isic_melanoma`, and the files that make them a TFDS data set."""

import hashlib
import json
import pathlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from array_record.python import array_record_module
from tensorflow_datasets.core import example_serializer, file_adapters, naming
from tensorflow_datasets.core import splits as tfds_splits

from stochconv_jax.atomic_files import replace, write_bytes
from stochconv_jax.data.isic import isic_melanoma

CHECKSUMS = "checksums.json"
DESCRIPTION = "dataset_info.json"  # written last: without it TFDS finds no data set


def folder(data_dir: pathlib.Path, size: int) -> pathlib.Path:
    """Returns the folder of the shards with images of `size`, without TFDS, which would read their description."""
    return data_dir / "isic_melanoma" / str(size) / str(isic_melanoma.IsicMelanoma.VERSION)


def remove_damaged_description(data_dir: pathlib.Path, size: int) -> None:
    """Removes a description that TFDS would fail on, so that it is written again."""
    file = folder(data_dir, size) / DESCRIPTION
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        pass
    except ValueError:
        file.unlink()


def file_name(split: str, index: int, count: int) -> str:
    """Returns TFDS's name of shard `index` of `count`."""
    return f"isic_melanoma-{split}.array_record-{index:05d}-of-{count:05d}"


def write(file: pathlib.Path, examples: Iterable[Mapping[str, Any]], features: Any) -> dict[str, Any]:
    """Writes a shard atomically; returns its file name, SHA-256, bytes, number of examples and their bytes.

    `examples`: in the form of `features`, TFDS's FeaturesDict. Raises OSError naming the file if it cannot be written.
    """
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    count, size = 0, 0
    with replace(file) as temporary:
        try:
            writer = array_record_module.ArrayRecordWriter(str(temporary), "group_size:1")  # for random access
            for example in examples:
                message = serializer.get_tf_example(features.encode_example(example))
                # Deterministic: otherwise the order of the features changes from process to process.
                record = message.SerializeToString(deterministic=True)
                writer.write(record)
                count, size = count + 1, size + len(record)
            writer.close()
        except RuntimeError as error:
            raise OSError(f"cannot write {file}: {error}; make room or mend it") from error
        about = {"sha256": checksum(temporary), "bytes": temporary.stat().st_size}
    return {"file": file.name, **about, "examples": count, "example_bytes": size}


def checksum(file: pathlib.Path) -> str:
    """Returns the file's SHA-256 as hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def describe(data_dir: pathlib.Path, size: int, shards: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Writes features.json and dataset_info.json for the shards of each split, as `write` returned them."""
    builder = isic_melanoma.builder(str(data_dir), size)
    infos = [_split_info(builder, name, parts) for name, parts in shards.items() if parts]
    builder.info.set_splits(tfds_splits.SplitDict(infos))
    builder.info.set_file_format(file_adapters.FileFormat.ARRAY_RECORD)
    with tempfile.TemporaryDirectory() as temporary:
        builder.info.write_to_directory(temporary)
        for name in ("features.json", DESCRIPTION):
            write_bytes(pathlib.Path(builder.data_dir) / name, (pathlib.Path(temporary) / name).read_bytes())


def _split_info(
    builder: isic_melanoma.IsicMelanoma, name: str, parts: Sequence[Mapping[str, Any]]
) -> tfds_splits.SplitInfo:
    template = naming.ShardedFileTemplate(
        dataset_name=builder.name, split=name, filetype_suffix="array_record", data_dir=builder.data_path
    )
    return tfds_splits.SplitInfo(
        name=name,
        shard_lengths=[part["examples"] for part in parts],
        num_bytes=sum(part["example_bytes"] for part in parts),
        filename_template=template,
    )
