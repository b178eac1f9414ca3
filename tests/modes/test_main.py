"""main.py as a real process: every mode, interruption, and what it refuses."""

import json
import os
import re
import shutil
import signal

import cv2
import numpy as np
import pytest

from stochconv_jax.experiment import data_sources, runs
from stochconv_jax.runtime.watchdog import STOPPED
from tests.conftest import PATIENCE, ROOT
from tests.modes.conftest import LONG, NOTEBOOK
from tests.modes.runs import assert_same_run, rows, wait_for_step


@pytest.mark.smoke
def test_a_run_leaves_what_a_run_folder_holds(finished):
    about = json.loads((finished / "config.json").read_text())
    assert about["config"]["model"]["variant"] == "two_blocks" and about["parameters"] > 10_000
    assert about["config"]["model"]["dtype"] == "float32"  # what 'auto' is on a CPU
    assert about["devices"]["count"] == 1 and "jax" in about["versions"]
    table = rows(finished / "metrics.csv")
    # 52 images in batches of 8: an epoch ends with the step in which its last image is seen.
    assert [(row["epoch"], row["step"]) for row in table] == [("1", "7"), ("2", "13"), ("3", "20")]
    assert all(np.isfinite(float(value)) for row in table for value in row.values())
    assert list(finished.glob("events/events*"))
    *arrays, _, total = (finished / "parameters.txt").read_text().splitlines()
    assert any("windows_stem/conv/kernel" in line and "(3, 3, 3, 8)" in line for line in arrays)
    assert f"Total: {about['parameters']:,} " in total


def test_the_same_command_after_the_end_changes_nothing(main, finished):
    before = (finished / "metrics.csv").read_bytes()
    assert "finished at step 20" in main(finished)
    assert (finished / "metrics.csv").read_bytes() == before


@pytest.mark.slow
@pytest.mark.smoke
def test_a_run_killed_in_the_middle_goes_on_bit_for_bit(main, finished, tmp_path):
    process = main.start(tmp_path / "run", checkpoint__every_steps=2)
    wait_for_step(process, tmp_path / "run", step=10)  # inside the second epoch
    process.kill()
    process.communicate()
    assert len(rows(tmp_path / "run" / "metrics.csv")) < 3
    main(tmp_path / "run", checkpoint__every_steps=2)
    assert_same_run(tmp_path / "run", finished)
    first, second = json.loads((tmp_path / "run" / "config.json").read_text())["starts"]
    assert first["step"] == 0 and second["step"] >= 10 and first["time"] <= second["time"]


@pytest.mark.slow
def test_sigterm_saves_and_the_run_goes_on_bit_for_bit(main, finished, tmp_path):
    process = main.start(tmp_path / "run", checkpoint__every_steps=1)
    wait_for_step(process, tmp_path / "run", step=3)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == STOPPED and "stopped and saved at step" in output, output
    assert len(rows(tmp_path / "run" / "metrics.csv")) < 3
    main(tmp_path / "run", checkpoint__every_steps=1)
    assert_same_run(tmp_path / "run", finished)


@pytest.mark.slow
def test_evaluation_is_the_same_on_other_devices_and_batches(main, finished):
    predictions = []
    for devices, batch in ((1, 8), (8, 3)):
        main(finished, mode="evaluate", devices=devices, eval__passes=3, eval__batch_size=batch)
        predictions.append(rows(finished / "predictions.csv"))
        summary = json.loads((finished / "evaluation.json").read_text())
        assert summary["n"] == 11 and summary["passes"] == 3
        low, high = summary["roc_auc_interval_95"]
        assert low <= summary["roc_auc"] <= high
        assert len(summary["roc_auc_by_passes"]) == 3 and summary["roc_auc_by_passes"][-1] == summary["roc_auc"]
    first, second = predictions
    assert [row["image"] for row in first] == [row["image"] for row in second] and len(first) == 11
    for column in ("probability", "std"):
        # float32 sums in another order.
        a, b = ([float(row[column]) for row in table] for table in predictions)
        np.testing.assert_allclose(a, b, atol=1e-5)
        assert np.std(a) > 1e-4


def test_prediction_is_that_of_evaluation_and_names_what_it_refuses(main, finished, tmp_path):
    main(finished, mode="evaluate")
    expected = {row["image"]: float(row["probability"]) for row in rows(finished / "predictions.csv")}
    _, config = runs.read_run(finished, {})
    _, source = data_sources.training_and_validation(config)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(0, len(source), 2):
        cv2.imwrite(str(folder / f"{source.names[index]}.png"), source.read(index)[..., ::-1])
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"not a picture")
    cv2.imwrite(str(folder / "small.png"), np.zeros((40, 200, 3), np.uint8))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    names = [f"{name}.png" for name in source.names[:10:2]]
    asked = [names[2], "gone", *names[:2], "broken", "small.png", "pictures/" + names[3], "=1+1", names[2]]
    asked.append("caf\\udce9.png")
    cells = [f'"{name}";{number}' for number, name in enumerate(asked)]
    (tmp_path / "list.csv").write_bytes("\r\n".join(["Image_Name;age", *cells]).encode("utf-16"))
    output = main(finished, mode="predict", predict__images=tmp_path / "list.csv")
    got = rows(finished / "predicted.csv")
    assert [row["image"].removeprefix("'") for row in got] == asked
    assert [row["age"] for row in got] == [str(number) for number in range(len(asked))]
    for row in got:
        name = row["image"].removeprefix("pictures/").removesuffix(".png")
        assert bool(row["reason"]) == (name not in expected) == (row["probability"] == row["std"] == "")
        if not row["reason"]:  # a PNG holds the very pixels; a batch of other rows rounds otherwise
            assert abs(float(row["probability"]) - expected[name]) < 1e-5
    reasons = {row["image"]: row["reason"] for row in got}
    assert "small.png: 40x200 pixels" in reasons["small.png"] and "broken.jpg: " in reasons["broken"]
    assert reasons["gone"].startswith("there is no image 'gone'") and "5 of 10 images predicted" in output
    assert "caf\\udce9.png: " in reasons["caf\\udce9.png"]
    assert all(reason in output for reason in reasons.values())


