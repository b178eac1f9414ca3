"""Files of PyTorch weights in timm's and torchvision's layout, with random values, without PyTorch."""

import json

import numpy as np
import pytest

from stochconv_jax.models import torch_weights, variants

save_file = pytest.importorskip(
    "safetensors.numpy", reason="safetensors is not installed: pip install safetensors"
).save_file

CLASSES = 7
NAMES = {"timm": torch_weights.timm_names, "torchvision": torch_weights.torchvision_names}


def state_dict(name, layout, seed=0):
    """Returns arrays as large as a trained network's, by the names of `layout`, in PyTorch's order of axes."""
    random, variant, arrays = np.random.default_rng(seed), variants.get(name), {}
    for layer, module in NAMES[layout](variant).items():
        shape = shape_of(variant, layer)
        if layer[-1].endswith("norm"):
            arrays[f"{module}.weight"] = random.uniform(0.5, 1.5, shape)
            arrays[f"{module}.bias"] = random.normal(0, 0.2, shape)
            arrays[f"{module}.running_mean"] = random.normal(0, 0.2, shape)
            arrays[f"{module}.running_var"] = random.uniform(0.5, 1.5, shape)
            arrays[f"{module}.num_batches_tracked"] = np.int64(5)
            continue
        arrays[f"{module}.weight"] = random.normal(0, 1 / np.sqrt(np.prod(shape[1:])), shape)
        if layer[-1] in ("squeeze", "excite", "classifier"):
            arrays[f"{module}.bias"] = random.normal(0, 0.2, shape[0])
    return {
        name: np.asarray(value, np.float32 if value.dtype == np.float64 else None) for name, value in arrays.items()
    }


def shape_of(variant, layer):
    """Returns the shape of a layer's weight in PyTorch."""
    if layer[0] == "stem":
        return (variant.stem_filters, 3, 3, 3)[: 1 if layer[-1] == "norm" else 4]
    if layer[0] == "head":
        return (variant.head_filters, variant.stages[-1].filters, 1, 1)[: 1 if layer[-1] == "norm" else 4]
    if layer[0] == "classifier":
        return CLASSES, variant.head_filters
    stage = int(layer[0].removeprefix("stage"))
    spec, first = variant.stages[stage - 1], layer[1] == "block1"
    entering = variant.filters_after(stage - 1) if first else spec.filters
    wide, squeezed = entering * spec.expansion, max(1, entering // 4)
    return {
        "expand": (wide, entering, 1, 1),
        "expand_norm": (wide,),
        "depthwise": (wide, 1, spec.kernel, spec.kernel),
        "depthwise_norm": (wide,),
        "squeeze": (squeezed, wide, 1, 1),
        "excite": (wide, squeezed, 1, 1),
        "project": (spec.filters, wide, 1, 1),
        "project_norm": (spec.filters,),
    }[layer[-1]]


def write(folder, name="tiny", layout="timm", about=None, **changes):
    """Writes a file of weights, with `about` as config.json beside it, and returns its path.

    `changes`: arrays that replace those of a name, in which '__' stands for a dot; None removes one.
    """
    arrays = state_dict(name, layout) | {key.replace("__", "."): value for key, value in changes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value for key, value in arrays.items() if value is not None}, folder / "model.safetensors")
    if about is not None:
        (folder / "config.json").write_text(json.dumps(about))
    return folder / "model.safetensors"
