"""The metrics that a step returns from the devices, as clu.metrics collections; the host merges them over steps."""
import flax.struct
from clu import metrics


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
