"""Counts kernels, memory traffic and operations in the text of a program for a GPU, whose compiler does not count them.

An instruction outside of fusions is a kernel; it reads its operands and writes its result, once each.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator

from stochconv_jax.planning import hlo

# Instructions that move no data: other names for results, and control flow, whose bodies are counted themselves.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "partition-id", "replica-id", "opt-barrier", "add-dependency", "async-update", "async-done", "domain",
}  # fmt: skip
# Instructions that move data and compute nothing.
_MOVES = {
    "copy", "reshape", "broadcast", "transpose", "slice", "dynamic-slice", "dynamic-update-slice", "concatenate", "pad",
    "gather", "iota", "reverse", "convert", "select", "compare", "and", "or", "not", "xor", "fusion", "custom-call",
    "async-start", "bitcast-convert", "clamp", "rng-bit-generator", "scatter", "sort", "copy-start", "copy-done",
    *hlo.COLLECTIVES,
}  # fmt: skip
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$")
_NAME = re.compile(r"%([\w.-]+)")
_LABELS = re.compile(r"dim_labels=\w+_(\w+)->")
_CONTRACTED = re.compile(r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)')


@dataclasses.dataclass(frozen=True)
class Instruction:
    """An instruction. `result`: the text of its type; `operands`: names of instructions."""

    name: str
    kind: str
    result: str
    operands: tuple[str, ...]
    line: str

    @property
    def shapes(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """The (element type, shape) of each result."""
        return hlo.array_types(self.result)

    @property
    def bytes(self) -> int:
        """Bytes of the results; for the call of a library without its workspace, which comes last."""
        shapes = self.shapes[:1] if self.kind == "custom-call" else self.shapes
        return sum(math.prod(shape) * hlo.bit_width(dtype) // 8 for dtype, shape in shapes)


def launches(text: str) -> int:
    """Returns the number of kernels that one run of the program launches, with all iterations of loops.

    The call of a library counts as one kernel, although it may launch several.
    """
    return sum(times for _, times, _ in launched(text))


def costs(text: str) -> dict[str, float]:
    """Returns 'flops' of one run of the program, two per multiply-add, and 'bytes' that its kernels read and write."""
    computations = parse(text)
    counts = hlo.executions(hlo.split_computations(text))
    flops = 0.0
    for name, instructions in computations.items():
        shapes = {one.name: one.shapes for one in instructions}
        flops += counts[name] * sum(_flops(one, shapes) for one in instructions)
    moved = 0
    for one, times, others in launched(text):
        moved += times * (one.bytes + sum(others[name].bytes for name in set(one.operands) if name in others))
    return {"flops": flops, "bytes": float(moved)}


def parse(text: str) -> dict[str, list[Instruction]]:
    """Returns the instructions of each computation by its name; the entry computation is called ''."""
    found = {}
    for name, lines in hlo.split_computations(text).items():
        found[name] = [_instruction(match) for match in map(_INSTRUCTION.match, lines) if match]
    return found


def _instruction(match: re.Match) -> Instruction:
    name, result, kind, rest = match.groups()
    arguments = rest[: rest.find(")")]
    return Instruction(name, kind, result, tuple(_NAME.findall(arguments)), match[0])


def launched(text: str) -> Iterator[tuple[Instruction, int, dict[str, Instruction]]]:
    """Yields every instruction that is a kernel, how often it runs, and the instructions of its computation by name."""
    computations, lines = parse(text), hlo.split_computations(text)
    running = Counter({"": 1})
    for name in _outside_fusions(computations):
        others = {one.name: one for one in computations[name]}
        for one in others.values():
            if one.kind in ("while", "conditional", "call"):
                for callee in hlo.called_computations(one.line):
                    running[callee] += running[name] * hlo.trip_count(one.line, lines)
            elif one.kind not in _FREE and not one.kind.endswith("-done"):
                yield one, running[name], others


def _outside_fusions(computations: dict[str, list[Instruction]]) -> list[str]:
    """Returns the names of the computations whose instructions are kernels, callers before callees."""
    order: list[str] = []

    def visit(name: str) -> None:
        for one in computations.get(name, []):
            if one.kind in ("while", "conditional", "call"):
                for callee in hlo.called_computations(one.line):
                    visit(callee)
        if name in computations and name not in order:
            order.append(name)

    visit("")
    return order[::-1]


def _flops(one: Instruction, shapes: dict) -> float:
    """Returns the operations of one run of an instruction, without those of computations that it calls."""
    elements = sum(math.prod(shape) for _, shape in one.shapes)
    if one.kind == "convolution" or (one.kind == "custom-call" and _LABELS.search(one.line)):
        return _convolution(one, shapes)
    axes = _CONTRACTED.search(one.line)
    if one.kind == "dot" or (one.kind == "custom-call" and axes):
        assert axes is not None, f"a product without contracted axes: {one.line}"
        contracted = [int(n) for n in re.findall(r"\d+", axes[1])]
        left = shapes[one.operands[0]][0][1]
        return 2.0 * math.prod(one.shapes[0][1]) * math.prod(left[axis] for axis in contracted)
    if one.kind in ("reduce", "reduce-window"):
        return float(sum(math.prod(shapes[name][0][1]) for name in one.operands[:1] if name in shapes))
    return 0.0 if one.kind in _FREE | _MOVES or one.kind.endswith("-done") else float(elements)


def _convolution(one: Instruction, shapes: dict) -> float:
    """Returns the operations of a convolution or of one of its gradients: two per output element and weight of its
    filter.

    The dimension labels and cuDNN's name of the function tell which of the three arrays are kernel and output of the
    forward convolution.
    """
    found = _LABELS.search(one.line)
    assert found is not None, f"a convolution without dimension labels: {one.line}"
    labels = found[1]
    arrays = [shapes[name][0][1] for name in one.operands[:2] if name in shapes] + [one.shapes[0][1]]
    if "BackwardFilter" in one.line:
        kernel, output = arrays[2], arrays[1]
    elif "BackwardInput" in one.line:
        kernel, output = arrays[1], arrays[0]
    else:
        kernel, output = arrays[1], arrays[2]
    return 2.0 * math.prod(output) * math.prod(kernel) / kernel[labels.index("o")]
