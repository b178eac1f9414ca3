"""K folds and the check for leaks."""

import numpy as np
import pytest

from stochconv_jax.data import folds, splits

LABELS = np.array([0, 0, 1] * 60)
GROUPS = [f"patient {i // 4}" for i in range(180)]
YEARS = [str(2016 + i % 2) for i in range(180)]


def test_folds_are_a_partition_that_keeps_groups_and_shares():
    fold = folds.k_folds(LABELS, 5, seed=3, groups=GROUPS, strata=YEARS)
    assert sorted(set(fold.tolist())) == [1, 2, 3, 4, 5]
    for number in range(1, 6):
        inside = np.flatnonzero(fold == number)
        assert len(inside) == pytest.approx(36, abs=8)
        assert LABELS[inside].mean() == pytest.approx(1 / 3, abs=0.1)
        folds.refuse_leaks(
            {"patient": [GROUPS[i] for i in np.flatnonzero(fold != number)]},
            {"patient": [GROUPS[i] for i in inside]},
            advice="",
        )
    assert (fold == folds.k_folds(LABELS, 5, seed=3, groups=GROUPS, strata=YEARS)).all()
    assert (fold != folds.k_folds(LABELS, 5, seed=4, groups=GROUPS, strata=YEARS)).any()


def test_the_first_fold_is_the_plain_split():
    fold = folds.k_folds(LABELS, 5, seed=0, groups=GROUPS)
    _, validation = splits.stratified_split(LABELS, 0.2, 0, groups=GROUPS)
    assert np.flatnonzero(fold == 1).tolist() == validation.tolist()


def test_planted_leaks_are_found():
    train = {"patient_id": ["a", "b", ""], "lesion_id": ["x", "y", "z"], "other": ["1", "2", "3"]}
    folds.refuse_leaks(train, {"patient_id": ["c", ""], "lesion_id": ["w", ""]}, "")
    with pytest.raises(ValueError, match=r"1 values of patient_id are on both sides \(b\).*data\.group_by"):
        folds.refuse_leaks(train, {"patient_id": ["b"], "lesion_id": ["w"]}, "set data.group_by")
    with pytest.raises(ValueError, match="lesion_id"):
        folds.refuse_leaks(train, {"patient_id": ["c"], "lesion_id": ["z"]}, "")


@pytest.mark.parametrize("text", ["2", "0/5", "6/5", "1/1", "a/b", "/5", "-1/5"])
def test_a_fold_that_is_none(text):
    with pytest.raises(ValueError, match=rf"fold '{text}': expected"):
        folds.parse_fold(text)


def test_parse_fold():
    assert folds.parse_fold("2/5") == (2, 5)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_folds(count):
    with pytest.raises(ValueError, match="2 or more"):
        folds.k_folds(LABELS, count, seed=0)
