"""Weak scaling in compiled programs: what a device computes, holds and moves does not grow with the devices.

Compares the training step of a small full split for 1, 2, 4 and 8 devices, with equally many images per device.
"""

import dataclasses

import jax
import pytest

from stochconv_jax.models import variants
from stochconv_jax.planning import hlo, report
from stochconv_jax.runtime import mesh as meshes
from tests.planning.small_configs import tiny_full_split
from tests.training.step_cases import case

ROWS = 2  # images a device
OUTPUTS = 4 + 3 * 4  # bytes an image: its logit in float32; its label, index and mark of being skipped


@pytest.fixture(scope="module")
def programs():
    """Returns the compiled steps by number of devices; branches of one stage, because compiling takes the time."""
    found, config, tiny = {}, tiny_full_split(), variants.get("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(variants.VARIANTS, "tiny", dataclasses.replace(tiny, stages=tiny.stages[1:2]))
        for count in (1, 2, 4, 8):
            config.batch_size = ROWS * count
            found[count] = case(config, meshes.create(jax.devices()[:count])).plan()
    return found


@pytest.mark.slow
def test_a_device_computes_and_holds_the_same_beside_any_number_of_others(programs):
    alone = programs[1]
    for count, program in programs.items():
        assert program.rows == ROWS
        assert program.costs == pytest.approx(alone.costs, rel=0.01)
        assert program.memory["temporaries"] == pytest.approx(alone.memory["temporaries"], rel=0.05)
        for kind in ("arguments", "beside", "aliased"):
            assert program.memory[kind] == alone.memory[kind]
        # Every device gets what is known of every image of the batch, and nothing else grows.
        assert program.memory["outputs"] - alone.memory["outputs"] == OUTPUTS * ROWS * (count - 1)


@pytest.mark.slow
def test_only_gradients_statistics_and_outputs_move_and_only_outputs_grow_with_the_batch(programs):
    first, *others = ({} for _ in range(3))
    for moved, count in zip((first, *others), (2, 4, 8)):
        for row in report.traffic(programs[count]):
            moved[row["purpose"]] = moved.get(row["purpose"], 0) + row["bytes"]
        assert moved.pop(hlo.OUTPUTS) == OUTPUTS * ROWS * count
    assert first.keys() == {hlo.GRADIENTS, hlo.BATCH_NORM} and others == [first, first]
