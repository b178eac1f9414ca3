"""The search for the largest batch, bounds on time, and the words made of them."""

import dataclasses
import json
import math

import numpy as np
import pytest

from stochconv_jax.planning import cost, hlo, report
from stochconv_jax.planning.targets import CHIPS, GIB

V5E = CHIPS["v5e"]


def program(batch=8, total=GIB, moved=(), refusal="", **costs):
    memory = {"total": total, "beside": 0}
    costs = {"flops": 1e9, "bytes": 1e6} | costs
    return cost.Program(batch, 4, 1, memory, {} if refusal else costs, list(moved), 60.0, refusal)


def plan(train, largest=None, asked=8):
    return report.Plan("v5e:2x2", V5E, asked, {"train": train, "evaluate": program()}, largest)


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


def test_words_say_what_fits_what_limits_and_what_to_change():
    said = "\n".join(report.conclusions(plan(program(), largest=400)))
    assert "train step fits: 1.00 GiB of 15.75 GiB" in said and "400 images, 100 a chip." in said
    assert "limits training is arithmetic" in said and "To fit" not in said and "No image crosses chips" in said
    said = "\n".join(report.conclusions(plan(program(total=20 * GIB), asked=7)))
    assert "train step DOES NOT FIT: 20.00 GiB" in said and "optimizer.accumulate_steps" in said
    assert "config.batch_size=7 cannot be split evenly over 4 chips" in said


def test_a_refusal_is_told_and_is_valid_json():
    refused = plan(program(total=math.inf, refusal="RESOURCE_EXHAUSTED: too much"))
    assert "RESOURCE_EXHAUSTED: too much" in report.text(refused)
    content = json.loads(json.dumps(report.as_json(refused), allow_nan=False))
    assert content["steps"]["train"]["needed"] is None and "DOES NOT FIT" in "\n".join(content["in_words"])


def test_traffic_counts_every_run():
    norm = hlo.Collective("all-reduce", (("f32", (8,)), ("f32", (16,))), 96, 2, "")
    (row,) = report.traffic(program(moved=[(norm, hlo.BATCH_NORM)]))
    assert row == {
        "purpose": "batch norm", "kind": "all-reduce", "dtype": "f32", "runs": 2, "bytes": 192, "largest": [16],
    }  # fmt: skip


def test_what_nobody_knows_the_purpose_of_is_named():
    features = hlo.Collective("collective-permute", (("f32", (2, 4, 4, 40)),), 5120, 2, "")
    assert "unknown" not in report.text(plan(program()))
    said = report.text(plan(program(moved=[(features, hlo.UNKNOWN)])))
    assert "Collectives of unknown purpose: 1, of 10,240 bytes." in said
