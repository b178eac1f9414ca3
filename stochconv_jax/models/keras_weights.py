"""Reads the weights of a Keras EfficientNet from files as keras.applications publishes and saves them.

Two formats are read, with or without the last layer: HDF5 with layer names (`.h5`, Keras 2 and 3), and `.weights.h5`
(Keras 3), which numbers the layers of each kind in their order instead.
"""

import collections
import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence

import h5py
import jax.numpy as jnp
import numpy as np

from stochconv_jax.models.variants import VARIANTS, Variant

# The names that `.weights.h5` gives to layers of each kind.
KINDS = {"conv": "conv2d", "depthwise": "depthwise_conv2d", "norm": "batch_normalization", "dense": "dense"}
# (collection, name) of each array of a layer, in the order of the file.
NORM = (("params", "scale"), ("params", "bias"), ("batch_stats", "mean"), ("batch_stats", "var"))
WEIGHTS = (("params", "kernel"), ("params", "bias"))


@dataclasses.dataclass(frozen=True)
class Layer:
    """A Keras layer and its counterpart here."""

    name: str  # in keras.applications
    kind: str  # a key of KINDS
    path: tuple[str, ...]  # of its counterpart, within a branch
    arrays: int  # number of arrays


def layers(variant: Variant) -> Iterator[Layer]:
    """Yields the layers with weights of keras.applications' EfficientNet `variant`, in their order."""
    yield Layer("stem_conv", "conv", ("stem", "conv"), 1)
    yield Layer("stem_bn", "norm", ("stem", "norm"), 4)
    for stage, spec in enumerate(variant.stages, start=1):
        for repeat in range(spec.repeats):
            name, path = f"block{stage}{chr(ord('a') + repeat)}_", (f"stage{stage}", f"block{repeat + 1}")
            if spec.expansion != 1:
                yield Layer(f"{name}expand_conv", "conv", (*path, "expand"), 1)
                yield Layer(f"{name}expand_bn", "norm", (*path, "expand_norm"), 4)
            yield Layer(f"{name}dwconv", "depthwise", (*path, "depthwise"), 1)
            yield Layer(f"{name}bn", "norm", (*path, "depthwise_norm"), 4)
            yield Layer(f"{name}se_reduce", "conv", (*path, "squeeze_excite", "squeeze"), 2)
            yield Layer(f"{name}se_expand", "conv", (*path, "squeeze_excite", "excite"), 2)
            yield Layer(f"{name}project_conv", "conv", (*path, "project"), 1)
            yield Layer(f"{name}project_bn", "norm", (*path, "project_norm"), 4)
    yield Layer("top_conv", "conv", ("head", "conv"), 1)
    yield Layer("top_bn", "norm", ("head", "norm"), 4)
    yield Layer("predictions", "dense", ("classifier",), 2)


def read(path: pathlib.Path, variant: Variant) -> dict[tuple[str, ...], np.ndarray]:
    """Reads the arrays of the file by (collection, *path, name) in a Classifier, without its branch.

    Raises ValueError, naming the file and the layer, if the file is missing or damaged, does not contain all layers of
    `variant` or of another known variant, or was trained with another normalisation than ImageNet's mean and standard
    deviation.
    """
    with _open(path) as file:
        stored, variant = _by_order(path, file, variant) if "layers" in file else _by_name(path, file, variant)
        for name in [name for name in stored if re.fullmatch(r"normalization(_\d+)?", name)]:
            _check_normalization(path, stored.pop(name), variant)
        found = {}
        for layer in layers(variant):
            values = stored.pop(layer.name, None)
            if layer.name == "predictions" and not values:
                continue
            if not values or len(values) != layer.arrays:
                raise ValueError(
                    f"{path}: layer {layer.name} is missing or incomplete: the file is damaged, or of another variant"
                )
            for (kind, leaf), value in zip(NORM if layer.kind == "norm" else WEIGHTS, values):
                value = _to_our_shape(layer.kind, value)
                if not is_plausible(leaf, value):
                    raise ValueError(
                        f"{path}: layer {layer.name} has values that cannot be weights: the file is damaged"
                    )
                found[(kind, *layer.path, leaf)] = value
    extra = sorted(name for name, values in stored.items() if values)
    if extra:
        raise ValueError(f"{path}: layer {extra[0]} is not in {variant.name}: this is the file of another variant")
    return found


@contextlib.contextmanager
def _open(path: pathlib.Path):
    """Opens the file and yields the group that contains the weights."""
    if not path.is_file():
        raise ValueError(f"`weights`={str(path)!r}: there is no such file")
    with _refuse_unreadable(f"{path}: not an HDF5 file of Keras weights, or a damaged one"), h5py.File(path) as file:
        yield file.get("model_weights", file)


