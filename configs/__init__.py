"""Experiments, one file each: the default config with a few changes."""
