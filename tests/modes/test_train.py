"""Training and sweeps refuse some folders before anything is written. The modes themselves run in test_main.py."""

import pytest

from configs import quickstart
from stochconv_jax.modes import sweep, train


def test_a_folder_from_which_nothing_could_be_restored_is_refused_before_anything_is_written(tmp_path):
    for run in (train.run, lambda *arguments: sweep.run(*arguments, config_file="")):
        with pytest.raises(ValueError, match=r"lr\[0\.01\].* could not be restored: choose another --workdir"):
            run(quickstart.get_config(), {}, tmp_path / "lr[0.01]")
    assert not list(tmp_path.iterdir())
