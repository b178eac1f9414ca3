"""Epochs, the open epoch and progress, without a network."""
import json

import numpy as np
import pytest

from stochconv_jax.training import loop, rngs
from stochconv_jax.training.progress import Progress, duration


@pytest.mark.parametrize("images, batch", [(52, 8), (640, 32), (7, 3), (5, 16), (1, 1)])
def test_an_epoch_ends_with_the_step_that_shows_its_last_image(images, batch):
    epochs = loop.Epochs(images, batch, num_epochs=4)
    ends = {step: epoch for step in range(1, epochs.total_steps + 1) if (epoch := epochs.ended_at(step))}
    for step, epoch in ends.items():
        assert step * batch >= epoch * images > (step - 1) * batch or batch > images
        assert epochs.end(epoch) == step
    assert epochs.ended_at(0) is None
    assert ends[epochs.total_steps] >= 4
    if batch <= images:
        assert list(ends.values()) == [1, 2, 3, 4]


def outputs(loss=0.5, norm=7.0):
    return {
        "loss": np.float32(loss),
        "norm": np.float32(norm),
        "logits": np.float32([[0.1], [-1.7], [2.3]]),
        "label": np.int32([0, 0, 1]),
        "index": np.int32([4, 2, 9]),
        "skipped": np.int32([-1, 5, -1]),
    }


def test_an_open_epoch_survives_json_unchanged():
    epoch = loop.OpenEpoch()
    epoch.add(0, outputs())
    epoch.add(1, outputs(np.float32(0.1) / 3))
    restored = loop.OpenEpoch(**json.loads(json.dumps(epoch.as_json())))
    assert restored.metrics() == epoch.metrics()
    assert restored.skipped == [5, 5]
    assert epoch.metrics()["train_roc_auc"] == 1.0


@pytest.mark.parametrize("bad", [{"loss": np.nan}, {"norm": np.inf}])
def test_results_are_fetched_a_step_late_and_a_bad_loss_or_variable_names_its_own_step(bad):
    epoch = loop.OpenEpoch()
    epoch.add(6, outputs(**bad))
    with pytest.raises(loop.NonFiniteLoss, match="step 6") as caught:
        epoch.add(7, outputs())
    assert caught.value.images == [4, 2, 9]


def test_progress_says_rate_and_time_left():
    lines, now = [], iter([0.0, 1.0, 10.0, 12.0, 20.0])
    progress = Progress(400, every=10, clock=lambda: next(now), emit=lines.append)
    for done in (10, 100, 150, 400):
        progress.update(done, note="step: ")
    assert lines == [
        "step: 100/400 images (25 %), 10.0 images/s, 0:30 left",
        "step: 400/400 images (100 %), 30.0 images/s, 0:00 left",
    ]


def test_durations_read_like_a_clock():
    assert [duration(seconds) for seconds in (5, 65, 3600 + 61.4)] == ["0:05", "1:05", "1:01:01"]


def test_streams_and_steps_have_keys_of_their_own():
    import jax

    keys = [rngs.key(seed, stream, step) for seed in (0, 1) for stream in rngs.STREAMS for step in (0, 1)]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == len(keys)
    with pytest.raises(ValueError, match="unknown random stream 'window'; known: init, windows"):
        rngs.key(0, "window")
