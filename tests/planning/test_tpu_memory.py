"""Bytes to and from a TPU's main memory, read out of a program's text, against arithmetic."""

import pytest

from stochconv_jax.planning import kernels, tpu_memory

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
  %sum = f32[200]{0:T(256)} fusion(%copy-done, %slice-done, %a), kind=kOutput, calls=%fused.1
  %loop = (s32[]{:T(128)}, bf16[25,4,4,32]{3,0,2,1:T(8,128)(2,1)}) while(%s), condition=%condition, body=%body, b={"known_trip_count":{"n":"7"}}
  ROOT %out = f32[200]{0:T(256)} copy(%sum)
}
"""  # noqa: E501


def test_only_main_memory_counts_with_padding_and_loops_as_often_as_they_run():
    copied, sliced, summed = PADDED, PADDED // 4, PADDED + 4 * 256
    assert tpu_memory.traffic(TPU_PROGRAM) == copied + sliced + summed + 7 * PADDED + 2 * 4 * 256


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
