"""--mode=export as a real process: files that programs without this package run, and the card beside them."""

import hashlib
import json
import os
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest

import stochconv_jax
from tests.modes.runs import rows

pytest.importorskip("onnxruntime", reason="needs the extra `export`")
pytest.importorskip("flatbuffers", reason="needs the extra `export`")
SERVE = """
import sys
import jax, numpy, onnxruntime
folder, images = sys.argv[1], numpy.load(sys.argv[2])
with open(f"{folder}/model.stablehlo", "rb") as file:
    first = jax.export.deserialize(bytearray(file.read())).call(images)
session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
numpy.savez(sys.argv[3], first=first, second=session.run(None, {"images": images})[0])
assert "stochconv_jax" not in sys.modules
"""
LAST = {"eval__checkpoint": "last", "eval__passes": 2}


@pytest.fixture(scope="module")
def exported(main, finished, tmp_path_factory):
    """The output of the mode, and the folder that it has written."""
    folder = tmp_path_factory.mktemp("exported")
    main(finished, mode="evaluate", **LAST)
    return main(finished, mode="export", export__output=folder, **LAST), folder


@pytest.mark.slow
def test_other_programs_predict_as_the_network_does(finished, exported, tmp_path):
    _, folder = exported
    random = np.random.default_rng(0)
    patches = random.integers(0, 256, (3, 6, 5, 3), np.uint8)
    images = np.stack([cv2.resize(one, (96, 80)) for one in patches])
    np.save(tmp_path / "images.npy", images)
    script = [sys.executable, "-c", SERVE, folder, tmp_path / "images.npy", tmp_path / "found.npz"]
    done = subprocess.run(script, cwd=tmp_path, env=os.environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    predictor = stochconv_jax.load(finished, "last", devices=jax.devices()[:1])
    # A file name without a stem has the identity 0, whose windows the files have for every image.
    expected = predictor.predict(images, passes=2, names=["", "", ""]).probability
    found = np.load(tmp_path / "found.npz")
    np.testing.assert_allclose(found["first"], expected, atol=1e-4)
    np.testing.assert_allclose(found["second"], expected, atol=1e-4)
    assert np.ptp(expected[:, 1]) > 1e-3


@pytest.mark.slow
def test_the_card_says_what_the_runs_files_say(finished, exported):
    output, folder = exported
    card = (folder / "model_card.md").read_text()
    assert f"written: {folder / 'model_card.md'}" in output
    evaluation, about = (json.loads((finished / name).read_text()) for name in ("evaluation.json", "config.json"))
    low, high = evaluation["roc_auc_interval_95"]
    row = f"| validation | 11 | {' / '.join(map(str, evaluation['class_counts']))} | 20 | 2 | "
    assert row + f"{evaluation['roc_auc']:.3f} [{low:.3f}, {high:.3f}]" in card
    assert f"{about['parameters']:,}" in card and "52 images to train on and 11 to validate on" in card
    for name in ("model.stablehlo", "model.onnx"):
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() in card
    calibration = json.loads((finished / "calibration.json").read_text())
    assert f"{calibration['temperature']:.3f}" in card and "No test set was evaluated" in card
    assert len(rows(finished / "predictions.csv")) == 11


@pytest.mark.slow
def test_one_format_alone_and_without_an_evaluation_of_this_checkpoint(main, finished, tmp_path):
    settings = {"export__formats": "stablehlo", "export__platforms": "tpu", "export__output": tmp_path}
    output = main(finished, mode="export", eval__checkpoint=13, **settings)
    assert {file.name for file in tmp_path.iterdir()} == {"model.stablehlo", "model_card.md"}
    assert "not compared, because it is not for cpu" in output
    card = (tmp_path / "model_card.md").read_text()
    assert (
        "Of another checkpoint, or other passes or views, than the files: validation" in card
        and "temperature" not in card
    )
