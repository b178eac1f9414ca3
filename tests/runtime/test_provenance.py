"""What config.json records of the code, the environment and every start; none of it makes two runs different."""

import json
import subprocess

import jax
import numpy as np
import pytest

from configs import quickstart
from stochconv_jax import config as configs_of_runs
from stochconv_jax.experiment import runs
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.runtime import provenance


def git(*words, cwd):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *identity, *words], cwd=cwd, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """Returns a git checkout with one committed file, code.py, in place of the project's own."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "code.py").write_text("one\ntwo\n")
    git("init", cwd=folder)
    git("add", "code.py", cwd=folder)
    git("commit", "--message=first", cwd=folder)
    monkeypatch.setattr(provenance, "CHECKOUT", folder)
    return folder


@pytest.fixture
def run(tmp_path):
    """Returns the folder of a run and a function that claims it for a config."""
    folder, config = RunFolder(tmp_path / "run").create(), quickstart.get_config()

    def claim(**changes):
        own = config.copy_and_resolve_references()
        own.update_from_flattened_dict(changes)
        runs.claim(folder, own, size={"parameters": 3}, data={"train": {"images": 5}})

    return folder, claim


def test_variables_and_settings_that_change_numbers_are_kept(monkeypatch, tmp_path):
    value = str(np.random.default_rng(0).integers(1000))
    for name in ("JAX_ANYTHING", "XLA_ANYTHING", "LIBTPU_INIT_ARGS", "ANYTHING"):
        monkeypatch.setenv(name, value)
    before = jax.config.jax_default_matmul_precision
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        about = provenance.describe(tmp_path)
    finally:
        jax.config.update("jax_default_matmul_precision", before)
    assert all(about["flags"][name] == value for name in ("JAX_ANYTHING", "XLA_ANYTHING", "LIBTPU_INIT_ARGS"))
    assert "ANYTHING" not in about["flags"] and "PATH" not in about["flags"]
    assert about["jax_config"]["jax_default_matmul_precision"] == "highest"
    assert all(about["jax_config"][name] is not None for name in provenance.NUMERICS)
    assert json.loads(json.dumps(about)) == about


def test_the_drivers_of_accelerators_are_kept_where_they_are_installed(monkeypatch, tmp_path):
    before = provenance.describe(tmp_path)["versions"]
    for name in ("libtpu", "jax_cuda99_plugin", "nvidia_cudnn_cu99", "unrelated"):
        (tmp_path / f"{name}-1.2.dist-info").mkdir()
        (tmp_path / f"{name}-1.2.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1.2\n")
    (tmp_path / "broken-1.2.dist-info").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    added = dict.fromkeys(("libtpu", "jax-cuda99-plugin", "nvidia-cudnn-cu99"), "1.2")
    assert provenance.describe(tmp_path)["versions"] == before | added


def test_what_differs_from_the_commit_can_be_applied_to_it(checkout, tmp_path):
    (folder := tmp_path / "run").mkdir()
    commit = git("rev-parse", "HEAD", cwd=checkout).strip()
    assert provenance.describe(folder)["git"] == {"commit": commit, "diff": None} and not list(folder.iterdir())
    names = []
    for content in ("one\nTWO\n", "one\ntwö\nthree\n", "one\nTWO\n"):
        (checkout / "code.py").write_text(content)
        if "three" in content:  # staged or not, it is not committed
            git("add", "code.py", cwd=checkout)
        names.append(provenance.describe(folder)["git"]["diff"])
        git("reset", "--hard", cwd=checkout)
        git("apply", folder / names[-1], cwd=checkout)
        assert (checkout / "code.py").read_text() == content
    assert names[0] == names[2] != names[1] and {file.name for file in folder.iterdir()} == set(names)


def test_a_large_difference_is_cut_and_says_so(checkout, tmp_path):
    (checkout / "code.py").write_text("ö" * 2 * provenance.LONGEST_DIFF)
    file = tmp_path / provenance.describe(tmp_path)["git"]["diff"]
    assert file.stat().st_size < 1.1 * provenance.LONGEST_DIFF and "... cut: 4,194," in file.read_text()[-60:]


def test_without_a_checkout_nothing_is_said_of_it(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "CHECKOUT", tmp_path)
    assert provenance.describe(tmp_path)["git"] is None


def test_every_start_is_recorded_and_another_version_seen(checkout, run, monkeypatch, caplog):
    folder, claim = run
    claim()
    first = folder.read_config()
    runs.record_start(folder, quickstart.get_config(), 0)
    assert not caplog.records
    runs.record_start(folder, quickstart.get_config(), 7)
    (checkout / "code.py").write_text("other\n")
    git("commit", "--all", "--message=second", cwd=checkout)
    monkeypatch.setenv("XLA_ANYTHING", "1")
    runs.record_start(folder, quickstart.get_config(), 9)
    about = folder.read_config()
    assert {name: value for name, value in about.items() if name != "starts"} == first
    assert [start["step"] for start in about["starts"]] == [0, 7, 9]
    assert [start.keys() - {"time", "step", "devices", "git"} for start in about["starts"]] == [set(), set(), {"flags"}]
    commits = [start["git"]["commit"] for start in about["starts"]]
    assert commits == git("rev-parse", "HEAD~", "HEAD~", "HEAD", cwd=checkout).split()
    assert "different from the run's first start: flags, git" in caplog.text


def test_a_run_is_the_same_whoever_started_it_and_repeats_from_its_config(checkout, run, monkeypatch):
    folder, claim = run
    claim()
    runs.record_start(folder, quickstart.get_config(), 0)
    (folder.checkpoints / "step_3").mkdir(parents=True)
    monkeypatch.setenv("JAX_ANYTHING", "other")
    (checkout / "code.py").write_text("other\n")
    before = folder.read_config()
    claim()
    assert folder.read_config() == before
    with pytest.raises(ValueError, match="seed: 0 there, 3 now"):
        claim(seed=3)
    runs.record_start(folder, quickstart.get_config(), 3)
    assert configs_of_runs.get_config(str(folder.path / "config.json")).to_dict() == quickstart.get_config().to_dict()


def test_a_run_that_begins_anew_forgets_the_starts_that_came_to_nothing(run):
    folder, claim = run
    for seed in (1, 2):
        claim(seed=seed)
        runs.record_start(folder, quickstart.get_config(), 0)
    assert len(folder.read_config()["starts"]) == 1
