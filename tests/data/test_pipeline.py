"""Batches are functions of (seed, step); hosts, workers and unreadable images change nothing else."""

import functools
import multiprocessing
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import simplejpeg

from stochconv_jax.data import augment, pipeline, reader
from stochconv_jax.data.sources import BadImage, FolderSource
from tests.conftest import PATIENCE
from tests.data.batches import PIXELS, assert_same, evaluation, joined, train
from tests.data.drawn import RANDOM, Noise, Witness


def test_a_batch_holds_what_is_promised():
    source = Noise(20)
    (batch,) = train(source, 1)
    shapes = {name: (array.dtype, array.shape) for name, array in batch.items()}
    assert shapes == {
        "image": (np.uint8, (6, 24, 32, 3)),
        "thumbnail": (np.uint8, (6, 6, 8, 3)),
        "label": (np.int32, (6,)),
        "example": (np.uint32, (6,)),
        "index": (np.int32, (6,)),
        "mask": (np.bool_, (6,)),
        "skipped": (np.int32, (6,)),
    }
    np.testing.assert_array_equal(batch["label"], source.labels[batch["index"]])
    np.testing.assert_array_equal(batch["example"], [reader.example_id(source.names[i]) for i in batch["index"]])
    assert batch["mask"].all() and (batch["skipped"] == -1).all()


@pytest.mark.parametrize(("size", "batch_size"), [(7, 4), (13, 5), (3, 8), (12, 4)])
def test_each_epoch_visits_each_image_once_in_an_order_of_its_own(size, batch_size):
    epochs = 5
    steps = -(-epochs * size // batch_size)
    seen = joined(train(Noise(size), steps, batch_size=batch_size, outputs=()))["index"]
    orders = seen[: epochs * size].reshape(epochs, size)
    np.testing.assert_array_equal(np.sort(orders), np.tile(np.arange(size), (epochs, 1)))
    assert len({tuple(order) for order in orders}) > 1


def test_other_seeds_give_other_orders_and_other_augmentation():
    first, other = train(Noise(50), 2, seed=1), train(Noise(50), 2, seed=2)
    assert (joined(first)["index"] != joined(other)["index"]).any()
    one = Noise(1)
    assert (joined(train(one, 1, seed=1))["image"] != joined(train(one, 1, seed=2))["image"]).any()


def test_an_image_is_augmented_anew_each_time():
    pictures = joined(train(Noise(1), 2))["image"]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)


@pytest.mark.parametrize("host_count", [2, 4])
def test_any_number_of_hosts_makes_the_same_global_batches(host_count):
    source = Noise(11, seed=int(RANDOM.integers(1000)))
    whole = train(source, 5, batch_size=8)
    hosts = [train(source, 5, batch_size=8, host_index=i, host_count=host_count) for i in range(host_count)]
    assert_same(whole, [joined(parts) for parts in zip(*hosts)])


def test_starting_at_a_step_equals_going_on_to_it():
    source = Noise(11)
    assert_same(train(source, 7)[4:], train(source, 3, start_step=4))


def test_workers_make_the_batches_of_one_process_and_end(tmp_path, monkeypatch):
    # Whoever touched an accelerator, or any device, in a worker would fail on this platform that there is not.
    monkeypatch.setenv("JAX_PLATFORMS", "no_such_platform")
    source = Witness(7, tmp_path, bad=(3,))
    options = {"batch_size": 4, "on_bad_image": "skip"}
    rounds = pipeline.EvalBatches(source, num_workers=2, **options, **PIXELS)
    in_workers = train(source, 5, num_workers=2, **options), list(rounds), list(rounds)
    rounds.close()
    processes = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert len(processes) == 4 and set(processes.values()) == {"1"}
    assert not multiprocessing.active_children()
    assert_same(in_workers[0], train(source, 5, **options))
    for batches in in_workers[1:]:
        assert_same(batches, evaluation(source, **options))


FORGETFUL = """
from stochconv_jax.data import pipeline
from tests.data.batches import PIXELS
from tests.data.drawn import Noise
if __name__ == "__main__":
    batches = pipeline.train_batches(
        Noise(9), seed=0, batch_size=4, start_step=0, num_workers=1, on_bad_image="error",
        augmentation=pipeline.Augmentation(), **PIXELS)
    print(next(batches)["image"].shape)
"""


