"""Finds the file of the weights that a name means: in the caches of huggingface_hub and of Keras, or by its path.

A name is 'timm/MODEL.TAG', a repository of timm on the Hugging Face Hub; 'keras/efficientnetb0', a file of
keras.applications; or 'auto', timm's weights of a variant. Only huggingface_hub downloads, and only what its cache
lacks.
"""

import os
import pathlib

TIMM, KERAS, AUTO = "timm/", "keras/", "auto"
FILES = ("model.safetensors", "config.json")  # of a repository of timm
# timm's own networks by variant; its networks of the official conventions all have weights of the same name.
OWN = {
    "b0": "ra_in1k",
    "b1": "ft_in1k",
    "b2": "ra_in1k",
    "b3": "ra2_in1k",
    "b4": "ra2_in1k",
    "b5": "sw_in12k_ft_in1k",
}
OFFICIAL = {f"b{number}": "ns_jft_in1k" for number in range(8)} | {f"lite{number}": "in1k" for number in range(5)}


def find(weights: str, variant: str, *, official: bool) -> pathlib.Path:
    """Returns the file that `weights` means, a name or a path.

    `variant` and `official`, whether the network has the official conventions, choose the weights of 'auto'. Raises
    ValueError, which says what to download to where, if there is no such file and huggingface_hub cannot download it.
    """
    if weights == AUTO:
        weights = _automatic(variant, official)
    path = pathlib.Path(weights).expanduser()
    if path.is_file():
        return path
    if weights.startswith(TIMM):
        return _in_hub(weights)
    if weights.startswith(KERAS):
        return _of_keras(weights)
    raise ValueError(f"`weights`={weights!r}: there is no such file; names begin with {TIMM} or {KERAS}")


def _automatic(variant: str, official: bool) -> str:
    tags, prefix = (OFFICIAL, "tf_") if official else (OWN, "")
    if variant not in tags:
        raise ValueError(f"`weights`={AUTO!r}: there are no ImageNet weights of {variant}, only of {', '.join(tags)}")
    return f"{TIMM}{prefix}efficientnet_{variant}.{tags[variant]}"


def _in_hub(name: str) -> pathlib.Path:
    """Returns the file of weights of a repository, in the folder of its config.json."""
    try:
        from huggingface_hub import constants, hf_hub_download  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(
            f"`weights`={name!r} needs huggingface_hub: pip install 'stochconv_jax[hub]', or give the path of a "
            f"{FILES[0]}"
        ) from None
    try:
        weights, _ = (pathlib.Path(hf_hub_download(name, file)) for file in FILES)
    except Exception as error:  # of the hub, of its HTTP client, or of the disk
        reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")
        raise ValueError(
            f"`weights`={name!r} is not in {constants.HF_HUB_CACHE} and cannot be downloaded "
            f"({type(error).__name__}: {reason}): where there is a network, run `hf download {name} "
            f"{' '.join(FILES)}`, and bring its folder models--{name.replace('/', '--')} to there, or give the path of "
            f"{FILES[0]}"
        ) from error
    return weights


def _of_keras(name: str) -> pathlib.Path:
    """Returns the file in the cache of Keras, preferably that without the last layer."""
    folder = pathlib.Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models"
    network = name.removeprefix(KERAS)
    files = [f"{network}_notop.h5", f"{network}.h5"]
    for file in files:
        if (folder / file).is_file():
            return folder / file
    raise ValueError(
        f"`weights`={name!r}: {folder} has neither {' nor '.join(files)}: download "
        f"https://storage.googleapis.com/keras-applications/{files[0]} to there, or give a file's path"
    )
