"""Training on a folder of images as a real process: more classes, every option, bad images."""

import csv
import json

import cv2
import numpy as np
import pytest

from stochconv_jax.data.synthetic import SyntheticSource


@pytest.fixture
def folder(tmp_path):
    """30 pictures of three classes and their CSV; the picture in row 7 is cut short."""
    source = SyntheticSource(size=30, image_size=(90, 120), seed=np.random.default_rng(0).integers(1000))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rows = []
    for index in range(30):
        ending = "jpg" if index % 2 else "png"
        _, encoded = cv2.imencode(f".{ending}", source.read(index)[..., ::-1])
        content = encoded.tobytes()
        (pictures / f"mole_{index}.{ending}").write_bytes(content[: len(content) // 2] if index == 5 else content)
        rows.append({"image": f"mole_{index}", "target": index % 3, "patient_id": f"p{index // 2}"})
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["image", "target", "patient_id"])
        writer.writeheader()
        writer.writerows(rows)
    return tmp_path


def settings(folder):
    return {
        "data__source": "folder",
        "data__path": folder / "pictures",
        "data__labels": folder / "labels.csv",
        "data__num_classes": 3,
        "data__num_workers": 1,
        "data__validation_fraction": 0.3,
        "data__group_by": "patient_id",
        "num_epochs": 2,
    }


@pytest.mark.slow
@pytest.mark.smoke
def test_a_bad_image_ends_the_run_by_name_and_row(main, folder):
    output = main(folder / "run", code=1, **settings(folder))
    last = output.splitlines()[-1]
    assert "mole_5.jpg" in last and "row 7 of" in last, output


@pytest.mark.slow
def test_every_option_together_with_bad_images_skipped(main, folder):
    options = {
        "data__on_bad_image": "skip",
        "loss__label_smoothing": 0.1,
        "loss__class_weights": "(1.0,2.0,3.0)",
        "optimizer__name": "rmsprop",
        "optimizer__momentum": 0.9,
        "optimizer__warmup_epochs": 0.5,
        "optimizer__weight_decay": 1e-5,
        "optimizer__clip_norm": 1.0,
        "optimizer__ema_decay": 0.9,
        "model__dtype": "bfloat16",
        "model__merge_after": 1,
        "model__sampling": "shared",
        "checkpoint__best_metric": "val_loss",
    }
    output = main(folder / "run", **settings(folder), **options)
    assert "1 of" in output and "mole_5.jpg" in output and "finished at step" in output
    main(folder / "run", mode="evaluate", eval__passes=2)
    summary = json.loads((folder / "run" / "evaluation.json").read_text())
    skipped = len(summary["skipped"])
    assert summary["n"] == sum(summary["class_counts"]) and len(summary["class_counts"]) == 3
    with (folder / "run" / "predictions.csv").open() as file:
        predictions = list(csv.DictReader(file))
    assert len(predictions) == summary["n"] and skipped in (0, 1)
    total = [sum(float(row[f"probability_{k}"]) for k in range(3)) for row in predictions]
    np.testing.assert_allclose(total, 1.0, rtol=1e-6)
