"""Options that are off by default: colour, cutout, mixup and balanced classes."""

import itertools

import numpy as np
import PIL.Image
import pytest

from stochconv_jax.data import augment, orders, pipeline
from stochconv_jax.data.augment import Augmentation
from tests.data.drawn import Noise

SIZE = (24, 32)
STILL = {"area": (1.0, 1.0), "aspect": (1.0, 1.0), "flip": False, "rotation": 0.0}


def rng(seed=0):
    return np.random.default_rng(seed)


def picture():
    return rng(5).integers(60, 190, (*SIZE, 3), np.uint8)


def test_off_changes_nothing_and_draws_nothing():
    random, content = rng(), picture()
    assert (augment.recolor(random, content, Augmentation()) == picture()).all()
    assert (augment.apply_color_ops(random, content, 0.0) == picture()).all()
    assert (augment.cut_out(random, content, 0.0) == picture()).all()
    assert random.random() == rng().random()


def test_brightness_contrast_and_saturation_against_their_definitions():
    content = picture().astype(float)
    grey = (content @ [0.299, 0.587, 0.114])[..., None]
    expected = {
        "brightness": lambda factor: content * factor,
        "contrast": lambda factor: 127.5 + (content - 127.5) * factor,
        "saturation": lambda factor: grey + (content - grey) * factor,
    }
    for place, (name, of_factor) in enumerate(expected.items()):
        factor = 1 + rng(3).uniform(-1, 1, 3)[place] * 0.3
        got = augment.recolor(rng(3), picture(), Augmentation(**{name: 0.3}))
        assert got.dtype == np.uint8
        # OpenCV holds the coefficients in fixed point.
        assert np.abs(got - np.clip(of_factor(factor), 0, 255)).max() < 0.75, name
        assert (got != picture()).any()


def test_color_ops_are_two_drawn_operations_that_strength_makes_stronger():
    found = {augment.apply_color_ops(rng(seed), picture(), 0.5).tobytes() for seed in range(60)}
    again = {augment.apply_color_ops(rng(seed), picture(), 0.5).tobytes() for seed in range(60)}
    assert found == again and len(found) > 30  # of 8 x 8 pairs, most of them with two signs each
    for index, operation in enumerate(augment._COLOR_OPS):
        image = PIL.Image.fromarray(picture())
        changes = [np.abs(np.array(operation(image, s)).astype(int) - picture()).mean() for s in (0.0, 0.5, 0.9)]
        if index >= 2:
            assert 0 == changes[0] < changes[1] < changes[2], index
        else:
            assert changes[0] == changes[2] > 0, index  # they have no strength


def test_cutout_hides_a_square_of_its_share():
    areas = []
    for seed in range(300):
        got = augment.cut_out(rng(seed), np.zeros((*SIZE, 3), np.uint8), 0.25)
        hidden = (got == (124, 116, 104)).all(axis=2)
        rows, columns = np.flatnonzero(hidden.any(1)), np.flatnonzero(hidden.any(0))
        assert hidden.sum() == len(rows) * len(columns) > 0  # a rectangle without holes
        assert (got[~hidden] == 0).all()
        areas.append(hidden.mean())
    side = round((0.25 * SIZE[0] * SIZE[1]) ** 0.5)
    assert max(areas) == side * side / (SIZE[0] * SIZE[1])  # a whole square where it lies inside
    assert min(areas) < 0.12  # and a part of one at a corner


LABELS = np.array([0] * 50 + [1] * 7 + [2] * 3, np.int32)


def test_a_balanced_epoch_has_equal_shares_and_wastes_no_image_of_a_small_class():
    for epoch in range(5):
        order = orders.balanced_order(LABELS.tobytes(), 1, epoch)
        assert len(order) == len(LABELS)
        assert np.bincount(LABELS[order]).tolist() == [20, 20, 20]
        times = np.bincount(order, minlength=60)
        assert times[:50].max() == 1 and set(times[50:57]) == {2, 3} and set(times[57:]) == {6, 7}
    assert (order == orders.balanced_order(LABELS.tobytes(), 1, 4)).all()
    assert (order != orders.balanced_order(LABELS.tobytes(), 2, 4)).any()
    uneven = orders.balanced_order(LABELS[:58].tobytes(), 0, 0)
    assert sorted(np.bincount(LABELS[uneven])) == [19, 19, 20]


def batches(start, stop, order="balanced", **options):
    """Returns the batches of the steps from start to before stop."""
    stream = pipeline.train_batches(
        Noise(30),
        seed=7,
        batch_size=8,
        start_step=start,
        image_size=SIZE,
        thumbnail_size=(6, 8),
        outputs=("image",),
        augmentation=Augmentation(**STILL, **options),
        num_workers=0,
        on_bad_image="error",
        order=order,
    )
    taken = list(itertools.islice(stream, stop - start))
    stream.close()
    return taken


def test_a_batch_is_a_function_of_seed_and_step():
    whole = batches(0, 6, brightness=0.3, cutout=0.1)
    later = batches(4, 6, brightness=0.3, cutout=0.1)
    for ours, theirs in zip(whole[4:], later, strict=True):
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])


def test_options_reach_the_batch():
    plain, coloured = batches(0, 1, "shuffled")[0], batches(0, 1, "shuffled", contrast=0.5)[0]
    assert (plain["index"] == coloured["index"]).all() and (plain["image"] != coloured["image"]).any()
    labels = np.concatenate([batch["label"] for batch in batches(0, 15)])  # four epochs
    assert np.bincount(labels).tolist() == [40, 40, 40]


def test_mixup_mixes_the_pixels_of_two_images_by_the_share_it_tells():
    (mixed,), (plain,) = batches(0, 1, "shuffled", mixup=0.4), batches(0, 1, "shuffled")
    assert mixed["label_mixed"].dtype == np.int32 and mixed["share_mixed"].dtype == np.float32
    assert (mixed["label"] == plain["label"]).all() and "share_mixed" not in plain
    source = Noise(30)
    for row, share in enumerate(mixed["share_mixed"]):
        assert 0 <= share <= 0.5
        seconds = [source.read(i) for i in np.flatnonzero(source.labels == mixed["label_mixed"][row])]
        expected = [(1 - share) * plain["image"][row] + share * second for second in seconds]
        assert min(np.abs(mixed["image"][row] - e).max() for e in expected) <= 0.51


def test_an_order_that_is_none():
    with pytest.raises(ValueError, match=r"order='random': choose one of shuffled, balanced"):
        batches(0, 1, "random")
