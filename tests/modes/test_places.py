"""Runs on images in a zip and at an address, as real processes: the results are those of the same images in folders."""

import shutil

import cv2
import pytest

from stochconv_jax.data.synthetic import SyntheticSource
from tests.data.stores import served
from tests.modes.runs import assert_same_run, rows, wait_for_step

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


@pytest.fixture
def address(images):
    """The address of a web server that has the images."""
    pytest.importorskip("aiohttp", reason="aiohttp, the extra `http`, is not installed")
    with served(images) as address:
        yield address


@pytest.mark.slow
def test_a_zip_and_an_address_give_the_results_of_a_folder_also_after_a_kill(main, images, address, tmp_path):
    archive = shutil.make_archive(str(images), "zip", images)
    settings = {"data__source": "folder", "data__num_workers": 2, "checkpoint__every_steps": 1}
    main(tmp_path / "folder", data__path=images, **settings)
    process = main.start(tmp_path / "killed", data__path=archive, **settings)
    wait_for_step(process, tmp_path / "killed", 2)
    process.kill()
    process.communicate()
    main(tmp_path / "killed", data__path=address, **settings)
    assert_same_run(tmp_path / "folder", tmp_path / "killed")

    predicted = {}
    for place in (str(images), archive, address):
        main(tmp_path / "folder", mode="evaluate", eval__path=place, eval__output="test")
        main(tmp_path / "folder", mode="predict", predict__images=f"{place}/test/*/*.png")
        predicted[place] = [rows(tmp_path / "folder" / name) for name in ("test/predictions.csv", "predicted.csv")]
    assert predicted[archive] == predicted[address] == predicted[str(images)]
    assert len(predicted[archive][1]) == COUNTS["test"]
