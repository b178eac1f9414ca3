"""From a config to training and validation images: what leaks, what does not apply, and classes without an image."""

import PIL.Image
import pytest

from configs import default
from stochconv_jax.experiment import data_sources

COUNT = 24


@pytest.fixture
def folder(tmp_path):
    """Images i0, i1, ... in `images`."""
    (tmp_path / "images").mkdir()
    for number in range(COUNT):
        PIL.Image.new("RGB", (4, 4)).save(tmp_path / "images" / f"i{number}.png")
    return tmp_path


def table(folder, name, numbers, target=lambda number: number % 2, **columns):
    """The path of a table of these images; further columns are functions of the number."""
    lines = [",".join(["image", "target", *columns])]
    lines += [",".join(map(str, [f"i{n}", target(n), *(of(n) for of in columns.values())])) for n in numbers]
    (folder / name).write_text("\n".join(lines))
    return str(folder / name)


def sides(folder, **data):
    config = default.get_config()
    config.data.update(path=str(folder / "images"), **data)
    return data_sources.training_and_validation(config)


TRAIN, VALIDATION = range(16), range(16, COUNT)


def both(folder, **columns):
    """Keys of a table to train on and one to validate on, with these columns."""
    tables = {"labels": ("train.csv", TRAIN), "validation_labels": ("validation.csv", VALIDATION)}
    return {key: table(folder, name, numbers, **columns) for key, (name, numbers) in tables.items()}


def test_groups_on_both_sides_of_two_tables_are_a_leak_with_advice_that_helps(folder):
    keys = both(folder, clinic=lambda n: f"c{n % 5}", patient=lambda n: f"p{n // 2}")
    train, validation = sides(folder, **keys, group_by="Patient")
    assert len(train) == len(TRAIN) and len(validation) == len(VALIDATION)
    message = r"5 values of clinic are on both sides \(c0, .*take them out of config\.data\.labels or out of"
    with pytest.raises(ValueError, match=message) as caught:
        sides(folder, **keys, group_by="clinic")
    assert "group_by" not in str(caught.value)


def test_images_on_both_sides_of_two_tables_are_a_leak(folder):
    keys = both(folder)
    keys["validation_labels"] = table(folder, "again.csv", range(14, COUNT))
    with pytest.raises(ValueError, match=r"2 values of image are on both sides \(i14\.png, .*take them out"):
        sides(folder, **keys)


@pytest.mark.parametrize("key, value", [("fold", "2/5"), ("stratify_by", "patient"), ("stratify_by", "no such column")])
def test_what_splits_is_refused_beside_a_table_of_validation_images(folder, key, value):
    keys = both(folder, patient=lambda n: f"p{n // 2}")
    with pytest.raises(ValueError, match=rf"config\.data\.{key}='{value}' does not apply, .*validation_labels"):
        sides(folder, **keys, **{key: value})


@pytest.mark.parametrize("two", [False, True])
@pytest.mark.parametrize("key", ["group_by", "stratify_by"])
def test_a_column_that_does_not_exist_is_refused_with_those_there_are(folder, key, two):
    keys = both(folder) if two else {"labels": table(folder, "all.csv", range(COUNT))}
    expected = "does not apply" if two and key == "stratify_by" else r"no such column in .*csv, which has image, target"
    with pytest.raises(ValueError, match=rf"config\.data\.{key}='colour'.*{expected}"):
        sides(folder, **keys, **{key: "colour"})


@pytest.mark.parametrize("key", ["labels", "validation_labels", "fold", "group_by", "stratify_by"])
def test_drawn_images_take_no_tables_and_no_columns(key):
    config = default.get_config()
    config.data.update(source="synthetic", image_size=(8, 8), **{key: "1/5"})
    with pytest.raises(ValueError, match=rf"config\.data\.{key}='1/5' does not apply, .*'synthetic' draws its images"):
        data_sources.training_and_validation(config)


def zero(number):
    return 0


@pytest.mark.parametrize("side", ["labels", "validation_labels"])
def test_a_table_of_one_class_is_refused_on_either_side(folder, side):
    keys = both(folder)
    numbers = {"labels": TRAIN, "validation_labels": VALIDATION}[side]
    keys[side] = table(folder, "one.csv", numbers, zero)
    name = {"labels": "training", "validation_labels": "validation"}[side]
    with pytest.raises(ValueError, match=rf"one\.csv: all \d+ {name} images are of one class, and ROC AUC needs two"):
        sides(folder, **keys)


