"""Starting from the weights of a Keras EfficientNet: files as keras.applications publishes and saves them.

Both kinds of file are read, with or without the top: HDF5 by layer name (`.h5`, Keras 2 and 3) and `.weights.h5` (Keras
3), whose layers have no names but stand in the order of their kind. Weights are never downloaded.
"""

import collections
import contextlib
import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np

from stochconv_jax.models.variants import VARIANTS, Variant

KINDS = {"conv": "conv2d", "depthwise": "depthwise_conv2d", "norm": "batch_normalization", "dense": "dense"}
NORM = (("params", "scale"), ("params", "bias"), ("batch_stats", "mean"), ("batch_stats", "var"))
WEIGHTS = (("params", "kernel"), ("params", "bias"))


@dataclasses.dataclass(frozen=True)
class Layer:
    """A Keras layer: its name, its kind, the place of its counterpart below a branch, and the number of its arrays."""

    name: str
    kind: str
    place: tuple[str, ...]
    arrays: int


@dataclasses.dataclass(frozen=True)
class Report:
    """`loaded`: arrays taken from the file. `fresh`: names of those that did not fit and stay as initialised.

    `unused`: names of the file's arrays that fit nowhere.
    """

    loaded: int
    fresh: list[str]
    unused: list[str]


def load(file: str, variant: Variant, variables: Mapping[str, Any]) -> tuple[dict[str, Any], Report]:
    """`variables` of a Classifier of `variant` with the weights in `file` where they fit.

    Every branch gets the stem and its stages, the trunk after the meeting the rest, so far as shapes agree: the first
    block after a meeting has other inputs, the last layer other classes, and another variant than the file's other
    widths and blocks. ValueError, naming file and layer, for a missing or damaged file, one of which nothing but the
    last layer fits, or one whose input was normalised otherwise than by ImageNet's mean and standard deviation.
    """
    path = pathlib.Path(file).expanduser()
    arrays = _read(path, variant)
    fresh, used = [], []

    def pick(place, value):
        names = tuple(entry.key for entry in place)
        key = (names[0], *_below_branch(names[1:]))
        found = arrays.get(key)
        if found is None or found.shape != value.shape:
            fresh.append("/".join(names[1:]))
            return value
        used.append(key)
        return found.astype(value.dtype)

    loaded = jax.tree_util.tree_map_with_path(pick, dict(variables))
    if all("classifier" in key for key in used):
        raise ValueError(f"{path}: no layer fits {variant.name}: this is the file of another variant")
    unused = ["/".join(key[1:]) for key in arrays if key not in used]
    return loaded, Report(len(used), fresh, unused)


def _below_branch(names: tuple[str, ...]) -> tuple[str, ...]:
    """('thumbnail', 'stage1', ...) and ('merged', 'stage1', ...) -> ('stage1', ...); stems -> ('stem', ...)."""
    if names[0].endswith("_stem"):
        return ("stem", *names[1:])
    return names[1:] if names[0] in ("thumbnail", "windows", "merged") else names


def layers(variant: Variant) -> Iterator[Layer]:
    """The layers with weights of keras.applications.EfficientNet in their order."""
    yield Layer("stem_conv", "conv", ("stem", "conv"), 1)
    yield Layer("stem_bn", "norm", ("stem", "norm"), 4)
    for stage, spec in enumerate(variant.stages, start=1):
        for repeat in range(spec.repeats):
            name, place = f"block{stage}{chr(ord('a') + repeat)}_", (f"stage{stage}", f"block{repeat + 1}")
            if spec.expansion != 1:
                yield Layer(f"{name}expand_conv", "conv", (*place, "expand"), 1)
                yield Layer(f"{name}expand_bn", "norm", (*place, "expand_norm"), 4)
            yield Layer(f"{name}dwconv", "depthwise", (*place, "depthwise"), 1)
            yield Layer(f"{name}bn", "norm", (*place, "depthwise_norm"), 4)
            yield Layer(f"{name}se_reduce", "conv", (*place, "squeeze_excite", "squeeze"), 2)
            yield Layer(f"{name}se_expand", "conv", (*place, "squeeze_excite", "excite"), 2)
            yield Layer(f"{name}project_conv", "conv", (*place, "project"), 1)
            yield Layer(f"{name}project_bn", "norm", (*place, "project_norm"), 4)
    yield Layer("top_conv", "conv", ("head", "conv"), 1)
    yield Layer("top_bn", "norm", ("head", "norm"), 4)
    yield Layer("predictions", "dense", ("classifier",), 2)


