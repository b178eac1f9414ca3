"""Runs on images in a zip and at an address, as real processes: the results are those of the same images in folders."""

import shutil

import pytest

from tests.data.stores import served
from tests.modes.class_images import COUNTS
from tests.modes.runs import assert_same_run, rows, wait_for_step


@pytest.fixture
def address(class_images):
    """The address of a web server that has the images."""
    pytest.importorskip("aiohttp", reason="aiohttp, the extra `http`, is not installed")
    with served(class_images) as address:
        yield address


@pytest.mark.slow
def test_a_zip_and_an_address_give_the_results_of_a_folder_also_after_a_kill(main, class_images, address, tmp_path):
    archive = shutil.make_archive(str(class_images), "zip", class_images)
    settings = {"data__source": "folder", "data__num_workers": 2, "checkpoint__every_steps": 1}
    main(tmp_path / "folder", data__path=class_images, **settings)
    process = main.start(tmp_path / "killed", data__path=archive, **settings)
    wait_for_step(process, tmp_path / "killed", 2)
    process.kill()
    process.communicate()
    main(tmp_path / "killed", data__path=address, **settings)
    assert_same_run(tmp_path / "folder", tmp_path / "killed")

    predicted = {}
    for place in (str(class_images), archive, address):
        main(tmp_path / "folder", mode="evaluate", eval__path=place, eval__output="test")
        main(tmp_path / "folder", mode="predict", predict__images=f"{place}/test/*/*.png")
        predicted[place] = [rows(tmp_path / "folder" / name) for name in ("test/predictions.csv", "predicted.csv")]
    assert predicted[archive] == predicted[address] == predicted[str(class_images)]
    assert len(predicted[archive][1]) == COUNTS["test"]
