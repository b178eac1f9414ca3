"""--mode=show: a run's pictures as a real process, and what is left out where there is nothing to show."""

import logging
import os

import cv2
import numpy as np
import pytest

from configs import quickstart
from stochconv_jax.data.synthetic import SyntheticSource
from stochconv_jax.modes import show
from tests.conftest import CACHE, ROOT
from tests.modes.conftest import NOTEBOOK, TINY

TOPICS = ("augmentation", "windows", "coverage", "filters", "relevance")


@pytest.fixture
def folder(tmp_path):
    """Three pictures that can be shown, one that is too small and one that cannot be read."""
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    source = SyntheticSource(size=3, image_size=(90, 120), seed=int(np.random.default_rng(0).integers(1000)))
    for index in range(3):
        cv2.imwrite(str(pictures / f"mole {index}.png"), source.read(index)[..., ::-1])
    cv2.imwrite(str(pictures / "small.png"), np.zeros((40, 200, 3), np.uint8))
    (pictures / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    return pictures


def check_pictures(folder, names):
    assert {file.name for file in folder.iterdir()} == names
    for name in names:
        content = cv2.imread(str(folder / name))
        assert content is not None and content.shape[1] > 1000 and content.std() > 10, name


def config_of(images, *, which="", **keys):
    config = quickstart.get_config(which)
    sizes = {name: TINY[f"data.{name}"] for name in ("image_size", "thumbnail_size")}
    config.update({"compilation_cache": str(CACHE), "data": sizes, "show": {"images": str(images), **keys}})
    return config


@pytest.mark.slow
def test_a_run_is_shown_topic_by_topic(main, finished):
    output = main(finished, mode="show", show__count=2, show__passes=16, devices=2, environ=NOTEBOOK)
    images = ("000_synthetic_000052", "001_synthetic_000053")
    names = {f"{image}_{topic}.png" for image in images for topic in TOPICS} | {"batch_sampling.png"}
    check_pictures(finished / "show", names)
    assert "restored step" in output and ": left out" not in output
    for name in names:
        assert f"{finished / 'show' / name}: " in output
    assert "8 windows of 33x49 pixels" in output and "over 16 passes; places explain" in output


@pytest.mark.slow
def test_without_a_run_the_config_s_model_is_shown_as_far_as_it_goes(main, folder, tmp_path):
    sizes = {name.replace(".", "__"): TINY[name] for name in ("data.image_size", "data.thumbnail_size")}
    config = f"--config={ROOT / 'configs' / 'quickstart.py'}"
    output = main(tmp_path / "run", config, mode="show", show__images=folder, **sizes)
    names = {f"{index:03d}_mole_{index - 1}_{topic}.png" for index in (1, 2, 3) for topic in TOPICS[:3]}
    check_pictures(tmp_path / "run" / "show", names | {"batch_sampling.png"})
    assert "broken.jpg" in output and "small.png: 40x200 pixels" in output
    for topic in ("filters", "relevance"):
        assert f"{topic}: left out, because there is no checkpoint in" in output
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_the_data_of_a_run_are_placed_by_a_detail_that_is_given_or_estimated(main, finished, tmp_path):
    settings = {"show__topics": "suitability", "show__output": tmp_path}
    output = main(finished, mode="show", show__detail=5, **settings)
    check_pictures(tmp_path, {"data_suitability.png"})
    assert "A detail of 5 pixels has 2.0 in the thumbnail" in output and "8 windows of 33x49 in a pass" in output
    assert "the size of the detail that decides is" not in output
    output = main(finished, mode="show", **settings)
    assert "suitability: by 11 images, the size of the detail that decides is" in output


def test_a_model_without_windows_says_what_it_cannot_show(folder, tmp_path, caplog):
    (folder / "mole 2.png").rename(folder / os.fsdecode(b"mole \xe9.png"))  # a name that is not UTF-8
    with caplog.at_level(logging.INFO, "stochconv_jax"):
        show.run(config_of(folder, which="control"), {}, tmp_path / "run")
    names = {"001_mole_0", "002_mole_1", "003_mole_udce9"}
    check_pictures(tmp_path / "run" / "show", {f"{name}_augmentation.png" for name in names})
    for topic in ("windows", "coverage", "sampling", "relevance"):
        assert f"{topic}: left out, because the model has no window branch" in caplog.text
    assert "filters: left out, because there is no checkpoint" in caplog.text


def test_one_image_has_no_batch_to_compare(folder, tmp_path, caplog):
    config = config_of(folder / "mole 1.png", topics=("sampling", "windows"))
    show.run(config, {}, tmp_path / "run")
    check_pictures(tmp_path / "run" / "show", {"000_mole_1_windows.png"})
    assert "sampling: left out" in caplog.text


def test_what_cannot_be_shown_is_refused_by_name(folder, tmp_path):
    with pytest.raises(ValueError, match=r"config\.show\.images='.*nowhere': no image found"):
        show.run(config_of(tmp_path / "nowhere"), {}, tmp_path)
    for name in ("mole 0.png", "mole 1.png", "mole 2.png"):
        (folder / name).unlink()
    with pytest.raises(ValueError, match=r"none of the 2 images that were tried can be used: ") as error:
        show.run(config_of(folder), {}, tmp_path)
    assert "Set a smaller" not in str(error.value)


def test_images_that_are_too_small_are_refused_with_the_key_to_set(folder, tmp_path):
    for name in ("small.png", "broken.jpg"):
        (folder / name).unlink()
    config = config_of(folder)
    config.data.image_size = (4000, 4000)
    with pytest.raises(
        ValueError, match=r"smaller than `image_size`, 4000x4000\. Set a smaller config\.data\.image_size"
    ):
        show.run(config, {}, tmp_path)
