"""Exact evaluation: every image once, padding masked, whatever the batch and the devices."""
import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from stochconv_jax import statistics


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
        return statistics.mean_log_probabilities(statistics.log_probabilities(self.logits))

    def spread(self) -> np.ndarray:
        """Standard deviation of the probability over passes, `[N, classes]`; zero for one pass."""
        return np.exp(statistics.log_probabilities(self.logits)).std(axis=0)


def predict(
    eval_step: Callable[[Any, Mapping[str, jax.Array]], dict[str, jax.Array]],
    variables: Any,
    batches: Iterable[Mapping[str, jax.Array]],
    on_batch: Callable[[int], None] = lambda done: None,
    stop_requested: Callable[[], bool] = lambda: False,
) -> Predictions | None:
    """Runs `eval_step` over `batches`; its outputs are global and replicated, so every host gets every prediction.

    `on_batch` is told the number of images done after each batch. `stop_requested` is asked before each, and where it
    is true there are no predictions: None. Results are fetched one batch late, so that the devices never wait for the
    host.
    """
    fetched, pending, done = [], None, 0
    for batch in batches:
        if stop_requested():
            return None
        outputs = eval_step(variables, batch)
        if pending is not None:
            fetched.append(jax.device_get(pending))
            done += int(fetched[-1]["mask"].sum())
            on_batch(done)
        pending = outputs
    if pending is None:
        raise ValueError("there is no image to evaluate")
    fetched.append(jax.device_get(pending))
    table = {name: np.concatenate([f[name] for f in fetched]) for name in ("index", "label", "mask", "skipped")}
    logits = np.concatenate([f["logits"] for f in fetched], axis=1)
    seen = np.flatnonzero(table["mask"])
    order = seen[np.argsort(table["index"][seen], kind="stable")]
    return Predictions(
        index=table["index"][order],
        label=table["label"][order],
        logits=logits[:, order],
        skipped=np.unique(table["skipped"][table["skipped"] >= 0]),
    )
