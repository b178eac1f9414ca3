"""--mode=prepare: refused settings, damaged files, killed runs and full disks."""

import errno
import os
import pathlib
import resource
import shutil
import signal
import time

import pytest

from stochconv_jax.data import folds
from stochconv_jax.data.isic import output_tables, shards
from stochconv_jax.data.tfds_source import TfdsSource
from stochconv_jax.modes import prepare
from tests.data.isic.files import write_jpeg
from tests.modes.isic_archive import SHARDS, finish, run, start, table, tree


def test_what_is_damaged_is_named_and_made_again(prepared, archive, tmp_path, caplog):
    spoilt = tmp_path / "run"
    shutil.copytree(prepared, spoilt)
    shard = sorted((spoilt / SHARDS).glob("*train.array_record*"))[1]
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    (spoilt / "images" / "ISIC_0000002.jpg").unlink()
    (spoilt / "units" / "test-00000.json").write_text("{")
    with caplog.at_level("WARNING"):
        run(spoilt, raw=archive)
    assert f"{shard} is damaged: its checksum" in caplog.text
    assert "ISIC_0000002.jpg is gone" in caplog.text and "test-00000.json is damaged" in caplog.text
    assert tree(spoilt) == tree(prepared)


def test_what_was_killed_while_the_shards_were_described_is_no_second_data_set(prepared, archive, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(prepared, again)
    left = again / SHARDS / ".description.abc.part"
    left.mkdir()
    shutil.copy(again / SHARDS / shards.DESCRIPTION, left)
    assert len(TfdsSource(again, num_classes=2)) == len(table(again / "labels.csv"))
    run(again, raw=archive)
    assert not left.exists() and tree(again) == tree(prepared)


def test_tables_alone_do_not_take_the_place_of_those_of_prepared_images(prepared, archive, tmp_path):
    again = tmp_path / "run"
    shutil.copytree(prepared, again)
    with pytest.raises(ValueError, match=r"holds prepared images.*config\.prepare\.raw"):
        run(again, raw="", labels=str(archive))
    assert tree(again) == tree(prepared)


@pytest.mark.parametrize("column", ["patient_id", "lesion_id", "group"])
def test_a_planted_leak_ends_the_preparation(archive, tmp_path, monkeypatch, column):
    check = output_tables.check_sides

    def planted(labels, train, validation):
        shared = {train[0], validation[0]}
        check([row | {column: "planted"} if i in shared else row for i, row in enumerate(labels)], train, validation)

    monkeypatch.setattr(output_tables, "check_sides", planted)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "splits.csv").write_text("of an earlier run")
    with pytest.raises(folds.Leak, match=f"1 values of {column} are on both sides"):
        run(tmp_path / "run", raw=archive)
    assert not (tmp_path / "run" / "splits.csv").exists()


@pytest.mark.parametrize(
    "keys, words",
    [
        ({"raw": ""}, r"needs --config\.prepare\.labels"),
        ({"labels": "/nowhere/*.csv"}, "names no CSV file"),
        ({"raw": "/nowhere", "labels": "{archive}"}, "'/nowhere' is not a folder"),
        ({"raw": "{empty}", "labels": "{archive}"}, "there is no image in a supported format"),
        ({"raw": "{archive}", "size": 2049}, r"size=2049 with config\.prepare\.crop='report'.*enlarged"),
        ({"raw": "{parent}", "labels": "{archive}"}, r"--workdir=.*config\.prepare\.raw=.*must not lie in each other"),
        ({"raw": "{archive}", "labels": "{parent}"}, r"config\.prepare\.labels=.*must not lie in each other"),
        ({"raw": "", "labels": "{parent}"}, r"config\.prepare\.labels=.*must not lie in each other"),
        ({"raw": "", "labels": "{parent}/run/*.csv"}, r"config\.prepare\.labels=.*must not lie in each other"),
    ],
)
def test_refused(archive, tmp_path, keys, words):
    (tmp_path / "empty").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "labels.csv").write_text("image,target\nmine,1\n")
    (tmp_path / "run" / "report.csv").write_text("of an earlier run")
    places = {"archive": archive, "empty": tmp_path / "empty", "parent": tmp_path}
    keys = {key: value.format(**places) if isinstance(value, str) else value for key, value in keys.items()}
    with pytest.raises(ValueError, match=words):
        run(tmp_path / "run", **keys)
    assert (tmp_path / "run" / "labels.csv").read_text() == "image,target\nmine,1\n"


