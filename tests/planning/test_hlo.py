"""Collectives, memory and costs read from compiled programs agree with programs for which they are known."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from stochconv_jax.models import summary
from stochconv_jax.planning import hlo
from stochconv_jax.runtime import mesh as meshes
from tests.planning.small_configs import tiny_full_split
from tests.training.step_cases import case

IMAGE = (32, 24, 3)


@pytest.fixture(scope="module")
def eight():
    return meshes.create()


def images(mesh, batch=16):
    return jax.ShapeDtypeStruct((batch, *IMAGE), jnp.uint8, sharding=meshes.batch_sharding(mesh))


def moved(function, *arguments):
    return hlo.collectives(jax.jit(function).lower(*arguments).compile().as_text(), 8)


def purposes(found):
    return [(c, hlo.purpose(c, parameters=[], outputs=[16], image=math.prod(IMAGE))) for c in found]


def brightest(image):
    return image.astype(jnp.float32).max()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_loop_over_a_shared_batch_is_refused(eight, dtype):
    with jax.set_mesh(eight):
        found = moved(lambda batch: jax.lax.map(brightest, batch.astype(dtype)), images(eight))
    with pytest.raises(hlo.ImagesCrossDevices, match=r"all-gather of (u8|f32)\[16, 32, 24, 3\], \d[\d,]+ bytes"):
        hlo.refuse_images(purposes(found))


def test_each_device_looping_over_its_own_rows_is_not_refused(eight):
    with jax.set_mesh(eight):
        loop = jax.shard_map(partial(jax.lax.map, brightest), in_specs=P(meshes.AXIS), out_specs=P(meshes.AXIS))
        found = moved(lambda batch: loop(batch).sum(), images(eight))
    hlo.refuse_images(purposes(found))
    assert [c.kind for c in found] == ["all-reduce"] and found[0].arrays == (("f32", ()),) and found[0].bytes == 4


def test_what_a_loop_moves_counts_for_every_round(eight):
    def rounds(x):
        def outer(carry, _):
            return jax.lax.scan(lambda c, _: (jnp.sin(jax.lax.psum(c, meshes.AXIS)), None), carry, None, 3)[0], None

        return jax.lax.scan(outer, x, None, 5)[0]

    with jax.set_mesh(eight):
        specs = {"in_specs": P(meshes.AXIS), "out_specs": P(meshes.AXIS), "check_vma": False}
        x = jax.ShapeDtypeStruct((8, 7), jnp.float32, sharding=meshes.batch_sharding(eight))
        found = moved(jax.shard_map(rounds, **specs), x)
    assert [(c.kind, c.times, c.bytes) for c in found] == [("all-reduce", 15, 28)]


@pytest.mark.parametrize(
    ("line", "kind", "arrays", "size"),
    [
        ("%r = (s32[32]{0:T(128)}, bf16[8,2]{1,0:T(8,128)S(1)}) all-reduce(%a, %b), channel_id=1", "all-reduce",
         (("s32", (32,)), ("bf16", (8, 2))), 160),
        ("ROOT %g = (u8[2,3]{1,0}, u8[16,3]{1,0}) all-gather-start(%a), dimensions={0}", "all-gather",
         (("u8", (16, 3)),), 48),
        ("%s = f32[2,3]{1,0} reduce-scatter(%a), dimensions={0}", "reduce-scatter", (("f32", (16, 3)),), 192),
        ("%d = pred[] all-reduce(%a), channel_id=1", "all-reduce", (("pred", ()),), 1),
    ],
)  # fmt: skip
def test_lines_of_a_tpu_program(line, kind, arrays, size):
    line += ', metadata={op_name="jit(step)/here"}'
    text = f"ENTRY %main (a: f32[]) -> f32[] {{\n  {line}\n  ROOT %x = f32[] negate(%a)\n}}"
    (found,) = hlo.collectives(text, devices=8)
    assert (found.kind, found.arrays, found.bytes, found.times) == (kind, arrays, size, 1)
    assert found.name == "jit(step)/here"
    assert hlo.collectives(text, devices=1) == []  # over a group of one nothing moves


def test_a_collective_that_a_tpu_runs_beside_others_is_one():
    chained = '%g.{0} = bf16[40,128]{{0,1}} all-gather(%p), channel_id=1, frontend_attributes={{chain_id="0"}}'
    plain = "%r.{0} = f32[8]{{0}} all-reduce(%p), channel_id={0}"
    lines = [form.format(number) for form in (chained, plain) for number in (2, 3)]
    text = "\n".join(["ENTRY %main (p: bf16[40,32]) -> f32[] {", *(f"  {line}" for line in lines), "}"])
    assert [c.kind for c in hlo.collectives(text, 4)] == ["all-gather", "all-reduce", "all-reduce"]


@pytest.mark.parametrize(
    ("kind", "dtype", "shapes", "name", "what"),
    [
        ("all-reduce", "f32", [(40, 128), (8,), ()], "", hlo.GRADIENTS),
        ("all-reduce", "f32", [(40, 128), (16, 1)], "", hlo.GRADIENTS),  # with the logits in its company
        ("all-reduce", "f32", [(16,)], "transpose(jvp(f))/dense/add", hlo.GRADIENTS),
        ("all-reduce", "f32", [(8,), (8,)], "jvp(f)/stem/norm/reduce_sum", hlo.BATCH_NORM),
        ("all-gather", "bf16", [(40, 128)], "", hlo.PARAMETERS),
        ("all-gather", "f32", [(16, 1)], "", hlo.OUTPUTS),
        ("all-reduce", "s32", [(16,), (16,)], "", hlo.OUTPUTS),
        ("all-gather", "u8", [(16, 2)], "", hlo.IMAGES),
        ("all-reduce", "u8", [(8,)], "", hlo.IMAGES),
        ("all-to-all", "f32", [(16, 32, 24, 3)], "stem/norm/mul", hlo.IMAGES),
        ("all-gather", "s32", [(40, 128)], "", hlo.IMAGES),  # as large as an image, and no parameter is an integer
        ("all-gather", "f32", [(2, 4, 4, 7)], "", hlo.UNKNOWN),  # features
        ("all-reduce", "f32", [(40, 128), (9,)], "transpose(jvp(f))/dense/dot", hlo.UNKNOWN),
        ("all-reduce", "f32", [(9,)], "jvp(f)/stem/norm/reduce_sum", hlo.UNKNOWN),  # channels that no layer has
        ("all-gather", "s32", [(8,)], "", hlo.UNKNOWN),  # as many as a bias has, and no parameter is an integer
    ],
)
def test_purposes(kind, dtype, shapes, name, what):
    collective = hlo.Collective(kind, tuple((dtype, shape) for shape in shapes), 0, 1, name)
    sizes = {"parameters": [40 * 128, 8, 16], "outputs": [16], "image": math.prod(IMAGE)}
    assert hlo.purpose(collective, **sizes) == what


@pytest.fixture(scope="module")
def planned(eight):
    """Returns the plan of the tiny full split for eight devices, and what it was made from."""
    made = case(tiny_full_split(), eight)
    return made, made.plan()


@pytest.mark.slow
def test_memory_is_the_compilers_own(eight, planned):
    made, program = planned
    shapes = made.shapes()
    with jax.set_mesh(eight):
        own = made.train_step().lower(shapes, made.batch_shapes()).compile().memory_analysis()
    for kind, size in {"argument": "arguments", "output": "outputs", "temp": "temporaries", "alias": "aliased"}.items():
        assert program.memory[size] == getattr(own, f"{kind}_size_in_bytes")
    # Counted by hand: the state, the seed, and an eighth of the batch less the mask, which training does not read.
    state_bytes = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    row = math.prod((96, 80, 3)) + math.prod((32, 32, 3)) + 4 * 4
    assert program.memory["arguments"] == state_bytes + 4 + 2 * row
    assert program.memory["beside"] == 2 * (row + 1)
    assert program.needed >= program.memory["arguments"] + program.memory["temporaries"] + program.memory["beside"]


def test_a_step_reduces_each_gradient_once_and_moves_no_image(planned):
    made, program = planned
    shapes = made.shapes()
    hlo.refuse_images(program.moved)
    gradients = sum(c.bytes * c.times for c, what in program.moved if what == hlo.GRADIENTS)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes.params))
    # Biases and batch norm's parameters may travel with the statistics: they are all of one axis.
    flat = sum(leaf.size for leaf in jax.tree.leaves(shapes.params) if leaf.ndim == 1)
    assert 4 * (count - flat) <= gradients <= 4 * count + 4
    kinds = {what for _, what in program.moved}
    assert kinds == {hlo.GRADIENTS, hlo.BATCH_NORM, hlo.OUTPUTS}


def test_operations_are_about_those_of_the_network(planned):
    made, program = planned
    x = np.zeros((64, 64), np.float32)
    product = jax.jit(jnp.matmul).lower(x, x).compile()
    assert hlo.costs(product)["flops"] == pytest.approx(2 * 64**3, rel=0.05)
    # A device's two images, forwards and twice as much backwards; beside the convolutions, windows, norms and Adam.
    one_image = {name: jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for name, x in made.batch_shapes().items()}
    parts = summary.parts(made.model, {name: one_image[name] for name in ("image", "thumbnail", "example")})
    assert 1 < program.costs["flops"] / (2 * 3 * 2 * summary.totals(parts)["multiply_adds"]) < 2.5
    assert program.costs["bytes"] > program.memory["arguments"]
