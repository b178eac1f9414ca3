"""A run on class folders as real processes: the names of the classes in its tables, its log and its figures."""

import csv
import json

import cv2
import pytest

from stochconv_jax.data.synthetic import SyntheticSource

COUNTS = {"train": 24, "val": 12, "test": 6}


@pytest.fixture
def images(tmp_path):
    """Drawn pictures in train, val and test, in folders of two classes."""
    source = SyntheticSource(size=sum(COUNTS.values()), image_size=(90, 120), seed=3)
    sides = [side for side, count in COUNTS.items() for _ in range(count)]
    for index, side in enumerate(sides):
        folder = tmp_path / "images" / side / ("dots", "net")[source.labels[index]]
        folder.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / f"{index}.png"), source.read(index)[..., ::-1])
    return tmp_path / "images"


def rows(file):
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.slow
def test_the_names_of_class_folders_are_kept_and_used(main, images, tmp_path):
    workdir = tmp_path / "run"
    settings = {"data__source": "folder", "data__path": images, "num_epochs": 1}
    output = main(workdir, **settings)
    assert "train: 24 images, dots: 12 (50.0%), net: 12 (50.0%)" in output, output
    assert json.loads((workdir / "config.json").read_text())["config"]["data"]["classes"] == ["dots", "net"]
    main(workdir, **settings)  # the same command goes on, though its own config.data.classes is ()

    main(workdir, mode="evaluate", eval__path=images)
    summary = json.loads((workdir / "test_images" / "evaluation.json").read_text())
    assert summary["classes"] == ["dots", "net"] and summary["class_counts"] == [3, 3]
    for row in rows(workdir / "test_images" / "predictions.csv"):
        assert row["class"] == row["image"].split("/")[1] == ("dots", "net")[int(row["target"])]
        assert row["probability"] == row["probability_net"]
        assert float(row["probability_dots"]) + float(row["probability_net"]) == pytest.approx(1)

    main(workdir, mode="predict", predict__images=images / "test" / "net")
    assert list(rows(workdir / "predicted.csv")[0]) == [
        *("image", "probability", "std", "probability_dots", "std_dots", "probability_net", "std_net", "reason")
    ]
    (images / "test" / "net").rename(images / "test" / "nets")
    output = main(workdir, code=1, mode="evaluate", eval__path=images, eval__output="again")
    assert "test/nets: target 'nets' is none of the classes dots, net" in output.splitlines()[-1]
