"""Counts what a TPU's program moves to and from the main memory of the chip, in the text of the program.

The compiler's own count of bytes includes accesses to the memory on the chip, in which the text places an array by
`S(1)` in its layout.
"""

import math
import re

from stochconv_jax.planning import hlo, kernels

_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^{}]*)\})?")
_OPERANDS = re.compile(r"\(\((.*?[\]}])\), (.*)")  # what a copy's result lists before the results proper
_TILE = re.compile(r":T\((\d+)(?:,(\d+))?\)")


def traffic(text: str) -> int:
    """Returns the bytes that one run of the program reads from and writes to main memory, with the padding of tiles.

    An instruction outside of fusions reads its operands and writes its results, once each. A copy that runs beside
    other instructions, of an array or of a slice of it, moves no more than the smaller of both arrays. What an
    instruction reads of an operand in part counts as a whole, and what a kernel reads several times counts once.
    """
    return sum(times * _moved(one, others) for one, times, others in kernels.launched(text))


def _moved(one: kernels.Instruction, others: dict[str, kernels.Instruction]) -> int:
    listed, results = _arrays(one)
    if one.kind in ("copy-start", "slice-start", "dynamic-slice-start", "async-start"):
        both = [max(listed), results[0]] if listed else results[:2]
        return min(both)[0] * sum(in_main_memory for _, in_main_memory in both)
    operands = [array for name in set(one.operands) if name in others for array in _arrays(others[name])[1]]
    return sum(size for size, in_main_memory in results + operands if in_main_memory)


def _arrays(one: kernels.Instruction) -> tuple[list[tuple[int, bool]], list[tuple[int, bool]]]:
    """Returns the operands that an instruction lists among its results, and its results.

    Each array is (its bytes, whether it is in main memory).
    """
    split = _OPERANDS.fullmatch(one.result)
    listed, results = (
        [(_padded(dtype, dims, layout), "S(" not in layout) for dtype, dims, layout in _ARRAY.findall(text)]
        for text in (split.groups() if split else ("", one.result))
    )
    return listed, results


def _padded(dtype: str, dims: str, layout: str) -> int:
    """Returns the bytes of an array whose two fastest dimensions are padded to whole tiles.

    Args:
      dtype: such as 'bf16'.
      dims: such as '25,112,112,32'.
      layout: such as '3,0,2,1:T(8,128)(2,1)': dimensions from the fastest to the slowest, and the sides of a tile.
    """
    shape = [int(n) for n in dims.split(",") if n]
    if tile := _TILE.search(layout):
        order = [int(n) for n in layout[: tile.start()].split(",") if n]
        sides = [int(n) for n in tile.groups() if n][::-1]
        for axis, side in zip(order, sides):
            shape[axis] = -(-shape[axis] // side) * side
    return math.prod(shape) * hlo.bit_width(dtype) // 8
