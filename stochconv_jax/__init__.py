"""Stochastic convolutions for high-resolution image classification, in JAX and Flax."""

import importlib

__version__ = "0.2.0"
__all__ = ["Classifier", "StochasticConv", "__version__", "nnx", "ops", "variants"]

# Imported when first asked for: processes that only read images start without JAX.
_HOMES = {
    "Classifier": "stochconv_jax.models.classifier",
    "StochasticConv": "stochconv_jax.models.stochastic_conv",
    "variants": "stochconv_jax.models",
}


def __getattr__(name: str):
    """Imports what `__all__` names."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in __all__:
        return importlib.import_module(f"stochconv_jax.{name}")
    raise AttributeError(f"module 'stochconv_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
