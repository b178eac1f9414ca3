"""Files of PyTorch weights: equal features, what fits which network, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.models import pretrained, variants
from stochconv_jax.models.classifier import Classifier
from stochconv_jax.models.efficientnet import CONVENTIONS, LayerConfig
from tests.conftest import ROOT
from tests.models.torch_files import CLASSES, state_dict, write

TIMM = ROOT / "tests" / "fixtures" / "timm_1_0_31"
ABOUT = {
    "architecture": "efficientnet_b0",
    "pretrained_cfg": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
}


def network(conventions="torch", variant="tiny", branches=("thumbnail",), classes=CLASSES, **settings):
    """Returns a classifier, and its variables filled with NaN."""
    layers = LayerConfig(conventions=CONVENTIONS[conventions])
    model = Classifier(variants.get(variant), branches, num_classes=classes, layers=layers, **settings)
    inputs = {
        "thumbnail": jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.uint8),
        "image": jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.uint8),
        "example": jax.ShapeDtypeStruct((1,), jnp.uint32),
    }
    keys = {"params": jax.random.key(0), "windows": jax.random.key(0)}
    shapes = jax.eval_shape(lambda x: model.init(keys, x), inputs)
    return model, jax.tree.map(lambda leaf: np.full(leaf.shape, np.nan, leaf.dtype), shapes)


def loaded(file, *arguments, **settings):
    """Returns the variables of a network with the weights of a file, and the report."""
    model, blank = network(*arguments, **settings)
    return pretrained.load(str(file), model, blank)


@pytest.mark.parametrize("conventions", ["official", "torch"])
def test_features_are_timms(conventions):
    """Compares with features that timm computed, see write.py beside them."""
    model, blank = network(conventions, classes=3)
    variables, report = pretrained.load(str(TIMM / "model.safetensors"), model, blank)
    assert not report.fresh and not report.unused
    saved = np.load(TIMM / "features.npz")
    encode = jax.jit(
        lambda variables, pixels: model.apply(variables, "thumbnail", {"thumbnail": pixels}, method="encode")
    )
    got, expected = np.asarray(encode(variables, saved["pixels"])), saved[conventions]
    assert np.abs(got - expected).max() <= 1e-5 * np.abs(expected).max()
    other = saved["torch" if conventions == "official" else "official"]
    assert np.abs(got - other).max() > 1e-2 * np.abs(expected).max()


@pytest.mark.parametrize("layout", ["timm", "torchvision"])
@pytest.mark.parametrize("variant", ["tiny", "b0"])
def test_every_array_of_both_layouts_has_its_place(tmp_path, layout, variant):
    variables, report = loaded(write(tmp_path, variant, layout), variant=variant)
    assert not report.fresh and not report.unused
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables))


def test_both_layouts_hold_the_same(tmp_path):
    """The same seed draws the same values, layer by layer, for each layout."""
    both = [loaded(write(tmp_path / layout, layout=layout))[0]["params"] for layout in ("timm", "torchvision")]
    stems = [np.asarray(params["thumbnail_stem"]["conv"]["kernel"]) for params in both]
    assert stems[0].shape == (3, 3, 3, 8)
    arrays = state_dict("tiny", "timm")
    for name, path in {
        "conv_stem": ("thumbnail_stem", "conv"),
        "blocks.0.0.conv_pw": ("thumbnail", "stage1", "block1", "project"),
        "blocks.1.0.conv_pw": ("thumbnail", "stage2", "block1", "expand"),
        "blocks.2.0.conv_dw": ("thumbnail", "stage3", "block1", "depthwise"),
        "classifier": ("classifier",),
    }.items():
        found = both[0]
        for part in path:
            found = found[part]
        output, *rest = arrays[f"{name}.weight"].shape
        np.testing.assert_array_equal(
            np.moveaxis(arrays[f"{name}.weight"], (0, 1), (-1, -2)).reshape(found["kernel"].shape), found["kernel"]
        )
        assert output in found["kernel"].shape and rest


def test_both_branches_are_filled_and_the_rest_is_listed(tmp_path):
    file = write(tmp_path, extra__weight=np.ones(3, np.float32))
    both = {"branches": ("thumbnail", "windows"), "window_output": (16, 16), "classes": 1, "merge_after": 2}
    variables, report = loaded(file, **both)
    params = variables["params"]
    for one, other in (("thumbnail_stem", "windows_stem"), ("thumbnail", "windows")):
        jax.tree.map(np.testing.assert_array_equal, params[one], params[other])
    assert np.isfinite(params["merged"]["head"]["conv"]["kernel"]).all()
    entering = {f"merged/stage3/block1/{name}" for name in ("expand/kernel", "depthwise/kernel")}
    assert entering | {"classifier/kernel", "classifier/bias"} <= set(report.fresh)
    assert all(name.startswith(("merged/stage3/block1/", "classifier/")) for name in report.fresh)
    assert "extra.weight" in report.unused


def test_torchvisions_larger_epsilon_is_a_larger_variance(tmp_path):
    """Divides by the root of variance + epsilon: 1e-3 in torchvision's B5 to B7, 1e-5 by the conventions."""
    from stochconv_jax.models import torch_weights

    small, large = (variants.get(name) for name in ("b0", "b5"))
    for variant, difference in ((small, 0.0), (large, 1e-3 - 1e-5)):
        arrays = {
            "features.0.0.weight": np.ones((1, 3, 3, 3), np.float32),
            "features.0.1.running_var": np.ones(4, np.float32),
        }
        from tests.models.torch_files import save_file

        save_file(arrays, tmp_path / "model.safetensors")
        found = torch_weights.read(tmp_path / "model.safetensors", variant, CONVENTIONS["torch"])
        np.testing.assert_allclose(found["batch_stats", "stem", "norm", "var"], 1 + difference, rtol=1e-6)


