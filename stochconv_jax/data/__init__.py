"""From images on disk, or drawn, to batches. Imports no JAX: worker processes load this package."""
