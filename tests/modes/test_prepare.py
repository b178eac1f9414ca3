"""--mode=prepare: reasons to drop images, the files written, and equal bytes for any number of workers."""

import csv
import functools
import json
import shutil
import subprocess
import sys

import cv2
import pytest
import simplejpeg

from configs import isic_prepare
from stochconv_jax.data.isic import shards
from tests.conftest import PATIENCE, PROCESS, ROOT
from tests.data.isic.files import FILES, picture
from tests.modes.isic_archive import KEPT, SHARDS, finish, run, start, table, times, tree


def test_each_reason_to_drop(prepared):
    report = table(prepared / "report.csv")
    reasons = {row["image"]: row["reason"] for row in report if row["status"] == "dropped"}
    reason = reasons.__getitem__
    assert reason("ISIC_0027419") == "100x63 pixels (width x height), smaller than 64 on a side"
    assert reason("ISIC_0025030").startswith("ISIC_0025030.jpg: Premature end")
    assert reason("ISIC_0060000") == "ISIC_0060000.jpg: the file is empty"
    assert reason("ISIC_0034524") == "ISIC_0034524.jpg: not an image that can be read"
    assert reason("ISIC_2637013") == "on the official list as a duplicate of ISIC_2637011"
    assert reason("ISIC_9999999") == "no label file names it"
    unused = next(row for row in report if row["file"] == "ISIC_0000001_downsampled.jpg")
    assert unused["reason"].endswith("ISIC_0000001.jpg shows the same image in as many pixels or more")
    kept = [row["image"] for row in report if row["status"] == "kept"]
    assert sorted(kept) == sorted([*KEPT, "ISIC_0052060"])


