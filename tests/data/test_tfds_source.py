"""TfdsSource gives the pictures and batches of FolderSource from shards, and names damage."""

import csv
import itertools
import pickle
import shutil

import numpy as np
import pytest

from configs import isic_prepare
from stochconv_jax.data import folds, pipeline
from stochconv_jax.data.sources import BadImage, FolderSource
from stochconv_jax.data.tfds_source import TfdsSource
from stochconv_jax.experiment import data_sources
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.modes import prepare
from tests.data.isic.files import write_jpeg

pytestmark = pytest.mark.smoke
COUNT = 24


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Images of twelve patients, prepared in both formats, in shards of five."""
    raw, workdir = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("run") / "run"
    lines = ["image,target,patient_id,year"]
    for number in range(COUNT):
        write_jpeg(raw / f"ISIC_{number:07d}.jpg", 70, 80, number)
        lines.append(f"ISIC_{number:07d},{number // 2 % 2},IP_{number // 2},20{19 + number // 12}")
    (raw / "labels.csv").write_text("\n".join(lines))
    config = isic_prepare.get_config()
    config.prepare.update(raw=str(raw), size=64, images_per_shard=5, num_workers=1, folds=3)
    prepare.run(config, {}, str(workdir))
    return workdir


def folder_source(workdir) -> FolderSource:
    return FolderSource.from_csv(str(workdir / "images"), str(workdir / "labels.csv"), num_classes=2)


def test_the_same_images_as_the_folder(workdir):
    shards, folder = TfdsSource(str(workdir), num_classes=2), folder_source(workdir)
    assert shards.names == folder.names and shards.labels.tolist() == folder.labels.tolist()
    assert shards.columns == folder.columns and shards.column("patient_id")[2] == "IP_1"
    for index in range(COUNT):
        assert (shards.read(index) == folder.read(index)).all()
    with pytest.raises(ValueError, match=r"no such column in .*labels\.csv, which has image, target"):
        shards.column("colour")


def config_for(workdir, source, *, num_workers=0, **data):
    config = isic_prepare.get_config()
    config.data.update(source=source, path=str(workdir), image_size=(64, 64), thumbnail_size=(16, 16), **data)
    if source == "folder":
        config.data.update(path=str(workdir / "images"), labels=str(workdir / "labels.csv"))
    config.data.num_workers = num_workers
    config.batch_size = 6
    return config


def all_batches(config):
    """Returns some training batches and all evaluation batches."""
    experiment = Experiment(config)
    stream = experiment.train_batches(start_step=3)
    batches = [*itertools.islice(stream, 4)]
    stream.close()
    reading = {"num_workers": config.data.num_workers, "on_bad_image": "error"}
    evaluation = pipeline.EvalBatches(experiment.val_source, batch_size=4, **reading, **experiment.pixels)
    batches += list(evaluation)
    evaluation.close()
    return batches


@pytest.mark.parametrize("data", [{}, {"fold": "2/3"}, {"num_workers": 1}])
def test_the_same_batches_as_the_folder(workdir, data):
    """Those of the folder are read in this process; those of the shards in a worker too."""
    from_folder = all_batches(config_for(workdir, "folder", **data | {"num_workers": 0}))
    from_shards = all_batches(config_for(workdir, "tfds", **data))
    for ours, theirs in zip(from_shards, from_folder, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_folds_validate_every_image_once_and_keep_patients_together(workdir):
    validated = []
    for number in (1, 2, 3):
        train, validation = data_sources.training_and_validation(config_for(workdir, "tfds", fold=f"{number}/3"))
        assert not set(train.columns["patient_id"]) & set(validation.columns["patient_id"])
        validated += validation.names
    assert sorted(validated) == sorted(folder_source(workdir).names)


def test_splits_csv_has_the_folds(workdir):
    with (workdir / "splits.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    source = folder_source(workdir)
    fold = folds.k_folds(source.labels, 3, 0, groups=source.columns["group"], strata=source.columns["year"])
    assert [int(row["fold"]) for row in rows] == fold.tolist()


@pytest.mark.parametrize("keys", [{"group_by": ""}, {"group_by": "", "fold": "3/4"}])
def test_a_split_that_tears_patients_apart_is_refused(workdir, keys):
    with pytest.raises(ValueError, match=r"values of group are on both sides"):
        data_sources.training_and_validation(config_for(workdir, "tfds", **keys))


def test_validation_images_that_train_are_refused(workdir, tmp_path):
    (tmp_path / "validation.csv").write_text("image,target\nISIC_0000000,0\nISIC_0000002,1\n")
    config = config_for(workdir, "folder", validation_labels=str(tmp_path / "validation.csv"))
    with pytest.raises(ValueError, match=r"2 values of image are on both sides"):
        data_sources.training_and_validation(config)


def test_it_can_be_sent_to_a_worker_after_reading(workdir):
    source = TfdsSource(str(workdir), num_classes=2)
    first = source.read(7)
    assert (pickle.loads(pickle.dumps(source)).read(7) == first).all()


@pytest.fixture
def copy(workdir, tmp_path):
    """A copy of the prepared data set, to spoil."""
    shutil.copytree(workdir / "tfds", tmp_path / "tfds")
    return tmp_path / "tfds"


def test_a_shard_damaged_inside_is_named_when_read(copy):
    shard = sorted(copy.rglob("*array_record*"))[1]
    content = bytearray(shard.read_bytes())
    content[content.index(b"\xff\xd8\xff") + 500] ^= 1  # in the first picture of the shard
    shard.write_bytes(content)
    source = TfdsSource(str(copy), num_classes=2)
    with pytest.raises(BadImage, match=rf"ISIC_0000005\.jpg in .*{shard.name}: the shard is damaged.*again"):
        source.read(5)
    source.read(4)


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda shard: shard.unlink(), "is gone"),
        (lambda shard: shard.write_bytes(shard.read_bytes()[:-9]), "is damaged"),
    ],
)
def test_a_shard_gone_or_short_is_named_at_once(copy, spoil, words):
    shard = sorted(copy.rglob("*array_record*"))[1]
    spoil(shard)
    with pytest.raises(ValueError, match=f"{shard.name} {words}"):
        TfdsSource(str(copy), num_classes=2)


def test_labels_of_another_data_set_are_refused(copy):
    labels = next(copy.rglob("labels.csv"))
    lines = labels.read_text().splitlines()
    labels.write_text("\n".join([lines[0], *lines[2:], lines[1]]))
    with pytest.raises(BadImage, match=r"labels\.csv has this image there"):
        TfdsSource(str(copy), num_classes=2).read(0)
    labels.write_text("\n".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"24 images in the shards, 23 in labels\.csv"):
        TfdsSource(str(copy), num_classes=2)


def test_where_there_is_no_data_set_or_too_many_classes(workdir, tmp_path):
    with pytest.raises(ValueError, match=r"`path`=.*it holds none"):
        TfdsSource(str(tmp_path), num_classes=2)
    with pytest.raises(ValueError, match=r"class 1, and `num_classes`=1"):
        TfdsSource(str(workdir), num_classes=1)
