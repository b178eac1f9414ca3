"""Files of Keras weights: what is read, what fits which network, and what is refused."""

import jax
import numpy as np
import pytest

from stochconv_jax.models import keras_weights, variants
from tests.models.keras_models import keras_model, with_weights

pytestmark = pytest.mark.filterwarnings("ignore")  # Keras' own


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Returns a folder with a B0 saved by layer name and by kind, with and without its last layer."""
    folder, model = tmp_path_factory.mktemp("weights"), keras_model("b0", seed=1, shape=(32, 32, 3))
    from keras.src.legacy.saving import legacy_h5_format

    model.save_weights(folder / "kinds.weights.h5")
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "names.h5", "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
    keras_model("b0", seed=1).save_weights(folder / "no_top.weights.h5")
    return folder


def test_both_kinds_of_file_hold_the_same(saved):
    (_, by_kind, _), (_, by_name, _) = (with_weights("b0", saved / name) for name in ("kinds.weights.h5", "names.h5"))
    jax.tree.map(np.testing.assert_array_equal, by_kind, by_name)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(by_kind))


def test_files_of_keras_2_are_read(saved, tmp_path):
    """Files as published by keras.applications: arrays called `kernel:0`, those of a whole model in `model_weights`."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(saved / "names.h5") as new, h5py.File(tmp_path / "old.h5", "w") as old:
        for layer, group in new.items():
            target, names = old.create_group(f"model_weights/{layer}"), []
            for name in group.attrs.get("weight_names", ()):
                names.append(np.bytes_(name) + b":0")
                target[names[-1]] = group[name][...]
            target.attrs["weight_names"] = names
    (_, old, _), (_, new, _) = (with_weights("b0", file) for file in (tmp_path / "old.h5", saved / "names.h5"))
    jax.tree.map(np.testing.assert_array_equal, old, new)


def test_what_does_not_fit_stays_as_initialised_and_is_listed(saved):
    _, variables, report = with_weights("b0", saved / "no_top.weights.h5")
    assert sorted(report.fresh) == ["classifier/bias", "classifier/kernel"]
    settings = {"merge_after": 3, "window_output": (16, 16)}
    _, variables, report = with_weights("b0", saved / "names.h5", ("thumbnail", "windows"), 1, **settings)
    merged = [name for name in report.fresh if name.startswith("merged/stage4/block1")]
    assert "merged/stage4/block1/expand/kernel" in merged
    assert set(report.fresh) - set(merged) == {"classifier/kernel", "classifier/bias"}
    params = variables["params"]
    np.testing.assert_array_equal(params["windows_stem"]["conv"]["kernel"], params["thumbnail_stem"]["conv"]["kernel"])
    np.testing.assert_array_equal(
        params["windows"]["stage3"]["block2"]["project"]["kernel"],
        params["thumbnail"]["stage3"]["block2"]["project"]["kernel"],
    )
    assert np.isfinite(params["merged"]["stage7"]["block1"]["expand"]["kernel"]).all()


@pytest.mark.parametrize("name", ["kinds.weights.h5", "names.h5", "no_top.weights.h5"])
def test_of_another_variant_s_file_what_fits_is_taken_and_the_rest_listed(saved, name):
    _, b0, _ = with_weights("b0", saved / "names.h5")
    _, wide, report = with_weights("b0_wide_stem", saved / name, classes=1)
    leaves = ("conv/kernel", *(f"norm/{leaf}" for leaf in ("scale", "bias", "mean", "var")))
    last = {"classifier/kernel", "classifier/bias"}
    # What of the first block is as wide as the stem does not fit either.
    fresh = {name for name in report.fresh if not name.startswith("thumbnail/stage1/block1/")}
    assert fresh == {f"thumbnail_stem/{leaf}" for leaf in leaves} | last
    assert "thumbnail/stage1/block1/depthwise/kernel" in report.fresh
    names = {name.removeprefix("thumbnail_").removeprefix("thumbnail/") for name in report.fresh}
    assert names - last == {*report.unused} - last
    jax.tree.map(np.testing.assert_array_equal, *(v["params"]["thumbnail"]["stage7"] for v in (wide, b0)))
    _, longer, report = with_weights("b1", saved / name)  # of the same widths, with more blocks
    added = {f"stage{stage}/block{n}" for stage, n in ((1, 2), (2, 3), (3, 3), (4, 4), (5, 4), (6, 5), (7, 2))}
    assert {"/".join(name.split("/")[1:3]) for name in report.fresh if "classifier" not in name} == added
    jax.tree.map(np.testing.assert_array_equal, *(v["params"]["thumbnail"]["stage4"]["block2"] for v in (longer, b0)))
    with pytest.raises(ValueError, match=rf"{name}: no layer fits b4: this is the file of another variant"):
        with_weights("b4", saved / name)


