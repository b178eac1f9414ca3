"""Metrics that steps return from the devices, as clu.metrics collections, which the host merges over steps."""

from typing import Any

import flax.struct
import jax
from clu import metrics

MAX_ARRAYS = 100  # steps after which the arrays of a merged collection are concatenated


@flax.struct.dataclass
class TrainMetrics(metrics.Collection):
    """Metrics of S training steps and of the N rows of their batches.

    Attributes:
      steps: 'loss' and 'norm', the norm of all variables after the step, float32 [S].
      rows: 'logits', float32 [N, K]; 'label', 'index' and 'skipped', int32 [N], see data/pipeline.py.
    """

    steps: metrics.CollectingMetric.from_outputs(("loss", "norm"))
    rows: metrics.CollectingMetric.from_outputs(("logits", "label", "index", "skipped"))


@flax.struct.dataclass
class EvalMetrics(metrics.Collection):
    """Metrics of the N rows of evaluated batches, including padding.

    Attributes:
      rows: 'logits', float32 [N, passes, K]; 'label', 'index', 'mask' and 'skipped', int32 [N], see data/pipeline.py.
    """

    rows: metrics.CollectingMetric.from_outputs(("logits", "label", "index", "mask", "skipped"))


def merge[Metrics: metrics.Collection](total: Metrics, step: Metrics) -> Metrics:
    """Returns the metrics of a step merged into those of the steps before it, both on the host.

    clu visits every array of every step so far in each merge; concatenating them now and then keeps that fast.
    """
    return jax.tree.map(_concatenated, total.merge(step), is_leaf=_is_collecting)


def _is_collecting(node: Any) -> bool:
    return isinstance(node, metrics.CollectingMetric)


def _concatenated(node: Any) -> Any:
    if not _is_collecting(node) or max(map(len, node.values.values()), default=0) < MAX_ARRAYS:
        return node
    return type(node)({name: (array,) for name, array in node.compute().items()})
