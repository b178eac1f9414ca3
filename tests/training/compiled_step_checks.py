"""Checks of a compiled training step: it makes no float copy of an image, no scatter and no collective on images."""

import math
import re

import jax

from configs import b0_full_split
from stochconv_jax.planning import hlo, targets
from tests.training.step_cases import case

# A device's images are larger than anything else in the step, and made of whole tiles, so that a TPU need not pad them.
IMAGE, THUMBNAIL, ROWS = (512, 512), (64, 64), 2
MATERIALISED = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = (?P<result>\(.*?\)|\S+) (?P<kind>[\w-]+)\(")
ARRAY = re.compile(r"\b(f32|bf16|f16|f64|u8)\[([\d,]*)\]")


def lower_step(mesh):
    """Returns the lowered training step of a small full split, and the sizes of its arrays for `hlo.purpose`."""
    config = b0_full_split.get_config()
    config.update({"model": {"variant": "tiny"}, "data": {"image_size": IMAGE, "thumbnail_size": THUMBNAIL}})
    config.batch_size = ROWS * mesh.size
    made = case(config, mesh)
    shapes = made.shapes()
    with jax.set_mesh(mesh):
        lowered = made.train_step().lower(shapes, made.batch_shapes())
    parameters = {leaf.size for leaf in jax.tree.leaves(shapes.params)}
    return lowered, {"parameters": parameters, "outputs": {1, config.batch_size}, "image": math.prod(THUMBNAIL) * 3}


def float_images(text):
    """Returns the instructions that write arrays as large as the device's images and not uint8, also inside loops."""
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
    """Asserts what the docstring of this module says, for the devices of `mesh`."""
    lowered, known = lower_step(mesh)
    assert "stablehlo.scatter" not in lowered.as_text()  # the CPU's compiler turns scatters into loops
    text = lowered.compile(compiler_options=targets.compiler_options(mesh)).as_text()
    moved = [(c, hlo.purpose(c, **known)) for c in hlo.collectives(text, mesh.size)]
    hlo.refuse_images(moved)
    assert {what for _, what in moved} == {hlo.GRADIENTS, hlo.BATCH_NORM, hlo.OUTPUTS}
    for collective, what in moved:  # logits, labels and indices are gathered; all else is summed
        assert collective.kind == "all-reduce" or (what == hlo.OUTPUTS and max(collective.sizes) < 100)
    assert " scatter(" not in text and float_images(text) == []
