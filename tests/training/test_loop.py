"""Epochs, the epoch accumulator and the loop, without a network."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from stochconv_jax.runtime import mesh
from stochconv_jax.training import evaluation, loop
from stochconv_jax.training.progress import Progress
from stochconv_jax.training.step_metrics import EvalMetrics, TrainMetrics

pytestmark = pytest.mark.smoke


@pytest.mark.parametrize("images, batch", [(52, 8), (640, 32), (7, 3), (5, 16), (1, 1)])
def test_an_epoch_ends_with_the_step_that_shows_its_last_image(images, batch):
    epochs = loop.Epochs(images, batch, num_epochs=4)
    ends = {step: epoch for step in range(1, epochs.total_steps + 1) if (epoch := epochs.ended_at(step))}
    for step, epoch in ends.items():
        assert step * batch >= epoch * images > (step - 1) * batch or batch > images
        assert epochs.end(epoch) == step
    assert epochs.ended_at(0) is None
    for step in range(epochs.total_steps + 9):
        assert epochs.ended_before(step) == sum(epochs.end(epoch) < step for epoch in range(1, 5))
    assert ends[epochs.total_steps] >= 4
    if batch <= images:
        assert list(ends.values()) == [1, 2, 3, 4]


ROWS = {"label": np.int32([0, 0, 1]), "index": np.int32([4, 2, 9]), "skipped": np.int32([-1, 5, -1])}
LOGITS = np.float32([[0.1], [-1.7], [2.3]])


def metrics(loss=0.5, norm=7.0):
    """Returns the metrics of a step of three rows."""
    return TrainMetrics.single_from_model_output(loss=np.float32(loss), norm=np.float32(norm), logits=LOGITS, **ROWS)


def test_an_open_epoch_survives_json_unchanged():
    epoch = loop.EpochAccumulator()
    assert loop.EpochAccumulator.from_json(json.loads(json.dumps(epoch.as_json()))).steps == 0
    epoch.add(0, metrics())
    epoch.add(1, metrics(np.float32(0.1) / 3))
    restored = loop.EpochAccumulator.from_json(json.loads(json.dumps(epoch.as_json())))
    for step in (2, 3):
        for one in (epoch, restored):
            one.add(step, metrics(np.float32(0.7) / step))
    assert restored.summary() == epoch.summary() and restored.as_json() == epoch.as_json()
    assert restored.steps == epoch.steps == 4 and restored.skipped() == epoch.skipped() == [5] * 4
    losses = np.float32([0.5, np.float32(0.1) / 3, np.float32(0.7) / 2, np.float32(0.7) / 3])
    assert epoch.summary() == {"train_loss": losses.astype(np.float64).mean(), "train_roc_auc": 1.0}


def test_an_open_epoch_of_version_0_1_goes_on():
    saved = {"loss": [0.25, 0.5], "logits": [[-0.5]] * 3, "label": [1, 0, 0], "skipped": [8], "seconds": 2.0}
    epoch = loop.EpochAccumulator.from_json(saved)
    epoch.add(2, metrics(0.75))
    assert epoch.summary()["train_loss"] == 0.5 and epoch.skipped() == [8, 5] and epoch.seconds == 2.0


@pytest.mark.parametrize("bad", [{"loss": np.nan}, {"norm": np.inf}])
def test_results_are_fetched_a_step_late_and_a_bad_loss_or_variable_names_its_own_step(bad):
    epoch = loop.EpochAccumulator()
    epoch.add(6, metrics(**bad))
    with pytest.raises(loop.NonFiniteLoss, match="step 6") as caught:
        epoch.add(7, metrics())
    assert caught.value.images == [4, 2, 9]


@dataclasses.dataclass(frozen=True)
class Steps:
    """A state that counts steps."""

    step: int

    def to_evaluate(self):
        return None

    def to_items(self):
        return {}


class Running:
    """An array of a running step, which keeps the step's batch on the devices until it is read."""

    def __init__(self, batch, value):
        self.batch, self.value = batch, value

    def __array__(self, *_, **__):
        self.batch = None
        return np.asarray(self.value)


def test_one_batch_waits_while_another_is_in_use_and_no_other_in_an_evaluation():
    devices, image, most = mesh.create(), (8, 3, 5, 7), {"training": 0, "evaluation": 0}

    def on_devices(count, when):
        def counted(batch):
            alive = sum(x.shape == image and x.dtype == np.uint8 for x in jax.live_arrays())
            most[when] = max(most[when], alive)
            return batch

        rows = ({"image": np.zeros(image, np.uint8)} for _ in range(count))
        return map(counted, mesh.to_devices(rows, devices))

    def step(number, batch):
        return Steps(number.step + 1), jax.tree.map(lambda value: Running(batch, value), metrics())

    def eval_step(_, batch):
        rows = ROWS | {"mask": np.ones(3, bool), "logits": LOGITS[:, None]}
        return jax.tree.map(lambda value: Running(batch, value), EvalMetrics.single_from_model_output(**rows))

    loop.train(
        Steps(0),
        epochs=loop.Epochs(num_images=12, batch_size=3, num_epochs=2),
        train_step=step,
        evaluate=lambda variables: evaluation.predict(eval_step, variables, on_devices(5, "evaluation")),
        batches=on_devices(9, "training"),
        save=lambda *_: None,
        accumulator=loop.EpochAccumulator(),
        log_epoch=lambda row: None,
        learning_rate=lambda step: 0.1,
        save_every=0,
        stop_requested=lambda: False,
        stop_early=lambda: False,
        log_skipped=lambda skipped: None,
        progress=Progress(24, every=100),
    )
    assert most == {"training": 2, "evaluation": 2}


@pytest.mark.parametrize("first, last", [(0, 8), (4, 8), (6, 8), (8, 8)])
def test_an_early_stop_ends_a_run_after_its_epoch_wherever_it_began(first, last):
    """Epochs of four steps, and patience that is over with the second: also from a checkpoint of that moment."""
    logged = list(range(first // 4))

    def step(number, batch):
        return Steps(number.step + 1), metrics()

    def evaluate(_):
        return evaluation.Predictions(*(np.int32([0, 1]),) * 2, np.float32([[[-1], [1]]]), np.int32([]))

    accumulator = loop.EpochAccumulator(metrics(), steps=first % 4) if first % 4 else loop.EpochAccumulator()
    state, finished = loop.train(
        Steps(first),
        epochs=loop.Epochs(num_images=12, batch_size=3, num_epochs=5),
        train_step=step,
        evaluate=evaluate,
        batches=iter([None] * 20),
        save=lambda *_: None,
        accumulator=accumulator,
        log_epoch=logged.append,
        learning_rate=lambda step: 0.1,
        save_every=0,
        stop_requested=lambda: False,
        stop_early=lambda: len(logged) >= 2,
        log_skipped=lambda skipped: None,
        progress=Progress(60, every=100),
    )
    assert (state.step, finished, len(logged)) == (last, True, 2)
