"""The default config, which is used without --config. Its keys are in stochconv_jax/default_config.py."""

from stochconv_jax.default_config import get_config

__all__ = ["get_config"]
