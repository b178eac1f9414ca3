"""Rivals are fine-tuned fold by fold with images on the device, and compared on the folds that both have."""

import cv2
import jax
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.real import compare, finetune
from configs.ablations import real


def test_images_and_thumbnails_are_turned_alike_and_all_eight_ways():
    random = np.random.default_rng(0)
    image = random.integers(0, 256, (3, 8, 8, 3), np.uint8)
    pixels = {"image": image, "thumbnail": image[:, ::2, ::2]}
    rows = np.resize(np.int32([2, 0]), 200)
    ones = np.ones(200, np.int32)
    turned = finetune.gather(pixels, rows, ones, ones > 0, jax.random.key(1), turned=True)
    seen = set()
    for row, large, small in zip(rows, turned["image"], turned["thumbnail"], strict=True):
        both = [
            (np.rot90(flipped, quarters), np.rot90(flipped_small, quarters))
            for flipped, flipped_small in [
                (image[row], pixels["thumbnail"][row]),
                (image[row][::-1], pixels["thumbnail"][row][::-1]),
            ]
            for quarters in range(4)
        ]
        (way,) = (n for n, (a, b) in enumerate(both) if np.array_equal(a, large) and np.array_equal(b, small))
        seen.add(way)
    assert seen == set(range(8))
    plain = finetune.gather(pixels, rows, ones, ones > 0, jax.random.key(1), turned=False)
    np.testing.assert_array_equal(plain["image"], image[rows])
    np.testing.assert_array_equal(plain["example"], rows)


def test_the_steps_are_those_that_the_published_figures_were_made_with():
    """The loop computes no statistics anew, and a factor of the sweep's config would change the figures."""
    options = finetune.arguments(["folder", "weights", "out", "--variants", "per_image"])
    config = finetune.config_of("per_image", options)
    assert config.model.batch_norm_images == 0 and config.optimizer.factors == ()
    assert config.optimizer.name == "adamw" and config.optimizer.learning_rate == 5e-4


def drawn(folder, count=20):
    """Writes images of which those of class 1 are brighter."""
    (folder / "images").mkdir(parents=True)
    random, lines = np.random.default_rng(0), ["image,target"]
    for number in range(count):
        picture = random.integers(0, 100, (48, 48, 3), np.uint8) + np.uint8(100 * (number % 2))
        cv2.imwrite(str(folder / "images" / f"{number}.png"), picture)
        lines.append(f"{number}.png,{number % 2}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.slow
def test_each_image_is_tested_once_a_repetition_and_what_is_made_stays(tmp_path, monkeypatch, capsys):
    config = real.get_config

    def small(sizes):
        changed = config(sizes)
        changed.model.variant = "two_blocks"
        return changed

    monkeypatch.setattr(real, "get_config", small)
    names = ("thumbnail_equal_cost", "per_image")
    words = [str(drawn(tmp_path / "drawn")), "", str(tmp_path / "out"), "--sizes", "48,32", "--variants", *names]
    words += ["--epochs", "3", "--batch_size", "4", "--passes", "2"]
    finetune.main(words)
    runs = [np.load(file) for file in sorted((tmp_path / "out" / "per_image").iterdir())]
    tested = np.concatenate([run["name"] for run in runs])
    assert sorted(tested) == sorted(f"{n}.png" for n in range(20))
    for run in runs:
        assert run["logits"].shape == (len(run["name"]), 2) and run["loss"].shape == (3 * 4,)
        assert [int(name.split(".")[0]) % 2 for name in run["name"]] == run["label"].tolist()
        assert (run["logits"][:, 0] != run["logits"][:, 1]).any()  # windows differ between passes
        assert len(set(run["loss"])) == len(run["loss"])
    capsys.readouterr()
    finetune.main(words)
    assert capsys.readouterr().out == ""
    compare.main([str(tmp_path / "out"), "--sizes", "48,32"])
    assert [line.split(" | ")[0] for line in capsys.readouterr().out.splitlines()[2:]] == [f"| {n}" for n in names]


def test_rivals_are_compared_on_the_folds_that_both_have(tmp_path):
    random, labels = np.random.default_rng(0), np.arange(40) % 2
    for name, folds in (("thumbnail", 4), ("thumbnail_equal_cost", 5)):
        (tmp_path / name).mkdir()
        for fold in range(folds):
            np.savez(
                tmp_path / name / f"0_{fold}.npz", logits=random.normal(size=(40, 3)) + labels[:, None], label=labels
            )
    areas = {name: compare.read(tmp_path / name) for name in ("thumbnail", "thumbnail_equal_cost")}
    with np.load(tmp_path / "thumbnail" / "0_2.npz") as run:
        probabilities = 1 / (1 + np.exp(-run["logits"]))
    expected = [roc_auc_score(labels, probabilities[:, :n].mean(1)) for n in (1, 2, 3)]
    np.testing.assert_allclose(areas["thumbnail"]["0_2"], expected)
    shared = [areas["thumbnail"][run][-1] - areas["thumbnail_equal_cost"][run][-1] for run in areas["thumbnail"]]
    assert compare.difference(*areas.values()).startswith(f"{np.mean(shared):+.3f} [")
    lines = compare.table(areas, "thumbnail_equal_cost", real.SIZES).splitlines()
    assert [line.split(" | ")[1:3] for line in lines[2:]] == [["384", "4"], ["783", "5"]]
