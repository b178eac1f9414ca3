"""`stochconv_jax.load`: the numbers of --mode=predict from Python, under any settings of JAX that a caller has."""

import json
import os
import re
import subprocess
import sys

import cv2
import jax
import numpy as np
import pytest

import stochconv_jax
from stochconv_jax.data.array_source import ArraySource
from stochconv_jax.runtime import mesh
from tests.conftest import PROCESS, ROOT
from tests.modes.runs import rows

PASSES = 3
# An option that the program sets where XLA_FLAGS does not, with JAX's own default, which holds in this process.
OWN_OPTIONS = f"{os.environ['XLA_FLAGS']} --xla_backend_extra_options=xla_cpu_small_while_loop_byte_threshold={2**30}"
NOTEBOOK = """
import json, sys
import jax, jax.numpy as jnp
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_default_prng_impl", "rbg")
jax.config.update("jax_threefry_partitionable", False)
before = dict(jax.config.values)
import stochconv_jax
predictor = stochconv_jax.load(sys.argv[1])
theirs = jax.make_mesh((1,), ("x",), axis_types=(jax.sharding.AxisType.Explicit,))
with jax.set_mesh(theirs), jax.transfer_guard("disallow"):
    predictor = stochconv_jax.load(sys.argv[1], devices=jax.devices()[:1])
    found = predictor.predict(sys.argv[2], passes=int(sys.argv[3]))
    assert jax.sharding.get_abstract_mesh().axis_names == ("x",)
assert dict(jax.config.values) == before and jnp.zeros(3).dtype == "float64"
print(json.dumps([found.names, found.probability.tolist(), found.std.tolist()]))
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Ten pictures of different sizes, so that a batch of eight is followed by a short one; and two that are no use."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for index in range(10):
        picture = cv2.resize(random.integers(0, 256, (20, 24, 3), np.uint8), (96 + 3 * index, 80 + 5 * index))
        cv2.imwrite(str(folder / f"mole_{index}.png"), picture)
    cv2.imwrite(str(folder / "small.png"), np.zeros((40, 200, 3), np.uint8))
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    return folder


@pytest.fixture(scope="module")
def written(main, finished, pictures, tmp_path_factory):
    """The rows that --mode=predict writes on one device with XLA's options in this process, by image."""
    return predicted(main, finished, pictures, tmp_path_factory.mktemp("predicted"), {"XLA_FLAGS": OWN_OPTIONS})


def predicted(main, finished, pictures, folder, environ):
    settings = {"predict__images": pictures, "predict__output": folder / "predicted.csv", "eval__passes": PASSES}
    main(finished, mode="predict", environ=environ, **settings)
    return {row["image"]: row for row in rows(folder / "predicted.csv")}


@pytest.fixture(scope="module")
def predictor(finished):
    """On one device, as --mode=predict above."""
    return stochconv_jax.load(finished, devices=jax.devices()[:1])


def array(file):
    return cv2.imread(str(file))[..., ::-1]


def assert_written(written, names, probability, std):
    """Asserts that the numbers are those of the table, bit for bit, and NaN where it has none."""
    for name, p, s in zip(names, probability, std, strict=True):
        row = written[name]
        expected = [float(row[column] or "nan") for column in ("probability", "std")]
        np.testing.assert_array_equal([p[1], s[1]], expected, err_msg=name)
        assert row["reason"] or abs(sum(p) - 1) < 1e-12


def test_predictions_of_a_folder_are_those_that_the_mode_writes_bit_for_bit(written, predictor, pictures):
    found = predictor.predict(pictures, passes=PASSES)
    assert list(found.names) == list(written) and len(written) == 12
    assert_written(written, found.names, found.probability, found.std)
    for name, reason in zip(found.names, found.reasons):
        assert reason == written[name]["reason"] and bool(reason) == (name in ("small.png", "broken.jpg"))


