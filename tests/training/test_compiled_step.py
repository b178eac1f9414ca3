"""What the compiled training step does with full-resolution images, for eight CPU devices and, with libtpu, for a TPU.

It keeps them where they are: no float copy of an image, no scatter, no collective on them.
"""

import importlib.util
import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from configs import b0_full_split
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.models.stochastic_conv import StochasticConv
from stochconv_jax.planning import hlo, targets
from stochconv_jax.training import mesh as meshes

# Larger than anything else in the step, for each device's share; whole tiles, so that a TPU's kernel takes it as it is.
IMAGE, THUMBNAIL, ROWS = (512, 512), (64, 64), 2
MATERIALISED = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = (?P<result>\(.*?\)|\S+) (?P<kind>[\w-]+)\(")
ARRAY = re.compile(r"\b(f32|bf16|f16|f64|u8)\[([\d,]*)\]")
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: see requirements-tpu.txt"
)


def lower_step(mesh):
    """The full split's training step on a small network, lowered; what is known of it for compiled.purpose."""
    config = b0_full_split.get_config()
    config.update({"model": {"variant": "tiny"}, "data": {"image_size": IMAGE, "thumbnail_size": THUMBNAIL}})
    config.batch_size = ROWS * mesh.size
    experiment = Experiment(config, mesh=mesh, steps_per_epoch=5.0)
    shapes = experiment.state_shapes
    with jax.set_mesh(mesh):
        lowered = experiment.train_step.lower(shapes, experiment.batch_shapes(config.batch_size))
    parameters = {leaf.size for leaf in jax.tree.leaves(shapes.params)}
    return lowered, {"parameters": parameters, "outputs": {1, config.batch_size}, "image": math.prod(THUMBNAIL) * 3}


def float_images(text):
    """What the program writes to memory, inside loops too, that is as large as the device's images and no uint8."""
    found, fused = [], False
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith(" "):
            fused = "fused_computation" in line  # the values inside are not written anywhere
        match = MATERIALISED.match(line)
        if match and not fused and match["kind"] not in ("parameter", "get-tuple-element", "tuple", "bitcast"):
            sizes = [(d, math.prod(int(n) for n in dims.split(",") if n)) for d, dims in ARRAY.findall(match["result"])]
            found += [line.strip()[:120] for dtype, size in sizes if dtype != "u8" and size >= math.prod(IMAGE) * 3]
    return found


def check(mesh):
    """Asserts the promises of the docstring above."""
    lowered, known = lower_step(mesh)
    assert "stablehlo.scatter" not in lowered.as_text()  # the CPU's compiler turns scatters into loops
    text = lowered.compile(compiler_options=targets.compiler_options(mesh)).as_text()
    moved = [(c, hlo.purpose(c, **known)) for c in hlo.collectives(text, mesh.size)]
    hlo.refuse_images(moved)
    assert {what for _, what in moved} == {hlo.GRADIENTS, hlo.BATCH_NORM, hlo.OUTPUTS}
    for collective, what in moved:  # logits, labels and indices are gathered; all else is summed
        assert collective.kind == "all-reduce" or (what == hlo.OUTPUTS and max(collective.sizes) < 100)
    assert " scatter(" not in text and float_images(text) == []


@pytest.fixture(scope="module")
def eight():
    return meshes.create()


def test_on_eight_devices_images_stay_where_they_are(eight):
    check(eight)


@needs_libtpu
def test_on_a_tpu_images_stay_where_they_are():
    check(targets.mesh_of("v5e:2x4"))


@pytest.mark.slow
def test_normalising_the_images_first_is_seen(eight, monkeypatch):
    """As a stem would that reads normalised floats."""
    plain = StochasticConv.__call__

    def normalised(self, pixels, examples):
        return plain(self, (pixels.astype(jnp.float32) - 127.5) / 127.5, examples)

    monkeypatch.setattr(StochasticConv, "__call__", normalised)
    found = float_images(lower_step(eight)[0].compile().as_text())
    assert any("f32[2,512,512,3]" in line or "f32[2,512,1536]" in line for line in found), found


def test_cutting_windows_out_of_a_convolved_image_is_seen(eight, monkeypatch):
    """Its gradient is a scatter."""

    def everywhere(self, pixels, examples):
        x = nn.Conv(self.features, (3, 3), strides=2, use_bias=False)(pixels.astype(jnp.float32))
        rows = examples[:, None].astype(jnp.int32) % 100 + jnp.arange(self.output_size[0])
        return jax.vmap(lambda image, row: image[row, : self.output_size[1]])(x, rows)

    monkeypatch.setattr(StochasticConv, "__call__", nn.compact(everywhere))
    assert "stablehlo.scatter" in lower_step(eight)[0].as_text()
