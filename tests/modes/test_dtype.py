"""The dtype of activations: chosen when a run begins, recorded, and kept wherever the run goes on."""

import json

import jax.numpy as jnp
import pytest

from tests.conftest import PATIENCE
from tests.modes.conftest import SIGTERM, when
from tests.modes.runs import last_step, restored


def recorded(workdir):
    return json.loads((workdir / "config.json").read_text())["config"]["model"]["dtype"]


@pytest.mark.slow
def test_a_run_in_bfloat16_goes_on_in_it_on_a_cpu(main, tmp_path):
    before = when("training.evaluation.predict", SIGTERM, call=2)
    process = main.start(tmp_path, before=before, model__dtype="bfloat16")  # as if begun on a GPU
    process.communicate(timeout=PATIENCE)
    stopped = last_step(tmp_path)
    assert 0 < stopped < 20
    assert "model.dtype=auto: bfloat16, as the run began" in main(tmp_path) and last_step(tmp_path) == 20
    assert recorded(tmp_path) == "bfloat16"
    assert restored(tmp_path, "last").experiment.model.layers.dtype == jnp.bfloat16
    main(tmp_path, mode="evaluate", model__dtype="auto")
    refused = main(tmp_path, mode="evaluate", code=1, model__dtype="float32")
    assert "config.model.dtype='float32': the run in" in refused and "has 'bfloat16'" in refused
