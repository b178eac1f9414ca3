"""Benchmarks behind the figures in README.md and docs/: python -m benchmarks.NAME; each has --help."""
