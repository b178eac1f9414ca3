"""Starts a classifier from the weights of another network: of a file, of a name, or of an earlier run."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np

from stochconv_jax.models import keras_weights, torch_weights, weight_names
from stochconv_jax.models.classifier import BRANCHES, Classifier
from stochconv_jax.models.efficientnet import CONVENTIONS

MERGED = "merged"  # the trunk after the branches meet
Key = tuple[str, ...]  # collection, path and name of an array


@dataclasses.dataclass(frozen=True)
class Report:
    """The outcome of `fill`."""

    loaded: int  # number of arrays of the classifier that were replaced
    fresh: list[str]  # names of the other arrays, which stay as initialised or, in the last layer, become zero
    unused: list[str]  # names of given arrays that replace none


def load(weights: str, model: Classifier, variables: Mapping[str, Any]) -> tuple[dict[str, Any], Report]:
    """Replaces the `variables` of `model` by the arrays of a file that fit, see `fill`.

    `weights`: the path of a file of Keras weights, `.h5`, or of a PyTorch network, `.safetensors`; or a name, see
    `weight_names.find`. Raises ValueError, naming the file, if it is missing or damaged, or if it is of a network with
    other conventions or of another variant.
    """
    variant, conventions = model.variant, model.layers.conventions
    official = conventions == CONVENTIONS["official"]
    path = weight_names.find(weights, variant.name, official=official)
    if path.suffix == ".safetensors":
        arrays = torch_weights.read(path, variant, conventions)
    elif path.suffix in (".pt", ".pth", ".bin"):
        raise ValueError(f"{path} is a pickle: save the state_dict by safetensors.torch.save_file, and give that file")
    elif not official:
        raise ValueError(f"{path} is of Keras' network: set config.model.conventions=official")
    else:
        arrays = keras_weights.read(path, variant)
    filled, report = fill(variables, arrays)
    if not report.loaded:
        raise ValueError(f"{path}: no layer fits {variant.name}: this is the file of another variant")
    return filled, report


def fill(variables: Mapping[str, Any], arrays: Mapping[Key, np.ndarray]) -> tuple[dict[str, Any], Report]:
    """Replaces the `variables` of a Classifier by the `arrays` of the same name and shape.

    The keys of `arrays` are paths in a Classifier, or paths without a branch. An array of a branch is looked for in the
    same branch first, then in the trunk and in the other branch, and last without a branch. Each array may so fill both
    branches. Some shapes differ and leave variables as they are: the first block after the branches meet has more input
    channels, and the last layer may have other classes. If only the last layer fits, nothing is replaced.

    What is left of the last layer becomes zero: random weights there, up to 1 / sqrt(classes), would turn pretrained
    features into large logits of no meaning, which training would first have to undo.
    """
    fresh, used, loaded = [], set(), 0

    def pick(key_path, value):
        nonlocal loaded
        collection, *names = (entry.key for entry in key_path)
        for path in _sources(tuple(names)):
            found = arrays.get((collection, *path))
            if found is not None and found.shape == value.shape:
                used.add((collection, *path))
                loaded += 1
                return np.asarray(found).astype(value.dtype)
        fresh.append("/".join(names))
        return np.zeros(value.shape, value.dtype) if names[0] == "classifier" else value

    filled = jax.tree_util.tree_map_with_path(pick, dict(variables))
    if all("classifier" in key for key in used):
        return dict(variables), Report(0, fresh, [])
    return filled, Report(loaded, fresh, ["/".join(key[1:]) for key in arrays if key not in used])


def _sources(names: Key) -> Iterator[Key]:
    """Yields the paths of arrays that may replace the one at `names`, the best first."""
    yield names
    first, rest = names[0], names[1:]
    if first.endswith("_stem"):
        yield from ((f"{branch}_stem", *rest) for branch in BRANCHES)
        yield ("stem", *rest)
    elif first in (MERGED, *BRANCHES):
        yield from ((part, *rest) for part in (MERGED, *BRANCHES))
        yield rest
