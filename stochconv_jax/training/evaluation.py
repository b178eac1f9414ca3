"""Exact evaluation: every image once, padding masked, whatever the batch size and the devices."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from stochconv_jax import metrics
from stochconv_jax.training import step_metrics
from stochconv_jax.training.step_metrics import EvalMetrics


def spread_of(probability: np.ndarray) -> np.ndarray:
    """Returns the standard deviation over the first axis, `[draws, N, classes]` -> `[N, classes]`; NaN for one draw."""
    return probability.std(axis=0) if len(probability) > 1 else np.full(probability.shape[1:], np.nan)


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Predictions of N images of a source, in its order.

    Attributes:
      index: int `[N]`, the images' indices in the source.
      label: int `[N]`, their classes.
      logits: float32 `[views * passes, N, K]`; the passes over a view follow each other.
      skipped: int `[S]`, the indices of images that could not be read.
      views: number of views.
    """

    index: np.ndarray
    label: np.ndarray
    logits: np.ndarray
    skipped: np.ndarray
    views: int = 1

    def log_p(self) -> np.ndarray:
        """Returns the logarithm of the mean probability over views and passes, float64 `[N, classes]`."""
        return metrics.mean_log_probabilities(metrics.log_probabilities(self.logits))

    def spread(self) -> np.ndarray:
        """Returns the standard deviation of the probability over views and passes, `[N, classes]`; NaN for one."""
        return spread_of(np.exp(metrics.log_probabilities(self.logits)))

    def quality(self, groups: Sequence[str] | None = None) -> dict[str, Any]:
        """Returns the figures of `metrics.summary`, the ROC AUC after 1, 2, ... passes and the mean spread.

        The views are averaged in each. `groups`: the group of each image of the source, where known.
        """
        log_p = metrics.log_probabilities(self.logits)
        known = None if groups is None else [groups[int(index)] for index in self.index]
        by_view = log_p.reshape(self.views, -1, *log_p.shape[1:])
        by_passes = [
            metrics.roc_auc(self.label, metrics.mean_log_probabilities(np.concatenate(by_view[:, :passes])))
            for passes in range(1, by_view.shape[1] + 1)
        ]
        figures = metrics.summary(self.label, self.log_p(), known)
        spread = float(self.spread()[:, -1].mean())
        return {**figures, "roc_auc_by_passes": by_passes, "mean_std_over_passes": spread}


def predict(
    eval_step: Callable[[Any, Mapping[str, jax.Array]], EvalMetrics],
    variables: Any,
    batches: Iterable[Mapping[str, jax.Array]],
    on_batch: Callable[[int], None] = lambda done: None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Predictions | None:
    """Predicts every image of `batches`.

    The metrics of `eval_step` are global and on every device, so every host gets every prediction. They are fetched one
    batch late, so that the devices never wait for the host.

    Args:
      eval_step: see `steps.eval_step`.
      variables: {'params', 'batch_stats'}.
      batches: global batches, see data/pipeline.py.
      on_batch: called after each batch with the number of images done.
      stop_requested: called before each batch; where it returns True, None is returned.

    Raises:
      ValueError: there is no batch.
    """
    collected, pending, done = jax.device_get(EvalMetrics.empty()), None, 0
    for batch in batches:
        if stop_requested():
            return None
        started = eval_step(variables, batch)
        if pending is not None:
            fetched = jax.device_get(pending)
            collected = step_metrics.merge(collected, fetched)
            done += int(fetched.compute()["rows"]["mask"].sum())
            on_batch(done)
        pending = started
    if pending is None:
        raise ValueError("there is no image to evaluate")
    rows = step_metrics.merge(collected, jax.device_get(pending)).compute()["rows"]
    seen = np.flatnonzero(rows["mask"])
    order = seen[np.argsort(rows["index"][seen], kind="stable")]
    return Predictions(
        index=rows["index"][order],
        label=rows["label"][order],
        logits=np.moveaxis(rows["logits"][order], 1, 0),
        skipped=np.unique(rows["skipped"][rows["skipped"] >= 0]),
    )