def test_a_folder_of_labels_around_the_workdir_is_refused_at_once(archive, tmp_path):
    """Without the check a later run would find the tables of the first among the label files."""
    (tmp_path / "mine.csv").write_text("image,target\nmine,1\n")
    with pytest.raises(ValueError, match="must not lie in each other"):
        run(tmp_path / "run", raw=archive, labels=tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_folder_that_cannot_be_written(archive, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write into .*file/run: .*choose another --workdir"):
        run(tmp_path / "file" / "run", raw=archive)
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write anywhere: a read-only folder cannot be tried")
    with pytest.raises(OSError, match="cannot write into"):
        run(folder, raw=archive)


NOTHING = "ISIC_1.jpg: not an image that can be read"


@pytest.mark.parametrize(
    "content, keys, reason",
    [
        ("image,target\nISIC_1,0\nISIC_2,1\n", {}, f"1 times: {NOTHING}"),
        ("image,target\nISIC_1,0\n", {"formats": ("folder",)}, f"1 times: {NOTHING}"),
        ("image,patient\nISIC_1,IP_1\n", {}, f"1 times: {NOTHING}"),
        ("image_id,label\nISIC_1,benign\n", {"raw": "", "rule": "MEL=1,NV=0"}, "no class for 'benign'"),
    ],
)
def test_where_no_labelled_image_is_kept_there_is_no_data_set(tmp_path, caplog, content, keys, reason):
    raw, workdir = tmp_path / "raw", tmp_path / "run"
    raw.mkdir()
    (raw / "labels.csv").write_text(content)
    (raw / "ISIC_1.jpg").write_bytes(b"none")
    with pytest.raises(ValueError, match=rf"no labelled image is kept, and {workdir}/report\.csv says why; .*{reason}"):
        run(workdir, **{"raw": raw, "labels": raw} | keys)
    assert table(workdir / "report.csv") and "argmin" not in caplog.text
    assert not (workdir / "labels.csv").exists() and not list(workdir.rglob(shards.DESCRIPTION))


def test_images_to_predict_alone_are_prepared(tmp_path, caplog):
    write_jpeg(tmp_path / "raw" / "ISIC_1.jpg", 64, 64)
    (tmp_path / "raw" / "test.csv").write_text("image,patient\nISIC_1,IP_1\n")
    workdir = run(tmp_path / "run", raw=tmp_path / "raw")
    assert [row["image"] for row in table(workdir / "unlabelled.csv")] == ["test/ISIC_1.jpg"]
    assert "no splits.csv: there is no labelled image" in caplog.text


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_the_system_lets_nobody_write_is_named(archive, tmp_path, monkeypatch, number):
    mkdir = pathlib.Path.mkdir

    def fail(path, *arguments, **keys):
        if path.name == "run":
            raise OSError(number, os.strerror(number), str(path))
        return mkdir(path, *arguments, **keys)

    monkeypatch.setattr(pathlib.Path, "mkdir", fail)
    with pytest.raises(OSError, match=rf"cannot write into {tmp_path}/run: {os.strerror(number)}.*another --workdir"):
        run(tmp_path / "run", raw=archive)


def test_two_at_once(archive, tmp_path):
    from stochconv_jax.run_folder import locked

    with locked(tmp_path / "run"), pytest.raises(OSError, match="another process works in"):
        run(tmp_path / "run", raw=archive)


@pytest.mark.parametrize("formats", [("folder",), ("tfds",)])
def test_a_full_disk(archive, tmp_path, prepared, formats):
    """A limit on the size of files stands in for a full disk: writing fails at the same place."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000 if formats == ("folder",) else 60_000, hard))
    try:
        with pytest.raises(OSError, match=r"cannot write \S+(ISIC_\d+\.jpg|array_record\S*): .*; make room"):
            run(tmp_path / "run", raw=archive, formats=formats, jpeg_quality=100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert not [path for path in (tmp_path / "run").rglob(".*") if path.name != ".lock"]
    assert not (tmp_path / "run" / "labels.csv").exists()
    assert not list((tmp_path / "run").rglob(shards.DESCRIPTION))
    run(tmp_path / "run", raw=archive, formats=formats, jpeg_quality=100)  # there is room again
    assert (tmp_path / "run" / "labels.csv").exists()


@pytest.mark.slow
def test_kill_and_restart_byte_for_byte(tmp_path):
    raw = tmp_path / "raw"
    rows = ["image,target"]
    for number in range(72):
        write_jpeg(raw / f"ISIC_{number:07d}.jpg", 900, 1000, number % 3)
        rows.append(f"ISIC_{number:07d},{number % 2}")
    (raw / "labels.csv").write_text("\n".join(rows))
    keys = {"raw": raw, "size": 512, "images_per_shard": 3, "num_workers": 2}
    finish(start(tmp_path / "whole", **keys))
    killed = tmp_path / "killed"
    kills = 0
    for wanted in (2, 5):
        process = start(killed, **keys)
        while len(list((killed / "units").glob("*.json"))) < wanted and process.poll() is None:
            time.sleep(0.005)
        if process.poll() is None:
            kills += 1
            process.kill()
        process.communicate()
        assert not (killed / "labels.csv").exists() and not list(killed.rglob(shards.DESCRIPTION))
    assert kills == 2
    done = len(list((killed / "units").glob("*.json")))
    for name in ("images/.ISIC_0000071.jpg", "units/.train-00023.json", "tfds/isic_melanoma/512/1.0.0/.a"):
        (killed / f"{name}.123.part").write_bytes(b"half")  # what a kill at another moment leaves
    output = finish(start(killed, **keys))
    assert f"{3 * done} of 72 images are prepared already" in output
    assert tree(killed) == tree(tmp_path / "whole")


def test_label_files_in_brackets_are_taken_for_what_is_there_before_they_are_a_pattern(tmp_path):
    for name in ("labels[1]/a.csv", "labels1/b.csv", "c[2].csv", "c2.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def found(*parts):
        names = prepare.find_labels(",".join(str(tmp_path / part) for part in parts), [])
        return [name.relative_to(tmp_path).as_posix() for name in names]

    assert found("labels[1]") == found("labels[1]/*.csv") == ["labels[1]/a.csv"]
    assert found("c[2].csv", "lab*1/*") == ["c[2].csv", "labels1/b.csv"]
    assert found("labels[0-9]/*.csv", "c[1-9].csv") == ["labels1/b.csv", "c2.csv"]