@pytest.mark.slow
def test_a_notebook_s_own_settings_of_jax_change_no_bit_and_stay(main, finished, pictures, tmp_path):
    written = predicted(main, finished, pictures, tmp_path, {})
    script = [sys.executable, "-c", NOTEBOOK, finished, pictures, str(PASSES)]
    environ = {k: v for k, v in os.environ.items() if k != "JAX_NUM_CPU_DEVICES"} | PROCESS
    done = subprocess.run(script, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert_written(written, *json.loads(done.stdout.splitlines()[-1]))


def test_arrays_with_names_files_and_patterns_are_predicted_as_the_folder_is(written, predictor, pictures):
    files = sorted(pictures.glob("mole_*.png"))
    names = [file.name for file in files]
    # Named by a path and without an ending they have the same identity.
    found = predictor.predict(list(map(array, files)), PASSES, names=[f"anywhere/{file.stem}" for file in files])
    for other in (found, predictor.predict(files, PASSES), predictor.predict(f"{pictures}/mole_*.png", PASSES)):
        for name, probability in zip(names, other.probability[:, 1], strict=True):
            # Other rows in a batch round otherwise.
            assert abs(probability - float(written[name]["probability"])) < 1e-5
    with pytest.raises(ValueError, match="names are for arrays"):
        predictor.predict(files, names=names)


def test_an_array_without_a_name_keeps_its_prediction_wherever_it_stands(predictor, pictures):
    images = [array(pictures / f"mole_{index}.png") for index in range(4)]
    found = predictor.predict(images, PASSES)
    again = predictor.predict(images[::-1], PASSES)
    np.testing.assert_allclose(again.probability[::-1], found.probability, atol=1e-5)
    (alone,) = predictor.predict(images[2], PASSES).probability
    np.testing.assert_allclose(alone, found.probability[2], atol=1e-5)
    stacked = predictor.predict(np.stack([images[0], images[0]]), PASSES)
    assert stacked.names[0] == stacked.names[1] == found.names[0] and len(set(found.names)) == 4
    np.testing.assert_allclose(stacked.probability, found.probability[[0, 0]], atol=1e-5)


def test_a_number_of_passes_is_compiled_once_for_any_number_of_images(predictor, pictures):
    for count in (1, 9, 10):
        predictor.predict(sorted(pictures.glob("mole_*.png"))[:count], passes=2)
    assert predictor._eval_steps[2].function._cache_size() == 1


def test_it_says_which_run_checkpoint_model_and_devices_it_has(predictor, finished):
    pattern = (
        rf"Predictor\('{finished}', step \d+ \(best\), "
        r"model two_blocks \(thumbnail\+windows, merge_after=0\), 1 x cpu\)"
    )
    assert re.fullmatch(pattern, repr(predictor)), repr(predictor)
    last = stochconv_jax.load(str(finished), "last", batch_size=3)
    assert last.step == 20 and f"{mesh.create().size} x cpu" in repr(last) and last.experiment.eval_batch_size == 8
    assert stochconv_jax.load(finished, 13).step == 13


def test_no_optimiser_is_made_or_read(finished, monkeypatch):
    monkeypatch.setattr("stochconv_jax.training.optimizers.create_optimizer", None)
    monkeypatch.setattr("stochconv_jax.training.optimizers.create_schedule", None)
    predictor = stochconv_jax.load(finished)
    made = vars(predictor.experiment)
    assert not {"optimizer", "schedule", "initializer", "state_shapes", "train_source"} & made.keys()


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ("nowhere", r"images='nowhere': no image found"),
        ([], "there is no image to predict"),
        (np.zeros((80, 96, 3), np.float32), r"image 0 is float32\[80, 96, 3\]: expected uint8"),
        ([np.zeros((80, 96), np.uint8)], r"image 0 is uint8\[80, 96\]: expected uint8 \[height, width, 3\]"),
        (np.zeros((40, 200, 3), np.uint8), "none of the 1 images can be used"),
    ],
)
def test_what_cannot_be_predicted_is_refused(predictor, images, words):
    with pytest.raises(ValueError, match=words):
        predictor.predict(images)


def test_what_cannot_be_loaded_is_refused(finished, tmp_path):
    with pytest.raises(ValueError, match=r"no run in .*nowhere"):
        stochconv_jax.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"`checkpoint`='14': expected .*\[.*13, 20\]"):
        stochconv_jax.load(finished, 14)
    with pytest.raises(ValueError, match=r"^batch_size=0: expected"):
        stochconv_jax.load(finished, batch_size=0)


def test_as_many_names_as_arrays():
    with pytest.raises(ValueError, match="there are 1 names for 2 images"):
        ArraySource(np.zeros((2, 8, 8, 3), np.uint8), ["a"])
