"""Reads memory, costs and collectives of a compiled program, from XLA's analyses and the program's text (HLO)."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterable

import jax

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
REDUCTIONS = ("all-reduce", "reduce-scatter")
IMAGES, GRADIENTS, BATCH_NORM, PARAMETERS, OUTPUTS = "images", "gradients", "batch norm", "parameters", "outputs"
UNKNOWN = "unknown"

_HEADER = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(rf"^\s*(?:ROOT )?%?[\w.-]+ = (\(.*?\)|\S+) ({'|'.join(COLLECTIVES)})(-start)?\((?!.*-done\()")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:body|calls|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_WHILE = re.compile(r" while\(.*condition=%?([\w.-]+)")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_CONSTANT = re.compile(r" = s\d+\[\]\S* constant\((\d+)\)")
_CHAIN = re.compile(r'(?:chain_id="|channel_id=)(\d+)')
_NAME = re.compile(r'op_name="([^"]*)"')


class ImagesCrossDevices(ValueError):
    """A compiled program moves images, or arrays as large as images, between devices."""


@dataclasses.dataclass(frozen=True)
class Collective:
    """An instruction that moves data between devices.

    Attributes:
      kind: one of `COLLECTIVES`.
      arrays: (element type, shape) of each array it moves, in the largest form that a device holds before or after.
      bytes: bytes of all arrays, once.
      times: number of runs in one call of the program.
      name: operation of the model that the collective comes from; '' if the compiler does not say.
    """

    kind: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    bytes: int
    times: int
    name: str

    @property
    def sizes(self) -> list[int]:
        """Number of elements of each array."""
        return [math.prod(shape) for _, shape in self.arrays]


def collectives(text: str, devices: int) -> list[Collective]:
    """Returns every collective of a compiled program for `devices` devices, from its text (`compiled.as_text()`)."""
    if devices == 1:  # the TPU's compiler may leave a collective of a single device, which moves nothing
        return []
    found, lines, chains = [], split_computations(text), set()
    times = executions(lines)
    for computation, instructions in lines.items():
        for line in instructions:
            # The TPU's compiler repeats a collective in every operation with which it overlaps.
            chain = tuple(_CHAIN.findall(line))
            if (match := _INSTRUCTION.match(line)) and chain not in chains:
                chains |= {chain} if len(chain) > 1 else set()
                arrays = _moved_arrays(match[1], match[2], started=bool(match[3]), devices=devices)
                size = sum(math.ceil(math.prod(shape) * bit_width(dtype) / 8) for dtype, shape in arrays)
                name = _NAME.search(line)
                found.append(Collective(match[2], arrays, size, times[computation], name[1] if name else ""))
    return found


def split_computations(text: str) -> dict[str, list[str]]:
    """Returns the lines of each computation's instructions by its name; the entry computation is called ''."""
    lines: dict[str, list[str]] = {}
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = lines.setdefault("" if header[1] else header[2], [])
        elif line.startswith(" "):
            current.append(line)
    return lines


def executions(lines: dict[str, list[str]]) -> Counter:
    """Returns how often each computation runs in a call of the program. Loops of unknown length count once."""
    callers: dict[str, list[tuple[str, int]]] = {}
    for caller, instructions in lines.items():
        for line in instructions:
            for callee in called_computations(line):
                callers.setdefault(callee, []).append((caller, trip_count(line, lines)))
    counts = Counter({"": 1})

    def count(name: str) -> int:
        if name not in counts:
            counts[name] = sum(count(caller) * trips for caller, trips in callers.get(name, []))
        return counts[name]

    for name in lines:
        count(name)
    return counts


def called_computations(line: str) -> list[str]:
    """Returns the names of the computations that the instruction in `line` calls."""
    branches = ",".join(_BRANCHES.findall(line)).split(",")
    return _CALLED.findall(line) + [name.strip().lstrip("%") for name in branches if name]


def trip_count(line: str, lines: dict[str, list[str]]) -> int:
    """Returns the number of iterations of the loop in `line`, 1 if there is no loop.

    It is in the compiler's notes, or it is the only constant of the loop's condition, if `lines` has one.
    """
    if not (loop := _WHILE.search(line)):
        return 1
    if known := _TRIPS.search(line):
        return int(known[1])
    limits = [int(found[1]) for other in lines.get(loop[1], []) if (found := _CONSTANT.search(other))]
    return limits[0] if len(limits) == 1 else 1


