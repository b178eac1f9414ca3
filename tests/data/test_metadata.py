"""The encoding of metadata against scikit-learn's, and what it refuses."""

import json
import logging

import numpy as np
import pytest
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from stochconv_jax.data import metadata, pipeline
from stochconv_jax.data.metadata import Encoding
from stochconv_jax.data.sources import FolderSource, Subset
from tests.data.batches import evaluation, joined, train
from tests.data.drawn import Noise

AGES = ["35", "50,5", "", "1e1", "+62.0", "nan", "0", "-3"]
SITES = ["arm", "leg", "arm", "", "torso", "leg", "N/A", "arm"]


def source(table="t.csv", **columns):
    count = len(next(iter(columns.values())))
    about = {"columns": columns, "table": table, "lines": range(2, count + 2)}
    return FolderSource([], [f"i{n}.png" for n in range(count)], np.arange(count) % 2, **about)


def encode(encoding, **columns):
    return encoding.encode(columns, "other.csv", lambda row: f"other.csv, row {row}")


def test_numbers_are_standardised_words_are_one_hot_and_what_is_missing_is_a_value_of_its_own():
    training = source(Age=AGES, site=SITES)
    encoding = Encoding.fit(training, ("age", "site"))
    assert encoding.features() == ["age", "age missing", "site missing", "site=arm", "site=leg", "site=torso"]
    got = encoding.attach(training).metadata
    numbers = np.array([float(age.replace(",", ".") or "nan") for age in AGES])[:, None]
    expected = np.nan_to_num(StandardScaler().fit_transform(numbers))
    np.testing.assert_allclose(got[:, :1], expected, rtol=1e-6)
    np.testing.assert_array_equal(got[:, 1], np.isnan(numbers[:, 0]))
    words = np.array([site.replace("N/A", "") for site in SITES])[:, None]
    np.testing.assert_array_equal(got[:, 2:], OneHotEncoder(sparse_output=False).fit_transform(words))
    assert got.dtype == np.float32


def test_other_images_are_encoded_as_the_training_images_are_and_do_not_change_the_encoding(caplog):
    columns = {"age": [*AGES, "900"], "site": [*SITES, "toe"]}
    everything = source(**columns)
    encoding = Encoding.fit(Subset(everything, np.arange(8)), ("age", "site"))
    assert encoding == Encoding.fit(source(age=AGES, site=SITES), ("age", "site"))
    with caplog.at_level(logging.WARNING, "stochconv_jax"):
        got = encoding.attach(Subset(everything, np.array([8, 2]))).metadata
    assert caplog.messages == [
        "metadata 'site': 1 of 2 images have a value that no training image has ('toe'), counted as none of the known "
        "words"
    ]
    np.testing.assert_array_equal(got[:, 2:], [[0, 0, 0, 0], [0, 1, 0, 0]])
    np.testing.assert_array_equal(got[1, :2], [0, 1])
    assert got[0, 0] > 30


def test_a_missing_number_counts_as_the_mean_where_no_training_image_lacks_it(caplog):
    encoding = Encoding.fit(source(age=["1", "3"]), ["age"])
    with caplog.at_level(logging.WARNING, "stochconv_jax"):
        np.testing.assert_array_equal(encode(encoding, age=["", "3"]), [[0], [1]])
    assert "(no value), counted as the mean" in caplog.text


def test_equal_numbers_are_zero_and_not_divided_by_zero():
    encoding = Encoding.fit(source(age=["0.1"] * 3), ["age"])
    np.testing.assert_allclose(encode(encoding, age=["0.1", "1.1"]), [[0], [1]], atol=1e-6)


def test_an_encoding_comes_back_from_json_with_every_digit():
    encoding = Encoding.fit(source(age=AGES, site=SITES), ("site", "age"))
    assert Encoding.from_json(json.loads(json.dumps(encoding.as_json()))) == encoding
    for damaged in ({}, {"columns": []}, {"columns": [{"name": "a"}]}, {"columns": [3]}):
        with pytest.raises((ValueError, KeyError, TypeError)):
            Encoding.from_json(damaged)
    with pytest.raises(ValueError, match="finite"):
        Encoding.from_json({"columns": [{"name": "a", "words": [], "mean": float("nan"), "deviation": 1.0}]})


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"age": ["1", "old", "3"]}, r"t\.csv, row 3: 'age' has the word 'old', and the number '1' in t\.csv, row 2"),
        ({"age": ["", "NaN"]}, "no training image has a value of 'age'"),
        ({"ages": ["1", "2"]}, r"no column 'age' in t\.csv, which has ages\. Did you mean \"ages\"\?"),
        ({"age": ["1e999", "2"]}, "has the word '1e999'"),
        ({"age": ["1", "-1e200", "2"]}, r"t\.csv, row 3: 'age' is -1e200, a number too large to be standardised"),
        ({"age": ["1.7e308", "1.7e308"]}, r"t\.csv, row 2: 'age' is 1.7e308, a number too large"),
        ({"age": ["1e-200", "2e-200"]}, "the numbers of 'age' differ by too little to be standardised"),
    ],
)
def test_what_cannot_be_fitted_is_refused_by_its_row_or_column(columns, words):
    with pytest.raises(ValueError, match=words):
        Encoding.fit(source(**columns), ["age"])


