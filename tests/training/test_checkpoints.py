"""The last two checkpoints and the best are kept, and only those that are as they were saved are restored."""

import logging
import pathlib
import shutil
import subprocess
import sys

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from stochconv_jax.training import checkpoint_items, checksums
from stochconv_jax.training.checkpoints import Checkpoints, Damaged, NotSaved
from tests.conftest import PATIENCE, ROOT, free_port
from tests.training.checkpoint_files import (
    PLACE,
    SHAPES,
    data_file,
    flip,
    items,
    names,
    open_epoch,
    restored,
    save,
    truncate,
    values,
)

pytestmark = pytest.mark.smoke
DAMAGES = {"flip": flip, "truncate": truncate, "remove": lambda file: file.unlink()}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Checkpoints of steps 3 and 6."""
    folder = tmp_path_factory.mktemp("two") / "checkpoints"
    save(folder, {3: 0.5, 6: 0.6})
    return folder


@pytest.mark.parametrize("best_metric, best", [("val_roc_auc", 2), ("val_loss", 4)])
def test_the_last_two_and_the_best_are_kept(tmp_path, best_metric, best):
    save(tmp_path, {2: 0.9, 4: 0.1, 6: 0.3, 7: None, 8: 0.4, 9: None}, best_metric)
    assert names(tmp_path) == {f"step_{best}", "step_8", "step_9"}
    with Checkpoints(tmp_path, best_metric=best_metric, read_only=True) as kept:
        assert [kept.restore(which, SHAPES)[0] for which in ("best", "last", "8")] == [best, 9, 8]
        assert kept.rows() == [{best_metric: value} for value in ({2: 0.9, 4: 0.1}[best], 0.4)]
        with pytest.raises(ValueError, match=rf"`checkpoint`='7': expected .* \[{best}, 8, 9\]"):
            kept.restore("7", SHAPES)


def test_one_that_was_being_removed_when_the_run_was_killed_is_not_taken_for_damaged(tmp_path, monkeypatch, caplog):
    def killed_after_one_file(folder, *_, **__):
        next(file for file in sorted(pathlib.Path(folder).rglob("*")) if file.is_file()).unlink()

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed_after_one_file)
        save(tmp_path, {2: None, 4: None, 6: None})
    assert names(tmp_path) > {"step_4", "step_6"}, "nothing was being removed"
    assert restored(tmp_path, read_only=True) == 6 and names(tmp_path) > {"step_4", "step_6"}
    with caplog.at_level(logging.WARNING, "stochconv_jax"):
        assert restored(tmp_path) == 6
    assert "damaged" not in caplog.text and names(tmp_path) == {"step_4", "step_6"}


def test_old_checkpoints_that_cannot_be_removed_stop_nothing_and_are_removed_later(tmp_path, monkeypatch, caplog):
    def busy(folder):
        raise OSError(39, "Directory not empty")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "stochconv_jax"):
        patch.setattr(shutil, "rmtree", busy)
        save(tmp_path, {2: None, 4: None, 6: None})
        assert restored(tmp_path) == 6
        save(tmp_path, {2: None, 8: None, 10: None})  # what is moved away has the name of what is there
    assert "old checkpoints, cannot be removed now ([Errno 39]" in caplog.text
    assert restored(tmp_path) == 10 and names(tmp_path) == {"step_8", "step_10"}


@pytest.mark.parametrize("moment", [(checkpoint_items, "read"), (checksums, "fault")])
def test_a_reader_beside_a_run_takes_none_for_damaged_that_the_run_removes(tmp_path, monkeypatch, caplog, moment):
    save(tmp_path, {2: None, 4: None})
    (owner, name), calls = moment, []
    real = getattr(owner, name)

    def saved_meanwhile(*arguments, **options):
        if not calls:
            calls.append(save(tmp_path, {6: None, 8: None}))
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, saved_meanwhile)
    with caplog.at_level(logging.WARNING, "stochconv_jax"):
        assert restored(tmp_path, read_only=True) == 8
    assert calls and "damaged" not in caplog.text and "instead" not in caplog.text


def test_what_was_restored_is_evaluated_and_kept_as_if_saved_with_its_metrics(tmp_path):
    save(tmp_path, {2: 0.6, 4: None})
    for step, metric in ((4, 0.9), (8, 0.1)):
        with Checkpoints(tmp_path, best_metric="val_roc_auc") as kept:
            assert kept.restore("last", SHAPES)[0::2] == (step, open_epoch(step))
            kept.save(step, items(step), {}, {"val_roc_auc": metric})
            kept.save(step + 2, items(step + 2), open_epoch(step + 2))
            kept.save(step + 4, items(step + 4), open_epoch(step + 4))
        assert names(tmp_path) == {"step_4", f"step_{step + 2}", f"step_{step + 4}"}
    assert restored(tmp_path, "best") == 4
    flip(tmp_path / "step_4" / "metrics" / "metrics")
    with pytest.raises(Damaged, match="step_4: metrics/metrics"):
        restored(tmp_path, "4")


def test_where_nothing_is_saved_there_is_nothing_to_restore(tmp_path):
    with Checkpoints(tmp_path / "checkpoints", best_metric="val_loss", read_only=True) as kept:
        assert kept.restore("last", SHAPES) is None and kept.restore("best", SHAPES) is None
    assert not (tmp_path / "checkpoints").exists()


@pytest.mark.parametrize("damage", DAMAGES)
def test_whatever_happens_to_any_file_what_is_restored_was_saved(two, tmp_path, damage):
    files = [file.relative_to(two) for file in (two / "step_6").rglob("*") if file.is_file()]
    assert len(files) > 10
    for number, file in enumerate(files):
        folder = tmp_path / str(number)
        shutil.copytree(two, folder)
        DAMAGES[damage](folder / file)
        step = restored(folder)
        # Files beside the folders hold no number. What their damage means is left to Orbax.
        if len(file.parts) > 2:
            assert step == 3 and names(folder) == {"step_3", "step_6.damaged"}, file


def test_what_is_damaged_is_named_and_set_aside_and_saving_goes_on(two, tmp_path, caplog):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    flip(data_file(folder / "step_6"))
    before = {file: file.read_bytes() for file in (folder / "step_6").rglob("*") if file.is_file()}
    with caplog.at_level(logging.WARNING, "stochconv_jax"):
        assert restored(folder) == 3
    assert f"{folder / 'step_6'} is damaged: variables/ocdbt.process_0/d/" in caplog.text
    assert f"{folder / 'step_3'} is used instead" in caplog.text
    assert all((folder / "step_6.damaged" / f.relative_to(folder / "step_6")).read_bytes() == before[f] for f in before)
    save(folder, {6: 0.6, 9: 0.4, 12: 0.3})
    truncate(data_file(folder / "step_12"))
    assert restored(folder, "best") == 6
    assert names(folder) == {"step_6", "step_9", "step_6.damaged", "step_12.damaged"}


def test_a_reader_touches_nothing_and_refuses_the_damaged_one_by_number(two, tmp_path, caplog):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    (folder / "step_6" / "metrics" / "metrics").write_text("{")
    for which in ("last", "best"):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "stochconv_jax"):
            assert restored(folder, which, read_only=True) == 3
        assert "step_6 is damaged: metrics/metrics has 1 bytes" in caplog.text and "step_3 is used" in caplog.text
    with pytest.raises(Damaged, match=r"choose another of \[3\]:\n.*step_6: metrics/metrics has 1 bytes"):
        restored(folder, "6", read_only=True)
    assert restored(folder, "3", read_only=True) == 3 and names(folder) == {"step_3", "step_6"}


def test_where_all_are_damaged_all_are_named_and_left(two, tmp_path):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    for step in (3, 6):
        flip(data_file(folder / f"step_{step}"))
    with pytest.raises(Damaged, match=r"step_3: variables/(.|\n)*step_6: variables/"):
        restored(folder)
    assert names(folder) == {"step_3", "step_6"}


def test_checkpoints_without_checksums_are_used_and_passed_over_where_orbax_cannot_read_them(two, tmp_path, caplog):
    folder = tmp_path / "checkpoints"
    shutil.copytree(two, folder)
    for step in (3, 6):
        (folder / f"step_{step}" / checksums.FILE).unlink()
    assert restored(folder) == 6
    (folder / "step_6" / "open_epoch" / "metadata").unlink()
    with caplog.at_level(logging.WARNING, "stochconv_jax"):
        assert restored(folder) == 3
    assert "step_6 is damaged: it cannot be restored" in caplog.text
    assert names(folder) == {"step_3", "step_6.damaged"}
    (folder / "step_3" / "open_epoch" / "metadata").write_text("")
    with pytest.raises(Damaged, match="step_3: it cannot be restored"):
        restored(folder)
    assert names(folder) == {"step_3", "step_6.damaged"}


def test_a_whole_checkpoint_of_another_network_is_not_called_damaged(two):
    bias = {"bias": jax.ShapeDtypeStruct((3,), np.float32, sharding=PLACE((3,)))}
    other = SHAPES | {"variables": SHAPES["variables"] | bias}
    with Checkpoints(two, best_metric="val_loss") as kept:
        for restore in (kept.restore, kept.restore_part):
            with pytest.raises(ValueError, match="bias") as caught:
                restore("last", other)
            assert not isinstance(caught.value, Damaged) and names(two) == {"step_3", "step_6"}


def in_one_item(folder, step):
    """Saves as earlier versions did: all arrays in the item 'state'."""
    together = {name: array for tree in items(step).values() for name, array in tree.items()}
    arrays, epoch = ocp.args.StandardSave(together), ocp.args.JsonSave(open_epoch(step))
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as writer:
        writer.save(folder / f"step_{step}", args=ocp.args.Composite(state=arrays, open_epoch=epoch))


def test_checkpoints_of_earlier_versions_with_all_arrays_in_one_item_are_restored(tmp_path):
    in_one_item(tmp_path, 5)
    assert restored(tmp_path) == 5
    save(tmp_path, {7: None})  # the run goes on with this version
    assert restored(tmp_path, "5") == 5 and restored(tmp_path, "7") == 7


@pytest.mark.parametrize("write", [in_one_item, lambda folder, step: save(folder, {step: None})])
def test_a_part_is_restored_where_other_arrays_cannot_be(tmp_path, write):
    write(tmp_path, 5)
    (tmp_path / "step_5" / checksums.FILE).unlink(missing_ok=True)
    shutil.rmtree(tmp_path / "step_5" / "optimizer", ignore_errors=True)
    part = {"variables": {"kernel": SHAPES["variables"]["kernel"]}}
    with Checkpoints(tmp_path, best_metric="val_loss", read_only=True) as kept:
        step, arrays = kept.restore_part("last", part)
        assert arrays.keys() == {"variables"} and arrays["variables"].keys() == {"kernel"}
    np.testing.assert_array_equal(arrays["variables"]["kernel"], values(step)["variables"]["kernel"])


def test_a_save_that_fails_in_the_background_is_an_error_that_names_the_folder(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    save(tmp_path, {2: 0.5})
    monkeypatch.setattr(checksums, "write", full)
    with pytest.raises(NotSaved, match=rf"step 4 in {tmp_path}: .*No space left(.|\n)*there: 2\. Make room"):
        save(tmp_path, {4: 0.5})
    with pytest.raises(NotSaved, match="step 4"):
        save(tmp_path, {4: 0.5, 6: 0.5})
    with pytest.raises(KeyError), Checkpoints(tmp_path, best_metric="val_roc_auc") as kept:
        kept.save(4, items(4), {})
        raise KeyError("what went wrong first is what is told")
    monkeypatch.undo()
    assert restored(tmp_path) == 2
    save(tmp_path, {4: 0.5})
    assert names(tmp_path) == {"step_2", "step_4"}


ONE_OF_TWO = """
import pathlib, sys
import jax
jax.config.update("jax_num_cpu_devices", 1)
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from tests.training import checkpoint_files as t
print("restored", t.restored(pathlib.Path(sys.argv[3])))
try:
    t.restored(pathlib.Path(sys.argv[4]))
except ValueError as error:
    print("refused", error)
"""


def test_two_processes_come_to_the_same_verdict(two, tmp_path):
    for name, steps in (("one", [6]), ("both", [3, 6])):
        shutil.copytree(two, tmp_path / name)
        for step in steps:
            flip(data_file(tmp_path / name / f"step_{step}"))
    address = f"localhost:{free_port()}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_OF_TWO, address, str(rank), tmp_path / "one", tmp_path / "both"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=PATIENCE)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all("restored 3\n" in output and "refused no checkpoint" in output for output in outputs), outputs
    assert names(tmp_path / "one") == {"step_3", "step_6.damaged"}
