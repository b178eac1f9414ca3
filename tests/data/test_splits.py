"""Splits: disjoint, in proportion, without a group on both sides, fixed by the seed."""

import numpy as np
import pytest

from stochconv_jax.data import folds
from stochconv_jax.data.splits import stratified_split


def random_labels(count, share=0.25):
    return (np.random.default_rng(0).random(count) < share).astype(np.int32)


@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.5])
def test_every_image_is_on_one_side_and_classes_are_in_proportion(fraction):
    labels = random_labels(401)
    train, validation = stratified_split(labels, fraction, seed=0)
    np.testing.assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(401))
    for label in (0, 1):
        assert abs((labels[validation] == label).sum() - fraction * (labels == label).sum()) <= 0.5


def test_the_seed_fixes_the_split():
    labels = random_labels(100)
    first, same, other = (stratified_split(labels, 0.2, seed=seed)[1].tolist() for seed in (1, 1, 2))
    assert first == same != other


def test_the_split_is_the_same_on_every_machine():
    """Pinned: the sides of a published data set must not change with a machine, a library or this code."""
    labels = np.array([i % 3 == 0 for i in range(30)], np.int32)
    groups = [f"IP_{i // 2}" for i in range(24)] + [""] * 6
    years = [str(2019 + i % 4 // 2) for i in range(30)]
    _, validation = stratified_split(labels, 0.25, seed=7, groups=groups, strata=years)
    assert validation.tolist() == [4, 5, 6, 7, 10, 11, 12, 13]
    fold = folds.k_folds(labels, 3, seed=7, groups=groups, strata=years)
    assert "".join(map(str, fold)) == "112211112211111133332222323222"


def test_a_stratum_is_a_label_and_a_value_of_the_column():
    labels, origin = random_labels(600), np.random.default_rng(1).choice(["2016", "2017-val", "2019"], 600)
    _, validation = stratified_split(labels, 0.25, seed=3, strata=origin.tolist())
    for label in (0, 1):
        for name in set(origin):
            members = (labels == label) & (origin == name)
            assert abs(members[validation].sum() - 0.25 * members.sum()) <= 0.5


def test_no_group_is_on_both_sides_and_the_share_is_kept():
    random = np.random.default_rng(0)  # seeded: by chance alone a draw in 10,000 is beyond the bounds
    groups = [f"patient {number}" for number in random.integers(0, 120, 800)]
    labels = (random.random(800) < 0.25).astype(np.int32)
    train, validation = stratified_split(labels, 0.2, seed=5, groups=groups)
    assert not {groups[i] for i in train} & {groups[i] for i in validation}
    assert len(train) + len(validation) == 800
    # Nearly every group has an image of the rarer class, whose share is kept; that of all images follows by chance,
    # with a standard deviation of 0.015.
    assert abs(labels[validation].sum() - 0.2 * labels.sum()) <= 4
    assert abs(len(validation) / 800 - 0.2) < 0.08


def test_images_without_a_group_are_groups_of_their_own():
    labels = np.tile([0, 1], 50)
    groups = [""] * 90 + ["one"] * 10
    train, validation = stratified_split(labels, 0.2, seed=0, groups=groups)
    assert 15 <= len(validation) <= 25 and len(set(range(90, 100)) & set(validation.tolist())) in (0, 10)
    assert len(train) + len(validation) == 100


@pytest.mark.parametrize("labels", [[0] * 20, [0] * 19 + [1], [0] * 10 + [1] * 10 + [2]])
def test_a_side_without_a_class_is_refused(labels):
    with pytest.raises(ValueError, match=r"split \(\d+ of \d+ images\) has no image of class .*validation_fraction"):
        stratified_split(np.array(labels), 0.2, seed=0)


def test_one_group_of_all_images_is_refused():
    with pytest.raises(ValueError, match="side of the split"):
        stratified_split(np.tile([0, 1], 20), 0.2, seed=0, groups=["same"] * 40)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1])
def test_a_fraction_that_leaves_a_side_empty_is_refused(fraction):
    with pytest.raises(ValueError, match=r"`validation_fraction`=.* between 0 and 1"):
        stratified_split(np.tile([0, 1], 20), fraction, seed=0)


def test_patients_of_the_rare_class_are_shared_out_in_proportion():
    """As in ISIC 2020: most patients with a malignant lesion have more benign ones."""
    random = np.random.default_rng(0)
    patients = [(f"patient {k}", random.integers(4, 30), int(k < 60)) for k in range(400)]
    groups = [name for name, images, _ in patients for _ in range(images)]
    labels = np.concatenate([[malignant] + [0] * (images - 1) for _, images, malignant in patients])
    for seed in range(5):
        _, validation = stratified_split(labels, 0.2, seed=seed, groups=groups)
        assert labels[validation].sum() == 12
        assert abs(len(validation) / len(labels) - 0.2) < 0.06
