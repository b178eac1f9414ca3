"""A run whose batch norms get statistics of training images at the end of each epoch, as a real process."""

import json

import jax
import numpy as np
import pytest

from stochconv_jax.data import augment
from stochconv_jax.data.orders import epoch_order
from tests.modes.conftest import SIGKILL, SIGTERM, when
from tests.modes.runs import assert_same_run, numbers, restored, rows

IMAGES = {"model__batch_norm_images": 20}  # two batches of 8, and four images that make no batch


@pytest.fixture(scope="module")
def straight(main, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "straight"
    main(workdir, **IMAGES)
    return workdir


@pytest.mark.slow
@pytest.mark.parametrize("function", ["training.batch_statistics.refit", "training.loop._validation"])
def test_a_run_that_stops_where_they_are_computed_goes_on_to_the_same_end(main, straight, tmp_path, function):
    main(tmp_path, code=75, before=when(function, SIGTERM, call=2), **IMAGES)
    assert len(rows(tmp_path / "metrics.csv")) == 1 + (function == "training.loop._validation")
    main(tmp_path, **IMAGES)
    assert_same_run(straight, tmp_path)


@pytest.mark.slow
def test_a_schedule_free_run_goes_on_to_the_same_bits_and_its_average_is_evaluated(main, tmp_path):
    settings = IMAGES | {
        "optimizer__schedule_free": 0.9,
        "optimizer__schedule": "constant",
        "checkpoint__every_steps": 4,
    }
    settings |= {"optimizer__name": "adamw", "optimizer__ema_decay": "None"}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    main(whole, **settings)
    main(killed, code=-9, before=when("training.checkpoints.Checkpoints.save", SIGKILL, call=4), **settings)
    main(killed, **settings)
    assert_same_run(whole, killed)
    main(whole, mode="evaluate", eval__checkpoint="last")
    evaluated, last = json.loads((whole / "evaluation.json").read_text()), numbers(whole)[-1]
    assert evaluated["roc_auc"] == float(last["val_roc_auc"])
    assert evaluated["log_loss"] == pytest.approx(float(last["val_loss"]), rel=1e-6)


@pytest.mark.slow
def test_what_was_evaluated_is_in_the_checkpoint_and_the_training_is_the_same(main, finished, straight):
    main(straight, mode="evaluate", eval__checkpoint="last")
    evaluated = json.loads((straight / "evaluation.json").read_text())
    last, plain = numbers(straight)[-1], numbers(finished)[-1]
    assert evaluated["roc_auc"] == float(last["val_roc_auc"]) and last["val_loss"] != plain["val_loss"]
    assert last["train_loss"] == plain["train_loss"]
    there, here = restored(finished, "last").variables, restored(straight, "last").variables
    jax.tree.map(np.testing.assert_array_equal, there["params"], here["params"])


@pytest.mark.slow
def test_they_are_those_of_the_images_without_augmentation(straight):
    """Computed here again from the weights of the checkpoint, with images that evaluation reads."""
    predictor = restored(straight, "last")
    experiment, found = predictor.experiment, predictor.variables
    source = experiment.train_source
    chosen = epoch_order(len(source), 0, 0)[:16]
    pictures = np.stack([source.read(int(index)) for index in chosen])
    thumbnails = np.stack([augment.resize(picture, (32, 48)) for picture in pictures])
    kernel, variant = found["params"]["thumbnail_stem"]["conv"]["kernel"], experiment.model.variant
    pixels = np.float32((thumbnails / 255.0 - variant.mean) / variant.std)
    settings = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
    output = np.float64(jax.lax.conv_general_dilated(pixels, np.asarray(kernel), (2, 2), "SAME", **settings))
    norm = found["batch_stats"]["thumbnail_stem"]["norm"]
    np.testing.assert_allclose(norm["mean"], output.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(norm["var"], output.var((0, 1, 2)), rtol=1e-4)
