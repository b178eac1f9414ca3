"""Stochastic convolutions for high-resolution image classification, in JAX and Flax."""

__version__ = "0.2.0"