def test_damaged_files_are_refused(saved, tmp_path):
    whole = (saved / "names.h5").read_bytes()
    (tmp_path / "short.h5").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.h5").write_text("no weights")
    for name in ("short.h5", "text.h5"):
        with pytest.raises(ValueError, match=rf"{name}: not an HDF5 file"):
            with_weights("b0", tmp_path / name)
    with pytest.raises(ValueError, match="no such file"):
        with_weights("b0", tmp_path / "none.h5")


def set_nan(file):
    file["block3a_dwconv"]["block3a_dwconv"]["kernel"][0] = np.nan


def set_huge(file):
    file["block3a_dwconv"]["block3a_dwconv"]["kernel"][0, 0, 0, 0] = 1e30


def set_variance(file):
    file["block3a_bn"]["block3a_bn"]["moving_variance"][3] = -0.1


def remove_layer(file):
    del file["block3a_dwconv"]


def remove_array(file):
    del file["block3a_bn"]["block3a_bn"]["gamma"]


def add_layer(file):
    file.create_group("block3c_bn").attrs["weight_names"] = ["gamma"]
    file["block3c_bn"]["gamma"] = np.ones(40)


@pytest.mark.parametrize(
    "change, message",
    [
        (set_nan, "layer block3a_dwconv has values that cannot be weights: the file is damaged"),
        (set_huge, "layer block3a_dwconv has values that cannot be weights: the file is damaged"),
        (set_variance, "layer block3a_bn has values that cannot be weights: the file is damaged"),
        (remove_layer, "layer block3a_dwconv is missing"),
        (remove_array, "layer block3a_bn cannot be read: the file is damaged"),
        (add_layer, "layer block3c_bn is not in b0"),
    ],
)
def test_a_layer_that_is_not_whole_is_named(saved, tmp_path, change, message):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "changed.h5").write_bytes((saved / "names.h5").read_bytes())
    with h5py.File(tmp_path / "changed.h5", "r+") as file:
        change(file)
    with pytest.raises(ValueError, match=f"changed.h5: {message}"):
        with_weights("b0", tmp_path / "changed.h5")


@pytest.mark.parametrize("name", ["kinds.weights.h5", "names.h5"])
def test_damage_anywhere_is_a_refusal_that_names_the_file(saved, tmp_path, name):
    """Bytes overwritten in HDF5's own structures: refused by file and layer, or they were bytes that say nothing."""
    variant = variants.get("b0")
    whole, random = (saved / name).read_bytes(), np.random.default_rng(0)
    unharmed, messages = keras_weights.read(saved / name, variant), []
    for mark in (b"TREE", b"SNOD", b"HEAP") * 4:
        at = max(whole.find(mark), whole.find(mark, random.integers(len(whole))))
        (tmp_path / name).write_bytes(whole[:at] + random.bytes(24) + whole[at + 24 :])
        try:
            jax.tree.map(np.testing.assert_array_equal, keras_weights.read(tmp_path / name, variant), unharmed)
        except ValueError as error:
            messages.append(str(error))
    assert len(messages) >= 6
    for message in messages:
        assert message.startswith(f"{tmp_path / name}: layer ") or f"{name}: not an HDF5 file" in message


def test_an_input_normalised_otherwise_is_refused(saved, tmp_path):
    import h5py

    file = tmp_path / "other.h5"
    file.write_bytes((saved / "names.h5").read_bytes())
    std = np.array(variants.IMAGENET_STD)
    for variance, fits in ((std, True), (std**2, True), (np.ones(3), False)):
        with h5py.File(file, "r+") as group:
            (name,) = [name for name in group if name.startswith("normalization")]
            stored = group[name][name]["variance"]
            stored[...] = variance.reshape(stored.shape)
        if fits:
            with_weights("b0", file)
        else:
            with pytest.raises(ValueError, match="layer normalization has mean"):
                with_weights("b0", file)
