"""What becomes of model.dtype='auto': the platform's dtype for a new run, the recorded one for a run that has begun."""

import jax.numpy as jnp
import pytest

from configs import quickstart
from stochconv_jax.experiment import runs
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.run_folder import METRICS, RunFolder


@pytest.mark.parametrize(("platform", "dtype"), [("cpu", "float32"), ("gpu", "bfloat16"), ("tpu", "bfloat16")])
def test_a_new_run_takes_the_dtype_of_its_platform(platform, dtype, tmp_path):
    config, folder = quickstart.get_config().lock(), RunFolder(tmp_path)
    decided = runs.decide_dtype(folder, config, platform)
    assert decided.model.dtype == dtype and config.model.dtype == "auto"
    assert Experiment(decided).model.layers.dtype == jnp.dtype(dtype)
    config = quickstart.get_config()
    config.model.dtype = "float32"
    assert runs.decide_dtype(folder, config, platform).model.dtype == "float32"


def test_a_run_keeps_its_dtype_on_another_platform_once_it_has_something_to_keep(tmp_path):
    config, folder = quickstart.get_config(), RunFolder(tmp_path)
    folder.write_json("config.json", {"config": {"model": {"dtype": "bfloat16"}}, "data": {}})
    assert runs.decide_dtype(folder, config, "cpu").model.dtype == "float32"
    folder.write_metrics([dict.fromkeys(METRICS, 1)])
    assert runs.decide_dtype(folder, config, "cpu").model.dtype == "bfloat16"
