"""Losses against scikit-learn and against each other."""
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from stochconv_jax import statistics
from stochconv_jax.training import losses


@pytest.mark.parametrize("classes", [1, 3])
def test_cross_entropy_is_scikit_learns(classes):
    random = np.random.default_rng(0)
    logits = random.normal(size=(50, classes)).astype(np.float32) * 3
    labels = random.integers(0, max(2, classes), 50)
    got = losses.example_losses(jnp.asarray(logits), jnp.asarray(labels, jnp.int32))
    probability = np.exp(statistics.log_probabilities(logits))
    expected = sklearn.metrics.log_loss(labels, probability, labels=range(max(2, classes)))
    np.testing.assert_allclose(got.mean(), expected, rtol=1e-5)
    assert got.shape == (50,)


def test_one_logit_is_two_logits_of_which_the_first_is_zero():
    random = np.random.default_rng(0)
    logit = random.normal(size=(20, 1)).astype(np.float32)
    labels = jnp.asarray(random.integers(0, 2, 20), jnp.int32)
    pair = np.concatenate([np.zeros_like(logit), logit], axis=1)
    for smoothing in (0.0, 0.1):
        one, two = (losses.example_losses(jnp.asarray(x), labels, label_smoothing=smoothing) for x in (logit, pair))
        np.testing.assert_allclose(one, two, rtol=1e-5)


def test_label_smoothing_spreads_the_target_over_all_classes():
    logits = np.random.default_rng(0).normal(size=(1, 4)).astype(np.float32)
    target = np.array([0.025, 0.925, 0.025, 0.025])
    got = losses.example_losses(jnp.asarray(logits), jnp.asarray([1], jnp.int32), label_smoothing=0.1)
    np.testing.assert_allclose(got, -(target * statistics.log_probabilities(logits)).sum(), rtol=1e-5)


def test_class_weights_weigh_like_repeated_examples():
    values, labels = jnp.asarray([1.0, 2.0, 4.0]), jnp.asarray([0, 1, 1], jnp.int32)
    np.testing.assert_allclose(losses.mean_loss(values, labels, (1.0, 3.0)), (1 + 3 * (2 + 4)) / 7, rtol=1e-6)
    np.testing.assert_allclose(losses.mean_loss(values, labels), 7 / 3, rtol=1e-6)
