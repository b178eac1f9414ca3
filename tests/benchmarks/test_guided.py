"""Guided crops lie where their density says, its gradient is that of the expectation, the oracle knows the defects."""

import argparse

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.real import guided
from stochconv_jax.data import sources


def test_the_gradient_of_the_density_is_that_of_the_expectation():
    random = np.random.default_rng(0)
    features, scores = random.normal(size=(9, 4)).astype(np.float32), random.normal(size=9).astype(np.float32)
    weights = random.normal(size=4).astype(np.float32)

    def estimate(scores, drawn):
        chosen = jax.nn.log_softmax(scores)[drawn]
        return guided.mean_of_crops(jnp.asarray(features)[drawn][None], chosen[None])[0] @ weights

    pairs = np.stack(np.meshgrid(range(9), range(9)), axis=-1).reshape(-1, 2)  # all draws of two crops
    chances = np.asarray(jax.nn.softmax(scores))[pairs].prod(axis=1)
    gradients = jax.vmap(jax.grad(estimate), (None, 0))(scores, pairs)
    exact = jax.grad(lambda scores: jax.nn.softmax(scores) @ features @ weights)(scores)
    np.testing.assert_allclose(chances @ np.asarray(gradients), exact, atol=1e-6)
    assert np.abs(exact).max() > 0.1
    drawn = pairs[17]
    np.testing.assert_allclose(estimate(scores, drawn), features[drawn].mean(0) @ weights, rtol=1e-5)


def test_crops_are_those_at_their_places_and_reach_all_borders():
    corners = guided.corners()
    assert len(set(map(tuple, corners.tolist()))) == guided.PLACES**2
    assert corners.min() == 0 and corners.max() == guided.SIDE - guided.CROP
    images = np.random.default_rng(0).integers(0, 256, (2, guided.SIDE, guided.SIDE, 3), np.uint8)
    chosen = corners[np.array([[0, 30], [7, 575]])]
    for image, places, crops in zip(images, chosen, guided.crop(images, chosen), strict=True):
        for (top, left), one in zip(places, crops, strict=True):
            np.testing.assert_array_equal(one, image[top : top + guided.CROP, left : left + guided.CROP])


def test_the_oracle_draws_places_by_the_pixels_that_differ_in_them():
    different = np.random.default_rng(0).random((2, guided.SIDE, guided.SIDE, 1)) < 0.001
    different[1] = False
    corners = guided.corners()
    counts = [different[0, top : top + guided.CROP, left : left + guided.CROP].sum() for top, left in corners]
    found = np.exp(guided.oracle(different))
    np.testing.assert_allclose(found[0], np.array(counts) / np.sum(counts), rtol=1e-5)
    np.testing.assert_allclose(found[1], 1 / len(corners), rtol=1e-5)


def test_the_guide_excludes_no_place():
    thumbnails = np.random.default_rng(0).integers(0, 256, (2, 112, 112, 3), np.uint8)
    params = guided.Guide().init(jax.random.key(0), thumbnails)
    np.testing.assert_allclose(np.exp(guided.Guide().apply(params, thumbnails)), 1 / guided.PLACES**2, rtol=1e-4)
    sharp = jax.tree.map(lambda x: x + 3 * jax.random.normal(jax.random.key(1), x.shape), params)
    density = np.exp(guided.Guide().apply(sharp, thumbnails))
    np.testing.assert_allclose(density.sum(1), 1, rtol=1e-4)
    assert density.min() >= 0.999 * guided.UNIFORM / guided.PLACES**2 and density.max() > 10 / guided.PLACES**2


def boards(folder, count=10):
    """Writes pairs of noisy pictures of 640x640 pixels, of which the second has a bright square."""
    (folder / "images").mkdir(parents=True)
    random, lines = np.random.default_rng(0), ["image,target,block"]
    for number in range(count):
        picture = random.integers(0, 100, (640, 640, 3), np.uint8)
        for target in (0, 1):
            picture[200 * target : 240 * target, 400:440] = 255
            cv2.imwrite(str(folder / "images" / f"{number}_{target}.png"), picture)
            lines.append(f"{number}_{target}.png,{target},{number}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_images_of_a_block_differ_at_the_defect(tmp_path):
    folder = boards(tmp_path / "boards", count=2)
    found = guided.differences(sources.FolderSource.from_csv(folder / "images", folder / "labels.csv", num_classes=2))
    expected = np.zeros((320, 320, 1), np.uint8)
    expected[100:120, 200:220] = 1
    assert found.shape == (4, 320, 320, 1) and all((one == expected).all() for one in found)


@pytest.mark.slow
def test_what_crops_show_trains_the_guide(tmp_path):
    """The entropy is not part of the logits, so that their gradient comes through the crops that were drawn."""
    options = argparse.Namespace(folder=boards(tmp_path / "boards", count=50), crops=2, epochs=1, passes=1)
    rival = guided.Rival("guided", options)
    source = sources.FolderSource.from_csv(options.folder / "images", options.folder / "labels.csv", num_classes=2)
    variables, batch = rival.start(0), next(rival.batches(source, np.arange(8), 8))

    def logits(guide):
        changed = variables | {"params": variables["params"] | {"guide": guide}}
        return rival.forward(changed, batch, jax.random.key(0), train=True)[0]

    with jax.set_mesh(rival.experiment.mesh):
        slopes = jax.jit(jax.grad(lambda guide: logits(guide)[0]))(variables["params"]["guide"])
    assert max(np.abs(slope).max() for slope in jax.tree.leaves(slopes)) > 1e-6


def test_the_table_compares_one_pass_and_all_passes_on_equal_folds():
    random = np.random.default_rng(0)
    areas = {name: {f"0_{fold}": random.random(8) for fold in range(1, 6)} for name in guided.RIVALS}
    areas["larger_thumbnail"] = {run: found[:1] for run, found in areas["larger_thumbnail"].items()}
    rows = {line.split(" | ")[0][2:]: line.split(" | ")[1:] for line in guided.table(areas).splitlines()}
    found, larger, uniform = (
        np.array(list(areas[name].values())) for name in ("guided", "larger_thumbnail", "uniform")
    )
    expected = [found[:, 0].mean(), found[:, -1].mean()]
    expected += [(found[:, index] - larger[:, 0]).mean() for index in (0, -1)]
    expected.append((found - uniform)[:, -1].mean())
    np.testing.assert_allclose([float(cell.split()[0]) for cell in rows["guided"][1:]], expected, atol=6e-4)


@pytest.mark.slow
def test_each_rival_leaves_its_folds_and_what_is_made_stays(tmp_path, capsys):
    arguments = [str(boards(tmp_path / "boards", count=50)), str(tmp_path / "out"), "--epochs=1", "--passes=2"]
    guided.main(arguments)
    table = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][2:]
    assert [(row[0], row[1]) for row in table] == [(f"| {name}", "5") for name in guided.RIVALS]
    files = {file: file.stat().st_mtime_ns for file in sorted((tmp_path / "out").rglob("*.npz"))}
    assert len(files) == 5 * len(guided.RIVALS)
    for name in guided.RIVALS:
        runs = [np.load(file) for file in files if file.parent.name == name]
        assert sorted(np.concatenate([run["name"] for run in runs])) == sorted(
            f"{number}_{target}.png" for number in range(50) for target in (0, 1)
        )
        assert all(run["logits"].shape == (20, 1 if name == "larger_thumbnail" else 2) for run in runs)
        assert all(np.isfinite(run["logits"]).all() and np.isfinite(run["loss"]).all() for run in runs)
    guided.main(arguments)
    assert files == {file: file.stat().st_mtime_ns for file in files}
