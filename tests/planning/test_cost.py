"""The search for the largest batch, and lower bounds on the time of a step."""

import dataclasses
import math

import numpy as np
import pytest

from stochconv_jax.planning import cost, hlo
from stochconv_jax.planning.targets import GIB
from tests.planning.programs import V5E, program


@pytest.mark.parametrize("first", [1, 2, 30, 900, 5000])
def test_the_largest_batch_fits_and_hardly_more_would(first):
    random = np.random.default_rng(0)
    fixed, row, refuses = random.uniform(0.1, 4) * GIB, random.uniform(0.02, 0.1) * GIB, random.integers(0, 2)
    compiled_rows = []

    def compile_rows(rows):
        compiled_rows.append(rows)
        total = fixed + row * rows
        return program(total=total, refusal="Used 99G of" if refuses and total > V5E.memory else "")

    found = cost.largest_rows(compile_rows, first, V5E.memory, trials=12)
    most = (V5E.memory - fixed) / row
    assert 0.9 * most - 9 <= found <= 1.01 * most and found in compiled_rows
    assert len(compiled_rows) == len(set(compiled_rows))
    if first <= most:
        assert len(compiled_rows) <= 5


def test_beyond_any_use_the_search_ends():
    assert cost.largest_rows(lambda rows: program(total=rows), 4, V5E.memory) == cost.MAX_ROWS


def test_no_batch_at_all_may_fit():
    assert cost.largest_rows(lambda rows: program(total=99 * GIB), 4, V5E.memory) is None


def test_the_bytes_that_a_refusal_names():
    ran_out = "RESOURCE_EXHAUSTED: Ran out of memory "
    for message in ("in memory space hbm. Used 20.50G of 15.75G hbm.", "on HBM, for HLO temporaries (20.50G) exceeds"):
        assert cost._bytes_named(ran_out + message) == 20.5 * GIB
    assert math.isinf(cost._bytes_named("RESOURCE_EXHAUSTED: too much"))


def test_times_are_amounts_over_rates():
    reduced = hlo.Collective("all-reduce", (("f32", (1000,)),), 4000, 3, "")
    gathered = hlo.Collective("all-gather", (("f32", (1000,)),), 4000, 1, "")
    moved = [(reduced, hlo.GRADIENTS), (gathered, hlo.OUTPUTS)]
    times = cost.times(program(moved=moved, flops=197e12, bytes=819e9 / 2), V5E)
    # Four chips: three quarters of 4000 bytes, twice for a reduction, three times over; and once to gather.
    assert times == pytest.approx({"arithmetic": 1, "memory traffic": 0.5, "links between chips": 7 * 3000 / 200e9})
    assert cost.times(program(), dataclasses.replace(V5E, flops=0.0, links=0.0)).keys() == {"memory traffic"}
