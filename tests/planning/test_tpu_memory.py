"""Bytes to and from a TPU's main memory, read out of a program's text, against arithmetic."""

import importlib.util

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from stochconv_jax.planning import cost, hlo, kernels, targets, tpu_memory

# An array of 25x4x4x32 numbers whose fastest dimensions have 32 and 25 elements: padded to 128 and 32.
PADDED = 2 * 4 * 4 * 32 * 128
TPU_PROGRAM = """
%body (t: (s32[], bf16[25,4,4,32])) -> (s32[], bf16[25,4,4,32]) {
  %t = (s32[]{:T(128)}, bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)}) parameter(0)
  %x = bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)} get-tuple-element(%t), index=1
  %y = bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)S(1)} fusion(%x), kind=kLoop, calls=%fused
  %i = s32[]{:T(128)} get-tuple-element(%t), index=0
  ROOT %r = (s32[]{:T(128)}, bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)S(1)}) tuple(%i, %y)
}

%condition (t: (s32[], bf16[25,4,4,32])) -> pred[] {
  %t = (s32[]{:T(128)}, bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)}) parameter(0)
  ROOT %less = pred[]{:T(512)} constant(true)
}

ENTRY %main (a: bf16[25,4,4,32], s: (s32[], bf16[25,4,4,32])) -> f32[200] {
  %a = bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)} parameter(0)
  %s = (s32[]{:T(128)}, bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)}) parameter(1)
  %copy-start = (bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)S(1)}, bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%a)
  %copy-done = bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)S(1)} copy-done(%copy-start)
  %slice-start = ((bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)}), bf16[25,1,4,32]{3,0,2,1:T(8,128)(2,1)S(1)}, s32[]{:S(2)}) slice-start(%a)
  %slice-done = bf16[25,1,4,32]{3,0,2,1:T(8,128)(2,1)S(1)} slice-done(%slice-start)
  %n = s32[]{:T(128)} get-tuple-element(%s), index=0
  %row-start = ((bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)}, s32[]{:T(128)}), bf16[25,1,4,32]{3,0,2,1:T(8,128)(2,1)S(1)}, s32[]{:S(2)}) dynamic-slice-start(%a, %n)
  %row = bf16[25,1,4,32]{3,0,2,1:T(8,128)(2,1)S(1)} dynamic-slice-done(%row-start)
  %late-start = ((s32[]{:T(128)}, bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)}), bf16[25,1,4,32]{3,0,2,1:T(8,128)(2,1)}, s32[]{:S(2)}) async-start(%n, %a), calls=%wrapped
  %late = bf16[25,1,4,32]{3,0,2,1:T(8,128)(2,1)} async-done(%late-start)
  %all-start = ((bf16[25,1,4,32]{3,0,2,1:T(8,128)(2,1)}), bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)}) all-gather-start(%late), dimensions={1}
  %sum = f32[200]{0:T(256)} fusion(%copy-done, %slice-done, %a), kind=kOutput, calls=%fused.1
  %loop = (s32[]{:T(128)}, bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)}) while(%s), condition=%condition, body=%body, b={"known_trip_count":{"n":"7"}}
  ROOT %out = f32[200]{0:T(256)} copy(%sum)
}
"""  # noqa: E501


def test_only_main_memory_counts_with_padding_and_loops_as_often_as_they_run():
    # Of the two slices of a row, the first stays on the chip. Collectives read their operand and write their result.
    copied, sliced, rows, gathered, summed = PADDED, PADDED // 4, 3 * PADDED // 4, 5 * PADDED // 4, PADDED + 4 * 256
    assert tpu_memory.traffic(TPU_PROGRAM) == copied + sliced + rows + gathered + summed + 7 * PADDED + 2 * 4 * 256


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        ("f32[3,5]{1,0:T(8,128)}", 4 * 8 * 128),
        ("bf16[3,5]{0,1:T(8,128)(2,1)}", 2 * 8 * 128),
        ("u8[200]{0:T(1024)}", 1024),
        ("f32[]{:T(128)}", 4),
        ("f32[3,5]{1,0}", 4 * 3 * 5),
        ("f32[3,5]{1,0:T(8,128)S(1)}", 0),
    ],
)
def test_an_array_takes_whole_tiles_in_main_memory(array, expected):
    one = kernels.Instruction("x", "copy", array, (), "")
    assert tpu_memory._moved(one, {}) == expected


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed: see requirements-tpu.txt"
)
def test_a_planned_step_counts_main_memory_alone(no_compilation_cache):
    """Products that follow each other stay on the chip: the compiler counts them, a plan does not."""
    whole = NamedSharding(targets.mesh_of("v5e:1x1"), PartitionSpec())
    x = jax.ShapeDtypeStruct((512, 512), "float32", sharding=whole)
    batch = {
        "image": jax.ShapeDtypeStruct((8, 64), "uint8", sharding=whole),
        "label": jax.ShapeDtypeStruct((8,), "int32", sharding=whole),
    }

    @jax.jit
    def step(x, batch):
        return jnp.tanh(jnp.tanh(jnp.tanh(x @ x) @ x) @ x) + batch["label"].sum().astype(x.dtype)

    planned = cost.compile_step(step, x, batch, parameters={}).costs["bytes"]
    counted = hlo.costs(step.lower(x, batch).compile())["bytes"]
    assert 2 * 4 * 512**2 <= planned < counted
