"""Checks of a compiled training step: it makes no float copy of an image, no scatter and no collective on images.

On GPUs and TPUs its large activations are bfloat16, with the exceptions in `FLOAT32`.
"""

import math
import re

import jax

from configs import b0_full_split
from stochconv_jax.models import variants
from stochconv_jax.planning import hlo, targets
from tests.training.step_cases import case

# A device's images are larger than anything else in the step, and made of whole tiles, so that a TPU need not pad them.
IMAGE, THUMBNAIL, ROWS = (512, 512), (64, 64), 2
MATERIALISED = re.compile(r"^\s+(?:ROOT )?%?[\w.-]+ = (?P<result>\(.*?\)|\S+) (?P<kind>[\w-]+)\(")
ARRAY = re.compile(r"\b(f32|bf16|f16|f64|u8)\[([\d,]*)\]")
FUSED = re.compile(r" fusion\(.*calls=%?([\w.-]+)")
# Where float32 activations may be written: the sums of the window convolution and their cotangent, and what batch norm
# reduces, in layers of so few channels that the compiler changes their layout first.
FLOAT32 = re.compile(r"windows_stem/conv/|norm/(sub|mul|convert_element_type)")


def lower_step(mesh, rows=ROWS):
    """Returns the lowered training step of a small full split, and the sizes of its arrays for `hlo.purpose`.

    `rows`: images a device.
    """
    config = b0_full_split.get_config()
    config.update({"model": {"variant": "tiny"}, "data": {"image_size": IMAGE, "thumbnail_size": THUMBNAIL}})
    config.batch_size = rows * mesh.size
    made = case(config, mesh)
    shapes = made.shapes()
    with jax.set_mesh(mesh):
        lowered = made.train_step().lower(shapes, made.batch_shapes())
    parameters = {leaf.size for leaf in jax.tree.leaves(shapes.params)}
    return lowered, {"parameters": parameters, "outputs": {1, config.batch_size}, "image": math.prod(THUMBNAIL) * 3}


def written(text):
    """Yields (element type, size, instruction) of every array that a program writes, also inside loops."""
    fusions, inside = set(FUSED.findall(text)), ""
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith(" "):
            inside = line.removeprefix("%").split(" ")[0]  # the values inside of a fusion are not written anywhere
        match = MATERIALISED.match(line)
        if (
            match
            and inside not in fusions
            and match["kind"] not in ("parameter", "get-tuple-element", "tuple", "bitcast")
        ):
            for dtype, dims in ARRAY.findall(match["result"]):
                yield dtype, math.prod(int(n) for n in dims.split(",") if n), line.strip()


def float_images(text):
    """Returns the instructions that write arrays as large as the device's images and not uint8."""
    return [line[:120] for dtype, size, line in written(text) if dtype != "u8" and size >= math.prod(IMAGE) * 3]


def check_dtypes(mesh):
    """Asserts that large activations are bfloat16, for the devices of `mesh`."""
    lowered, _ = lower_step(mesh, rows=64)
    text = lowered.compile(compiler_options=targets.compiler_options(mesh)).as_text()
    stem = 64 * math.prod(THUMBNAIL) // 4 * variants.get("tiny").stem_filters  # elements; later layers have more
    large = [(dtype, size, line) for dtype, size, line in written(text) if dtype in ("bf16", "f32") and size >= stem]
    assert {dtype for dtype, size, _ in large if size > stem} == {"bf16"}
    wide = [line for dtype, _, line in large if dtype == "f32"]
    assert wide and [line for line in wide if not FLOAT32.search(_names(line, text))] == []


def _names(instruction, text):
    """Returns the operations of the model that an instruction comes from; if it has no name, those that it fuses."""
    if "op_name" in instruction:
        return instruction
    (fused,) = FUSED.findall(instruction)
    body = text.partition(f"%{fused} (")[2].partition("\n}")[0]
    return " ".join(re.findall(r'op_name="([^"]*)"', body))


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
