"""Stochastic convolutions for high-resolution image classification, in JAX and Flax."""

import importlib
from typing import TYPE_CHECKING

__version__ = "0.2.0"
__all__ = ["Classifier", "Ensemble", "Predictor", "StochasticConv", "__version__", "load", "nnx", "ops", "variants"]

if TYPE_CHECKING:
    from stochconv_jax import nnx, ops
    from stochconv_jax.loading import Ensemble, load
    from stochconv_jax.models import variants
    from stochconv_jax.models.classifier import Classifier
    from stochconv_jax.models.stochastic_conv import StochasticConv
    from stochconv_jax.predictor import Predictor

# Imported when first asked for, so that processes that only read images start without JAX.
_MODULE_OF = {
    "Classifier": "stochconv_jax.models.classifier",
    "Ensemble": "stochconv_jax.loading",
    "Predictor": "stochconv_jax.predictor",
    "StochasticConv": "stochconv_jax.models.stochastic_conv",
    "load": "stochconv_jax.loading",
}
_MODULES = {"nnx": "stochconv_jax.nnx", "ops": "stochconv_jax.ops", "variants": "stochconv_jax.models.variants"}


def __getattr__(name: str):
    """Imports a public name; see `__all__`."""
    if name in _MODULE_OF:
        return getattr(importlib.import_module(_MODULE_OF[name]), name)
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'stochconv_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
