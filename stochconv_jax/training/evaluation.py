"""Exact evaluation: every image once, padding masked, whatever the batch and the devices."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from stochconv_jax.metrics import log_probabilities, mean_log_probabilities
from stochconv_jax.training.step_metrics import EvalMetrics, merge


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Of N images, in the order of the source.

    `index`, `label`: int `[N]`; `logits`: `[passes, N, K]`; `skipped`: indices of unreadable images left out.
    """

    index: np.ndarray
    label: np.ndarray
    logits: np.ndarray
    skipped: np.ndarray

    def log_p(self) -> np.ndarray:
        """Log of the mean probability over passes, `[N, classes]`."""
        return mean_log_probabilities(log_probabilities(self.logits))

    def spread(self) -> np.ndarray:
        """Standard deviation of the probability over passes, `[N, classes]`; zero for one pass."""
        return np.exp(log_probabilities(self.logits)).std(axis=0)


def predict(
    eval_step: Callable[[Any, Mapping[str, jax.Array]], EvalMetrics],
    variables: Any,
    batches: Iterable[Mapping[str, jax.Array]],
    on_batch: Callable[[int], None] = lambda done: None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Predictions | None:
    """Runs `eval_step` over `batches`; its metrics are global and replicated, so every host gets every prediction.

    `on_batch` is told the number of images done after each batch. `stop_requested` is asked before each, and where it
    is true there are no predictions: None. Results are fetched one batch late, so that the devices never wait for the
    host.
    """
    metrics, pending, done = jax.device_get(EvalMetrics.empty()), None, 0
    for batch in batches:
        if stop_requested():
            return None
        started = eval_step(variables, batch)
        if pending is not None:
            fetched = jax.device_get(pending)
            metrics = merge(metrics, fetched)
            done += int(fetched.compute()["rows"]["mask"].sum())
            on_batch(done)
        pending = started
    if pending is None:
        raise ValueError("there is no image to evaluate")
    rows = merge(metrics, jax.device_get(pending)).compute()["rows"]
    seen = np.flatnonzero(rows["mask"])
    order = seen[np.argsort(rows["index"][seen], kind="stable")]
    return Predictions(
        index=rows["index"][order],
        label=rows["label"][order],
        logits=np.moveaxis(rows["logits"][order], 1, 0),
        skipped=np.unique(rows["skipped"][rows["skipped"] >= 0]),
    )
