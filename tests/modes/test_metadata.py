"""A run with metadata beside the images, as real processes: resumed, evaluated, predicted from, and exported."""

import json

import cv2
import numpy as np
import pytest

import stochconv_jax
from stochconv_jax.data.synthetic import SyntheticSource
from tests.modes.runs import numbers, rows, variables


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Drawn pictures and their table; the sex of some is missing."""
    folder = tmp_path_factory.mktemp("images")
    source = SyntheticSource(size=36, image_size=(90, 120), seed=3)
    lines = ["image,target,age,sex"]
    for index, label in enumerate(source.labels):
        assert cv2.imwrite(str(folder / f"{index}.png"), source.read(index)[..., ::-1])
        lines.append(f"{index}.png,{label},{30 + index},{('m', 'f', '')[index % 3]}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


@pytest.mark.slow
def test_metadata_from_training_to_export(main, images, tmp_path):
    resumed, constant = tmp_path / "resumed", tmp_path / "constant"
    data = {"data__source": "folder", "data__path": images, "data__labels": images / "labels.csv"}
    settings = data | {"data__metadata_columns": "('age','sex')", "loss__class_weights": "balanced"}
    main(resumed, **settings, num_epochs=1, optimizer__schedule="constant")
    main(constant, **settings, num_epochs=2, optimizer__schedule="constant")
    before = (resumed / "metadata.json").read_bytes()
    main(resumed, **settings, num_epochs=2, optimizer__schedule="constant")
    assert numbers(resumed) == numbers(constant)
    assert (resumed / "metadata.json").read_bytes() == before
    features = json.loads(before)["features"]
    assert features == ["age", "sex missing", "sex=f", "sex=m"]
    assert json.loads((resumed / "config.json").read_text())["class_weights"] == pytest.approx([1, 1], abs=0.2)
    assert variables(resumed)["params"]["metadata"]["dense1"]["kernel"].shape == (4, 512)

    main(resumed, mode="evaluate", eval__passes=2)
    assert json.loads((resumed / "evaluation.json").read_text())["images"] == "validation"
    main(resumed, mode="predict", predict__images=images / "labels.csv")
    written = {row["image"]: float(row["probability"]) for row in rows(resumed / "predicted.csv")}

    predictor = stochconv_jax.load(resumed)
    files = [images / "0.png", images / "2.png"]
    given = {"age": [30, 32], "sex": ["m", None]}
    found = predictor.predict(files, metadata=given).probability[:, 1]
    np.testing.assert_allclose(found, [written["0.png"], written["2.png"]], atol=1e-5)
    pictures = [cv2.imread(str(file))[..., ::-1] for file in files]
    by_rows = [{"age": 30, "sex": "m"}, {"age": 32}]
    again = predictor.predict(pictures, names=["0", "2"], metadata=by_rows).probability[:, 1]
    np.testing.assert_allclose(again, found, atol=1e-5)
    lines = (images / "labels.csv").read_text().splitlines()
    for name, chosen in (("first.csv", lines[:3]), ("second.csv", [lines[0].upper(), *lines[3:6]])):
        (images / name).write_text("\n".join(chosen))
    together = predictor.predict([images / "first.csv", images / "second.csv"])
    assert together.names == [f"{k}.png" for k in range(5)] and not any(together.reasons)
    expected = [written[name] for name in together.names]
    np.testing.assert_allclose(together.probability[:, 1], expected, atol=1e-5)
    other = predictor.predict(files, metadata=given | {"age": [90, 90]}).probability[:, 1]
    assert np.abs(other - found).max() > 1e-4
    with pytest.raises(ValueError, match=r"takes age, sex besides each image, .* in Python the argument `metadata`"):
        predictor.predict(pictures)
    table = (images / "labels.csv").read_text()
    (images / "other.csv").write_text(table.replace(",31,", ",old,"))
    with pytest.raises(ValueError, match=rf"{images}/other\.csv, row 3: 'age' is 'old', and the training images"):
        predictor.predict(images / "other.csv")

    main(resumed, mode="export", export__formats="('onnx',)")
    assert json.loads((resumed / "export" / "metadata.json").read_text())["features"] == features
    card = (resumed / "export" / "model_card.md").read_text()
    assert "metadata: float32 [batch, features], made of the columns age, sex" in card
