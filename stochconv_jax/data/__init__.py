"""From images on disk, or drawn, to batches. Uses no JAX: worker processes load this package."""