def test_an_id_without_an_image(archive, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(archive, raw)
    (raw / "2020" / "ISIC_2637012.jpg").unlink()
    report = table(run(tmp_path / "run", raw=raw) / "report.csv")
    assert {row["reason"] for row in report if row["image"] == "ISIC_2637012"} == {"no image file"}


def test_what_is_written(prepared):
    labels = table(prepared / "labels.csv")
    assert [row["image"] for row in labels] == [f"{name}.jpg" for name in KEPT]
    assert labels[5] | {"age": ""} == {
        "image": "ISIC_2637011.jpg",
        "target": "0",
        "year": "2020",
        "diagnosis": "unknown",
        "category": "UNK",
        "patient_id": "IP_1",
        "lesion_id": "IL_1",
        "age": "",
        "sex": "male",
        "site": "head/neck",
        "group": "IP_1",
    }
    assert [row["image"] for row in table(prepared / "unlabelled.csv")] == ["test/ISIC_0052060.jpg"]
    files = sorted(file.name for file in (prepared / "images").iterdir())
    assert files == [row["image"] for row in labels]
    for file in (prepared / "images").iterdir():
        assert simplejpeg.decode_jpeg_header(file.read_bytes())[:2] == (64, 64)
    conflicts = table(prepared / "conflicts.csv")
    classes = {(row["image"], row["kept_target"], row["other_target"]) for row in conflicts}
    assert classes == {("ISIC_0000003", "1", "0")}
    assert len(table(prepared / "splits.csv")) == len(KEPT)
    years = {row["year"]: row for row in table(prepared / "summary.csv")}
    assert years["all"]["kept"] == "23" and years["2016"]["rows"] == "6"


def test_a_second_run_changes_nothing(prepared, archive):
    before = tree(prepared), times(prepared)
    run(prepared, raw=archive)
    assert (tree(prepared), times(prepared)) == before


@pytest.mark.parametrize("num_workers", [2, 3])
def test_the_number_of_workers_does_not_show(prepared, archive, tmp_path, num_workers):
    other = run(tmp_path / "run", raw=archive, num_workers=num_workers)
    assert tree(other) == tree(prepared)


def test_other_originals_and_settings(prepared, archive, tmp_path):
    raw, workdir = tmp_path / "raw", tmp_path / "run"
    shutil.copytree(archive, raw)
    run(workdir, raw=raw)
    (raw / "2016" / "ISIC_0000002.jpg").write_bytes(b"spoilt since")
    run(workdir, raw=raw)
    assert not (workdir / "images" / "ISIC_0000002.jpg").exists()
    assert len(table(workdir / "labels.csv")) == len(KEPT) - 1
    run(workdir, raw=archive, jpeg_quality=80)  # all of it anew
    fresh = run(tmp_path / "fresh", raw=archive, jpeg_quality=80)
    assert tree(workdir) == tree(fresh)


def test_one_format_only(archive, tmp_path, caplog):
    folder = run(tmp_path / "folder", raw=archive, formats=("folder",))
    assert not (folder / "tfds").exists() and (folder / "images").exists()
    tfds = run(tmp_path / "tfds", raw=archive, formats=("tfds",))
    assert not (tfds / "images").exists() and (tfds / SHARDS / shards.DESCRIPTION).exists()
    # A table of files to predict would name files that are not there.
    assert (folder / "unlabelled.csv").exists() and not (tfds / "unlabelled.csv").exists()
    assert caplog.text.count("1 images without labels are in the shards' split 'test' alone") == 1
    assert "--mode=predict" in caplog.text


def test_look_alikes_are_dropped_if_asked_for(archive, tmp_path):
    raw = tmp_path / "raw"
    shutil.copytree(archive, raw)
    other_size = cv2.resize(picture(83, 100, 3), (150, 130), interpolation=cv2.INTER_CUBIC)  # of ISIC_0000003
    (raw / "2020" / "ISIC_2637012.jpg").write_bytes(simplejpeg.encode_jpeg(other_size, quality=80))
    without = table(run(tmp_path / "without", raw=raw) / "labels.csv")
    with_looks = run(tmp_path / "with", raw=raw, hash_distance=4)
    assert len(table(with_looks / "labels.csv")) == len(without) - 1
    reasons = {row["reason"] for row in table(with_looks / "report.csv") if row["image"] == "ISIC_0000003"}
    assert reasons == {"looks like a duplicate of ISIC_2637012"}


def test_splits_csv_is_what_training_makes_of_labels_csv(prepared):
    from stochconv_jax.experiment import data_sources

    config = isic_prepare.get_config()
    config.data.path, config.data.labels = str(prepared / "images"), str(prepared / "labels.csv")
    train, validation = data_sources.training_and_validation(config)
    sides = {row["image"]: row["split"] for row in table(prepared / "splits.csv")}
    assert sides == dict.fromkeys(train.names, "train") | dict.fromkeys(validation.names, "validation")


def test_the_sides_are_the_same_on_every_machine(prepared):
    """Pinned: the same images and seed give the same split on every machine."""
    rows = table(prepared / "splits.csv")
    validation = [row["image"] for row in rows if row["split"] == "validation"]
    assert validation == [f"ISIC_30000{number}.jpg" for number in ("06", "07", "12", "13")]
    assert "".join(row["fold"] for row in rows) == "11121221122221122221111"


def test_labels_alone(archive, tmp_path):
    workdir = run(tmp_path / "run", labels=archive)
    report = table(workdir / "report.csv")
    assert {row["status"] for row in report} == {"kept", "dropped", "metadata"}
    assert not (workdir / "images").exists() and not (workdir / "tfds").exists()
    assert len(table(workdir / "labels.csv")) == 27


def test_metadata_without_its_ground_truth_is_named(tmp_path, caplog):
    names = ["2016_train.csv", "2017.csv", "2017_metadata.csv", "2019_metadata.csv"]
    for name in names:
        (tmp_path / name).write_bytes(FILES[name])
    labels = ",".join(str(tmp_path / name) for name in names)
    run(tmp_path / "run", labels=labels)
    (warning,) = [record.getMessage() for record in caplog.records if "ground truth" in record.getMessage()]
    # ISIC_0000001 is labelled in 2017.
    assert warning.startswith(f"{tmp_path / '2019_metadata.csv'}: no label file has 1 of its 2 images (ISIC_0060000, ")
    caplog.clear()
    (tmp_path / "2019.csv").write_bytes(FILES["2019.csv"])
    run(tmp_path / "run", labels=f"{labels},{tmp_path / '2019.csv'}")
    assert "ground truth" not in caplog.text


def test_shown(shared_data, tmp_path):
    """On the originals at hand: 29 kept, 6 dropped for size, each named; a second run changes nothing."""
    raw = shared_data / "raw"
    workdir = tmp_path / "run"
    output = finish(start(workdir, raw=raw, labels=raw / "labels.csv"))
    with (raw / "labels.csv").open() as lines:
        small = {row["image"] for row in csv.DictReader(lines) if min(int(row["width"]), int(row["height"])) < 1024}
    report = table(workdir / "report.csv")
    dropped = {row["image"] for row in report if row["status"] == "dropped" and "smaller than 1024" in row["reason"]}
    assert len(report) == 35 and len(dropped) == 6 and {f"{name}.jpg" for name in dropped} == small
    assert all(name in output for name in dropped)
    assert len(table(workdir / "labels.csv")) == 29
    before = tree(workdir)
    assert "29 of 29 images are prepared already" in finish(start(workdir, raw=raw, labels=raw / "labels.csv"))
    assert tree(workdir) == before


def test_without_tensorflow(prepared):
    """TFDS reads the shards by name and by folder, with and without this package, and nothing imports TensorFlow."""
    program = f"""
import sys, tensorflow_datasets as tfds
source = tfds.data_source('isic_melanoma/64', data_dir={str(prepared / "tfds")!r}, split='train')
assert [source[i]['image_id'].decode() for i in range(len(source))] == {KEPT!r}
assert source[0]['image'].shape == (64, 64, 3) and source[5]['patient_id'] == b'IP_1', source[5]
test = tfds.builder_from_directory({str(prepared / SHARDS)!r}).as_data_source('test')
assert test[0]['target'] == -1
import stochconv_jax.data.isic.preparation
from stochconv_jax.data.isic import isic_melanoma
built = isic_melanoma.builder({str(prepared / "tfds")!r}, 64).as_data_source('train')
assert len(built) == {len(KEPT)}
assert 'tensorflow' not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=PATIENCE)


@pytest.mark.slow
def test_trains_evaluates_and_predicts_without_tensorflow(main, prepared, tmp_path):
    """From the shards to predictions, with what else is known of the images beside each.

    Whoever imports TensorFlow, in the processes themselves or in their workers, gets an error that nobody expects.
    """
    workdir, traps = tmp_path / "trained", tmp_path / "traps"
    traps.mkdir()
    (traps / "tensorflow.py").write_text("raise AssertionError('TensorFlow was imported')")
    main = functools.partial(main, environ={"PYTHONPATH": f"{traps}:{PROCESS['PYTHONPATH']}"})
    keys = {"data__source": "tfds", "data__path": prepared, "data__group_by": "group", "data__stratify_by": "year"}
    sizes = {"data__image_size": "(64,64)", "data__thumbnail_size": "(32,32)"}
    main(workdir, **keys, **sizes, data__num_workers=1, num_epochs=1)
    main(workdir, mode="evaluate")
    known = {row["image"]: row for row in table(prepared / "labels.csv")}
    for row in table(workdir / "predictions.csv"):
        assert {"probability", "std"} <= row.keys() and row.items() >= known[row["image"]].items()
    main(workdir, mode="predict", predict__images=prepared / "unlabelled.csv")
    (row,) = table(workdir / "predicted.csv")
    assert row["image"] == "test/ISIC_0052060.jpg" and row["patient_id"] == "IP_3" and 0 < float(row["probability"]) < 1


def test_checksums_lie_beside_the_shards(prepared):
    for name, about in json.loads((prepared / SHARDS / shards.CHECKSUMS).read_text()).items():
        assert shards.checksum(prepared / SHARDS / name) == about["sha256"]
