"""What a compiled program launches, moves and computes, read from its text: a GPU's compiler does not say.

An instruction outside of fusions is a kernel, and what it reads and writes are its operands and its result, once each.
"""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator

from stochconv_jax.planning import hlo

# What moves no data: names for other instructions' results, and control flow, whose bodies are counted themselves.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
    "partition-id", "replica-id", "opt-barrier", "add-dependency", "async-update", "async-done", "domain",
}  # fmt: skip
_MOVES = {
    "copy", "reshape", "broadcast", "transpose", "slice", "dynamic-slice", "dynamic-update-slice", "concatenate", "pad",
    "gather", "iota", "reverse", "convert", "select", "compare", "and", "or", "not", "xor", "fusion", "custom-call",
    "async-start", "bitcast-convert", "clamp", "rng-bit-generator", "scatter", "sort", "copy-start", "copy-done",
    *hlo.KINDS,
}  # fmt: skip
_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$")
_NAME = re.compile(r"%([\w.-]+)")
_LABELS = re.compile(r"dim_labels=\w+_(\w+)->")
_CONTRACTED = re.compile(r'lhs_contracting_dim(?:s=\{|ensions":\[)([\d,"]*)')


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation. `shapes`: (element type, shape) of its results; `operands`: names."""

    name: str
    kind: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    operands: tuple[str, ...]
    line: str

    @property
    def bytes(self) -> int:
        """Of its results; of a library's call without its workspace, which comes last."""
        shapes = self.shapes[:1] if self.kind == "custom-call" else self.shapes
        return sum(math.prod(shape) * hlo.bits(dtype) // 8 for dtype, shape in shapes)


def launches(text: str) -> int:
    """Kernels of one run of the program, those in loops as often as these run.

    A call of a library counts as one kernel, though it may be several.
    """
    return sum(times for _, times, _ in _launched(text))


def costs(text: str) -> dict[str, float]:
    """'flops' of one run, a multiply-add as two, and 'bytes' that its kernels read and write."""
    computations = parse(text)
    counts = hlo.executions(hlo.by_computation(text))
    flops = 0.0
    for name, instructions in computations.items():
        shapes = {one.name: one.shapes for one in instructions}
        flops += counts[name] * sum(_flops(one, shapes) for one in instructions)
    moved = 0
    for one, times, sizes in _launched(text):
        moved += times * (one.bytes + sum(sizes.get(operand, 0) for operand in set(one.operands)))
    return {"flops": flops, "bytes": float(moved)}


def parse(text: str) -> dict[str, list[Instruction]]:
    """The instructions of each computation; the entry's is called ''."""
    found = {}
    for name, lines in hlo.by_computation(text).items():
        found[name] = [_instruction(match) for match in map(_INSTRUCTION.match, lines) if match]
    return found


def _instruction(match: re.Match) -> Instruction:
    name, result, kind, rest = match.groups()
    arguments = rest[: rest.find(")")]
    return Instruction(name, kind, hlo.arrays_of(result), tuple(_NAME.findall(arguments)), match[0])


def _launched(text: str) -> Iterator[tuple[Instruction, int, dict[str, int]]]:
    """Every instruction that is a kernel, how often it runs, and the bytes of each name in its computation."""
    computations, lines = parse(text), hlo.by_computation(text)
    running = Counter({"": 1})
    for name in _outside_fusions(computations):
        sizes = {one.name: one.bytes for one in computations[name]}
        for one in computations[name]:
            if one.kind in ("while", "conditional", "call"):
                for callee in hlo.called(one.line):
                    running[callee] += running[name] * hlo.trips(one.line, lines)
            elif one.kind not in _FREE and not one.kind.endswith("-done"):
                yield one, running[name], sizes


def _outside_fusions(computations: dict[str, list[Instruction]]) -> list[str]:
    """The computations whose instructions are kernels, callers before what they call."""
    order: list[str] = []

    def visit(name: str) -> None:
        for one in computations.get(name, []):
            if one.kind in ("while", "conditional", "call"):
                for callee in hlo.called(one.line):
                    visit(callee)
        if name in computations and name not in order:
            order.append(name)

    visit("")
    return order[::-1]


def _flops(one: Instruction, shapes: dict) -> float:
    """Operations of one run of an instruction, without those of what it calls."""
    elements = sum(math.prod(shape) for _, shape in one.shapes)
    if one.kind == "convolution" or (one.kind == "custom-call" and _LABELS.search(one.line)):
        return _convolution(one, shapes)
    if one.kind == "dot" or (one.kind == "custom-call" and _CONTRACTED.search(one.line)):
        contracted = [int(n) for n in re.findall(r"\d+", _CONTRACTED.search(one.line)[1])]
        left = shapes[one.operands[0]][0][1]
        return 2.0 * math.prod(one.shapes[0][1]) * math.prod(left[axis] for axis in contracted)
    if one.kind in ("reduce", "reduce-window"):
        return float(sum(math.prod(shapes[name][0][1]) for name in one.operands[:1] if name in shapes))
    return 0.0 if one.kind in _FREE | _MOVES or one.kind.endswith("-done") else float(elements)


def _convolution(one: Instruction, shapes: dict) -> float:
    """Two operations for each weight that makes an output: the largest of input, kernel and output is not the kernel.

    cuDNN names the three arrays by what they are forwards, whichever of them it computes.
    """
    labels = _LABELS.search(one.line)[1]
    arrays = [shapes[name][0][1] for name in one.operands[:2] if name in shapes] + [one.shapes[0][1]]
    if "BackwardFilter" in one.line:
        kernel, output = arrays[2], arrays[1]
    elif "BackwardInput" in one.line:
        kernel, output = arrays[1], arrays[0]
    else:
        kernel, output = arrays[1], arrays[2]
    return 2.0 * math.prod(output) * math.prod(kernel) / kernel[labels.index("o")]
