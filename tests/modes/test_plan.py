"""--mode=plan: what it says of a config and of devices; and that it refuses a step in which images cross devices."""

import contextlib
import functools
import importlib.util
import json
import re

import jax
import pytest

from configs import quickstart
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.modes import plan
from stochconv_jax.planning import hlo
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import steps
from tests.conftest import ROOT
from tests.planning.small_configs import tiny_full_split

QUICKSTART = f"--config={ROOT / 'configs' / 'quickstart.py'}"


def with_every_image_on_every_device(monkeypatch):
    """Images are asked for whole."""
    own, everywhere = steps.train_step, meshes.replicated(meshes.create())

    @functools.wraps(own)
    def gathered(state, batch, **settings):
        image = jax.lax.with_sharding_constraint(batch["image"], everywhere)
        return own(state, batch | {"image": image}, **settings)

    monkeypatch.setattr(steps, "train_step", gathered)


@pytest.mark.slow
def test_a_step_that_gathers_images_is_refused_by_its_collective_and_bytes(monkeypatch, tmp_path):
    config = tiny_full_split()
    config.plan.topology = "devices"
    with_every_image_on_every_device(monkeypatch)
    # All 16 images of 96x80 in three colours, flat or not.
    named = r"all-gather of u8\[16, 96, .*\], 368,640 bytes.*\(.*(batch.*image|train_step).*\)"
    with pytest.raises(hlo.ImagesCrossDevices, match=named):
        plan.run(config, {}, tmp_path)
    train = RunFolder(tmp_path).read_json("plan.json")["steps"]["train"]
    assert hlo.IMAGES in {row["purpose"] for row in train["moved"]}


def test_a_plan_needs_no_image_also_with_balanced_weights():
    config = quickstart.get_config()
    config.update({"data": {"source": "folder", "path": "/nowhere"}, "loss": {"class_weights": "balanced"}})
    experiment = Experiment(config, **plan._without_images(config))
    assert experiment.class_weights == (1.0, 1.0) and experiment.train_step


def test_plan_says_what_would_be_trained_without_training(main, tmp_path):
    output = main(tmp_path, mode="plan", model__merge_after=3)
    assert re.search(r"total +\| +\| 4,140,329 +\| 525,07\d,\d{3} ", output)
    assert json.loads((tmp_path / "plan.json").read_text())["parameters"] == 4_140_329
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.slow
def test_plan_compiles_the_steps_for_the_devices_here(main, tmp_path):
    settings = {"batch_size": 12, "data__image_size": "(80,96)", "data__thumbnail_size": "(32,48)"}
    output = main(tmp_path, QUICKSTART, mode="plan", devices=8, plan__topology="devices", **settings)
    assert "the configured batch of 12 cannot be split evenly over 8 chips" in output
    assert "No image crosses chips" in output
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["chips"] == 8 and content["parameters"] == 42_189 and content["parts"]
    assert content["steps"]["train"]["batch_size"] == 16 and content["steps"]["evaluate"]["batch_size"] == 40
    train, evaluate = (content["steps"][step]["memory"] for step in ("train", "evaluate"))
    row = train["beside"] / 2  # a chip's, of the batch that waits
    idle = train["arguments"] - evaluate["arguments"] + 3 * row  # the optimiser's and the averages, in an evaluation
    assert abs(evaluate["beside"] - (idle + 5 * row)) < row  # and the next batch
    moved = content["steps"]["train"]["moved"]
    assert {row["purpose"] for row in moved} == {"gradients", "batch norm", "outputs"}
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: see requirements-tpu.txt"
)
def test_plan_for_a_tpu_that_is_not_here(main, tmp_path):
    settings = {"data__image_size": "(80,96)", "data__thumbnail_size": "(32,48)", "plan__largest_batch": False}
    output = main(tmp_path, QUICKSTART, mode="plan", plan__topology="v5e:2x2", **settings)
    assert "4 x TPU v5 lite, 15.75 GiB each" in output and "The train step fits" in output
    content = json.loads((tmp_path / "plan.json").read_text())
    step, memory = content["steps"]["train"], content["chip"]["memory"]
    assert 0 < step["memory"]["total"] < step["needed"] < 0.1 * memory
    assert set(step["seconds_by_limit"]) == {"arithmetic", "memory traffic", "links between chips"}


def test_planned_batches_are_those_of_the_pipeline():
    config = quickstart.get_config()
    config.augment.mixup = 0.2
    config.update({"batch_size": 8, "data": {"num_train": 16, "num_validation": 8, "num_workers": 0}})
    experiment = Experiment(config)
    planned = experiment.batch_shapes(8)
    with contextlib.closing(experiment.train_batches(0)) as batches:
        assert {k: (v.shape, v.dtype) for k, v in next(batches).items()} == {
            k: (v.shape, v.dtype) for k, v in planned.items()
        }
    with contextlib.closing(experiment.eval_batches(experiment.val_source)) as batches:
        for name, rows in next(iter(batches)).items():
            assert rows.shape[1:] == planned[name].shape[1:] and rows.dtype == planned[name].dtype
