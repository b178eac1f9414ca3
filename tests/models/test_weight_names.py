"""Names of weights: which file they mean, and what to do where there is none. No test uses a network."""

import sys

import pytest

from stochconv_jax.models import weight_names


def test_a_path_comes_before_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "mine").write_bytes(b"")
    assert weight_names.find("timm/mine", "b0", official=True).resolve() == tmp_path / "timm" / "mine"
    with pytest.raises(ValueError, match=r"`weights`='none\.h5': there is no such file; names begin with timm/ or ker"):
        weight_names.find("none.h5", "b0", official=True)


def test_keras_files_are_found_in_its_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    with pytest.raises(
        ValueError, match=r"download https://.*/efficientnetb3_notop\.h5 to there, or give a file's path"
    ):
        weight_names.find("keras/efficientnetb3", "b3", official=True)
    for file in ("efficientnetb3.h5", "efficientnetb3_notop.h5"):  # the second is preferred
        (tmp_path / "models" / file).write_bytes(b"")
        assert weight_names.find("keras/efficientnetb3", "b3", official=True) == tmp_path / "models" / file


def test_names_of_timm_are_found_in_the_hubs_cache(tmp_path, monkeypatch):
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    names = {True: "tf_efficientnet_b4.ns_jft_in1k", False: "efficientnet_b4.ra2_in1k"}
    for official, name in names.items():
        with pytest.raises(ValueError) as caught:
            weight_names.find("auto", "b4", official=official)
        assert f"run `hf download timm/{name} model.safetensors config.json`, and" in str(caught.value)
        assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)
        snapshot = tmp_path / f"models--timm--{name}" / "snapshots" / "0123"
        snapshot.mkdir(parents=True)
        for file in weight_names.FILES:
            (snapshot / file).write_bytes(b"")
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs" / "main").write_text("0123")
        assert weight_names.find("auto", "b4", official=official) == snapshot / "model.safetensors"


def test_what_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"needs huggingface_hub: pip install 'stochconv_jax\[hub\]'"):
        weight_names.find("timm/efficientnet_b0.ra_in1k", "b0", official=False)


def test_a_variant_without_weights_is_refused():
    with pytest.raises(ValueError, match=r"there are no ImageNet weights of tiny, only of b0, b1"):
        weight_names.find("auto", "tiny", official=True)