def test_a_program_that_closes_nothing_ends_quietly(pytestconfig, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(FORGETFUL)
    command = [sys.executable, "-W", "error::ResourceWarning", str(program)]
    environment = {"PYTHONPATH": str(pytestconfig.rootpath), "JAX_PLATFORMS": "cpu"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "(4, 24, 32, 3)\n", "")


def test_image_and_thumbnail_show_the_same_scene():
    for batch in train(Noise(9), 3):
        blocks = batch["image"].reshape(6, 6, 4, 8, 4, 3).mean((2, 4))
        assert np.abs(blocks - batch["thumbnail"]).max() <= 0.51


@pytest.mark.parametrize("outputs", [("thumbnail",), ("image",)])
def test_one_output_alone_is_that_of_both(outputs):
    """The thumbnail is too large for pictures to be decoded at a reduced size, so both are equal bit for bit."""
    sizes = {"thumbnail_size": (13, 17)}
    source = Noise(9)
    for batches, both in (
        (train(source, 2, outputs=outputs, **sizes), train(source, 2, **sizes)),
        (evaluation(source, outputs=outputs, **sizes), evaluation(source, **sizes)),
    ):
        assert {"image", "thumbnail"} & set(batches[0]) == set(outputs)
        for batch, other in zip(batches, both):
            np.testing.assert_array_equal(batch[outputs[0]], other[outputs[0]])


@pytest.mark.parametrize(("factor", "shrink"), [(2, 2), (3, 2), (6, 4), (8, 8), (1, 1)])
def test_a_thumbnail_alone_is_that_of_both_though_decoded_at_a_reduced_size(tmp_path, factor, shrink):
    """The thumbnails differ by less than a quarter of what a shift of half a pixel would make."""
    height, width = 24, 40
    files = [tmp_path / f"{index}.jpg" for index in range(4)]
    for file in files:
        noise = RANDOM.integers(0, 256, (6, 10, 3), np.uint8)
        picture = cv2.resize(noise, (width * 2 * factor, height * 2 * factor), interpolation=cv2.INTER_CUBIC)
        file.write_bytes(simplejpeg.encode_jpeg(picture, quality=98, colorsubsampling="444"))
    sizes = {"image_size": (height * 2 * factor, width * 2 * factor), "thumbnail_size": (height, width)}
    source = FolderSource.from_files(files)
    reader = pipeline.Reader(source, outputs=("thumbnail",), **sizes)
    assert reader.shrink == shrink and reader.picture(0).shape == (*(side // shrink for side in sizes["image_size"]), 3)
    for read in (functools.partial(train, source, 3, **sizes), functools.partial(evaluation, source, **sizes)):
        for alone, both in zip(read(outputs=("thumbnail",)), read()):
            alone, both = (batch["thumbnail"][batch["mask"]].astype(np.float32) for batch in (alone, both))
            moved = (both[:, 1:, 1:] + both[:, :-1, :-1]) / 2
            assert np.abs(alone - both).mean() < 0.25 * np.abs(alone[:, 1:, 1:] - moved).mean()


@pytest.mark.parametrize("shape", [(13, 4, 1), (13, 4, 2), (5, 8, 4), (1, 4, 2), (8, 4, 2)])
def test_evaluation_counts_every_image_once(shape):
    size, batch_size, host_count = shape
    source = Noise(size)
    hosts = [evaluation(source, batch_size=batch_size, host_index=i, host_count=host_count) for i in range(host_count)]
    assert {len(batches) for batches in hosts} == {-(-size // batch_size)}
    assert all(len(batch["mask"]) == batch_size // host_count for batches in hosts for batch in batches)
    rows = joined([joined(parts) for parts in zip(*hosts)])
    counted = rows["index"][rows["mask"]]
    np.testing.assert_array_equal(counted, np.arange(size))
    np.testing.assert_array_equal(rows["label"][rows["mask"]], source.labels)
    for index, picture in zip(counted, rows["image"][rows["mask"]]):
        np.testing.assert_array_equal(picture, source.read(index))


@pytest.mark.parametrize("host_count", [1, 2])
def test_the_first_batches_follow_again_and_unchanged_images_are_those_of_evaluation(host_count):
    source, options = Noise(13), {"batch_size": 4, "augmentation": augment.UNCHANGED, "repeat_after": 2}
    hosts = [train(source, 5, host_index=host, host_count=host_count, **options) for host in range(host_count)]
    batches = [joined(parts) for parts in zip(*hosts)]
    assert_same(batches[2:4], batches[:2])
    assert_same(batches[4:], batches[:1])
    rows, evaluated = joined(batches[:2]), joined(evaluation(source))
    assert len(set(rows["index"])) == 8
    for name in ("image", "thumbnail", "label", "example"):
        np.testing.assert_array_equal(rows[name], evaluated[name][rows["index"]])


def test_evaluation_can_be_repeated_and_left_early():
    batches = pipeline.EvalBatches(Noise(9), batch_size=4, num_workers=0, on_bad_image="error", **PIXELS)
    first = list(batches)
    assert_same(first, list(batches))
    for _ in batches:
        break
    assert_same(first, list(batches))
    batches.close()
    assert_same(first, list(batches))
    batches.close()


def test_rounds_beyond_those_announced_are_whole_too():
    batches = pipeline.EvalBatches(Noise(9), batch_size=4, num_workers=0, on_bad_image="error", rounds=2, **PIXELS)
    first = list(batches)
    assert len(first) == 3
    for _ in range(4):
        assert_same(first, list(batches))
    batches.close()


def test_larger_pictures_are_fitted_before_anything_else():
    source = Noise(5, (50, 90))
    rows = joined(evaluation(source))
    for index in range(5):
        np.testing.assert_array_equal(rows["image"][index], augment.fit(source.read(index), (24, 32)))


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("read", [train, evaluation])
def test_an_unreadable_image_is_an_error_with_its_whole_message(read, num_workers):
    arguments = () if read is evaluation else (9,)
    with pytest.raises(BadImage) as caught:
        read(Noise(5, bad=(2,)), *arguments, num_workers=num_workers)
    assert str(caught.value) == "folder/noise_2.jpg (row 4 of labels.csv): it is torn"
    assert not multiprocessing.active_children()


def test_a_picture_that_is_too_small_is_named_with_both_sizes():
    with pytest.raises(BadImage, match=r"folder/noise_0\.jpg: 24x30 pixels .* smaller than .* 24x32"):
        evaluation(Noise(1, (24, 30)))


def test_in_training_another_image_takes_the_place_of_an_unreadable_one():
    bad = (2, 5, 6)
    whole, source = Noise(9), Noise(9, bad=bad)
    plan, rows = joined(train(whole, 6)), joined(train(source, 6, on_bad_image="skip"))
    replaced = np.isin(plan["index"], bad)
    assert replaced.sum() == 12  # 36 rows are four epochs
    np.testing.assert_array_equal(rows["skipped"], np.where(replaced, plan["index"], -1))
    for name in plan:
        np.testing.assert_array_equal(rows[name][~replaced], plan[name][~replaced])
    assert not np.isin(rows["index"], bad).any() and rows["mask"].all()
    np.testing.assert_array_equal(rows["label"], source.labels[rows["index"]])


def test_replacements_are_the_same_on_any_number_of_hosts_and_after_a_resume():
    source, options = Noise(9, bad=(0, 4)), {"batch_size": 8, "on_bad_image": "skip"}
    whole = train(source, 4, **options)
    hosts = [train(source, 2, start_step=2, host_index=i, host_count=2, **options) for i in range(2)]
    assert_same(whole[2:], [joined(parts) for parts in zip(*hosts)])


def test_in_evaluation_an_unreadable_image_is_masked():
    source = Noise(9, bad=(0, 7))
    batches = evaluation(source, batch_size=4, on_bad_image="skip")
    assert [len(batch["mask"]) for batch in batches] == [4, 4, 4]
    rows = joined(batches)
    assert rows["index"][rows["mask"]].tolist() == [1, 2, 3, 4, 5, 6, 8]
    assert rows["skipped"][rows["skipped"] >= 0].tolist() == [0, 7]


def test_no_readable_image_at_all_is_an_error():
    with pytest.raises(BadImage, match="none of the 3 images can be used"):
        train(Noise(3, bad=(0, 1, 2)), 1, on_bad_image="skip")


def test_an_image_is_known_by_its_name_without_folder_and_ending():
    known = reader.example_id("ISIC_0000001.jpg")
    assert known == zlib.crc32(b"ISIC_0000001")
    assert known == reader.example_id("other/place/ISIC_0000001.png") == reader.example_id("ISIC_0000001")
    assert known != reader.example_id("ISIC_0000002.jpg")
    assert reader.example_id(b"\xff\xfe.jpg".decode("utf-8", "surrogateescape")) == zlib.crc32(b"\xff\xfe")


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"on_bad_image='ignore'.*error, skip"):
        evaluation(Noise(4), on_bad_image="ignore")
    with pytest.raises(ValueError, match="6 images cannot be shared equally by 4 hosts"):
        evaluation(Noise(4), host_index=0, host_count=4)
    with pytest.raises(ValueError, match="6 images cannot be shared equally by 4 hosts"):
        train(Noise(4), 1, host_index=0, host_count=4)