@pytest.mark.parametrize("split", [{}, {"fold": "1/3"}, {"fold": "3/3"}, {"group_by": "image"}])
def test_a_split_of_one_class_is_refused(folder, split):
    with pytest.raises(ValueError, match="class"):
        sides(folder, labels=table(folder, "one.csv", range(COUNT), zero), **split)


@pytest.mark.parametrize("counts", [{"num_train": 1}, {"num_validation": 1}, {"num_validation": 0}])
def test_drawn_images_of_one_class_are_refused(counts):
    config = default.get_config()
    config.data.update(source="synthetic", image_size=(8, 8), **counts)
    with pytest.raises(ValueError, match="ROC AUC needs two"):
        data_sources.training_and_validation(config)


def test_classes_without_an_image_are_named_at_the_start(folder, caplog):
    sides(folder, labels=table(folder, "all.csv", range(COUNT)), num_classes=4)
    assert "no training image is of class 2 or 3 (config.data.num_classes=4)" in caplog.text
    assert "no validation image is of class 2 or 3" in caplog.text
    caplog.clear()
    sides(folder, labels=table(folder, "all.csv", range(COUNT), lambda n: n % 3), num_classes=3)
    assert not caplog.text


def test_tables_that_are_not_set_are_named(folder):
    with pytest.raises(ValueError, match=r"`labels` is not set"):
        sides(folder)
    with pytest.raises(ValueError, match=r"`labels` is not set"):
        sides(folder, validation_labels=table(folder, "validation.csv", VALIDATION))


def class_folders(folder, names, count=4):
    """Writes `count` pictures of different sizes into each of these folders."""
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            PIL.Image.new("RGB", (4, 4 + number)).save(folder / name / f"{number}.png")


def from_path(path, **data):
    config = default.get_config()
    config.data.update(path=str(path), **data)
    return data_sources.training_and_validation(config)


def test_class_folders_are_split(tmp_path):
    class_folders(tmp_path, ("cat", "dog"), 10)
    train, validation = from_path(tmp_path, validation_fraction=0.3)
    assert (len(train), len(validation)) == (14, 6) and train.classes == validation.classes == ("cat", "dog")


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_folders_train_and_val_have_images_of_their_own(tmp_path, name):
    class_folders(tmp_path, ("train/cat", "train/dog", f"{name}/cat", f"{name}/dog", "test/cat"))
    train, validation = from_path(tmp_path)
    assert {image.partition("/")[0] for image in train.names} == {"train"} and len(train) == 8
    assert {image.partition("/")[0] for image in validation.names} == {name} and len(validation) == 8
    with pytest.raises(
        ValueError, match=rf"config\.data\.fold='1/5' does not apply, because the folder {name} has the"
    ):
        from_path(tmp_path, fold="1/5")


def test_a_folder_train_alone_is_split_and_test_is_left_out(tmp_path):
    class_folders(tmp_path, ("train/cat", "train/dog", "test/cat"), 8)
    train, validation = from_path(tmp_path, validation_fraction=0.25)
    assert len(train) + len(validation) == 16
    assert all(image.startswith("train/") for image in train.names + validation.names)


def test_a_test_set_has_the_classes_of_the_run(tmp_path):
    class_folders(tmp_path, ("test/dog", "test/bird"))
    config = default.get_config()
    config.data.update(num_classes=3, classes=("bird", "cat", "dog"))
    config.eval.path = str(tmp_path)
    found = data_sources.test_set(config)
    assert dict(zip(found.names, found.labels.tolist())) == {
        f"test/{name}/{number}.png": label for name, label in {"bird": 0, "dog": 2}.items() for number in range(4)
    }
    config.data.update(num_classes=2, classes=())
    with pytest.raises(
        ValueError, match=r"its classes are words \(bird, dog\), and those of the training images are num"
    ):
        data_sources.test_set(config)


def test_validation_classes_are_those_of_training(folder):
    keys = both(folder)
    keys["labels"] = table(folder, "words.csv", TRAIN, lambda n: ("ugly", "nice")[n % 2])
    keys["validation_labels"] = table(folder, "more.csv", VALIDATION, lambda n: ("ugly", "nice")[n % 2])
    train, validation = sides(folder, **keys)
    assert train.classes == validation.classes == ("nice", "ugly")
    keys["validation_labels"] = table(folder, "other.csv", VALIDATION, lambda n: ("ugly", "fine")[n % 2])
    with pytest.raises(ValueError, match=r"other\.csv, row 3: target 'fine' is none of the classes nice, ugly"):
        sides(folder, **keys)
