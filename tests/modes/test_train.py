"""Training and sweeps refuse some folders before anything is written. The modes themselves run in test_main.py."""

import pytest

from configs import quickstart
from stochconv_jax.modes import sweep, train
from tests.modes.conftest import when


def test_a_folder_from_which_nothing_could_be_restored_is_refused_before_anything_is_written(tmp_path):
    for run in (train.run, lambda *arguments: sweep.run(*arguments, config_file="")):
        with pytest.raises(ValueError, match=r"lr\[0\.01\].* could not be restored: choose another --workdir"):
            run(quickstart.get_config(), {}, tmp_path / "lr[0.01]")
    assert not list(tmp_path.iterdir())


def test_a_device_that_is_too_small_is_told_with_what_to_change(main, tmp_path):
    error = 'jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes.")'
    output = main(tmp_path, code=1, before=when("training.steps.train_step", f"import jax; raise {error}"))
    told = output.splitlines()[-1]
    assert told.startswith("stochconv_jax: a device has too little memory (RESOURCE_EXHAUSTED: Out of memory while")
    assert "config.batch_size" in told and "--mode=plan" in told and "Traceback" not in output