@contextlib.contextmanager
def _refuse_unreadable(message: str):
    """Raises ValueError with this message if HDF5 cannot read something in the block."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(f"{message} ({error})") from error


Stored = dict[str, list[np.ndarray]]


def _variant_of_file(variant: Variant, fits: Callable[[Sequence[Layer]], bool]) -> Variant:
    """Returns the first variant whose layers `fits` accepts, beginning with `variant`.

    Returns `variant` if there is none, so that errors refer to it.
    """
    for candidate in (variant, *VARIANTS.values()):
        if fits([layer for layer in layers(candidate) if layer.name != "predictions"]):
            return candidate
    return variant


def _by_name(path: pathlib.Path, file: h5py.Group, variant: Variant) -> tuple[Stored, Variant]:
    """Reads a file with layer names, each group of which lists its arrays in order; also returns the file's variant."""
    stored = {}
    for name in file:
        with _refuse_unreadable(f"{path}: layer {name} cannot be read: the file is damaged"):
            group = file[name]
            stored[name] = [_array(group[weight]) for weight in group.attrs.get("weight_names", ())]
    optional = ("normalization", "predictions")
    names = {name for name, values in stored.items() if values and not name.startswith(optional)}
    return stored, _variant_of_file(variant, lambda expected: {layer.name for layer in expected} == names)


def _by_order(path: pathlib.Path, file: h5py.Group, variant: Variant) -> tuple[Stored, Variant]:
    """Reads a file whose layers are numbered by kind (conv2d, conv2d_1, ...), in the order of the network.

    Also returns the variant that has as many layers of each kind. Layers beyond those of the variant keep their names
    in the file.
    """
    groups = set(file["layers"])
    numbers = collections.Counter(re.sub(r"_\d+$", "", group) for group in groups)
    numbers = {kind: numbers[name] for kind, name in KINDS.items() if kind != "dense"}
    variant = _variant_of_file(
        variant, lambda expected: {kind: sum(layer.kind == kind for layer in expected) for kind in numbers} == numbers
    )
    stored, counts = {}, dict.fromkeys(KINDS, 0)

    def read(group: str, name: str):
        if group in groups:
            groups.remove(group)
            with _refuse_unreadable(f"{path}: layer {name} ({group} in the file) cannot be read: the file is damaged"):
                values = file["layers"][group].get("vars", {})
                stored[name] = [_array(values[str(i)]) for i in range(len(values))]

    for layer in layers(variant):
        number, counts[layer.kind] = counts[layer.kind], counts[layer.kind] + 1
        read(KINDS[layer.kind] + (f"_{number}" if number else ""), layer.name)
    for group in sorted(groups):
        read(group, group)
    return stored, variant


def _array(stored: h5py.Dataset) -> np.ndarray:
    value = np.asarray(stored)
    # HDF5 has no bfloat16: Keras writes the bytes, and the dtype as an attribute.
    return value.view(jnp.bfloat16) if stored.attrs.get("dtype") == "bfloat16" else value


def _to_our_shape(kind: str, value: np.ndarray) -> np.ndarray:
    """Removes the axes of length one from depthwise kernels [kh, kw, C, 1] and 1x1 kernels [1, 1, in, out]."""
    if kind == "depthwise" and value.ndim == 4 and value.shape[3] == 1:
        return value[..., 0]
    return value[0, 0] if kind == "conv" and value.ndim == 4 and value.shape[:2] == (1, 1) else value


def is_plausible(leaf: str, value: np.ndarray) -> bool:
    """Returns whether the values can be a network's weights: bytes of a damaged file become floats of any magnitude."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool((np.abs(value, dtype=np.float32) < 1e10).all() and not (leaf == "var" and (value < 0).any()))


def _check_normalization(path: pathlib.Path, stored: list[np.ndarray], variant: Variant) -> None:
    """Raises ValueError unless the network was trained on inputs normalised by the variant's mean and deviation.

    The array called variance may hold either: keras.applications stores the standard deviation there and divides by its
    root twice, while models saved from other sources store the variance.
    """
    mean, variance = (np.ravel(value) for value in stored[:2])
    std = np.asarray(variant.std)
    fits = np.allclose(mean, variant.mean, atol=1e-3) and (
        np.allclose(variance, std, atol=1e-3) or np.allclose(variance, std**2, atol=1e-3)
    )
    if not fits:
        raise ValueError(
            f"{path}: layer normalization has mean {mean.tolist()} and variance {variance.tolist()}; expected those of "
            f"ImageNet, mean {variant.mean} and as variance the standard deviation {variant.std} or its square"
        )
