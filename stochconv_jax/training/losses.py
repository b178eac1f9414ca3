"""Classification losses."""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Float32, Int32

LEAST_DOUBT = 1e-12  # in the focal loss, where the root of a smaller 1 - p could have an infinite gradient


def example_losses(
    logits: Float[Array, "batch classes"],
    labels: Int32[Array, " batch"],
    *,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
) -> Float32[Array, " batch"]:
    """Returns the cross-entropy or the focal loss (Lin et al., 2017) of each example, in nats.

    Args:
      logits: float [B, K]. K = 1 means two classes and the logit of class 1.
      labels: int32 [B], classes 0, 1, ...
      label_smoothing: share of the target that is spread evenly over all classes.
      focal_gamma: the power of 1 - p by which the term of a class with probability p is multiplied; 0 for the
        cross-entropy.
    """
    classes = max(2, logits.shape[-1])
    targets = optax.smooth_labels(jax.nn.one_hot(labels, classes, dtype=logits.dtype), label_smoothing)
    if focal_gamma:
        pair = jnp.concatenate([-logits, logits], axis=-1)
        log_p = jax.nn.log_sigmoid(pair) if logits.shape[-1] == 1 else jax.nn.log_softmax(logits)
        doubt = jnp.maximum(-jnp.expm1(log_p), LEAST_DOUBT)
        return -(targets * doubt**focal_gamma * log_p).sum(axis=-1)
    if logits.shape[-1] == 1:
        return optax.sigmoid_binary_cross_entropy(logits[:, 0], targets[:, 1])
    return optax.softmax_cross_entropy(logits, targets)


def mean_loss(
    logits: Float[Array, "batch classes"],
    rows: Mapping[str, jax.Array],
    *,
    label_smoothing: float,
    focal_gamma: float = 0.0,
    class_weights: Sequence[float] = (),
) -> Float32[Array, ""]:
    """Returns the mean of the `example_losses` of a batch, weighted by class if there are `class_weights`.

    Args:
      logits: float [B, K].
      rows: the batch's 'label', int32 [B]. For mixed images also 'label_mixed', int32 [B], and 'share_mixed', float32
        [B]: each of the two classes then counts with its share of the image and with its own weight.
      label_smoothing, focal_gamma: see `example_losses`.
      class_weights: one weight per class, 0 or more, or () for none. The loss is 0 if all weights in the batch are 0.
    """

    def losses_for(labels):
        return example_losses(logits, labels, label_smoothing=label_smoothing, focal_gamma=focal_gamma)

    if not class_weights:
        return _mix(rows, losses_for).mean()
    weighted = _mix(rows, lambda labels: losses_for(labels) * _weights(labels, class_weights))
    return _ratio(weighted.sum(), _total_weight(rows, class_weights))


def balanced_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Returns the weight n / (classes * n_c) of each class c, from the number of images n_c of each; 0 for no image."""
    total = sum(counts)
    return tuple(total / (len(counts) * count) if count else 0.0 for count in counts)


def loss_share(
    part: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], class_weights: Sequence[float] = ()
) -> float | jax.Array:
    """Returns the factor with which the mean loss of the rows `part` enters the mean loss of the whole `batch`."""
    if not class_weights:
        return len(part["label"]) / len(batch["label"])
    return _ratio(_total_weight(part, class_weights), _total_weight(batch, class_weights))


def _mix(rows: Mapping[str, jax.Array], function: Callable[[jax.Array], jax.Array]) -> jax.Array:
    """Returns `function(labels)`, [B]; for mixed images the average for both labels, weighted by their shares."""
    values = function(rows["label"])
    if "label_mixed" in rows:
        values += rows["share_mixed"] * (function(rows["label_mixed"]) - values)
    return values


def _total_weight(rows: Mapping[str, jax.Array], class_weights: Sequence[float]) -> jax.Array:
    return _mix(rows, lambda labels: _weights(labels, class_weights)).sum()


def _ratio(part: jax.Array, total: jax.Array) -> jax.Array:
    """Returns part / total, or 0 if both are 0."""
    return part / jnp.where(total > 0, total, 1)


def _weights(labels: jax.Array, class_weights: Sequence[float]) -> jax.Array:
    return jnp.asarray(class_weights, jnp.float32)[labels]
