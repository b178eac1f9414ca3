"""--mode=prepare in a folder that an earlier run has filled, with other libraries or formats than that run had."""

import json
import shutil

import cv2
import pytest

from stochconv_jax.data.isic import image_encoding, preparation
from tests.data.isic.files import write_jpeg
from tests.modes.isic_archive import run, times, tree


@pytest.mark.parametrize(
    "module, name, words",
    [
        (cv2, "__version__", rf"opencv {cv2.__version__}, which is now next"),
        (image_encoding, "VERSION", r"preparation 1, which is now next"),
    ],
)
def test_what_other_versions_have_prepared_is_made_again_and_said_once(
    archive, tmp_path, monkeypatch, caplog, module, name, words
):
    """Otherwise a run that goes on after an update would mix two kinds of pixels."""
    workdir = run(tmp_path / "run", raw=archive)
    before = times(workdir)
    monkeypatch.setattr(module, name, "next")
    with caplog.at_level("INFO"):
        run(workdir, raw=archive)
    assert "0 of 25 images are prepared already" in caplog.text
    assert caplog.text.count(f"{workdir} holds images prepared with {words}; it is made again") == 1
    outcomes = {file for file in before if file.startswith("units")}
    assert outcomes and all(times(workdir)[file] > before[file] for file in outcomes)
    caplog.clear()
    with caplog.at_level("INFO"):
        run(workdir, raw=archive)
    assert "25 of 25 images are prepared already" in caplog.text


@pytest.mark.parametrize(
    "first, then, left",
    [
        (("folder",), ("tfds",), "images and .*test of an earlier run with 'folder'"),
        (("tfds",), ("folder",), "tfds of an earlier run with 'tfds'"),
        (("folder", "tfds"), ("folder",), "tfds of an earlier run with 'tfds'"),
    ],
)
def test_a_format_left_out_later_is_refused(archive, tmp_path, first, then, left):
    """Its files would stay as they are while labels.csv changes."""
    workdir = run(tmp_path / "run", raw=archive, formats=first)
    before = tree(workdir), times(workdir)
    with pytest.raises(ValueError, match=rf"`formats`=.*{left}.*remove what is there"):
        run(workdir, raw=archive, formats=then, jpeg_quality=80)
    assert (tree(workdir), times(workdir)) == before


@pytest.mark.parametrize("first", [("folder",), ("tfds",)])
def test_a_format_may_be_added(archive, prepared, tmp_path, first):
    workdir = run(tmp_path / "run", raw=archive, formats=first)
    run(workdir, raw=archive)
    assert tree(workdir) == tree(prepared)


@pytest.fixture
def again(prepared, tmp_path):
    """A copy of the prepared archive, to go on with."""
    return shutil.copytree(prepared, tmp_path / "run")


def test_another_size_beside_the_shards_of_an_earlier_run_is_refused(archive, again):
    """TFDS would find two data sets, one of them without a labels.csv that is its own."""
    before = tree(again)
    with pytest.raises(ValueError, match=r"`size`=48, but .*tfds/isic_melanoma/64 of an earlier run"):
        run(again, raw=archive, size=48)
    assert tree(again) == before


def fail_after(monkeypatch, count: int) -> None:
    """Lets `count` shards be made; the next one fails after its first image is written."""
    examples, started = preparation._examples, []

    def break_off(*arguments):
        started.append(arguments)
        for example in examples(*arguments):
            yield example
            if len(started) > count:
                raise OSError("broken off")

    monkeypatch.setattr(preparation, "_examples", break_off)


def test_while_images_are_made_again_there_is_no_list_of_them(archive, again, monkeypatch):
    assert (again / "unlabelled.csv").exists()
    fail_after(monkeypatch, 1)
    with pytest.raises(OSError, match="broken off"):
        run(again, raw=archive, jpeg_quality=80)
    assert not (again / "labels.csv").exists() and not (again / "unlabelled.csv").exists()


@pytest.mark.parametrize("keys", [{"labels": "{archive}"}, {"raw": "{archive}", "formats": ("tfds",)}])
def test_a_list_of_files_to_predict_is_there_only_with_the_files(archive, tmp_path, keys):
    (tmp_path / "report.csv").write_text("of an earlier run")
    (tmp_path / "unlabelled.csv").write_text("of an earlier run")
    run(tmp_path, **{key: archive if value == "{archive}" else value for key, value in keys.items()})
    assert (tmp_path / "labels.csv").exists() and not (tmp_path / "unlabelled.csv").exists()


@pytest.mark.parametrize("name", ["images/mine.jpg", "test/mine.jpg", "images/ISIC_0000002.jpg", "labels.csv"])
def test_files_of_others_are_not_removed_in_a_new_folder(archive, tmp_path, name):
    precious = write_jpeg(tmp_path / "run" / name, 10, 10)
    before = precious.read_bytes()
    with pytest.raises(ValueError, match=f"{name} is not from a preparation and would be lost"):
        run(tmp_path / "run", raw=archive)
    assert precious.read_bytes() == before


