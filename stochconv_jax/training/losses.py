"""Classification losses, one value an example."""

from collections.abc import Callable, Mapping, Sequence

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


def mean_loss(
    logits: jax.Array, rows: Mapping[str, jax.Array], *, label_smoothing: float, class_weights: Sequence[float] = ()
) -> jax.Array:
    """Mean of the `example_losses` of a batch's rows, weighted by the weights of their classes where there are any.

    Of a row of two images mixed ('label_mixed', 'share_mixed') each class counts with its share, and with the weight of
    that class. 0 where all weights are.
    """

    def of(labels):
        return example_losses(logits, labels, label_smoothing=label_smoothing)

    if not class_weights:
        return _mixed(rows, of).mean()
    weighted = _mixed(rows, lambda labels: of(labels) * _weights(labels, class_weights))
    return _ratio(weighted.sum(), _total(rows, class_weights))


def share(part: Mapping[str, jax.Array], whole: Mapping[str, jax.Array], class_weights: Sequence[float] = ()):
    """What the mean loss of the rows `part` counts in that of all."""
    if not class_weights:
        return len(part["label"]) / len(whole["label"])
    return _ratio(_total(part, class_weights), _total(whole, class_weights))


def _mixed(rows: Mapping[str, jax.Array], of: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """`of` each row's label; where two images are mixed, of both labels, by their shares."""
    values = of(rows["label"])
    if "label_mixed" in rows:
        values += rows["share_mixed"] * (of(rows["label_mixed"]) - values)
    return values


def _total(rows: Mapping[str, jax.Array], class_weights: Sequence[float]) -> jax.Array:
    return _mixed(rows, lambda labels: _weights(labels, class_weights)).sum()


def _ratio(part: jax.Array, whole: jax.Array) -> jax.Array:
    """0 of nothing."""
    return part / jnp.where(whole > 0, whole, 1)


def _weights(labels: jax.Array, class_weights: Sequence[float]) -> jax.Array:
    return jnp.asarray(class_weights, jnp.float32)[labels]
