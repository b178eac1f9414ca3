"""A run on class folders as real processes: the names of the classes in its tables, its log and its figures."""

import json

import pytest

from tests.modes.runs import rows


@pytest.mark.slow
def test_the_names_of_class_folders_are_kept_and_used(main, class_images, tmp_path):
    workdir = tmp_path / "run"
    settings = {"data__source": "folder", "data__path": class_images, "num_epochs": 1}
    output = main(workdir, **settings)
    assert "train: 24 images, dots: 12 (50.0%), net: 12 (50.0%)" in output, output
    assert json.loads((workdir / "config.json").read_text())["config"]["data"]["classes"] == ["dots", "net"]
    main(workdir, **settings)  # the same command goes on, though its own config.data.classes is ()

    main(workdir, mode="evaluate", eval__path=class_images)
    summary = json.loads((workdir / "test_images" / "evaluation.json").read_text())
    assert summary["classes"] == ["dots", "net"] and summary["class_counts"] == [3, 3]
    for row in rows(workdir / "test_images" / "predictions.csv"):
        assert row["class"] == row["image"].split("/")[1] == ("dots", "net")[int(row["target"])]
        assert row["probability"] == row["probability_net"]
        assert float(row["probability_dots"]) + float(row["probability_net"]) == pytest.approx(1)

    main(workdir, mode="predict", predict__images=class_images / "test" / "net")
    assert list(rows(workdir / "predicted.csv")[0]) == [
        *("image", "probability", "std", "probability_dots", "std_dots", "probability_net", "std_net", "reason")
    ]
    (class_images / "test" / "net").rename(class_images / "test" / "nets")
    output = main(workdir, code=1, mode="evaluate", eval__path=class_images, eval__output="again")
    assert "test/nets: target 'nets' is none of the classes dots, net" in output.splitlines()[-1]
