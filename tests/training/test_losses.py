"""Losses against scikit-learn and against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics
import sklearn.utils.class_weight

from stochconv_jax import metrics
from stochconv_jax.training import losses


@pytest.mark.parametrize("classes", [1, 3])
def test_cross_entropy_is_scikit_learns(classes):
    random = np.random.default_rng(0)
    logits = random.normal(size=(50, classes)).astype(np.float32) * 3
    labels = random.integers(0, max(2, classes), 50)
    got = losses.example_losses(jnp.asarray(logits), jnp.asarray(labels, jnp.int32))
    probability = np.exp(metrics.log_probabilities(logits))
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
    np.testing.assert_allclose(got, -(target * metrics.log_probabilities(logits)).sum(), rtol=1e-5)


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_focal_loss_is_the_paper_s(classes, gamma):
    """Of targets without smoothing it is -(1 - p)^gamma log(p), in float64."""
    random = np.random.default_rng(1)
    logits = random.normal(size=(50, classes)).astype(np.float32) * 3
    labels = random.integers(0, max(2, classes), 50)
    log_p = metrics.log_probabilities(logits)[np.arange(50), labels]
    expected = -((1 - np.exp(log_p)) ** gamma) * log_p
    got = losses.example_losses(jnp.asarray(logits), jnp.asarray(labels, jnp.int32), focal_gamma=gamma)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-7)


def test_the_focal_loss_with_gamma_0_is_the_same_program_as_the_cross_entropy():
    logits, rows = rows_of()
    settings = {"label_smoothing": 0.1, "class_weights": (1.0, 2.0, 3.0)}
    programs = [
        str(jax.make_jaxpr(lambda x: losses.mean_loss(x, rows, **settings, **more))(logits))  # noqa: B023
        for more in ({}, {"focal_gamma": 0.0}, {"focal_gamma": 1.0})
    ]
    assert programs[0] == programs[1]
    assert "expm1" in programs[2] and "expm1" not in programs[0]


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("gamma", [0.25, 1.0, 2.0])
def test_gradients_of_the_focal_loss_are_finite_for_certain_predictions(classes, gamma):
    labels = jnp.arange(6, dtype=jnp.int32) % max(2, classes)
    for scale in (0.0, 20.0, 200.0):
        logits = scale * jnp.ones((6, classes)) * jnp.asarray([[1.0], [-1.0]] * 3)
        logits = logits.at[:, 0].multiply(2.0)

        def loss(x):
            return losses.example_losses(x, labels, focal_gamma=gamma, label_smoothing=0.1).sum()

        value, gradient = jax.value_and_grad(loss)(logits)
        assert jnp.isfinite(value) and jnp.isfinite(gradient).all()


def test_balanced_weights_are_scikit_learns_and_0_for_a_class_without_an_image():
    labels = np.random.default_rng(0).integers(0, 3, 50) ** 2 // 2  # classes 0 and 2
    counts = np.bincount(labels)
    expected = sklearn.utils.class_weight.compute_class_weight("balanced", classes=np.array([0, 2]), y=labels)
    got = losses.balanced_weights(counts.tolist())
    assert got[1] == 0
    np.testing.assert_allclose(np.array(got)[[0, 2]], expected * 2 / 3)  # scikit-learn counts two classes


def rows_of(seed=0, count=24, classes=3, *, mixed=True):
    """Returns logits and labels of a batch, and for mixed images the other labels and their shares."""
    random = np.random.default_rng(seed)
    logits = jnp.asarray(random.normal(size=(count, classes)), jnp.float32)
    rows = {"label": jnp.asarray(random.integers(0, classes, count), jnp.int32)}
    if mixed:
        rows["label_mixed"] = jnp.asarray(random.integers(0, classes, count), jnp.int32)
        rows["share_mixed"] = jnp.asarray(random.uniform(0, 0.5, count), jnp.float32)
    return logits, rows


def mean_loss(logits, rows, weights=()):
    return losses.mean_loss(logits, rows, label_smoothing=0.0, class_weights=weights)


def parts_of_targets(rows):
    """Yields (row, class, share) of every part of a target."""
    for row, label in enumerate(np.asarray(rows["label"])):
        share = float(rows["share_mixed"][row]) if "share_mixed" in rows else 0.0
        yield row, int(label), 1 - share
        if share:
            yield row, int(rows["label_mixed"][row]), share


@pytest.mark.parametrize("weights", [(), (1.0, 3.0, 0.5), (0.0, 2.0, 1.0)])
@pytest.mark.parametrize("mixed", [False, True])
def test_each_part_of_a_target_has_the_weight_of_its_own_class(mixed, weights):
    """Compares with scikit-learn's weighted loss of a table with one row for each part of a target."""
    logits, rows = rows_of(mixed=mixed)
    row, label, share = (np.array(column) for column in zip(*parts_of_targets(rows)))
    probability = np.exp(metrics.log_probabilities(logits))[row]
    weight = share * (np.array(weights)[label] if weights else 1.0)
    expected = sklearn.metrics.log_loss(label, probability, sample_weight=weight, labels=range(3))
    np.testing.assert_allclose(mean_loss(logits, rows, weights), expected, rtol=1e-5)


@pytest.mark.parametrize("weights", [(), (1.0, 3.0, 0.0), (0.0, 0.0, 1.0)])
@pytest.mark.parametrize("mixed", [False, True])
def test_the_parts_of_a_batch_sum_to_it_and_so_do_their_gradients(mixed, weights):
    logits, rows = rows_of(count=12, mixed=mixed)
    rows["label"] = jnp.sort(rows["label"])  # some parts have a class of weight 0 alone

    def in_parts(logits):
        parts = [{name: x[k : k + 3] for name, x in rows.items()} for k in range(0, 12, 3)]
        terms = (
            mean_loss(logits[k : k + 3], part, weights) * losses.loss_share(part, rows, weights)
            for k, part in zip(range(0, 12, 3), parts)
        )
        return sum(terms)

    whole, parts = (jax.value_and_grad(f)(logits) for f in (lambda logits: mean_loss(logits, rows, weights), in_parts))
    np.testing.assert_allclose(whole[0], parts[0], rtol=1e-6)
    np.testing.assert_allclose(whole[1], parts[1], rtol=1e-5, atol=1e-7)


def test_a_batch_whose_weights_are_all_zero_is_no_loss_and_moves_nothing():
    logits, rows = rows_of()
    loss, gradient = jax.value_and_grad(mean_loss)(logits, rows, (0.0, 0.0, 0.0))
    assert loss == 0 and (gradient == 0).all()
    of_class_0 = {name: jnp.zeros_like(x) for name, x in rows.items()}
    assert losses.loss_share(of_class_0, of_class_0, (0.0, 1.0, 1.0)) == 0
