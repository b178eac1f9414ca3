"""Kernels, bytes and operations read out of a program's text, against the compiler's counts and arithmetic."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from stochconv_jax.planning import kernels

LAYOUT = ("NHWC", "HWIO", "NHWC")
GPU_PROGRAM = """
%fused (p: f32[8,4]) -> f32[8,4] {
  %p = f32[8,4]{1,0} parameter(0)
  ROOT %m = f32[8,4]{1,0} multiply(%p, %p)
}

%body (t: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %t = (s32[], f32[8,4]{1,0}) parameter(0)
  %x = f32[8,4]{1,0} get-tuple-element(%t), index=1
  %y = f32[8,4]{1,0} fusion(%x), kind=kLoop, calls=%fused
  %i = s32[] get-tuple-element(%t), index=0
  ROOT %r = (s32[], f32[8,4]{1,0}) tuple(%i, %y)
}

%condition (t: (s32[], f32[8,4])) -> pred[] {
  %t = (s32[], f32[8,4]{1,0}) parameter(0)
  ROOT %less = pred[] constant(true)
}

ENTRY %main (a: bf16[4,16,16,8], k: bf16[8,3,3,8], s: (s32[], f32[8,4])) -> f32[8,4] {
  %a = bf16[4,16,16,8]{3,2,1,0} parameter(0)
  %k = bf16[8,3,3,8]{3,2,1,0} parameter(1)
  %s = (s32[], f32[8,4]{1,0}) parameter(2)
  %conv = (bf16[4,16,16,8]{3,2,1,0}, u8[1000000]{0}) custom-call(%a, %k), window={size=3x3}, dim_labels=b01f_o01i->b01f
  %loop = (s32[], f32[8,4]{1,0}) while(%s), condition=%condition, body=%body, b={"known_trip_count":{"n":"7"}}
  ROOT %out = f32[8,4]{1,0} get-tuple-element(%loop), index=1
}
"""


def test_a_loop_s_kernels_count_as_often_as_it_runs_and_a_workspace_is_no_traffic():
    assert kernels.launches(GPU_PROGRAM) == 1 + 7
    counted = kernels.costs(GPU_PROGRAM)
    image, kernel, plane = 2 * 4 * 16 * 16 * 8, 2 * 8 * 3 * 3 * 8, 4 * 8 * 4
    assert counted["bytes"] == image + kernel + image + 7 * 2 * plane
    assert counted["flops"] == 2 * (4 * 16 * 16 * 8) * (3 * 3 * 8) + 7 * 8 * 4


def convolve(x, k):
    return lax.conv_general_dilated(x, k, (2, 2), "SAME", dimension_numbers=LAYOUT)


@pytest.mark.parametrize(
    "function", [convolve, lambda x, k: jnp.tanh(x.reshape(-1, 16) @ k.reshape(-1, 16).T).sum(0)], ids=["conv", "dot"]
)
def test_operations_are_those_that_the_cpu_s_compiler_counts(function):
    x, k = jnp.ones((4, 32, 32, 8)), jnp.ones((3, 3, 8, 16))
    compiled = jax.jit(function).lower(x, k).compile()
    assert kernels.costs(compiled.as_text())["flops"] == pytest.approx(compiled.cost_analysis()["flops"], rel=0.05)
