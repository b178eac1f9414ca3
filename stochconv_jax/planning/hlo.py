"""What a compiled program says of itself: memory, operations, and everything that it moves between devices."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterable

import jax

KINDS = (
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
_INSTRUCTION = re.compile(rf"^\s*(?:ROOT )?%?[\w.-]+ = (\(.*?\)|\S+) ({'|'.join(KINDS)})(-start)?\((?!.*-done\()")
_ARRAY = re.compile(r"\b([a-z]\w*)\[([\d,]*)\]")
_CALLED = re.compile(r"(?:body|calls|to_apply|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_WHILE = re.compile(r" while\(.*condition=%?([\w.-]+)")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_CONSTANT = re.compile(r" = s\d+\[\]\S* constant\((\d+)\)")
_CHAIN = re.compile(r'(?:chain_id="|channel_id=)(\d+)')
_NAME = re.compile(r'op_name="([^"]*)"')


class ImagesCrossDevices(ValueError):
    """A compiled program moves images, or something as large, between devices."""


@dataclasses.dataclass(frozen=True)
class Collective:
    """An instruction that moves data between devices.

    `arrays`: (element type, shape) of each array it moves, as whole as any device holds it before or after; `bytes`: of
    all of them, once. `times`: runs in one call of the program. `name`: where in the model it comes from, '' if the
    compiler does not say.
    """

    kind: str
    arrays: tuple[tuple[str, tuple[int, ...]], ...]
    bytes: int
    times: int
    name: str

    @property
    def sizes(self) -> list[int]:
        """Elements of each array."""
        return [math.prod(shape) for _, shape in self.arrays]


def collectives(text: str, devices: int) -> list[Collective]:
    """Every collective of a compiled program, from its text (`compiled.as_text()`) for `devices` devices."""
    if devices == 1:  # the TPU's compiler may leave one over a group of one, which moves nothing
        return []
    found, lines, chains = [], by_computation(text), set()
    times = executions(lines)
    for computation, instructions in lines.items():
        for line in instructions:
            # The TPU's compiler writes one collective again in every operation that it is to run beside.
            chain = tuple(_CHAIN.findall(line))
            if (match := _INSTRUCTION.match(line)) and chain not in chains:
                chains |= {chain} if len(chain) > 1 else set()
                arrays = _arrays(match[1], match[2], started=bool(match[3]), devices=devices)
                size = sum(math.ceil(math.prod(shape) * bits(dtype) / 8) for dtype, shape in arrays)
                name = _NAME.search(line)
                found.append(Collective(match[2], arrays, size, times[computation], name[1] if name else ""))
    return found


def by_computation(text: str) -> dict[str, list[str]]:
    """The instructions of each computation; the entry's is called ''."""
    lines: dict[str, list[str]] = {}
    for line in text.splitlines():
        if header := _HEADER.match(line):
            current = lines.setdefault("" if header[1] else header[2], [])
        elif line.startswith(" "):
            current.append(line)
    return lines


def executions(lines: dict[str, list[str]]) -> Counter:
    """How often each computation runs in a call of the program. A loop without a known count counts once."""
    callers: dict[str, list[tuple[str, int]]] = {}
    for caller, instructions in lines.items():
        for line in instructions:
            for callee in called(line):
                callers.setdefault(callee, []).append((caller, trips(line, lines)))
    counts = Counter({"": 1})

    def count(name: str) -> int:
        if name not in counts:
            counts[name] = sum(count(caller) * trips for caller, trips in callers.get(name, []))
        return counts[name]

    for name in lines:
        count(name)
    return counts


def called(line: str) -> list[str]:
    """The computations that the instruction in `line` calls."""
    branches = ",".join(_BRANCHES.findall(line)).split(",")
    return _CALLED.findall(line) + [name.strip().lstrip("%") for name in branches if name]


