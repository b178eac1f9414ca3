"""The windows that `predict_passes` returns are those that evaluation uses, and they lead to a drawn lesion."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.linear_model
import sklearn.metrics

from stochconv_jax import ops
from stochconv_jax.data.synthetic import SyntheticSource
from stochconv_jax.models import variants
from stochconv_jax.models.classifier import Classifier
from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import steps
from stochconv_jax.visualization import attribution
from tests.models.random_variables import random_variables

IMAGE, OUTPUT, PASSES, SEED = (150, 200), (16, 12), 3, 4
WINDOW = ops.window_size(OUTPUT, (3, 3), (2, 2))


def network(random, **settings):
    """Returns a model with only a window branch, and random variables as large as a trained network's."""
    model = Classifier(variant=variants.get("tiny"), branches=("windows",), window_output=OUTPUT, **settings)
    keys = {"params": jax.random.key(0), "windows": jax.random.key(1)}
    shapes = jax.eval_shape(lambda: model.init(keys, batch_of(np.zeros((2, *IMAGE, 3), np.uint8))))
    assert set(shapes) == {"params", "batch_stats"}

    return model, random_variables(shapes, random)


def batch_of(images):
    rows = np.arange(len(images), dtype=np.int32)
    return {"image": images, "example": 7 * rows.astype(np.uint32), "label": rows, "index": rows} | {
        name: np.zeros(len(images), bool) for name in ("mask", "skipped")
    }


def inside(windows):
    """Returns the pixels that any of the windows [F, 2] covers, bool [H, W]."""
    return attribution.coverage(windows, window_size=WINDOW, image_size=IMAGE) > 0


@pytest.mark.parametrize("sampling", ["per_image", "per_batch", "shared"])
def test_what_lies_outside_the_windows_of_a_pass_does_not_change_evaluation_s_logits(sampling):
    random = np.random.default_rng(0)
    model, variables = network(random, sampling=sampling)
    images = random.integers(0, 256, (2, *IMAGE, 3), np.uint8)
    others = images // 8
    replicated = meshes.placement(meshes.create(jax.devices()[:1]), split=False)
    step = jax.jit(
        functools.partial(steps.eval_step, model=model, seed=SEED, passes=PASSES, compute_sharding=replicated)
    )

    def evaluate(images):
        """Returns logits [passes, B, K]."""
        return np.moveaxis(step(variables, batch_of(images)).compute()["rows"]["logits"], 1, 0)

    watch = jax.jit(functools.partial(steps.predict_passes, model=model, seed=SEED))
    logits, windows = watch(variables, batch_of(images), jnp.arange(PASSES))
    expected = evaluate(images)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-6)
    rows, filters = windows.shape[1:3]
    assert (rows, filters) == {"per_image": (2, 8), "per_batch": (1, 8), "shared": (2, 1)}[sampling]
    for number in range(PASSES):
        seen = np.stack([inside(np.asarray(windows)[number, min(row, rows - 1)]) for row in range(2)])[..., None]
        assert not seen.all(axis=(1, 2, 3)).any()
        same = evaluate(np.where(seen, images, others))
        np.testing.assert_allclose(same[number], expected[number], rtol=1e-5, atol=1e-6)
        # Ten times the rounding; of several logits one random network in many moves one by less, and none all of them.
        assert np.abs(np.delete(same - expected, number, axis=0)).max() > 2e-5
        changed = evaluate(np.where(seen, others, images))
        assert np.abs(changed[number] - expected[number]).max() > 2e-5


