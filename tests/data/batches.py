"""Batches of small sources, for tests."""

import itertools

import numpy as np

from stochconv_jax.data import pipeline

PIXELS = {"image_size": (24, 32), "thumbnail_size": (6, 8), "outputs": ("image", "thumbnail")}


def train(source, count, *, start_step=0, batch_size=6, num_workers=0, on_bad_image="error", seed=3, **options):
    """Returns the first `count` training batches."""
    options = {"augmentation": pipeline.Augmentation(), "seed": seed, "num_workers": num_workers, **PIXELS} | options
    batches = pipeline.train_batches(
        source, batch_size=batch_size, start_step=start_step, on_bad_image=on_bad_image, **options
    )
    try:
        return list(itertools.islice(batches, count))
    finally:
        batches.close()


def evaluation(source, *, batch_size=6, num_workers=0, on_bad_image="error", **options):
    """Returns the batches of one round of evaluation."""
    options = PIXELS | options
    batches = pipeline.EvalBatches(
        source, batch_size=batch_size, num_workers=num_workers, on_bad_image=on_bad_image, **options
    )
    try:
        return list(batches)
    finally:
        batches.close()


def joined(batches):
    """Returns the rows of all batches, by name."""
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def assert_same(batches, others):
    """Asserts that batches are equal bit for bit, types included."""
    assert len(batches) == len(others)
    for batch, other in zip(batches, others):
        assert batch.keys() == other.keys()
        for name in batch:
            assert batch[name].dtype == other[name].dtype
            np.testing.assert_array_equal(batch[name], other[name], err_msg=name)