def test_a_labels_csv_of_others_does_not_give_way_to_tables_alone(archive, tmp_path):
    (tmp_path / "labels.csv").write_text("mine")
    with pytest.raises(ValueError, match=r"labels\.csv is not from a preparation"):
        run(tmp_path, labels=archive)
    assert (tmp_path / "labels.csv").read_text() == "mine"


@pytest.mark.parametrize("name", ["images/mine.jpg", "test/mine.jpg", "images/ISIC_0025030.jpg"])
def test_files_that_others_put_beside_prepared_ones_are_not_removed(archive, again, name):
    """ISIC_0025030 is in the plan but was dropped, so a file of it is not from the preparation."""
    write_jpeg(again / name, 10, 10)
    before = tree(again)
    with pytest.raises(ValueError, match=f"{name} is not from a preparation and would be lost"):
        run(again, raw=archive)
    assert tree(again) == before


def test_files_of_others_are_not_removed_when_a_format_is_added(archive, tmp_path):
    run(tmp_path / "run", raw=archive, formats=("tfds",))
    precious = write_jpeg(tmp_path / "run" / "images" / "ISIC_0000002.jpg", 10, 10)
    before = precious.read_bytes()
    with pytest.raises(ValueError, match="is not from a preparation and would be lost"):
        run(tmp_path / "run", raw=archive)
    assert precious.read_bytes() == before


def test_what_a_broken_off_run_has_written_is_its_own_though_the_plan_has_changed(archive, tmp_path, monkeypatch):
    raw = shutil.copytree(archive, tmp_path / "raw")
    with monkeypatch.context() as patch:
        fail_after(patch, 1)
        with pytest.raises(OSError, match="broken off"):
            run(tmp_path / "run", raw=raw)
    left = sorted(file.name for file in (tmp_path / "run" / "images").iterdir())
    assert len(left) > 4  # the first shard's, and one that no outcome names
    (original,) = raw.rglob(left[-1])
    original.unlink()
    run(tmp_path / "run", raw=raw)
    assert tree(tmp_path / "run") == tree(run(tmp_path / "fresh", raw=raw))


@pytest.mark.parametrize(
    "content", ["[]", "1", '{"images": 3}', '{"images": [1]}', '{"images": [], "shard": []}', "\udc80"]
)
def test_a_record_that_is_none_is_made_again(archive, prepared, again, caplog, content):
    record = again / "units" / "train-00000.json"
    record.write_text(content, errors="surrogateescape")
    run(again, raw=archive)
    assert f"{record} is damaged; it is made again" in caplog.text
    assert tree(again) == tree(prepared)


def test_a_record_without_versions_is_made_again(archive, prepared, again, caplog):
    record = again / "units" / "train-00000.json"
    record.write_text(json.dumps({k: v for k, v in json.loads(record.read_text()).items() if k != "versions"}))
    run(again, raw=archive)
    assert "prepared with preparation unknown, which is now 1" in caplog.text
    assert tree(again) == tree(prepared)


def test_a_lost_or_damaged_record_does_not_make_files_those_of_others(archive, again):
    (again / "units" / "train-00000.json").unlink()
    (again / "units" / "train-00001.json").write_text("")
    run(again, raw=archive, images_per_shard=3)
    assert tree(again) == tree(run(again.parent / "fresh", raw=archive, images_per_shard=3))


def test_what_holds_no_file_is_not_left_out_of_date(archive, prepared, tmp_path):
    with pytest.raises(ValueError, match="no labelled image is kept"):
        run(tmp_path / "run", raw=archive, size=999)
    for folder in ("tfds/isic_melanoma/999/1.0.0", "units"):
        (tmp_path / "run" / folder).mkdir(parents=True, exist_ok=True)
    run(tmp_path / "run", raw=archive)
    assert (tmp_path / "run" / "labels.csv").read_bytes() == (prepared / "labels.csv").read_bytes()


def test_a_wrong_folder_of_originals_costs_no_prepared_image(archive, again, tmp_path):
    other = write_jpeg(tmp_path / "other" / "ISIC_9999999.jpg", 90, 90).parent
    images = {file: content for file, content in tree(again).items() if file not in ("report.csv", "conflicts.csv")}
    with pytest.raises(ValueError, match=r"no labelled image is kept.*no image file"):
        run(again, raw=other, labels=archive)
    assert images.items() <= tree(again).items()


def test_a_damaged_description_of_the_shards_is_written_again(archive, prepared, again):
    file = again / "tfds" / "isic_melanoma" / "64" / "1.0.0" / "dataset_info.json"
    file.write_text(file.read_text()[:20])
    run(again, raw=archive)
    assert tree(again) == tree(prepared)
