"""Reads the weights of PyTorch's EfficientNets, timm's and torchvision's, from `.safetensors` files of a state_dict."""

import json
import pathlib
from collections.abc import Iterator

import numpy as np

from stochconv_jax.models.efficientnet import CONVENTIONS, Conventions
from stochconv_jax.models.keras_weights import is_plausible
from stochconv_jax.models.variants import Variant

Path = tuple[str, ...]  # of a layer here, within a branch
# The modules of a block by the names of its layers here.
SEPARABLE = {"depthwise": "conv_dw", "depthwise_norm": "bn1", "project": "conv_pw", "project_norm": "bn2"}
INVERTED = {
    "expand": "conv_pw",
    "expand_norm": "bn1",
    "depthwise": "conv_dw",
    "depthwise_norm": "bn2",
    "project": "conv_pwl",
    "project_norm": "bn3",
}
SQUEEZE = {"squeeze_excite/squeeze": "se.conv_reduce", "squeeze_excite/excite": "se.conv_expand"}
# (collection, name) here of the arrays of a batch norm and of other layers.
NORM = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}
WEIGHTS = {"weight": ("params", "kernel"), "bias": ("params", "bias")}
NEAR = 3e-3  # timm says 0.5 where Lite networks have 127 / 255 and 128 / 255; ImageNet's mean is 0.013 away
LARGE_EPSILON = ("b5", "b6", "b7")  # torchvision's networks whose batch norm has the official epsilon


def read(path: pathlib.Path, variant: Variant, conventions: Conventions) -> dict[Path, np.ndarray]:
    """Reads the arrays of the file by (collection, *path, name) in a Classifier, without its branch.

    Arrays that have no place in `variant` keep their names in the file, as ('', name). The config.json that timm saves
    beside a file, if there is one, tells which conventions and which normalisation of pixels the network has.

    Raises ValueError, naming the file, if it cannot be read, is of another network than EfficientNet, or of one with
    other `conventions` or another normalisation than the variant's.
    """
    stored = _load(path)
    is_timm = "conv_stem.weight" in stored
    if not is_timm and "features.0.0.weight" not in stored:
        raise ValueError(
            f"{path} is neither timm's nor torchvision's EfficientNet: it begins with {next(iter(stored), '')}"
        )
    _check_network(path, variant, conventions, is_timm)
    found = {}
    for layer, module in (timm_names if is_timm else torchvision_names)(variant).items():
        for name, (collection, leaf) in (NORM if layer[-1].endswith("norm") else WEIGHTS).items():
            if (value := stored.pop(f"{module}.{name}", None)) is None:
                continue
            if not is_plausible(leaf, value):
                raise ValueError(f"{path}: {module}.{name} has values that cannot be weights: the file is damaged")
            found[(collection, *layer, leaf)] = _to_our_shape(layer, value)
    if not is_timm and variant.name in LARGE_EPSILON:
        # The same function of the input: batch norm divides by the root of variance + epsilon.
        difference = CONVENTIONS["official"].batch_norm_epsilon - conventions.batch_norm_epsilon
        found = {key: value + np.float32(difference) if key[-1] == "var" else value for key, value in found.items()}
    return found | {("", name): value for name, value in stored.items() if not name.endswith("num_batches_tracked")}


def _load(path: pathlib.Path) -> dict[str, np.ndarray]:
    try:
        from safetensors.numpy import load_file  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(f"{path} needs the package safetensors: pip install 'stochconv_jax[hub]'") from None
    try:
        return load_file(path)
    except Exception as error:  # safetensors' own, of the disk, or a dtype that NumPy lacks
        raise ValueError(f"{path}: not a safetensors file, or a damaged one ({error})") from error


def _blocks(variant: Variant) -> Iterator[tuple[Path, int, int, bool]]:
    """Yields path, stage and repeat, both from 0, of each block, and whether it begins with an expansion."""
    for stage, spec in enumerate(variant.stages):
        for repeat in range(spec.repeats):
            yield (f"stage{stage + 1}", f"block{repeat + 1}"), stage, repeat, spec.expansion != 1


def timm_names(variant: Variant) -> dict[Path, str]:
    """Returns the module of timm's network for each layer here."""
    names: dict[Path, str] = {
        ("stem", "conv"): "conv_stem",
        ("stem", "norm"): "bn1",
        ("head", "conv"): "conv_head",
        ("head", "norm"): "bn2",
        ("classifier",): "classifier",
    }
    for block, stage, repeat, expands in _blocks(variant):
        for layer, module in ((INVERTED if expands else SEPARABLE) | SQUEEZE).items():
            names[(*block, *layer.split("/"))] = f"blocks.{stage}.{repeat}.{module}"
    return names


def torchvision_names(variant: Variant) -> dict[Path, str]:
    """Returns the module of torchvision's network for each layer here."""
    head = len(variant.stages) + 1
    names: dict[Path, str] = {("classifier",): "classifier.1"}
    for part, module in (("stem", 0), ("head", head)):
        names |= {(part, "conv"): f"features.{module}.0", (part, "norm"): f"features.{module}.1"}
    for block, stage, repeat, expands in _blocks(variant):
        parts = [*(["expand"] if expands else []), "depthwise", "squeeze_excite", "project"]
        for place, part in enumerate(parts):
            module = f"features.{stage + 1}.{repeat}.block.{place}"
            if part == "squeeze_excite":
                names |= {(*block, part, "squeeze"): f"{module}.fc1", (*block, part, "excite"): f"{module}.fc2"}
            else:
                names |= {(*block, part): f"{module}.0", (*block, f"{part}_norm"): f"{module}.1"}
    return names


def _to_our_shape(layer: Path, value: np.ndarray) -> np.ndarray:
    """Moves the output channels of kernels to the end, and removes the axes of length one that kernels here lack."""
    if value.ndim == 2:
        return value.T
    if value.ndim != 4:
        return value
    value = value.transpose(2, 3, 1, 0)
    if layer[-1] == "depthwise":
        return value[:, :, 0]
    return value[0, 0] if value.shape[:2] == (1, 1) else value


def _check_network(path: pathlib.Path, variant: Variant, conventions: Conventions, is_timm: bool) -> None:
    """Raises ValueError if the network, as far as is known, has other conventions or another normalisation."""
    about, named = {}, "torchvision's network"
    if is_timm:
        file = path.with_name("config.json")
        about = json.loads(file.read_text()) if file.exists() else {}
        if (named := about.get("architecture")) is None:
            return
    needed = "official" if named.startswith("tf_") else "torch"
    if conventions != CONVENTIONS[needed]:
        raise ValueError(f"{path} is of {named}: set config.model.conventions={needed}")
    stored = about.get("pretrained_cfg", {})
    for name, ours in (("mean", variant.mean), ("std", variant.std)):
        if not np.allclose(stored.get(name, ours), ours, atol=NEAR):
            raise ValueError(
                f"{path} is of {named} for pixels normalised by {name} {stored[name]}, and those here are by {ours}: "
                "choose weights with ImageNet's normalisation, such as those of another tag"
            )