def test_each_filter_looks_through_the_window_reported_for_it():
    random = np.random.default_rng(0)
    model, variables = network(random)
    images, others = (random.integers(0, 256, (1, *IMAGE, 3), np.uint8) for _ in range(2))

    @jax.jit
    def stem(images):
        return steps.apply_window_branch(variables, batch_of(images), 2, model=model, seed=SEED, method="stem")

    maps, windows = map(np.asarray, stem(images))
    assert maps.shape == (1, *OUTPUT, 8)
    for number, window in enumerate(windows[0]):
        seen = inside(window[None])[..., None]
        same = np.asarray(stem(np.where(seen, images, others))[0])
        np.testing.assert_allclose(same[..., number], maps[..., number], atol=1e-5)
        # Every row and column of the window counts: one pixel more to a side, and another map comes out.
        for axis in (1, 2):
            for edge in (0, WINDOW[axis - 1] - 1):
                place = [0, *window]
                place[axis] += edge
                line = images.copy()
                lengths = [1 if a in (0, axis) else WINDOW[a - 1] for a in range(3)]
                line[tuple(slice(p, p + length) for p, length in zip(place, lengths))] ^= 255
                assert np.abs(np.asarray(stem(line)[0])[..., number] - maps[..., number]).max() > 1e-3


def test_relevance_finds_a_drawn_lesion():
    """Fits only the last layer of a random network, to the share of lesion in what its filters see."""
    random = np.random.default_rng(0)
    model, variables = network(random)
    drawn = SyntheticSource(size=4, image_size=(2 * IMAGE[0], 2 * IMAGE[1]), seed=int(random.integers(1 << 30)))
    # A quarter of each drawing, so that the lesion lies in a corner, in every image in another.
    quarters = [(slice(v, v + IMAGE[0]), slice(h, h + IMAGE[1])) for v in (0, IMAGE[0]) for h in (0, IMAGE[1])]
    images = np.stack([drawn.read(number)[quarter] for number, quarter in enumerate(quarters)])
    masks = np.stack([drawn.mask(number)[quarter] for number, quarter in enumerate(quarters)])
    batch = batch_of(images)

    @jax.jit
    def look(numbers):
        about = {"model": model, "seed": SEED, "method": "encode"}
        return jax.lax.map(lambda number: steps.apply_window_branch(variables, batch, number, **about), numbers)

    features, windows = map(np.asarray, look(jnp.arange(250)))
    sums = np.pad(masks.cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0)))
    top, left = windows[..., 0], windows[..., 1]
    image = np.arange(len(images))[:, None]
    lesion = sum(
        sign * sums[image, top + a * WINDOW[0], left + b * WINDOW[1]]
        for sign, a, b in ((1, 1, 1), (-1, 0, 1), (-1, 1, 0), (1, 0, 0))
    ).sum(axis=-1) / np.prod(WINDOW)
    within = [x - x.mean(axis=0) for x in (features.astype(np.float64), lesion)]  # of an image, not between images
    fitted = sklearn.linear_model.RidgeCV(np.logspace(-4, 4, 17)).fit(*(np.concatenate(x) for x in within))
    classifier = {"kernel": fitted.coef_[:, None].astype(np.float32), "bias": np.zeros(1, np.float32)}
    variables = variables | {"params": variables["params"] | {"classifier": classifier}}
    watch = jax.jit(functools.partial(steps.predict_passes, model=model, seed=SEED))
    logits, windows = map(np.asarray, watch(variables, batch, jnp.arange(1000, 1200)))
    right, wrong = [], []
    for number, mask in enumerate(masks):
        found = attribution.relevance(windows[:, number], logits[:, number, 0], window_size=WINDOW, image_size=IMAGE)
        raised = np.clip(found.map, 0, None)
        # By chance it would be the lesion's share of the image.
        assert raised[mask].sum() / raised.sum() > 0.5 * (1 + mask.mean())
        assert found.explained > 0.05
        spoilt = [found.map[::-1], found.map[:, ::-1], found.map[::-1, ::-1], -found.map]
        spoilt += [np.roll(found.map, step, axis) for axis in (0, 1) for step in (-WINDOW[axis], WINDOW[axis])]
        areas = [sklearn.metrics.roc_auc_score(mask.ravel(), mapped.ravel()) for mapped in (found.map, *spoilt)]
        right.append(areas[0])
        wrong.append(areas[1:])
    assert np.mean(right) > 0.93
    assert np.mean(wrong, axis=0).max() < np.mean(right) - 0.03
