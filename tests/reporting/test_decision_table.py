"""The report's table of decisions, from evaluation.json as evaluate writes it and from what others put there."""

import json

import pytest

from configs import default
from stochconv_jax.modes import report
from stochconv_jax.reporting import collect, decision_table
from stochconv_jax.reporting.decision_table import NONE
from tests.reporting.folders import SPLIT, THUMBNAIL, write

YOUDEN = {"accuracy": 0.8, "balanced_accuracy": 0.7, "f1": 0.6, "sensitivity": 0.5, "specificity": 0.9}


def evaluation(**changes):
    youden = YOUDEN | changes
    sensitive = dict.fromkeys(YOUDEN, 0.1)
    about = {"accuracy": 0.2, "balanced_accuracy": 0.3, "f1": 0.4, "calibration_error": 0.12}
    at_thresholds = {"youden": youden, "sensitivity": sensitive}
    return {"evaluation": about | {"calibrated": {"calibration_error": 0.04}, "at_thresholds": at_thresholds}}


def rows(root):
    found = decision_table.table(collect.collect(root)[0])
    return found and {row[0]: row[1:] for row in found.rows}


def test_a_model_has_the_means_of_its_runs_at_youdens_threshold(tmp_path):
    write(tmp_path / "b0" / "seed_0", [0.6], config=THUMBNAIL, **evaluation())
    write(tmp_path / "b0" / "seed_1", [0.6], config=THUMBNAIL, seed=1, **evaluation(accuracy=0.9, sensitivity=None))
    write(tmp_path / "split", [0.6], config=SPLIT)
    means = ["0.8500", "0.7000", "0.6000", "0.5000", "0.9000"]
    assert rows(tmp_path) == {"b0": ["2", *means, "0.1200", "0.0400"]}
    report.run(default.get_config(), {}, str(tmp_path))
    assert "## Decisions" in (tmp_path / "report.md").read_text()


def test_more_than_two_classes_have_the_most_probable_class(tmp_path):
    content = evaluation()["evaluation"] | {"at_thresholds": {}}
    write(tmp_path / "b0", [0.6], config=THUMBNAIL, evaluation=content)
    assert rows(tmp_path) == {"b0": ["1", "0.2000", "0.3000", "0.4000", NONE, NONE, "0.1200", "0.0400"]}


def test_there_is_no_table_without_decisions(tmp_path):
    write(tmp_path / "b0", [0.6], config=THUMBNAIL, evaluation={"accuracy": 0.5})
    assert rows(tmp_path) is None


@pytest.mark.parametrize(
    "change", [{"at_thresholds": 3}, {"at_thresholds": {"youden": "x"}}, {"calibrated": {}}, {"calibrated": [1]}]
)
def test_what_is_no_decision_is_left_out(tmp_path, change):
    write(tmp_path / "b0", [0.6], config=THUMBNAIL, **evaluation())
    file = tmp_path / "b0" / "evaluation.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    found = rows(tmp_path)
    assert found is None if "calibrated" in change else found["b0"][3:5] == ["0.4000", NONE]
