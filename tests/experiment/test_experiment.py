"""An Experiment makes each object once, and only what is asked for."""

import cv2
import jax
import numpy as np
import optax
import pytest

from configs import quickstart
from stochconv_jax.data.sources import FolderSource
from stochconv_jax.experiment import batch_checks, data_sources, skipped_images
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.models import variants
from stochconv_jax.runtime import mesh
from stochconv_jax.training import optimizers


@pytest.fixture
def made(monkeypatch):
    """The names of the functions that have made objects, in order."""
    calls = []

    def count(owner, name):
        real = getattr(owner, name)

        def counted(*arguments, **keys):
            calls.append(name)
            return real(*arguments, **keys)

        monkeypatch.setattr(owner, name, counted)

    count(data_sources, "training_and_validation")
    count(optimizers, "create_schedule")
    count(optimizers, "create_optimizer")
    count(variants, "get")  # by the model; Flax makes copies of the model itself
    count(mesh, "create")
    return calls


def config_of(**keys):
    config = quickstart.get_config()
    config.model.variant = "two_blocks"
    config.update({"batch_size": 8, "data": {"num_train": 40, "num_validation": 10, "image_size": (80, 80)}})
    config.data.thumbnail_size = (32, 32)
    config.update_from_flattened_dict(keys)
    return config


def test_all_that_training_needs_is_made_once(made):
    experiment = Experiment(config_of())
    for _ in range(2):
        batch_checks.check_batch_size(experiment)
        assert experiment.train_source is not experiment.val_source
        assert experiment.state_shapes.step.shape == () and experiment.epochs.total_steps == 50
        assert experiment.train_step is experiment.train_step and experiment.eval_step is experiment.eval_step
        assert float(experiment.schedule(0)) > 0
    assert sorted(made) == sorted({*made}), made
    assert len(made) == 5


def test_evaluation_makes_no_optimiser_and_a_plan_reads_no_image(made):
    experiment = Experiment(config_of())
    assert experiment.variable_shapes.keys() == {"params", "batch_stats"} and experiment.eval_step
    assert sorted(made) == ["create", "get"]
    made.clear()
    planned = Experiment(config_of(), steps_per_epoch=1.0)
    assert planned.state_shapes.params.keys() == experiment.variable_shapes["params"].keys() and planned.train_step
    assert "training_and_validation" not in made


def test_the_variables_are_those_of_the_state():
    experiment = Experiment(
        config_of(**{"model.variant": "tiny", "sharding.parameters": "sharded", "optimizer.ema_decay": 0.9})
    )
    assert experiment.state_shapes.to_evaluate() == experiment.variable_shapes
    assert any(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(experiment.variable_shapes))


def test_what_is_given_is_used_and_nothing_unknown_is_taken():
    optimizer, devices = optax.sgd(0.5), mesh.create(jax.devices()[:2])
    experiment = Experiment(config_of(), optimizer=optimizer, mesh=devices)
    assert experiment.optimizer is optimizer and experiment.eval_batch_size == 40
    (sharding,) = {leaf.sharding.mesh for leaf in jax.tree.leaves(experiment.state_shapes)}
    assert sharding == devices
    with pytest.raises(TypeError, match="has no object 'optimiser'"):
        Experiment(config_of(), optimiser=optimizer)


def test_why_an_image_is_skipped_names_the_key(tmp_path):
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((30, 90, 3), np.uint8))
    source = FolderSource([tmp_path / "small.png"], ["small.png"], [0])
    (reason,) = skipped_images.explain(Experiment(config_of()), source, [0]).values()
    assert "smaller than config.data.image_size, 80x80" in reason


def test_a_batch_larger_than_an_epoch_is_refused():
    with pytest.raises(ValueError, match=r"config\.batch_size=48 is more than the 40 images .*batch_size=40 or less"):
        _ = Experiment(config_of(batch_size=48)).epochs
