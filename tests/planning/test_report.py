"""Reports of plans: what fits, what limits, what to change, and what moves between chips."""

import json
import math

from stochconv_jax.planning import hlo, report
from stochconv_jax.planning.targets import GIB
from tests.planning.programs import V5E, program


def plan(train, largest=None, batch_size=8):
    return report.Plan("v5e:2x2", V5E, "float32", batch_size, {"train": train, "evaluate": program()}, largest)


def test_conclusions_say_what_fits_what_limits_and_what_to_change():
    said = "\n".join(report.conclusions(plan(program(), largest=400)))
    assert "train step fits: 1.00 GiB of 15.75 GiB" in said and "400 images, 100 a chip." in said
    assert "limits training is arithmetic" in said and "To fit" not in said and "No image crosses chips" in said
    said = "\n".join(report.conclusions(plan(program(total=20 * GIB), batch_size=7)))
    assert "train step DOES NOT FIT: 20.00 GiB" in said and "optimizer.accumulate_steps" in said
    assert "the configured batch of 7 cannot be split evenly over 4 chips" in said


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
