"""Metadata from a config to a network: columns that are refused, and the encoding that a run keeps."""

import json

import PIL.Image
import pytest

from configs import quickstart
from stochconv_jax import config_rules
from stochconv_jax.config import check_together, checked
from stochconv_jax.experiment import data_sources, runs
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.run_folder import RunFolder

COUNT = 24


@pytest.fixture
def images(tmp_path):
    """Images i0, i1, ... and their table, with ages that are the images' numbers."""
    lines = ["image,target,age,sex"]
    for number in range(COUNT):
        PIL.Image.new("RGB", (80, 80)).save(tmp_path / f"i{number}.png")
        lines.append(f"i{number},{number % 2},{number},{'mf'[number // 3 % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path


def config_of(images, **keys):
    config = quickstart.get_config()
    config.update({"batch_size": 8, "data": {"source": "folder", "path": str(images), "image_size": (80, 80)}})
    config.update({"data": {"thumbnail_size": (32, 32), "labels": str(images / "labels.csv")}})
    config.data.metadata_columns = ("age", "sex")
    config.model.variant = "two_blocks"
    config.update_from_flattened_dict(keys)
    return config


@pytest.mark.parametrize("fold", ["1/3", "2/3"])
def test_the_encoding_is_fitted_to_the_training_images_of_the_fold_alone(images, fold):
    experiment = Experiment(config_of(images, **{"data.fold": fold}))
    train, validation = experiment.train_source, experiment.val_source
    ages = [float(text) for text in train.columns["age"]]
    assert experiment.metadata.columns[0].mean == pytest.approx(sum(ages) / len(ages))
    assert abs(train.metadata[:, 0].mean()) < 1e-6 < abs(validation.metadata[:, 0].mean())
    assert experiment.inputs(5)["metadata"].shape == (5, 3) == experiment.batch_shapes(5)["metadata"].shape
    assert experiment.model.metadata_features == 3


def test_a_run_keeps_the_encoding_that_it_began_with(images, tmp_path):
    folder, config = RunFolder(tmp_path / "run").create(), config_of(images)
    first = Experiment(config).metadata
    (file := folder.path / runs.METADATA).write_text(json.dumps(first.as_json()))
    table = (images / "labels.csv").read_text()
    (images / "labels.csv").write_text(table.replace(",m", ",x").replace(",7,", ",700,"))
    kept = runs.experiment(folder, config)
    assert kept.metadata == first != Experiment(config).metadata
    assert kept.train_source.metadata.shape[1] == 3
    before = data_sources.training_and_validation(config)[0]
    images_alone, with_ages = runs.fingerprint(before), runs.fingerprint(before, ("Age",))
    assert with_ages.items() > images_alone.items() and with_ages != runs.fingerprint(before, ("sex",))
    (folder.path / "config.json").write_text(json.dumps({"config": {"data": {"metadata_columns": ["age", "sex"]}}}))
    assert runs.begin(folder, config).metadata != first  # without a checkpoint it is a new run
    (folder.checkpoints / "step_3").mkdir(parents=True)
    assert runs.begin(folder, config).metadata == first
    file.write_text(file.read_text().replace('"words"', '"wrods"'))
    for problem in ("metadata.json is gone or damaged .*words", "metadata.json is gone or damaged"):
        with pytest.raises(ValueError, match=problem):
            runs.begin(folder, config)
        file.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"data.metadata_columns": ("Target",)}, r"\('Target',\) has the column of config\.data\.target_column"),
        ({"data.group_by": "sex"}, r"has the column of config\.data\.group_by, which the network must not see"),
        ({"data.image_column": "AGE"}, r"has the column of config\.data\.image_column"),
        ({"data.metadata_columns": ("age", "Image")}, r"has the column of config\.data\.image_column"),
    ],
)
def test_columns_that_tell_the_class_or_the_image_are_refused(images, keys, words):
    with pytest.raises(config_rules.BadValue, match=words):
        check_together(checked(config_of(images, **keys).to_dict()))


def test_what_has_no_such_column_is_refused(images, tmp_path):
    with pytest.raises(ValueError, match=r"no column 'agee' in .*labels\.csv, which has .*Did you mean \"age\"\?"):
        _ = Experiment(config_of(images, **{"data.metadata_columns": ("agee",)})).model
    with pytest.raises(ValueError, match=r"config\.data\.metadata_columns=.* does not apply, because .* draws its"):
        _ = Experiment(config_of(images, **{"data.source": "synthetic", "data.path": "", "data.labels": ""})).model
    for number in range(COUNT):
        folder = tmp_path / "classes" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (images / f"i{number}.png").rename(folder / f"i{number}.png")
    with pytest.raises(ValueError, match="takes age, sex besides each image, and class folders"):
        _ = Experiment(config_of(tmp_path / "classes", **{"data.labels": ""})).model
