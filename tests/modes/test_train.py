"""Folders and settings with which training or a sweep does not begin. The modes themselves run in test_main.py."""

import pytest

from configs import quickstart
from stochconv_jax.config import name_keys
from stochconv_jax.modes import sweep, train
from tests.modes.conftest import TINY, when


def refused(workdir, **keys):
    """Returns the message with which --mode=train refuses these settings, on the eight devices of this process."""
    config = quickstart.get_config()
    settings = TINY | {"compilation_cache": ""} | {key.replace("__", "."): value for key, value in keys.items()}
    config.update_from_flattened_dict(settings)
    with pytest.raises((ValueError, OSError)) as caught:
        train.run(config, {}, workdir)
    return name_keys(str(caught.value), ["train", "data"])


def test_a_folder_from_which_nothing_could_be_restored_is_refused_before_anything_is_written(tmp_path):
    for run in (train.run, lambda *arguments: sweep.run(*arguments, config_file="")):
        with pytest.raises(ValueError, match=r"lr\[0\.01\].* could not be restored: choose another --workdir"):
            run(quickstart.get_config(), {}, tmp_path / "lr[0.01]")
    assert not list(tmp_path.iterdir())


def test_batches_that_cannot_be_made_and_a_path_that_is_not_set_are_refused(tmp_path):
    told = refused(tmp_path / "run", batch_size=12)
    assert "config.batch_size=12 cannot be split evenly over 8 devices" in told and "--config.batch_size=16" in told
    told = refused(tmp_path / "run", batch_size=56)
    assert "config.batch_size=56 is more than the 52 images to train on: set --config.batch_size=52 or less" in told
    told = refused(tmp_path / "run", data__source="folder")
    assert told == "config.data.path is not set: the folder of a source 'folder'"


def test_a_workdir_that_cannot_be_written_is_named():
    told = refused("/sys/run")
    assert "cannot write into /sys/run" in told and "choose another --workdir" in told


def test_a_device_that_is_too_small_is_told_with_what_to_change(main, tmp_path):
    error = 'jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")'
    output = main(tmp_path, code=1, before=when("training.steps.train_step", f"import jax; raise {error}"))
    told = output.splitlines()[-1]
    assert told.startswith("stochconv_jax: a device has too little memory (RESOURCE_EXHAUSTED: Out of memory while")
    assert "config.batch_size" in told and "--mode=plan" in told and "Traceback" not in output