def test_a_word_among_numbers_is_refused_by_its_row_also_in_a_subset():
    encoding = Encoding.fit(source(age=["1", "2"]), ["age"])
    later = Subset(source(table="new.csv", age=["1", "2", "young"]), np.array([0, 2]))
    with pytest.raises(ValueError, match=r"^new\.csv, row 4: 'age' is 'young', and the training images have numbers"):
        encoding.attach(later)


def test_a_number_that_no_float32_holds_is_refused_by_its_row():
    encoding = Encoding.fit(source(age=["1", "2"]), ["age"])
    assert np.isfinite(encode(encoding, age=["1e37"])).all()
    for number in ("1e39", "-1e308"):
        with pytest.raises(ValueError, match=rf"row 3: 'age' is {number}, too far from the training images' numbers"):
            encoding.attach(source(age=["1", number]))


def test_images_without_a_table_are_refused_with_the_way_to_give_one():
    class_folders = FolderSource([], ["a/1.png", "b/2.png"], np.arange(2))
    with pytest.raises(ValueError, match=r"takes age besides each image, .*class folders .* a table, as `labels`"):
        Encoding.fit(class_folders, ["age"])


def test_a_column_that_holds_the_answer_is_remarked_on(caplog):
    columns = {"kind": ["benign", "bad"] * 4, "sex": ["m", "m", "f", "f"] * 2}
    with caplog.at_level(logging.WARNING, "stochconv_jax"):
        Encoding.fit(source(**columns), ["kind", "sex"])
    assert caplog.messages == ["each value of 'kind' occurs in one class only: does this column tell the class?"]


def test_values_of_python_become_the_texts_of_a_table():
    expected = {"age": ["50", "", "1.5"], "sex": ["f", "m", ""]}
    rows = [{"age": 50, "sex": "f"}, {"sex": "m"}, {"age": np.float64(1.5), "sex": None}]
    assert metadata.texts_from(rows, 3) == expected
    assert metadata.texts_from({"age": [50, None, 1.5], "sex": ["f", "m", None]}, 3) == expected
    encoding = Encoding.fit(source(age=["1", ""]), ["age"])
    np.testing.assert_array_equal(
        encode(encoding, **metadata.texts_from({"age": [float("nan"), 2]}, 2)), [[0, 1], [1, 0]]
    )
    rows = [{"AGE": 50, "sex": "f"}, {"Sex": "m"}, {"age": 1.5}]
    assert metadata.texts_from(rows, 3) == expected
    for twice in ({"age": [1], "Age": [2]}, [{"age": 1, "Age": 2}]):
        with pytest.raises(ValueError, match=r"two of the names \['age', 'Age'\] differ by their capitals only"):
            metadata.texts_from(twice, 1)
    with pytest.raises(ValueError, match="2 values of 'age' for 3 images"):
        metadata.texts_from({"age": [1, 2]}, 3)
    with pytest.raises(ValueError, match=r"expected .*, or a list with a .* for each image"):
        metadata.texts_from(["age"], 1)


@pytest.mark.parametrize("mixup", [0.0, 0.5])
def test_batches_hold_the_metadata_of_their_images_and_mix_them_as_the_images_are_mixed(mixup):
    images = Noise(10)
    images.metadata = np.eye(10, dtype=np.float32)  # so that a row tells which images it is of
    found = joined(train(images, 4, augmentation=pipeline.Augmentation(mixup=mixup)))
    rows = np.arange(len(found["index"]))
    share = found.get("share_mixed", np.zeros(len(rows)))
    assert found["metadata"].dtype == np.float32 and (share > 0).any() == bool(mixup)
    np.testing.assert_allclose(found["metadata"].sum(axis=1), 1, rtol=1e-6)
    others = found["metadata"].copy()
    others[rows, found["index"]] -= 1 - share
    np.testing.assert_allclose(others.max(axis=1), share, atol=1e-6)
    if mixup:
        clear = share > 1e-3
        np.testing.assert_array_equal(images.labels[others.argmax(axis=1)][clear], found["label_mixed"][clear])
    held = joined(evaluation(images))
    np.testing.assert_array_equal(held["metadata"][held["mask"]], images.metadata)
