"""What a step would need on a machine that is not here: memory, time, traffic, and the largest batch that fits."""

import dataclasses
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from stochconv_jax.planning import hlo as programs
from stochconv_jax.planning import kernels
from stochconv_jax.planning.targets import Chip

# Images a device beyond which no larger batch is looked for: compiling takes time and memory of its own with them.
MOST_ROWS = 1024
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled step for a batch of `batch_size` images over `devices` devices, taken in `parts` one after the other.

    `memory`: bytes on a device by kind, see compiled.memory, and 'beside': what lies there and is no part of the step.
    `costs`: see compiled.costs, of all parts. `moved`: its collectives with their purposes. `seconds`: of compilation.
    `refusal`: what the compiler said where it gave up for want of memory; there are then no costs and nothing moved,
    and the total is infinite unless the compiler named it. `launches`: kernels that are started one by one, on a GPU.
    """

    batch_size: int
    devices: int
    parts: int
    memory: dict[str, float]
    costs: dict[str, float]
    moved: list[tuple[programs.Collective, str]]
    seconds: float
    refusal: str = ""
    launches: int | None = None

    @property
    def rows(self) -> int:
        """Images of a part on a device."""
        return self.batch_size // (self.devices * self.parts)

    @property
    def needed(self) -> float:
        """Bytes on a device while the step runs."""
        return self.memory["total"] + self.memory["beside"]

    def fits(self, memory: float) -> bool:
        """Whether it was compiled and needs no more than `memory` bytes of a device."""
        return not self.refusal and self.needed <= memory


def compile_step(
    step,
    arguments: Any,
    batch: Mapping[str, Any],
    *,
    parameters: Any,
    beside: int = 0,
    parts: int = 1,
    options: Mapping[str, Any] | None = None,
) -> Program:
    """Compiles `step(arguments, batch)` for shapes with shardings; nothing is run and nothing allocated.

    `parameters`: shapes of the parameters; `beside`: bytes on a device that are no argument of the step. The batch that
    waits while another is in use is added to them. `parts`: rounds of the loop that takes the batch in parts, whose
    body the compiler counts once; the optimiser, outside of it, is then counted as often, for want of better.
    `options`: of the compiler.
    """
    size, devices = batch["label"].shape[0], batch["label"].sharding.num_devices
    outside = {"beside": beside + bytes_a_device(batch)}
    begun = time.monotonic()
    lowered = step.lower(arguments, batch)
    try:
        compiled = lowered.compile(compiler_options=dict(options or {}))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        message = str(error)
        memory = outside | {"total": _named(message)}
        return Program(size, devices, parts, memory, {}, [], time.monotonic() - begun, message.splitlines()[0])
    seconds = time.monotonic() - begun
    images = (math.prod(batch[name].shape[1:]) for name in ("image", "thumbnail") if name in batch)
    returned = lowered.out_info[1] if isinstance(lowered.out_info, tuple) else lowered.out_info  # beside the state
    known = {
        "parameters": {leaf.size for leaf in jax.tree.leaves(parameters)},
        "outputs": {math.prod(leaf.shape) for leaf in jax.tree.leaves(returned)},
        "image": min(images),
    }
    text, counted, launches = compiled.as_text(), programs.costs(compiled), None
    if counted is None:  # read out of the program, loops as often as they run
        costs, launches = kernels.costs(text), kernels.launches(text)
    else:
        costs = {name: amount * parts for name, amount in counted.items()}
    found = programs.collectives(text, devices)
    moved = [(collective, programs.purpose(collective, **known)) for collective in found]
    memory = programs.memory(compiled) | outside
    return Program(size, devices, parts, memory, costs, moved, seconds, launches=launches)


def _named(refusal: str) -> float:
    """The bytes that the compiler says it needs, libtpu 0.0.50 for temporaries alone; infinity if it does not say."""
    used = re.search(r"(?:Used |temporaries \()([\d.]+)([KMG])", refusal)
    return float(used[1]) * UNITS[used[2]] if used else math.inf


def bytes_a_device(shapes: Any) -> int:
    """Bytes on one device of arrays that are given as shapes with shardings."""
    leaves = jax.tree.leaves(shapes)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def largest(program: Callable[[int], Program], first: int, memory: float, trials: int = 3) -> int | None:
    """The most rows a device found to fit into `memory` bytes, compiled to make sure; None if no trial fits.

    `program(rows)` compiles; `first` rows are tried first and `trials` times others, up to MOST_ROWS. Memory is nearly
    a line over the rows, so few trials come close: each is where the line through the two largest that fit meets the
    limit. The search ends where it would gain less than a twentieth.
    """
    tried = {first: program(first)}
    for _ in range(trials):
        fits = sorted(rows for rows in tried if tried[rows].fits(memory))
        above = min((rows for rows in tried if rows not in fits), default=math.inf)
        rows = _proposal([(rows, tried[rows].needed) for rows in fits[-2:]], memory) if fits else above // 2
        if rows >= above:
            rows = (fits[-1] + above) // 2
        rows = min(rows // 8 * 8 if rows > 16 else rows, MOST_ROWS)
        if rows < 1 or (fits and rows < 1.05 * fits[-1]):
            break
        tried[rows] = program(rows)
    return max((rows for rows in tried if tried[rows].fits(memory)), default=None)


def _proposal(points: list[tuple[int, float]], memory: float) -> int:
    rows, needed = points[-1]
    if len(points) == 1:  # what a row needs is less than this share, so that this many should fit
        return int(rows * memory / needed)
    slope = (needed - points[0][1]) / (rows - points[0][0])
    return int(rows + 0.99 * (memory - needed) / slope) if slope > 0 else 2 * rows


def times(program: Program, chip: Chip) -> dict[str, float]:
    """Seconds of a step by what could limit it, at the chip's peak. What is not known of the chip is left out.

    Estimates: see compiled.costs for what the compiler counts; latency is in none of them.
    """
    share = (program.devices - 1) / program.devices
    # A ring passes every byte on once to gather or to scatter, and twice to reduce for all (Thakur et al., 2005).
    sent = sum(c.bytes * c.times * share * (2 if c.kind == "all-reduce" else 1) for c, _ in program.moved)
    found = {
        "arithmetic": (program.costs["flops"], chip.flops),
        "memory traffic": (program.costs["bytes"], chip.bandwidth),
        "links between chips": (sent, chip.links),
    }
    seconds = {name: amount / rate for name, (amount, rate) in found.items() if rate}
    return seconds | ({"launches": program.launches * chip.launch} if program.launches and chip.launch else {})
