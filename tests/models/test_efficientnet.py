"""EfficientNet's parts against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from stochconv_jax.models import variants
from stochconv_jax.models.classifier import Classifier
from stochconv_jax.models.efficientnet import LayerConfig, MBConv, Stem, survival_scales

KEY = jax.random.key(0)


@pytest.mark.parametrize("filters, expected", [(35.2, 32), (38.4, 40), (22.4, 24), (26.4, 24), (1.0, 8), (44.8, 48)])
def test_filters_round_to_a_multiple_of_eight_and_never_far_down(filters, expected):
    assert variants.round_filters(filters) == expected


def test_initial_weights_have_the_official_spread():
    @jax.jit
    def initial():
        block, stem = MBConv(320, 6, 5, 1, LayerConfig()), Stem(64, (0.5,) * 3, (0.2,) * 3, LayerConfig())
        made = block.init(KEY, jnp.zeros((1, 4, 4, 192)), None, train=False)
        return made["params"], stem.init(KEY, jnp.zeros((1, 8, 8, 3)), train=False)["params"]

    block, stem = initial()
    expected = [
        (stem["conv"]["kernel"], np.sqrt(2 / (3 * 3 * 64))),
        (block["expand"]["kernel"], np.sqrt(2 / 1152)),
        (block["depthwise"]["kernel"], np.sqrt(2 / 25)),
        (block["squeeze_excite"]["squeeze"]["kernel"], np.sqrt(2 / 48)),
        (block["squeeze_excite"]["excite"]["kernel"], np.sqrt(2 / 1152)),
        (block["project"]["kernel"], np.sqrt(2 / 320)),
    ]
    for kernel, std in expected:
        # The standard deviation of n normal samples is known to about 1 / sqrt(2 n); five of those.
        np.testing.assert_allclose(np.std(kernel), std, rtol=5 / np.sqrt(2 * kernel.size))
        assert abs(np.mean(kernel)) < 5 * std / np.sqrt(kernel.size)


def test_the_classifier_starts_uniform():
    model = Classifier(variant=variants.get("tiny"), branches=("thumbnail",), num_classes=100)
    inputs = {"thumbnail": jnp.zeros((1, 16, 16, 3), jnp.uint8)}
    kernel = np.asarray(jax.jit(lambda: model.init(KEY, inputs)["params"]["classifier"]["kernel"])())
    assert np.abs(kernel).max() <= 0.1
    np.testing.assert_allclose(kernel.std(), 0.1 / np.sqrt(3), rtol=0.02)


def test_stochastic_depth_drops_whole_examples_at_the_rate_of_their_block():
    b0 = variants.get("b0")
    scales = np.asarray(survival_scales(KEY, b0, 0.2, batch=20_000))
    survival = 1 - 0.2 * np.arange(16) / 16
    # Five standard errors of a binomial share.
    error = 5 * np.sqrt(survival * (1 - survival) / 20_000)
    assert (np.abs((scales > 0).mean(axis=1) - survival) <= error + 1e-12).all()
    np.testing.assert_allclose(scales.max(axis=1), 1 / survival, rtol=1e-6)
    assert set(np.unique(scales[8])) == {0.0, scales[8].max()}


def test_a_dropped_example_passes_its_block_unchanged_and_others_gain():
    random = np.random.default_rng(0)
    x = jnp.asarray(random.normal(size=(3, 6, 6, 8)), jnp.float32)
    block = MBConv(8, 4, 3, 1, LayerConfig())
    variables = block.init(KEY, x, None, train=False)
    plain = block.apply(variables, x, None, train=False)
    scaled = block.apply(variables, x, jnp.asarray([0.0, 1.0, 2.0]), train=False)
    np.testing.assert_array_equal(scaled[0], x[0])
    np.testing.assert_allclose(scaled[1], plain[1], rtol=1e-6)
    np.testing.assert_allclose(scaled[2] - x[2], 2 * (plain[2] - x[2]), rtol=1e-4, atol=1e-5)


def test_a_block_that_changes_shape_has_no_skip():
    x = jnp.ones((2, 6, 6, 8))
    block = MBConv(16, 4, 3, 2, LayerConfig())
    variables = block.init(KEY, x, None, train=False)
    dropped = block.apply(variables, x, jnp.zeros(2), train=False)
    np.testing.assert_array_equal(dropped, block.apply(variables, x, None, train=False))


@pytest.mark.slow
def test_rematerialised_training_gives_the_same_bits():
    """Turns the compiler's algebraic simplification off, which may apply in one program and not in the other.

    With its simplifier on, one array of 84 differed: a shift's gradient that the next batch norm makes zero, of which
    only rounding is left, by 3e-8 of the largest gradient.
    """
    inputs = {"thumbnail": np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)}
    keys = {"stochastic_depth": jax.random.key(1), "dropout": jax.random.key(2)}
    models = [Classifier(variant=variants.get("tiny"), branches=("thumbnail",), remat=remat) for remat in (False, True)]
    variables = jax.jit(models[0].init)(KEY, inputs)

    def loss(params, model):
        state = variables | {"params": params}
        logits, updated = model.apply(state, inputs, train=True, rngs=keys, mutable=["batch_stats"])
        return jnp.square(logits).sum(), updated

    step = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    lowered = [step.lower(variables["params"], model) for model in models]
    literal = {"xla_disable_hlo_passes": "algsimp"}
    plain, remat = (program.compile(compiler_options=literal)(variables["params"]) for program in lowered)
    jax.tree.map(np.testing.assert_array_equal, plain, remat)
    computed = [program.as_text().count("dot_general") for program in lowered]
    assert computed[1] > computed[0], "nothing is computed again"


def test_statistics_and_parameters_stay_float32_in_bfloat16():
    model = Classifier(variant=variants.get("tiny"), branches=("thumbnail",), layers=LayerConfig(dtype=jnp.bfloat16))
    inputs = {"thumbnail": jnp.zeros((2, 32, 32, 3), jnp.uint8)}
    variables = jax.eval_shape(lambda: model.init(KEY, inputs))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    keys = {"stochastic_depth": jax.random.key(1), "dropout": jax.random.key(2)}
    logits, updated = jax.eval_shape(
        lambda v: model.apply(v, inputs, train=True, rngs=keys, mutable=["batch_stats"]), variables
    )
    assert logits.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(updated)} == {jnp.dtype("float32")}