def trips(line: str, lines: dict[str, list[str]]) -> int:
    """Rounds of the loop in `line`, 1 without one: as the compiler notes, or as the counter is compared with."""
    if not (loop := _WHILE.search(line)):
        return 1
    if known := _TRIPS.search(line):
        return int(known[1])
    limits = [int(found[1]) for other in lines.get(loop[1], []) if (found := _CONSTANT.search(other))]
    return limits[0] if len(limits) == 1 else 1


def arrays_of(result: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """(element type, shape) of each array that an instruction's result names."""
    return tuple((dtype, tuple(int(n) for n in dims.split(",") if n)) for dtype, dims in _ARRAY.findall(result))


def _arrays(result: str, kind: str, *, started: bool, devices: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    arrays = list(arrays_of(result))
    if started and kind in ("all-gather", "collective-permute"):  # (operands, results, ...): the larger is the result
        arrays = [max(arrays, key=lambda array: math.prod(array[1]))]
    if kind == "reduce-scatter":  # names a device's share of the result
        arrays = [(dtype, (devices * shape[0], *shape[1:]) if shape else shape) for dtype, shape in arrays]
    return tuple(arrays)


def bits(dtype: str) -> int:
    """'f32' -> 32, 'bf16' -> 16, 'pred' -> 8."""
    bits = re.search(r"\d+", dtype)
    return int(bits[0]) if bits else 8


def purpose(collective: Collective, *, parameters: Iterable[int], outputs: Iterable[int], image: int) -> str:
    """What a collective is for: 'batch norm', 'gradients', 'parameters', 'outputs'; or 'images', which should not be.

    'images' are uint8, which nothing else is, or of at least `image` elements and neither a parameter nor an output.
    'unknown' is what has the size of none of them, such as features on their way between layers.

    Args:
      collective: one of `collectives`.
      parameters, outputs: numbers of elements of the parameters and of what the program returns beside the state.
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
    # The compiler joins small collectives: a gradient may carry logits with it. What could be either, its origin tells.
    of_parameters = sizes & parameters - outputs or "transpose(" in collective.name
    if floats and of_parameters:
        return GRADIENTS if reduces else PARAMETERS
    return OUTPUTS if sizes <= outputs | {1} else UNKNOWN


def refuse_images(purposes: Iterable[tuple[Collective, str]]) -> None:
    """ImagesCrossDevices naming the first collective whose purpose is 'images'."""
    for collective, what in purposes:
        if what == IMAGES:
            dtype, shape = max(collective.arrays, key=lambda array: math.prod(array[1]))
            raise ImagesCrossDevices(
                f"{collective.kind} of {dtype}{list(shape)}, {collective.bytes:,} bytes, as large as images "
                f"({collective.name or 'the compiler does not say where'}): each device should keep its own rows of "
                "the batch; a loop over it (lax.map, lax.scan) needs jax.shard_map around it, see ops/sharding.py"
            )


def memory(compiled: jax.stages.Compiled) -> dict[str, int]:
    """Bytes on one device by kind, as the compiler counts them.

    'outputs' that take the place of arguments are 'aliased' and counted in both. 'total' is what the program needs at
    its worst moment: all kinds together, or the compiler's own peak where that is more.
    """
    stats = compiled.memory_analysis()
    kinds = {
        "arguments": stats.argument_size_in_bytes,
        "outputs": stats.output_size_in_bytes,
        "temporaries": stats.temp_size_in_bytes,
        "code": stats.generated_code_size_in_bytes,
        "aliased": stats.alias_size_in_bytes,
        "peak": stats.peak_memory_in_bytes,
    }
    together = sum(kinds[name] for name in ("arguments", "outputs", "temporaries", "code")) - kinds["aliased"]
    return kinds | {"total": max(together, kinds["peak"])}


def costs(compiled: jax.stages.Compiled) -> dict[str, float] | None:
    """'flops' and 'bytes' between memory and core, of one device; None where the compiler does not say.

    It counts the body of a loop once, and as bytes also what a TPU may keep on the chip between two operations.
    """
    if (analysis := compiled.cost_analysis()) is None:
        return None
    return {"flops": float(analysis["flops"]), "bytes": float(analysis["bytes accessed"])}