def _read(path: pathlib.Path, variant: Variant) -> dict[tuple[str, ...], np.ndarray]:
    """Arrays of the file by our path. All layers must be there of `variant`, or of the one that the file is of."""
    with _opened(path) as file:
        stored, variant = _by_order(path, file, variant) if "layers" in file else _by_name(path, file, variant)
        for name in [name for name in stored if re.fullmatch(r"normalization(_\d+)?", name)]:
            _check_normalization(path, stored.pop(name), variant)
        found = {}
        for layer in layers(variant):
            values = stored.pop(layer.name, None)
            if layer.name == "predictions" and not values:
                continue
            if not values or len(values) != layer.arrays:
                raise ValueError(f"{path}: layer {layer.name} is missing or not whole: damaged, or of another variant")
            for (kind, leaf), value in zip(NORM if layer.kind == "norm" else WEIGHTS, values):
                value = _ours(layer.kind, value)
                if not _plausible(leaf, value):
                    raise ValueError(f"{path}: layer {layer.name} holds values that are no weights: damaged")
                found[(kind, *layer.place, leaf)] = value
    extra = sorted(name for name, values in stored.items() if values)
    if extra:
        raise ValueError(f"{path}: layer {extra[0]} is not in {variant.name}: this is the file of another variant")
    return found


@contextlib.contextmanager
def _opened(path: pathlib.Path):
    """The group of the file that holds the weights."""
    if not path.is_file():
        raise ValueError(f"config.init.weights={str(path)!r}: there is no such file")
    with _refused(f"{path}: not an HDF5 file of Keras weights, or a damaged one"), h5py.File(path) as file:
        yield file.get("model_weights", file)


@contextlib.contextmanager
def _refused(message: str):
    """What HDF5 cannot read is a ValueError with this message."""
    try:
        yield
    except (OSError, KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise ValueError(f"{message} ({error})") from error


Stored = dict[str, list[np.ndarray]]


def _of_the_file(variant: Variant, fits: Callable[[Sequence[Layer]], bool]) -> Variant:
    """`variant`, or else another, whose layers are those of a file; `variant` where there is none, as errors tell."""
    for candidate in (variant, *VARIANTS.values()):
        if fits([layer for layer in layers(candidate) if layer.name != "predictions"]):
            return candidate
    return variant


def _by_name(path: pathlib.Path, file: h5py.Group, variant: Variant) -> tuple[Stored, Variant]:
    """A file by layer name, each group of which lists its arrays in order; and the variant that has its layers."""
    stored = {}
    for name in file:
        with _refused(f"{path}: layer {name} cannot be read: damaged"):
            group = file[name]
            stored[name] = [_array(group[weight]) for weight in group.attrs.get("weight_names", ())]
    others = ("normalization", "predictions")
    there = {name for name, values in stored.items() if values and not name.startswith(others)}
    return stored, _of_the_file(variant, lambda expected: {layer.name for layer in expected} == there)


def _by_order(path: pathlib.Path, file: h5py.Group, variant: Variant) -> tuple[Stored, Variant]:
    """A file by kind: conv2d, conv2d_1, ... in the order of the network; and the variant that has as many of each.

    What is left keeps the file's own name.
    """
    groups = set(file["layers"])
    there = collections.Counter(re.sub(r"_\d+$", "", group) for group in groups)
    there = {kind: there[name] for kind, name in KINDS.items() if kind != "dense"}
    variant = _of_the_file(
        variant, lambda expected: {kind: sum(layer.kind == kind for layer in expected) for kind in there} == there
    )
    stored, counts = {}, dict.fromkeys(KINDS, 0)

    def read(group: str, name: str):
        if group in groups:
            groups.remove(group)
            with _refused(f"{path}: layer {name} ({group} in the file) cannot be read: damaged"):
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
    # HDF5 has no bfloat16: Keras writes its bytes, and their meaning beside them.
    return value.view(jnp.bfloat16) if stored.attrs.get("dtype") == "bfloat16" else value


def _ours(kind: str, value: np.ndarray) -> np.ndarray:
    """Depthwise kernels `[kh, kw, C, 1]` and 1x1 kernels `[1, 1, in, out]` without their axes of one."""
    if kind == "depthwise" and value.ndim == 4 and value.shape[3] == 1:
        return value[..., 0]
    return value[0, 0] if kind == "conv" and value.ndim == 4 and value.shape[:2] == (1, 1) else value


def _plausible(leaf: str, value: np.ndarray) -> bool:
    """Whether these can be a network's weights. A damaged file's bytes, read as floats, are of any magnitude."""
    with np.errstate(invalid="ignore"):
        return bool((np.abs(value) < 1e10).all() and not (leaf == "var" and (value < 0).any()))


def _check_normalization(path: pathlib.Path, stored: list[np.ndarray], variant: Variant) -> None:
    """Our stem subtracts the mean and divides by the standard deviation; the file must have been trained so.

    keras.applications stores the standard deviation in the variance's place and divides by its root twice; a model
    saved from another source may store the variance itself.
    """
    mean, variance = (np.ravel(value) for value in stored[:2])
    std = np.asarray(variant.std)
    fits = np.allclose(mean, variant.mean, atol=1e-3) and (
        np.allclose(variance, std, atol=1e-3) or np.allclose(variance, std**2, atol=1e-3)
    )
    if not fits:
        raise ValueError(
            f"{path}: layer normalization has mean {mean.tolist()} and variance {variance.tolist()}; "
            f"expected ImageNet's, {variant.mean} and the standard deviation {variant.std} or its square"
        )
