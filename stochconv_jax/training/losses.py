"""Classification losses, one value an example."""
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax


def example_losses(logits: jax.Array, labels: jax.Array, *, label_smoothing: float = 0.0) -> jax.Array:
    """Cross-entropy in nats, float32 `[B]`, of logits `[B, K]` and labels int32 `[B]`.

    K = 1 is two classes with one logit, that of class 1. `label_smoothing` spreads this share of the target evenly over
    all classes.
    """
    classes = max(2, logits.shape[-1])
    targets = optax.smooth_labels(jax.nn.one_hot(labels, classes, dtype=logits.dtype), label_smoothing)
    if logits.shape[-1] == 1:
        return optax.sigmoid_binary_cross_entropy(logits[:, 0], targets[:, 1])
    return optax.softmax_cross_entropy(logits, targets)


def mean_loss(losses: jax.Array, labels: jax.Array, class_weights: Sequence[float] = ()) -> jax.Array:
    """Mean of `losses` `[B]`, weighted by the weight of each example's class where weights are given."""
    if not class_weights:
        return losses.mean()
    return (losses * _weights(labels, class_weights)).sum() / _weights(labels, class_weights).sum()


def share(part: jax.Array, labels: jax.Array, class_weights: Sequence[float] = ()) -> jax.Array | float:
    """What the mean loss of the examples `part` counts in that of all, given the labels of both."""
    if not class_weights:
        return len(part) / len(labels)
    return _weights(part, class_weights).sum() / _weights(labels, class_weights).sum()


def _weights(labels: jax.Array, class_weights: Sequence[float]) -> jax.Array:
    return jnp.asarray(class_weights, jnp.float32)[labels]
