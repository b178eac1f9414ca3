"""Files of a run are whole or not there."""
import subprocess

import pytest

from stochconv_jax.run_folder import METRICS, RunFolder, atomic, write_csv


def test_a_write_that_fails_leaves_the_file_before_it(tmp_path):
    file = tmp_path / "table.csv"
    write_csv(file, ["a"], [{"a": 1}])
    with pytest.raises(RuntimeError), atomic(file) as open_file:
        open_file.write("half a li")
        raise RuntimeError
    assert file.read_text() == "a\n1\n"
    assert list(tmp_path.iterdir()) == [file]


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path):
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a small file system here")
    try:
        file = write_csv(tmp_path / "table.csv", ["a"], [{"a": 1}])
        with pytest.raises(OSError, match="No space left"):
            write_csv(file, ["a"], ({"a": "x" * 1000} for _ in range(1000)))
        assert file.read_text() == "a\n1\n"
        assert list(tmp_path.iterdir()) == [file]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_metrics_keep_every_digit(tmp_path):
    folder = RunFolder(tmp_path)
    row = dict.fromkeys(METRICS, 0.1 + 0.2) | {"epoch": 1, "step": 2}
    folder.write_metrics([row])
    assert float(folder.read_metrics()[0]["val_loss"]) == 0.1 + 0.2
    assert RunFolder(tmp_path / "none").read_metrics() == []


def test_a_damaged_config_is_named(tmp_path):
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
        RunFolder(tmp_path).read_config()