@pytest.mark.parametrize(
    ("about", "conventions", "message"),
    [
        (ABOUT, "official", r"is of efficientnet_b0: set config\.model\.conventions=torch"),
        (ABOUT | {"architecture": "tf_efficientnet_b0"}, "torch", r"tf_efficientnet_b0: set .*conventions=official"),
        (ABOUT | {"pretrained_cfg": {"mean": [0.5, 0.5, 0.5]}}, "torch", r"normalised by mean \[0\.5, 0\.5, 0\.5\]"),
    ],
)
def test_another_network_by_its_config_json_is_refused(tmp_path, about, conventions, message):
    with pytest.raises(ValueError, match=message):
        loaded(write(tmp_path, about=about), conventions)


def test_torchvisions_network_needs_its_conventions(tmp_path):
    with pytest.raises(ValueError, match=r"torchvision's network: set config\.model\.conventions=torch"):
        loaded(write(tmp_path, layout="torchvision"), "official")


def test_what_cannot_be_weights_is_refused_by_its_name(tmp_path):
    nan = np.full((8, 1, 3, 3), np.nan, np.float32)
    with pytest.raises(
        ValueError, match=r"model\.safetensors: blocks\.0\.0\.conv_dw\.weight has values that cannot be"
    ):
        loaded(write(tmp_path / "nan", blocks__0__0__conv_dw__weight=nan))
    whole = write(tmp_path / "whole").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"short\.safetensors: not a safetensors file, or a damaged one"):
        loaded(tmp_path / "short.safetensors")
    with pytest.raises(ValueError, match=r"neither timm's nor torchvision's EfficientNet: it begins with "):
        loaded(write(tmp_path / "other", conv_stem__weight=None))
    with pytest.raises(ValueError, match=r"no layer fits b0_wide_stem: this is the file of another variant"):
        loaded(write(tmp_path / "tiny"), variant="b0_wide_stem", classes=2)
    (tmp_path / "model.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"model\.pth is a pickle: save the state_dict by safetensors"):
        loaded(tmp_path / "model.pth")