@pytest.mark.smoke
def test_report_compares_the_runs_below_a_folder(main, finished):
    output = main(finished.parent, mode="report", environ=NOTEBOOK)
    # Runs, parameters, million multiply-adds, and the last epoch's area.
    assert re.search(r"finished +1 +[\d,]+ +\d+\.\d\d +0\.\d{4}", output)
    assert (finished.parent / "figures" / "curves.png").stat().st_size > 10_000
    assert "<html" in (finished.parent / "report.html").read_text()


def test_another_config_is_refused_and_nothing_is_overwritten(main, finished):
    before = {file: file.read_bytes() for file in finished.glob("[!.]*.*") if file.is_file()}
    output = main(finished, code=1, optimizer__learning_rate=0.5, seed=3, model__dtype="bfloat16")
    assert "optimizer.learning_rate: 0.003 there, 0.5 now" in output and "seed: 0 there, 3 now" in output
    assert "model.dtype: 'float32' there, 'bfloat16' now" in output
    assert before == {file: file.read_bytes() for file in finished.glob("[!.]*.*") if file.is_file()}


@pytest.mark.slow
def test_a_saved_config_repeats_its_run(main, finished, tmp_path):
    process = main.start(tmp_path / "run", f"--config={finished / 'config.json'}", mode=None)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert_same_run(tmp_path / "run", finished)
    about = json.loads((tmp_path / "run" / "config.json").read_text())
    assert set(about) >= {"command", "versions", "flags", "git", "devices", "parameters", "data", "starts"}


@pytest.mark.slow
def test_a_run_of_an_older_version_goes_on_with_new_keys_at_their_defaults(main, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    file = tmp_path / "run" / "config.json"
    about = json.loads(file.read_text())
    del about["config"]["optimizer"]["rms_decay"]
    file.write_text(json.dumps(about))
    assert "lacks config.optimizer.rms_decay; its default, 0.99, is used" in main(tmp_path / "run")
    assert json.loads(file.read_text())["starts"][-1]["new_keys"] == {"optimizer.rms_decay": 0.99}
    about["config"]["optimizer"]["nesterov"] = True
    file.write_text(json.dumps(about))
    assert "keys that this version does not know: optimizer.nesterov" in main(tmp_path / "run", code=1)


@pytest.mark.parametrize(
    "mode, key, expected",
    [
        ("train", "model.varient", 'model.varient. Did you mean "model.variant"?'),
        ("train", "modle.variant", 'modle.variant. Did you mean "model.variant"?'),
        ("evaluate", "eval.pases", 'eval.pases. Did you mean "eval.passes"?'),  # which needs no --config
        ("evaluate", "zzz", "zzz"),
        ("train", "data.batch_size", 'data.batch_size. Did you mean "eval.batch_size"?'),  # beside that of training
    ],
)
def test_an_unknown_key_fails_with_the_nearest(main, tmp_path, mode, key, expected):
    output = main(tmp_path / "run", mode=mode, code=1, **{key.replace(".", "__"): "b0"})
    assert output == f"stochconv_jax: unknown config key {expected}\n"


def test_an_unknown_file_fails_with_the_nearest(main, tmp_path):
    output = main(tmp_path / "run", "--config", "configs/ablations/samplin.py", mode="report", code=1)
    assert output.startswith("stochconv_jax: --config=configs/ablations/samplin.py: there is no such file; looked for")
    assert f'{ROOT}/configs/ablations/samplin.py. Did you mean "{ROOT}/configs/ablations/sampling.py"?\n' in output
    assert len(output.splitlines()) == 1
    (tmp_path / "own.py").write_text("import math\ndef get_config(): return math.nothing(3)\n")
    output = main(tmp_path / "run", f"--config={tmp_path / 'own.py'}", mode="report", code=1)
    assert f"AttributeError: module 'math' has no attribute 'nothing' ({tmp_path / 'own.py'}, line 2)" in output
    assert len(output.splitlines()) == 1


@pytest.mark.slow
def test_two_runs_in_one_folder_are_refused(main, tmp_path):
    first = main.start(tmp_path / "run", checkpoint__every_steps=1, **LONG)
    try:
        wait_for_step(first, tmp_path / "run", step=1)
        output = main(tmp_path / "run", code=1, **LONG)
        assert f"another process works in {tmp_path / 'run'} (process {first.pid} on " in output
    finally:
        first.kill()
        first.communicate()
