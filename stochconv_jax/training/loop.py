"""The training loop: evaluate, save, next batch, step."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from stochconv_jax.metrics import log_loss, log_probabilities, roc_auc
from stochconv_jax.training import step_metrics
from stochconv_jax.training.evaluation import Predictions
from stochconv_jax.training.progress import Progress
from stochconv_jax.training.state import TrainState
from stochconv_jax.training.step_metrics import TrainMetrics


class NonFiniteLoss(RuntimeError):
    """The loss or a variable is no longer finite. `images` are the indices of the images in the batch of `step`."""

    def __init__(self, step: int, loss: float, norm: float, images: list[int]):
        super().__init__(
            f"loss is {loss} and the norm of all variables {norm} at step {step}; the last checkpoint before it is "
            "intact. Lower `learning_rate` or set `clip_norm`, and look at the images of "
            "that batch: bad_batch.json in the run's folder lists them"
        )
        self.step, self.images = step, images


@dataclasses.dataclass(frozen=True)
class Epochs:
    """The steps at which epochs end. The stream of images does not pause: a batch may reach into the next epoch."""

    num_images: int
    batch_size: int
    num_epochs: int

    @property
    def steps_per_epoch(self) -> float:
        return self.num_images / self.batch_size

    def end(self, epoch: int) -> int:
        """Returns the number of steps after which every image was seen `epoch` times."""
        return -(-epoch * self.num_images // self.batch_size)

    @property
    def total_steps(self) -> int:
        return self.end(self.num_epochs)

    def ended_before(self, step: int) -> int:
        """Returns how many epochs end after fewer than `step` steps."""
        return min(max(0, step - 1) * self.batch_size // self.num_images, self.num_epochs)

    def ended_at(self, step: int) -> int | None:
        """Returns the number, from 1, of the epoch that ends after `step` steps, or None."""
        epoch = step * self.batch_size // self.num_images
        return epoch if epoch and step and epoch > (step - 1) * self.batch_size // self.num_images else None


class EpochAccumulator:
    """The metrics of the current epoch, fetched one step late so that the devices never wait for the host.

    Attributes:
      steps: number of steps in the epoch so far.
      seconds: duration of the epoch up to the last checkpoint.
    """

    def __init__(self, metrics: TrainMetrics | None = None, steps: int = 0, seconds: float = 0.0):
        self._metrics = jax.device_get(metrics or TrainMetrics.empty())
        self._pending: tuple[int, TrainMetrics] | None = None
        self.steps, self.seconds = steps, seconds

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> "EpochAccumulator":
        """Restores an epoch from what `as_json` returned; {} is an epoch without steps."""
        if not saved.get("loss"):
            return cls()
        steps, rows = len(saved["loss"]), len(saved["label"])
        # Version 0.1 did not save these two; later steps do not need them.
        saved = {"norm": [math.nan] * steps, "index": [-1] * rows, **saved}
        names = {np.float32: ("loss", "norm", "logits"), np.int32: ("label", "index", "skipped")}
        arrays = {name: np.asarray(saved[name], dtype) for dtype, group in names.items() for name in group}
        return cls(TrainMetrics.single_from_model_output(**arrays), steps, saved["seconds"])

    def as_json(self) -> dict[str, Any]:
        """Returns what is needed to continue the epoch exactly from a checkpoint; float32 survives JSON unchanged."""
        values = self._values()
        return {name: array.tolist() for name, array in (values["steps"] | values["rows"]).items()} | {
            "seconds": self.seconds
        }

    def add(self, step: int, metrics: TrainMetrics) -> None:
        """Takes the metrics of `step`, which may still be running, and fetches those of the step before."""
        self._fetch()
        self._pending = (step, metrics)
        self.steps += 1

    def summary(self) -> dict[str, float]:
        """Returns the mean loss and the ROC AUC of the predictions made in training."""
        values = self._values()
        return {
            "train_loss": float(np.mean(values["steps"]["loss"], dtype=np.float64)),
            "train_roc_auc": roc_auc(values["rows"]["label"], log_probabilities(values["rows"]["logits"])),
        }

    def skipped(self) -> list[int]:
        """Returns the indices of the images that could not be read."""
        return [index for index in self._values()["rows"]["skipped"].tolist() if index >= 0]

    def _values(self) -> dict[str, dict[str, np.ndarray]]:
        self._fetch()
        return self._metrics.compute()

    def _fetch(self) -> None:
        """Waits for the pending step and merges its metrics. Raises NonFiniteLoss."""
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        metrics = jax.device_get(metrics)
        values = metrics.compute()
        loss, norm = (float(values["steps"][name][0]) for name in ("loss", "norm"))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise NonFiniteLoss(step, loss, norm, values["rows"]["index"].tolist())
        self._metrics = step_metrics.merge(self._metrics, metrics)


def train(
    state: TrainState,
    *,
    epochs: Epochs,
    train_step: Callable[[TrainState, Any], tuple[TrainState, TrainMetrics]],
    evaluate: Callable[[Mapping[str, Any]], Predictions | None],
    batches: Iterator[Any],
    save: Callable[..., None],
    accumulator: EpochAccumulator,
    log_epoch: Callable[[dict[str, float]], None],
    learning_rate: Callable[[int], Any],
    save_every: int,
    stop_requested: Callable[[], bool],
    stop_early: Callable[[], bool],
    log_skipped: Callable[[list[int]], object],
    progress: Progress,
    end_epoch: Callable[[TrainState], TrainState] = lambda state: state,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[TrainState, bool]:
    """Trains from `state` to the end of the last epoch, to an early stop, or until a stop is requested.

    At the end of each epoch the model is evaluated and a checkpoint is saved.

    Args:
      state: the state from which to go on.
      epochs: when epochs end.
      train_step: returns the next state and the metrics of the step; may reuse the memory of the state it is given.
      evaluate: returns predictions from the variables, or None if it was interrupted by a stop request. The epoch then
        remains open, and a later run evaluates it before its first step.
      batches: yields batches, beginning with that of step `state.step`.
      save: saves a checkpoint, see Checkpoints.save.
      accumulator: metrics of the current epoch, from the checkpoint of `state`.
      log_epoch: takes the row of an epoch, with the columns of metrics.csv.
      learning_rate: returns the learning rate of a step.
      save_every: steps between checkpoints within an epoch; 0 for none.
      stop_requested: returns whether to save a checkpoint and return.
      stop_early: returns whether training ends with the epochs logged so far, a function of their rows alone.
      log_skipped: takes the indices of the images of an epoch that could not be read.
      progress: logs the progress.
      end_epoch: returns the state to evaluate and to go on with, from that after the last step of an epoch.
      clock: returns seconds.

    Returns:
      The last state, and whether the last epoch is complete, or that of an early stop.

    Raises:
      NonFiniteLoss: the loss or a variable is not finite.
    """
    step = first_step = int(state.step)
    epoch_began = clock() - accumulator.seconds  # as if there had been no restart
    while True:
        stopping, predictions = stop_requested(), None
        # An epoch that has ended but is still open has not been evaluated, by this run or by an earlier one.
        if not stopping and accumulator.steps and (epoch := epochs.ended_at(step)):
            row = {"epoch": epoch, "step": step} | accumulator.summary()
            rate = accumulator.steps * epochs.batch_size / (clock() - epoch_began)
            predictions = evaluate(state.to_evaluate())
            stopping = predictions is None
        if predictions is not None:
            row |= _validation(predictions)
            row |= {"learning_rate": float(learning_rate(step - 1)), "images_per_second": rate}
            row["seconds"] = clock() - epoch_began
            log_epoch(row)
            log_skipped(accumulator.skipped())
            accumulator, epoch_began = EpochAccumulator(), clock()
            save(step, state.to_items(), accumulator.as_json(), row)
        elif step > first_step and (stopping or (save_every and step % save_every == 0)):
            accumulator.seconds = clock() - epoch_began
            save(step, state.to_items(), accumulator.as_json())
        ended = not accumulator.steps and (step >= epochs.total_steps or stop_early())
        if stopping or ended or step >= epochs.total_steps:
            return state, ended
        state, metrics = train_step(state, next(batches))
        accumulator.add(step, metrics)
        step += 1
        if epochs.ended_at(step):
            state = end_epoch(state)
        progress.update(step * epochs.batch_size, note=f"step {step}/{epochs.total_steps}: ")


def _validation(predictions: Predictions) -> dict[str, float]:
    log_p = predictions.log_p()
    return {
        "val_loss": log_loss(predictions.label, log_p),
        "val_roc_auc": roc_auc(predictions.label, log_p),
    }
