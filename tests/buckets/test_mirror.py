"""The state of a bucket at every moment is one in which a run can continue."""

import os
import shutil

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from stochconv_jax.buckets.mirror import Mirror
from stochconv_jax.buckets.store import Store
from stochconv_jax.training import checksums

ARRAYS = ("variables/d/1", "variables/manifest", "optimizer/d/2", "_CHECKPOINT_METADATA")


def mirror(store, folder, *, removes=True):
    """A new mirror, which has downloaded; scratch is beside `folder`."""
    made = Mirror(store, folder, folder.with_name(f"{folder.name}.scratch"), removes=removes)
    made.download()
    return made


def save(folder, step):
    """Writes a checkpoint as Orbax does: under another name first."""
    unfinished = folder / f"checkpoints/step_{step}.orbax-checkpoint-tmp"
    for name in ARRAYS:
        (unfinished / name).parent.mkdir(parents=True, exist_ok=True)
        (unfinished / name).write_text(f"{name} of {step}")
    checksums.write(unfinished)
    unfinished.rename(folder / f"checkpoints/step_{step}")


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def objects(store):
    return {name: store.read(name) for name in store.names()}


def test_another_machine_gets_the_same_files(store, tmp_path):
    one = mirror(store, tmp_path / "one")
    (tmp_path / "one/config.json").write_text("config")
    (tmp_path / "one/events").mkdir()
    (tmp_path / "one/events/1 ü[*]").write_bytes(b"\0")
    save(tmp_path / "one", 7)
    one.upload()
    assert objects(store) == files(tmp_path / "one")
    mirror(store, tmp_path / "two")
    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_what_is_being_written_is_left_out(store, tmp_path):
    one = mirror(store, folder := tmp_path / "one")
    save(folder, 7)
    names = ("step_8.orbax-checkpoint-tmp/_CHECKPOINT_METADATA", ".removed.1/step_2/_CHECKPOINT_METADATA", ".trial/1")
    for name in (*names, "../.metrics.csv.01234567.tmp", "../.lock", "../.evaluate.lock"):
        (folder / "checkpoints" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints" / name).write_text("unfinished")
    os.symlink("/", folder / "link")
    one.upload()
    assert {name.split("/")[1] for name in store.names()} == {"step_7"}


def test_only_what_has_changed_is_uploaded(store, tmp_path, monkeypatch):
    one, uploaded = mirror(store, folder := tmp_path / "one"), []
    upload = Store.upload
    monkeypatch.setattr(Store, "upload", lambda self, files: (uploaded.extend(files), upload(self, files)))
    save(folder, 7)
    (folder / "metrics.csv").write_text("1")
    one.upload()
    uploaded.clear()
    one.upload()
    assert not uploaded
    (folder / "metrics.csv").write_text("12")
    one.upload()
    assert uploaded == ["metrics.csv"]
    uploaded.clear()
    other = mirror(store, tmp_path / "two", removes=False)
    (tmp_path / "two/predicted.csv").write_text("1")
    other.upload()
    assert uploaded == ["predicted.csv"]


def test_checkpoints_that_are_removed_here_are_removed_there_and_nothing_else(store, tmp_path):
    store.write("checkpoints/notes.txt", b"the user's")
    one = mirror(store, folder := tmp_path / "one")
    for step in (1, 2, 3):
        save(folder, step)
    (folder / "metrics.csv").write_text("1")
    one.upload()
    shutil.rmtree(folder / "checkpoints/step_1")
    (folder / "checkpoints/step_2").rename(folder / "checkpoints/step_2.damaged")
    (folder / "metrics.csv").unlink()
    mirror(store, tmp_path / "two", removes=False).upload()
    assert any("step_1/" in name for name in store.names())
    one.upload()
    left = {name.partition("/")[2].partition("/")[0] for name in store.names() if name.startswith("checkpoints")}
    assert left == {"step_2.damaged", "step_3", "notes.txt"} and "metrics.csv" in store.names()


class Killed(Exception):
    """In place of a kill."""


def killed_after(monkeypatch, requests):
    """Makes each object a request of its own, of which those after the first `requests` fail."""
    left, real = iter(range(requests)), {name: getattr(Store, name) for name in ("upload", "remove")}

    def one_by_one(name):
        def act(self, things):
            for thing in list(things):
                if next(left, None) is None:
                    raise Killed
                real[name](self, {thing: things[thing]} if isinstance(things, dict) else [thing])

        return act

    for name in real:
        monkeypatch.setattr(Store, name, one_by_one(name))


def test_a_kill_at_any_request_leaves_the_old_or_the_new_state(store, tmp_path, monkeypatch):
    one = mirror(store, folder := tmp_path / "one")
    (folder / "metrics.csv").write_text("1 2")
    for step in (1, 2):
        save(folder, step)
    one.upload()
    before = objects(store)
    whole = None
    for requests in range(100):
        for name in set(objects(store)) - set(before):
            store.remove([name])
        for name, content in before.items():
            store.write(name, content)
        shutil.rmtree(folder)
        one = mirror(store, folder)
        save(folder, 3)
        (folder / "checkpoints/step_2/metrics").mkdir()
        (folder / "checkpoints/step_2/metrics/metrics").write_text("{}")
        checksums.write(folder / "checkpoints/step_2")
        shutil.rmtree(folder / "checkpoints/step_1")
        (folder / "metrics.csv").write_text("1 2 3")
        with monkeypatch.context() as patched:
            killed_after(patched, requests)
            try:
                one.upload()
                whole = requests
            except Killed:
                pass
        shutil.rmtree(tmp_path / "other", ignore_errors=True)
        mirror(store, other := tmp_path / "other")
        steps = {path.name for path in (other / "checkpoints").iterdir()}
        assert {"step_2"} < steps <= {"step_1", "step_2", "step_3"}
        assert all(checksums.exist(other / "checkpoints" / step) for step in steps)
        assert not [fault for step in steps if (fault := checksums.fault(other / "checkpoints" / step))]
        if (other / "metrics.csv").read_text() == "1 2 3":
            assert "step_3" in steps
        if whole is not None:
            break
    assert whole is not None and whole > 8 and steps == {"step_2", "step_3"}
    mirror(store, tmp_path / "last").upload()
    assert objects(store) == files(folder)


def test_leftovers_of_a_killed_upload_are_removed(store, tmp_path):
    one = mirror(store, folder := tmp_path / "one")
    save(folder, 1)
    one.upload()
    store.write("checkpoints/step_9/variables/d/1", b"a part")
    store.write("checkpoints/step_9/checksums.json", b"{}")
    other = mirror(store, tmp_path / "two")
    assert not (tmp_path / "two/checkpoints/step_9").exists()
    other.upload()
    assert objects(store) == files(folder)


def test_a_checkpoint_that_is_removed_during_the_upload_is_left_out(store, tmp_path, monkeypatch):
    one = mirror(store, folder := tmp_path / "one", removes=False)
    save(folder, 1)
    real, links = os.link, []

    def link(source, target):
        real(source, target)
        links.append(source)
        if len(links) == 3:
            (folder / "checkpoints/step_1").rename(folder / "checkpoints/.removed.1")

    monkeypatch.setattr(os, "link", link)
    one.upload()
    assert len(links) >= 3 and store.names() == []


def test_a_download_begins_again_where_another_process_removes_files(store, tmp_path, monkeypatch):
    one = mirror(store, folder := tmp_path / "one")
    for step in (1, 2):
        save(folder, step)
    one.upload()
    shutil.rmtree(folder / "checkpoints/step_1")
    names, calls = Store.names, []

    def listed(self):
        found = names(self)
        calls.append(found)
        if len(calls) == 1:
            one.upload()
        return found

    monkeypatch.setattr(Store, "names", listed)
    mirror(store, tmp_path / "two", removes=False)
    assert len(calls) >= 2 and files(tmp_path / "two") == files(folder)


def test_an_object_outside_of_the_folder_is_refused(store, tmp_path, monkeypatch):
    store.write("a", b"")
    monkeypatch.setattr(MemoryFileSystem, "find", lambda system, place: [f"{place}/b/../../x"])
    with pytest.raises(ValueError, match=r"the object 'b/\.\./\.\./x' would be outside of a local copy: remove it"):
        mirror(store, tmp_path / "one")
