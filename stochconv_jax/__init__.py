"""Stochastic convolutions for high-resolution image classification, in JAX and Flax."""
