"""The metrics that a step returns from the devices, as clu.metrics collections; the host merges them over steps."""

from typing import Any

import flax.struct
import jax
from clu import metrics

JOINED = 100  # steps after which the arrays of a merged collection are joined


@flax.struct.dataclass
class TrainMetrics(metrics.Collection):
    """Metrics of S training steps and the N rows of their batches.

    `steps`: 'loss' and 'norm' (of the variables after the step), float32 `[S]`. `rows`: 'logits' float32 `[N, K]`;
    'label', 'index' and 'skipped' int32 `[N]`, see data/pipeline.py.
    """

    steps: metrics.CollectingMetric.from_outputs(("loss", "norm"))
    rows: metrics.CollectingMetric.from_outputs(("logits", "label", "index", "skipped"))


@flax.struct.dataclass
class EvalMetrics(metrics.Collection):
    """Metrics of the N rows of evaluated batches, padding included.

    `rows`: 'logits' float32 `[N, passes, K]`; 'label', 'index', 'mask' and 'skipped' int32 `[N]`, see data/pipeline.py.
    """

    rows: metrics.CollectingMetric.from_outputs(("logits", "label", "index", "mask", "skipped"))


def merge[Metrics: metrics.Collection](total: Metrics, step: Metrics) -> Metrics:
    """Merges the metrics of a step into those of the steps before it, both on the host.

    A merge by clu visits every array of every step so far. Joining them now and then keeps that short.
    """
    return jax.tree.map(_joined, total.merge(step), is_leaf=_collects)


def _collects(node: Any) -> bool:
    return isinstance(node, metrics.CollectingMetric)


def _joined(node: Any) -> Any:
    if not _collects(node) or max(map(len, node.values.values()), default=0) < JOINED:
        return node
    return type(node)({name: (array,) for name, array in node.compute().items()})