def array_types(result: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Returns (element type, shape) of each array in the type of an instruction's result."""
    return tuple((dtype, tuple(int(n) for n in dims.split(",") if n)) for dtype, dims in _ARRAY.findall(result))


def _moved_arrays(result: str, kind: str, *, started: bool, devices: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Returns (element type, shape) of each array that a collective moves, see `Collective.arrays`."""
    arrays = list(array_types(result))
    if started and kind in ("all-gather", "collective-permute"):  # (operands, results, ...), the largest is a result
        arrays = [max(arrays, key=lambda array: math.prod(array[1]))]
    if kind == "reduce-scatter":  # the result is a device's part
        arrays = [(dtype, (devices * shape[0], *shape[1:]) if shape else shape) for dtype, shape in arrays]
    return tuple(arrays)


def bit_width(dtype: str) -> int:
    """Returns the bits of an element type: 'f32' -> 32, 'bf16' -> 16, 'pred' -> 8."""
    digits = re.search(r"\d+", dtype)
    return int(digits[0]) if digits else 8


def purpose(collective: Collective, *, parameters: Iterable[int], outputs: Iterable[int], image: int) -> str:
    """Returns what a collective moves, by the sizes and types of its arrays.

    The result is 'batch norm', 'gradients', 'parameters', 'outputs', 'images' or 'unknown'. 'images' are uint8, which
    no other array is, or have `image` elements or more and are neither parameters nor outputs; a program should not
    move them. 'unknown' are arrays of other sizes, such as features between layers.

    Args:
      collective: one of `collectives`.
      parameters: numbers of elements of the parameters.
      outputs: numbers of elements of the program's results, without the state.
      image: number of elements of the smallest image of the batch.
    """
    parameters, outputs = set(parameters), set(outputs)
    sizes, anything = set(collective.sizes), parameters | outputs | {1}
    reduces, flat = collective.kind in REDUCTIONS, all(len(shape) <= 1 for _, shape in collective.arrays)
    floats = all(dtype.startswith(("f", "bf")) for dtype, _ in collective.arrays)
    for (dtype, _), size in zip(collective.arrays, collective.sizes):
        known = size in outputs or (floats and size in parameters)
        if dtype == "u8" or (size >= image and not known):
            return IMAGES
    if not sizes <= anything:
        return UNKNOWN
    if floats and reduces and flat and "norm/" in collective.name:
        return BATCH_NORM
    # The compiler combines small collectives, such as gradients and logits. Where sizes are ambiguous, the name
    # decides.
    of_parameters = sizes & parameters - outputs or "transpose(" in collective.name
    if floats and of_parameters:
        return GRADIENTS if reduces else PARAMETERS
    return OUTPUTS if sizes <= outputs | {1} else UNKNOWN


def refuse_images(purposes: Iterable[tuple[Collective, str]]) -> None:
    """Raises ImagesCrossDevices for the first collective whose purpose is 'images'."""
    for collective, moved in purposes:
        if moved == IMAGES:
            dtype, shape = max(collective.arrays, key=lambda array: math.prod(array[1]))
            raise ImagesCrossDevices(
                f"{collective.kind} of {dtype}{list(shape)}, {collective.bytes:,} bytes, as large as images "
                f"({collective.name or 'the compiler does not say where'}): each device should keep its own rows of "
                "the batch; a loop over it (lax.map, lax.scan) needs jax.shard_map around it, see ops/sharding.py"
            )


def memory(compiled: jax.stages.Compiled) -> dict[str, int]:
    """Returns the bytes on one device by kind, as the compiler counts them.

    'outputs' that reuse the memory of arguments are also in 'aliased'. 'total' is the most that the program needs at a
    time: all kinds together, or the compiler's own 'peak' if that is more.
    """
    stats = compiled.memory_analysis()
    assert stats is not None, "the compilers for CPUs, GPUs and TPUs all count memory"
    kinds = {
        "arguments": stats.argument_size_in_bytes,
        "outputs": stats.output_size_in_bytes,
        "temporaries": stats.temp_size_in_bytes,
        "code": stats.generated_code_size_in_bytes,
        "aliased": stats.alias_size_in_bytes,
        "peak": stats.peak_memory_in_bytes,
    }
    sum_of_kinds = sum(kinds[name] for name in ("arguments", "outputs", "temporaries", "code")) - kinds["aliased"]
    return kinds | {"total": max(sum_of_kinds, kinds["peak"])}


def costs(compiled: jax.stages.Compiled) -> dict[str, float] | None:
    """Returns 'flops' and 'bytes' read from and written to memory, of one device; None if the compiler does not say.

    The compiler counts the body of a loop once, and as bytes also what a TPU may keep on the chip between operations.
    """
    if (analysis := compiled.cost_analysis()) is None:
        return None
    return {"flops": float(analysis["flops"]), "bytes": float(analysis["bytes accessed"])}
