"""Programs compiled for GPUs that are not here: few kernels, small temporaries, and no image crosses between them.

Skipped without the compiler (requirements-gpu-plan.txt); `make test-plans` has it.
"""

import functools

import jax
import jax.numpy as jnp
import pytest

from configs import b0_full_split
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.models.classifier import WindowStem
from stochconv_jax.models.efficientnet import LayerConfig
from stochconv_jax.models.stochastic_conv import StochasticConv
from stochconv_jax.ops import sample_windows, window_conv
from stochconv_jax.planning import kernels, targets
from stochconv_jax.runtime import mesh as meshes
from tests.training.compiled_step_checks import check, check_dtypes

pytestmark = pytest.mark.usefixtures("no_compilation_cache")
missing = targets._missing_gpu_compiler()
needs_compiler = pytest.mark.skipif(bool(missing), reason=f"{missing}: see requirements-gpu-plan.txt")
BATCH, WINDOW, FEATURES = 64, (225, 225), 32
G_BYTES = 4 * BATCH * 112 * 112 * FEATURES


@pytest.mark.parametrize("topology", ["h1000:1x8", "h100", "h100:8", "h100:1x8x2x2", "h100:axb"])
def test_an_unknown_topology_is_refused_with_the_known_ones(topology):
    with pytest.raises(ValueError, match=r"`topology`=.*a100, h100, h200, b200.*'h100:4x8'"):
        targets.mesh_of(topology)


def test_the_nearest_name_is_named():
    with pytest.raises(ValueError, match="Did you mean 'h100'"):
        targets.mesh_of("h10:1x8")


@pytest.mark.parametrize(
    ("versions", "named"),
    [
        ({}, "jax-cuda13-plugin is not installed"),
        (dict.fromkeys(targets.GPU_COMPILER, "0.1"), "jax-cuda13-plugin is of version 0.1 and jax of"),
        (
            dict.fromkeys(targets.GPU_COMPILER, jax.__version__) | {"nvidia-cuda-nvcc": "12.9.86"},
            "nvidia-cuda-nvcc is of version 12.9.86, not 13",
        ),
    ],
)
def test_what_is_missing_is_named_with_the_command(versions, named, monkeypatch):
    def version(package):
        if package not in versions:
            raise targets.importlib.metadata.PackageNotFoundError(package)
        return versions[package]

    monkeypatch.setattr(targets.importlib.metadata, "version", version)
    with pytest.raises(RuntimeError, match=rf"{named}.*pip install -r requirements-gpu-plan\.txt"):
        targets.mesh_of("h100:1x8")


@pytest.fixture(scope="module")
def h100():
    return targets.mesh_of("h100:1x1")


def program(mesh, function, *shapes):
    """Returns the text of a program and the bytes of its temporaries."""
    sharding = meshes.replicated(mesh)
    arguments = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), shapes)
    options = targets.compiler_options(mesh)
    hlo = jax.jit(function).lower(*arguments).compile(compiler_options=options)
    return hlo.as_text(), hlo.memory_analysis().temp_size_in_bytes


def shapes_of(size, sampling, dtype=jnp.uint8, kernel=(3, 3)):
    draw = functools.partial(
        sample_windows, image_size=(size, size), window_size=WINDOW, batch=BATCH, features=FEATURES, sampling=sampling
    )
    windows = jax.eval_shape(draw, jax.random.key(0))
    image = jax.ShapeDtypeStruct((BATCH, size, size, 3), dtype)
    g = jax.ShapeDtypeStruct((BATCH, 112, 112, FEATURES), jnp.float32)
    return image, windows, jax.ShapeDtypeStruct((*kernel, 3, FEATURES), jnp.float32), g


def forward(image, windows, kernel):
    return window_conv(image, windows, kernel, strides=(2, 2), window_size=WINDOW)


def kernel_gradient(image, windows, kernel, g):
    return jax.vjp(functools.partial(forward, image, windows), kernel)[1](g)[0]


def image_gradient(image, windows, kernel, g):
    return jax.vjp(lambda image: forward(image, windows, kernel), image)[1](g)[0]


