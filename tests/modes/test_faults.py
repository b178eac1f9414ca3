"""Faults in a run, with real processes: kills at any moment, damaged checkpoints, storage that is full or gone."""

import contextlib
import json
import os
import random
import re
import resource
import shutil
import time

import cv2
import jax
import numpy as np
import pytest

from configs import default
from stochconv_jax.data.synthetic import SyntheticSource
from stochconv_jax.experiment import runs
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.runtime import mesh
from stochconv_jax.runtime.watchdog import STOPPED
from stochconv_jax.training import state
from tests.conftest import PATIENCE
from tests.modes.conftest import LONG
from tests.modes.runs import assert_same_run, last_step, numbers, steps, variables, wait_for_step
from tests.training.checkpoint_files import data_file, flip

KILLS = 10


def stop(process):
    """SIGTERM, after which it must save and end well."""
    process.terminate()
    output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == STOPPED, output


def seen(process, condition):
    """Waits until `condition()` holds; whether it did before the process ended."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None:
        if condition():
            return True
        assert time.monotonic() < deadline, "the run goes on, but what is waited for does not come"
        time.sleep(0.002)
    return False


def unfinished(workdir, since):
    """Returns whether a save that began after `since` (seconds since 1970) is under way or was cut short."""
    for path in workdir.glob("checkpoints/*tmp*"):
        with contextlib.suppress(FileNotFoundError):  # it has got its name
            if path.stat().st_ctime > since:
                return True
    return False


@pytest.mark.slow
def test_killed_at_any_moment_and_gone_on_each_time_it_is_the_same_run(main, finished, tmp_path):
    """Kills in saves and soon after a new checkpoint, and after four of these also at any moment; ten in all.

    A run that ended before the tenth is followed by another.
    """
    seed = random.randrange(2**32)
    print(f"moments drawn with seed {seed}")
    moments, kills, in_saves, later, folders = random.Random(seed), 0, 0, 0, [tmp_path / "0"]
    while kills < KILLS:
        folder = folders[-1]
        since, before = time.time(), last_step(folder)
        process = main.start(folder, checkpoint__every_steps=1 + kills % 2, log_every_seconds=0.01)
        kind = kills % 3 if kills >= 4 else kills % 2
        if kind == 0:
            seen(process, lambda folder=folder, since=since: unfinished(folder, since))
        elif kind == 1:
            later += seen(process, lambda folder=folder, before=before: last_step(folder) > before)
            time.sleep(moments.uniform(0.0, 0.4))
        else:
            next((line for line in process.stdout if "/20: " in line), None)
            time.sleep(moments.uniform(0.0, 1.2))
        ended = process.poll() is not None
        process.kill()
        output = process.communicate()[0]
        assert not ended or process.returncode == 0, output
        assert last_step(folder) >= before, "a complete checkpoint was lost"
        kills += not ended
        in_saves += unfinished(folder, since)
        if ended and kills < KILLS:
            folders.append(tmp_path / str(len(folders)))
    assert in_saves and later, "no kill came in a save, or none after a checkpoint"
    main(folders[-1], checkpoint__every_steps=2)
    for folder in folders:
        assert_same_run(folder, finished)
        assert not list(folder.glob("checkpoints/*damaged*"))


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of the finished run, with checkpoints of steps 13 and 20."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.slow
def test_a_damaged_checkpoint_is_set_aside_and_the_run_goes_on_from_the_one_before(main, finished, copy):
    assert {"step_13", "step_20"} <= steps(copy)
    flip(data_file(copy / "checkpoints" / "step_20"))
    for which, mode in (("last", "evaluate"), ("20", "evaluate")):
        output = main(copy, mode=mode, code=int(which == "20"), eval__checkpoint=which)
        assert "step_20 is damaged: variables/" in output
        assert ("step_13 is used instead" if which == "last" else "choose another of [") in output
    assert json.loads((copy / "evaluation.json").read_text())["checkpoint_step"] == 13
    output = main(copy)
    assert f"{copy / 'checkpoints' / 'step_20'} is renamed to step_20.damaged" in output
    assert "step 13 of 20" in output and {"step_13", "step_20", "step_20.damaged"} <= steps(copy)
    assert_same_run(copy, finished)


@pytest.mark.slow
def test_where_all_checkpoints_are_damaged_they_are_named_and_nothing_is_touched(main, copy):
    for checkpoint in (copy / "checkpoints").iterdir():
        flip(data_file(checkpoint))
    before, table = steps(copy), (copy / "metrics.csv").read_bytes()
    output = main(copy, code=1)
    assert "no checkpoint asked for is sound" in output and all(f"{name}: variables/" in output for name in before)
    assert steps(copy) == before and (copy / "metrics.csv").read_bytes() == table


@pytest.mark.slow
def test_a_run_goes_on_with_other_devices_from_the_very_numbers_and_ends_alike(main, finished, tmp_path):
    process = main.start(tmp_path, devices=8, checkpoint__every_steps=1, sharding__parameters="sharded")
    wait_for_step(process, tmp_path, step=3)
    stop(process)
    whole = variables(tmp_path, jax.devices()[:1])
    jax.tree.map(np.testing.assert_array_equal, whole, variables(tmp_path))
    assert "finished at step 20" in main(tmp_path, devices=1)
    again = variables(tmp_path)  # what one device wrote, on eight
    jax.tree.map(np.testing.assert_array_equal, variables(tmp_path, jax.devices()[:1]), again)
    for row, expected in zip(numbers(tmp_path), numbers(finished), strict=True):
        assert row["step"] == expected["step"]
        # Sums in another order, over 20 steps; another learning rate or order of images moves these by tenths.
        for column in ("train_loss", "val_loss"):
            np.testing.assert_allclose(float(row[column]), float(expected[column]), rtol=2e-2, err_msg=column)


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_run_keeps_the_last_good_checkpoint_and_names_the_images(main, tmp_path):
    explode = {"optimizer__schedule": "exponential", "optimizer__decay_start_epoch": 1, "optimizer__decay_rate": 1e30}
    output = main(tmp_path, code=1, **explode)
    assert re.search(r"(loss is|variables) (nan|inf)", output) and "the images of step" in output
    assert steps(tmp_path) == {"step_7"}
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables(tmp_path)))
    content = json.loads((tmp_path / "bad_batch.json").read_text())
    assert f"which {tmp_path / 'bad_batch.json'} lists" in output and content["reason"] in output
    experiment = Experiment(runs.read_run(tmp_path, {})[1])
    batches = experiment.train_batches(content["step"])
    assert content["images"] == [experiment.train_source.names[index] for index in next(batches)["index"]]
    batches.close()


@pytest.fixture
def folder(tmp_path):
    """24 pictures and their CSV."""
    source = SyntheticSource(size=24, image_size=(80, 96), seed=5)
    (tmp_path / "pictures").mkdir()
    for index in range(len(source)):
        cv2.imwrite(str(tmp_path / "pictures" / f"mole_{index}.png"), source.read(index)[..., ::-1])
    lines = [f"mole_{index},{index % 2}\n" for index in range(len(source))]
    (tmp_path / "labels.csv").write_text("image,target\n" + "".join(lines))
    return tmp_path


def on(folder, **settings):
    """Settings of a long run on it."""
    data = {"source": "folder", "path": folder / "pictures", "labels": folder / "labels.csv"}
    return {f"data__{name}": value for name, value in data.items()} | LONG | settings


def waited_for(process):
    """The output of a process that must end by itself, with an error."""
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, output
    return output


@pytest.mark.slow
def test_images_that_vanish_during_a_run_end_it_by_name(main, folder):
    process = main.start(folder / "run", **on(folder, checkpoint__every_steps=1, data__num_workers=1))
    wait_for_step(process, folder / "run", step=2)
    shutil.rmtree(folder / "pictures")
    assert "No such file or directory" in (output := waited_for(process)) and "labels.csv" in output


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_read_that_never_returns_ends_the_run_with_the_names_of_its_batch(main, folder, num_workers):
    settings = on(folder, checkpoint__every_steps=1, data__num_workers=num_workers, data__timeout_seconds=20)
    process = main.start(folder / "run", **settings)
    wait_for_step(process, folder / "run", step=2)
    for picture in (folder / "pictures").iterdir():  # so that the next batch is among them
        os.mkfifo(folder / "pipe")
        (folder / "pipe").replace(picture)
    output = waited_for(process)
    assert "did not come within 20 seconds (config.data.timeout_seconds)" in output and "mole_" in output
    assert last_step(folder / "run") >= 2


@pytest.mark.slow
def test_a_full_disk_ends_the_run_and_leaves_what_was_saved(main, tmp_path):
    """A limit on the size of files stands in for it: it lets the small ones through, so that a checkpoint fails."""
    run = tmp_path / "run"
    process = main.start(run, checkpoint__every_steps=2, compilation_cache="", **LONG)
    wait_for_step(process, run, step=2)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (50_000, 50_000))
    output = waited_for(process)
    assert f"in {run / 'checkpoints'}: " in output and "cannot save the checkpoint of step" in output
    assert "File too large" in output or "EFBIG" in output
    assert last_step(run) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables(run)))


@pytest.mark.slow
def test_a_seed_changes_what_it_should_and_nothing_else():
    def described(seed):
        config = default.get_config()
        sizes = {"image_size": (80, 96), "thumbnail_size": (32, 48), "num_train": 52, "num_validation": 11}
        config.update({"seed": seed, "batch_size": 8, "data": sizes | {"source": "synthetic", "num_workers": 0}})
        config.model.variant = "tiny"
        devices = mesh.create(jax.devices()[:1])
        experiment = Experiment(config, mesh=devices)
        train, validation = experiment.train_source, experiment.val_source
        with contextlib.closing(experiment.train_batches(0)) as batches:
            batch = next(batches)
        fresh = state.create(experiment.initializer, mesh.replicated(devices))
        kernels = np.concatenate([x.ravel() for x in jax.tree.leaves(fresh.params) if x.ndim > 1])
        # Windows, dropout and stochastic depth of the steps are functions of this one, see test_steps.py.
        seeds = [experiment.train_step, experiment.eval_step]
        drawn = np.stack([source.read(index) for source in (train, validation) for index in range(3)])
        return (
            {"order": batch["index"], "image": batch["image"], "weights": kernels}
            | {f"step {k}": np.array(step.seed) for k, step in enumerate(seeds)},
            {"train": train.names, "validation": validation.names, "labels": train.labels, "drawn": drawn},
        )

    (changed, kept), (changed_too, kept_too) = described(3), described(4)
    for name in changed:
        assert (changed[name] != changed_too[name]).any(), name
    for name in kept:
        np.testing.assert_array_equal(kept[name], kept_too[name], err_msg=name)
