"""Schedules and optimisers against what they are named after."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from stochconv_jax.training import optimizers
from stochconv_jax.training.checkpoints import Checkpoints

SCHEDULE = {
    "learning_rate": 1e-3,
    "steps_per_epoch": 10.0,
    "num_epochs": 60,
    "warmup_epochs": 0.0,
    "decay_start_epoch": 15.0,
    "decay_every_epochs": 1.0,
    "decay_rate": 0.9,
}
OPTIMIZER = {"momentum": 0.0, "rms_decay": 0.99, "epsilon": 1e-8, "weight_decay": 0.0, "clip_norm": None}


def rates(name, steps, **settings):
    schedule = optimizers.create_schedule(name, **(SCHEDULE | settings))
    return np.array([schedule(step) for step in steps])


def test_the_reports_schedule_decays_every_epoch_after_the_fifteenth():
    got = rates("exponential", [0, 149, 150, 159, 160, 599])
    np.testing.assert_allclose(got, 1e-3 * 0.9 ** np.array([0, 0, 1, 1, 2, 45]), rtol=1e-5)


@pytest.mark.parametrize("steps_per_epoch", [7.3, 380.456])
def test_decay_falls_on_the_first_step_of_an_epoch_also_where_epochs_are_no_whole_steps(steps_per_epoch):
    ends = np.ceil(np.arange(15, 25) * steps_per_epoch).astype(int)
    got = rates("exponential", ends, steps_per_epoch=steps_per_epoch)
    np.testing.assert_allclose(got, 1e-3 * 0.9 ** np.arange(1, 11), rtol=1e-5)
    before = rates("exponential", ends - 1, steps_per_epoch=steps_per_epoch)
    np.testing.assert_allclose(before, 1e-3 * 0.9 ** np.arange(10), rtol=1e-5)


def test_a_decay_comes_at_the_step_of_earlier_runs():
    """At a step that is 1.05e-5 decays short of the twelfth, which optax.exponential_decay rounds up."""
    settings = {"steps_per_epoch": 47443 / 25, "decay_start_epoch": 10.0, "decay_every_epochs": 2.0}
    got = rates("exponential", [60726, 60727, 60728], **settings)
    np.testing.assert_allclose(got, 1e-3 * 0.9 ** np.array([11, 11, 12]), rtol=1e-5)


def test_cosine_falls_from_the_end_of_the_warm_up_to_zero():
    got = rates("cosine", [0, 25, 50, 325, 600], warmup_epochs=5.0)
    np.testing.assert_allclose(got, [0, 0.5e-3, 1e-3, 0.5e-3, 0], atol=1e-9)


def test_constant_stays():
    np.testing.assert_allclose(rates("constant", [0, 10, 10_000]), 1e-3)


@pytest.mark.parametrize("epsilon", [1e-8, 1e-2])  # only a large one tells where it is added
def test_rmsprop_is_the_one_of_the_report(epsilon):
    """Epsilon outside the root, mean square starting at zero, in float64 by hand."""
    random = np.random.default_rng(0)
    gradients = random.normal(size=(5, 3, 4))
    transform = optimizers.create_optimizer("rmsprop", lambda step: 0.01, **OPTIMIZER | {"epsilon": epsilon})
    params = {"kernel": jnp.zeros((3, 4))}
    state, square, expected = transform.init(params), np.zeros((3, 4)), np.zeros((3, 4))
    for gradient in gradients:
        updates, state = transform.update({"kernel": jnp.asarray(gradient, jnp.float32)}, state, params)
        params = optax.apply_updates(params, updates)
        square = 0.99 * square + 0.01 * gradient**2
        expected -= 0.01 * gradient / (np.sqrt(square) + epsilon)
    # Updates of up to 0.1 may cancel; what is left has their float32 rounding.
    np.testing.assert_allclose(params["kernel"], expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimiser_goes_downhill_and_clips(name):
    settings = OPTIMIZER | {"momentum": 0.9, "clip_norm": 1e-3}
    transform = optimizers.create_optimizer(name, lambda step: 0.1, **settings)
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = transform.update(params, transform.init(params), params)
    assert all((leaf < 0).all() for leaf in jax.tree.leaves(updates))
    if name == "sgd":
        np.testing.assert_allclose(optax.tree.norm(updates), 0.1 * 1e-3, rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_schedule_free_is_optax_s_with_a_warm_up_and_its_average_is_that_of_the_iterates(name):
    """The iterates z are steps of the optimiser; the average weighs them by the square of the largest rate so far."""
    random = np.random.default_rng(0)
    schedule = optimizers.create_schedule("constant", **(SCHEDULE | {"warmup_epochs": 0.5}))
    ours = optimizers.create_optimizer(name, schedule, **OPTIMIZER, schedule_free=0.9)
    base = optax.sgd if name == "sgd" else functools.partial(optax.adam, b1=0.0)
    theirs = optax.contrib.schedule_free(base(schedule), schedule, b1=0.9)
    ours_at = theirs_at = {"kernel": jnp.asarray(random.normal(size=(5, 4)), jnp.float32)}
    states, iterates, weights = [ours.init(ours_at), theirs.init(theirs_at)], [], []
    for step in range(8):
        gradients = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape), jnp.float32), ours_at)
        with jax.numpy_dtype_promotion("standard"):
            updates, states[0] = ours.update(gradients, states[0], ours_at)
            others, states[1] = theirs.update(gradients, states[1], theirs_at)
        ours_at, theirs_at = optax.apply_updates(ours_at, updates), optax.apply_updates(theirs_at, others)
        iterates.append(np.asarray(states[0][0].z["kernel"]))
        weights.append(float(schedule(step + 1)) ** 2)
    np.testing.assert_allclose(ours_at["kernel"], theirs_at["kernel"], rtol=1e-5)
    average = optimizers.averaged(states[0], ours_at)["kernel"]
    np.testing.assert_allclose(average, np.average(iterates, axis=0, weights=weights), rtol=1e-5)
    assert optimizers.averaged(optimizers.create_optimizer(name, schedule, **OPTIMIZER).init(ours_at), ours_at) is None


def test_schedule_free_leaves_parts_of_factor_0_as_they_are_to_the_bit():
    random = np.random.default_rng(0)
    names = ("thumbnail_stem", "windows_stem")
    start = params = {name: {"kernel": jnp.asarray(random.normal(size=(50, 4)), jnp.float32)} for name in names}
    settings = OPTIMIZER | {"factors": {"thumbnail": 0.0}, "schedule_free": 0.9}
    transform = optimizers.create_optimizer("adamw", lambda step: 0.1, **settings)
    state = transform.init(params)
    for _ in range(5):
        gradients = jax.tree.map(jnp.ones_like, params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = transform.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    for found in (params, optimizers.averaged(state, params)):
        np.testing.assert_array_equal(found["thumbnail_stem"]["kernel"], start["thumbnail_stem"]["kernel"])
        assert (np.asarray(found["windows_stem"]["kernel"]) != start["windows_stem"]["kernel"]).all()


def test_a_schedule_free_optimiser_averages_from_the_weights_that_it_starts_from():
    transform = optimizers.create_optimizer("sgd", lambda step: 0.1, **OPTIMIZER, schedule_free=0.9)
    random, loaded = {"kernel": jnp.ones((3, 4))}, {"kernel": jnp.full((3, 4), 7.0)}
    state = optimizers.restarted(transform.init(random), loaded)
    np.testing.assert_array_equal(optimizers.averaged(state, loaded)["kernel"], loaded["kernel"])


@pytest.mark.parametrize(
    ("name", "alias"),
    [
        ("lion", functools.partial(optax.lion, weight_decay=0.0)),
        ("adafactor", optax.adafactor),
        ("adamw", optax.adam),
        ("sgd", optax.sgd),
    ],
)
def test_an_optimiser_is_optax_s_of_the_same_name(name, alias):
    random = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(random.normal(size=(130, 140)), jnp.float32), "bias": jnp.ones(3)}
    ours, theirs = optimizers.create_optimizer(name, lambda step: 0.01, **OPTIMIZER), alias(0.01)
    states = ours.init(params), theirs.init(params)
    for _ in range(3):
        gradients = jax.tree.map(lambda x: jnp.asarray(random.normal(size=x.shape), jnp.float32), params)
        with jax.numpy_dtype_promotion("standard"):
            found, expected = (one.update(gradients, s, params) for one, s in zip((ours, theirs), states))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found[0], expected[0])
        states = found[1], expected[1]


def test_muon_turns_gradients_of_matrices_into_orthogonal_ones_of_the_size_of_adam_s():
    random = np.random.default_rng(0)
    shapes = {"stem": (3, 3, 3, 8), "hidden": (40, 60), "classifier": (60, 10), "bias": (5,)}
    params = {name: {"kernel": jnp.asarray(random.normal(size=shape), jnp.float32)} for name, shape in shapes.items()}
    muon, adam = (optimizers.create_optimizer(name, lambda step: 1.0, **OPTIMIZER) for name in ("muon", "adamw"))
    with jax.numpy_dtype_promotion("standard"):
        (ours, _), (adams, _) = (one.update(params, one.init(params), params) for one in (muon, adam))
    values = np.linalg.svd(ours["hidden"]["kernel"], compute_uv=False) / (0.2 * 60**0.5)
    assert 0.6 < values.min() < values.max() < 1.3  # Newton-Schulz steps of Muon lead to about 1
    for name in ("stem", "classifier", "bias"):
        np.testing.assert_array_equal(ours[name]["kernel"], adams[name]["kernel"])


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_every_optimiser_goes_on_from_a_checkpoint_to_the_bit(name, tmp_path):
    """Takes four steps, and two steps, a save, a restore and two more."""
    settings = OPTIMIZER | {"momentum": 0.9, "weight_decay": 0.1, "clip_norm": 1.0}
    transform = optimizers.create_optimizer(name, optimizers.create_schedule("cosine", **SCHEDULE), **settings)
    random = np.random.default_rng(0)
    shapes = {"stem": (3, 3, 8), "hidden": (136, 144), "classifier": (8, 2)}
    params = {name: {"kernel": jnp.asarray(random.normal(size=shape), jnp.float32)} for name, shape in shapes.items()}

    @jax.jit
    def step(params, opt_state, number):
        gradients = jax.tree.map(lambda x: jnp.sin(x + jnp.float32(number)), params)
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = transform.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def after(state, numbers):
        for number in numbers:
            state = step(*state, number)
        return state

    def items(state):
        return {"variables": {"params": state[0]}, "optimizer": {"opt_state": state[1]}}

    first = after((params, transform.init(params)), range(2))
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), items(first))
    with Checkpoints(tmp_path, best_metric="val_loss") as kept:
        kept.save(2, items(first), {})
    with Checkpoints(tmp_path, best_metric="val_loss") as kept:
        _, found, _ = kept.restore("last", shapes)
    again = after((found["variables"]["params"], found["optimizer"]["opt_state"]), range(2, 4))
    jax.tree.map(np.testing.assert_array_equal, again, after(first, range(2, 4)))


def test_weight_decay_spares_biases_and_batch_norm():
    transform = optimizers.create_optimizer("sgd", lambda step: 1.0, **(OPTIMIZER | {"weight_decay": 0.1}))
    params = {"kernel": jnp.ones((2, 2)), "scale": jnp.ones(2)}
    updates, _ = transform.update(jax.tree.map(jnp.zeros_like, params), transform.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.1)
    np.testing.assert_allclose(updates["scale"], 0.0)


def test_unknown_names_are_refused_with_the_choices():
    with pytest.raises(ValueError, match=r"schedule='linear'.*cosine"):
        rates("linear", [0])
    with pytest.raises(ValueError, match=r"name='adam'.*adamw"):
        optimizers.create_optimizer("adam", lambda step: 1.0, **OPTIMIZER)