@needs_compiler
@pytest.mark.parametrize(
    ("size", "sampling", "dtype"),
    [
        (1024, "per_image", jnp.uint8),
        (1024, "per_batch", jnp.uint8),
        (1024, "shared", jnp.uint8),
        (1024, "per_image", jnp.float32),
        (4096, "per_image", jnp.uint8),  # more than 2**31 elements
    ],
)
def test_windows_are_convolved_in_a_few_kernels_whatever_the_image(h100, size, sampling, dtype):
    *inputs, g = shapes_of(size, sampling, dtype)
    text, temporaries = program(h100, forward, *inputs)
    assert kernels.launches(text) <= 4 and temporaries <= 8e6
    text, temporaries = program(h100, kernel_gradient, *inputs, g)
    assert kernels.launches(text) <= 8 and temporaries <= 1.2 * G_BYTES
    assert " scatter(" not in text


@needs_compiler
def test_the_gradient_of_a_float_image_is_no_loop_over_images(h100):
    text, temporaries = program(h100, image_gradient, *shapes_of(1024, "per_image", jnp.float32))
    assert kernels.launches(text) <= 5 * FEATURES and temporaries <= 1.2 * G_BYTES and " scatter(" not in text


@needs_compiler
def test_a_stem_with_batch_norm_and_gradients_is_a_few_kernels(h100):
    layers = LayerConfig(dtype=jnp.bfloat16)
    conv = StochasticConv(
        FEATURES, output_size=(112, 112), use_bias=False, mean=(0.5,) * 3, std=(0.25,) * 3, dtype=layers.dtype
    )
    stem = WindowStem(conv, layers)
    image, *_, g = shapes_of(1024, "per_image")
    examples = jax.ShapeDtypeStruct((BATCH,), jnp.uint32)
    keys = {"params": jax.random.key(0), "windows": jax.random.key(1)}
    variables = jax.eval_shape(lambda i, e: stem.init(keys, i, e, train=True), image, examples)

    def step(variables, image, examples, g):
        def apply(params):
            now = {"params": params, "batch_stats": variables["batch_stats"]}
            rngs = {"windows": keys["windows"]}
            return stem.apply(now, image, examples, train=True, rngs=rngs, mutable=["batch_stats"])

        out, back, updated = jax.vjp(apply, variables["params"], has_aux=True)
        return out, back(g.astype(out.dtype)), updated

    text, _ = program(h100, step, variables, image, examples, g)
    assert kernels.launches(text) <= 40


@needs_compiler
@pytest.mark.slow
def test_a_step_of_the_full_split_launches_at_most_3000_kernels(h100):
    config = b0_full_split.get_config()
    config.batch_size = BATCH
    experiment = Experiment(config, mesh=h100, steps_per_epoch=1.0)
    assert experiment.dtype == "bfloat16"
    with jax.set_mesh(h100):
        lowered = experiment.train_step.lower(experiment.state_shapes, experiment.batch_shapes(BATCH))
    text = lowered.compile(compiler_options=targets.compiler_options(h100)).as_text()
    assert kernels.launches(text) <= 3000


@needs_compiler
def test_large_activations_are_bfloat16(h100):
    check_dtypes(h100)


@needs_compiler
@pytest.mark.parametrize("topology", ["h100:1x8", "a100:2x2"])
def test_images_stay_where_they_are(topology):
    check(targets.mesh_of(topology))


@needs_compiler
def test_a_batch_that_every_gpu_holds_whole_is_refused():
    from stochconv_jax.planning import hlo

    mesh = targets.mesh_of("h100:1x8")
    images = jax.ShapeDtypeStruct((16, 64, 64, 3), jnp.uint8, sharding=meshes.batch_sharding(mesh))
    with jax.set_mesh(mesh):
        looped = jax.jit(lambda batch: jax.lax.map(lambda image: image.astype(jnp.float32).max(), batch))
        text = looped.lower(images).compile(compiler_options=targets.compiler_options(mesh)).as_text()
    found = hlo.collectives(text, mesh.size)
    with pytest.raises(hlo.ImagesCrossDevices):
        hlo.refuse_images((c, hlo.purpose(c, parameters=[], outputs=[16], image=64 * 64 * 3)) for c in found)
