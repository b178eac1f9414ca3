"""What an evaluation hands on of the images' groups."""
import numpy as np
import pytest

from configs import default
from stochconv_jax.data.sources import FolderSource
from stochconv_jax.modes import evaluate
from stochconv_jax.training.evaluation import Predictions

COLUMNS = {"image": ["a", "b", "c"], "patient_id": ["p1", "p2", "p1"], "site": ["x", "y", "z"]}


@pytest.mark.parametrize(("group_by", "groups"), [("patient_id", ["p1", "p1"]), ("", None), ("nowhere", None)])
def test_the_group_of_each_image_reaches_the_table(group_by, groups):
    source = FolderSource(COLUMNS["image"], COLUMNS["image"], np.array([0, 1, 1]), columns=COLUMNS)
    config = default.get_config()
    config.data.group_by = group_by
    # The second image was skipped.
    predictions = Predictions(np.array([0, 2]), np.array([0, 1]), np.zeros((1, 2, 1)), np.array([1]))
    known = evaluate.groups_of(source, config)
    rows = evaluate.prediction_rows(source, predictions, with_target=True, groups=known)
    columns = ["image", "target", "probability", "std", *(["group"] if groups else []), "patient_id", "site"]
    assert [list(row) for row in rows] == [columns] * 2 and [row["image"] for row in rows] == ["a", "c"]
    assert [row.get("group") for row in rows] == (groups or [None, None])
