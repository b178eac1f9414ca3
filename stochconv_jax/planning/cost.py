"""Memory, time and traffic of a step on devices that need not be present, and the largest batch that fits."""

import dataclasses
import math
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

from stochconv_jax.planning import hlo, kernels, tpu_memory
from stochconv_jax.planning.targets import Chip

# The largest number of images per device that is tried: compiling for more takes much time and memory itself.
MAX_ROWS = 1024
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled step for one batch size and one set of devices.

    Attributes:
      batch_size: images of the batch, over all devices.
      devices: number of devices.
      parts: number of parts in which the batch is processed, one after the other.
      memory: bytes on a device by kind, see `hlo.memory`, and 'beside', the bytes of arrays that are on the device but
        are not arguments of the step.
      costs: 'flops', and 'bytes' read from and written to main memory, see `hlo.costs`, `kernels.costs` and
        `tpu_memory.traffic`; of all parts.
      moved: its collectives with their purposes, see `hlo.purpose`.
      seconds: time of compilation.
      refusal: the compiler's message if it ran out of memory, else ''. Then there are no costs and no collectives, and
        the total memory is infinite unless the compiler says how much it needs.
      launches: number of kernels that one step launches on a GPU, None elsewhere.
    """

    batch_size: int
    devices: int
    parts: int
    memory: Mapping[str, float]
    costs: dict[str, float]
    moved: list[tuple[hlo.Collective, str]]
    seconds: float
    refusal: str = ""
    launches: int | None = None

    @property
    def rows(self) -> int:
        """Images of one part on one device."""
        return self.batch_size // (self.devices * self.parts)

    @property
    def needed(self) -> float:
        """Bytes on a device while the step runs."""
        return self.memory["total"] + self.memory["beside"]

    def fits(self, memory: float) -> bool:
        """Returns whether the step was compiled and needs no more than `memory` bytes on a device."""
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
    """Compiles `step(arguments, batch)` for shapes with shardings. Nothing is run and nothing is allocated.

    Args:
      step: a jitted function.
      arguments: shapes, dtypes and shardings of its first argument.
      batch: those of the batch.
      parameters: shapes of the parameters, by which collectives are recognised.
      beside: bytes on a device of arrays that are not arguments of the step. The next batch, which is already on the
        device, is added to them.
      parts: iterations of the loop over the parts of the batch. Where the compiler counts costs, it counts those of
        its body once, so they are multiplied by `parts`, which overestimates those outside the loop, such as the
        optimiser's.
      options: compiler options.
    """
    size, devices = batch["label"].shape[0], batch["label"].sharding.num_devices
    outside = {"beside": beside + bytes_per_device(batch)}
    begun = time.monotonic()
    lowered = step.lower(arguments, batch)
    try:
        compiled = lowered.compile(compiler_options=dict(options or {}))
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        message = str(error)
        memory = outside | {"total": _bytes_named(message)}
        return Program(size, devices, parts, memory, {}, [], time.monotonic() - begun, message.splitlines()[0])
    seconds = time.monotonic() - begun
    images = (math.prod(batch[name].shape[1:]) for name in ("image", "thumbnail") if name in batch)
    returned = lowered.out_info[1] if isinstance(lowered.out_info, tuple) else lowered.out_info  # beside the state
    sizes = {
        "parameters": {leaf.size for leaf in jax.tree.leaves(parameters)},
        "outputs": {math.prod(leaf.shape) for leaf in jax.tree.leaves(returned)},
        "image": min(images),
    }
    text, counted, launches = compiled.as_text(), hlo.costs(compiled), None
    if counted is None:  # counted in the text of the program, where loops count as often as they run
        costs, launches = kernels.costs(text), kernels.launches(text)
    else:
        costs = {name: amount * parts for name, amount in counted.items()}
    if batch["label"].sharding.mesh.devices.flat[0].platform == "tpu":
        costs["bytes"] = float(tpu_memory.traffic(text))
    moved = [(collective, hlo.purpose(collective, **sizes)) for collective in hlo.collectives(text, devices)]
    memory = hlo.memory(compiled) | outside
    return Program(size, devices, parts, memory, costs, moved, seconds, launches=launches)


def _bytes_named(refusal: str) -> float:
    """Returns the bytes that the compiler says it needs, infinity if it does not say.

    libtpu 0.0.50 names those of temporaries only.
    """
    used = re.search(r"(?:Used |temporaries \()([\d.]+)([KMG])", refusal)
    return float(used[1]) * UNITS[used[2]] if used else math.inf


def bytes_per_device(shapes: Any) -> int:
    """Returns the bytes on one device of arrays that are given as shapes with shardings."""
    leaves = jax.tree.leaves(shapes)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def largest_rows(program: Callable[[int], Program], first: int, memory: float, trials: int = 3) -> int | None:
    """Searches for the largest number of images per device that fits into `memory` bytes.

    Memory is nearly linear in the number of images, so that a few trials suffice: each is where the line through the
    two largest numbers that fit reaches the limit. The search ends when it would gain less than 5 %.

    Args:
      program: compiles the step for a number of images per device.
      first: the number to try first.
      memory: bytes of a device.
      trials: how many other numbers to try, up to `MAX_ROWS`.

    Returns:
      The largest number that was compiled and fits; None if no trial fits.
    """
    tried = {first: program(first)}
    for _ in range(trials):
        fits = sorted(rows for rows in tried if tried[rows].fits(memory))
        above = min((rows for rows in tried if rows not in fits), default=math.inf)
        rows = _proposal([(rows, tried[rows].needed) for rows in fits[-2:]], memory) if fits else above // 2
        if rows >= above:
            rows = (fits[-1] + above) // 2
        rows = int(min(rows // 8 * 8 if rows > 16 else rows, MAX_ROWS))
        if rows < 1 or (fits and rows < 1.05 * fits[-1]):
            break
        tried[rows] = program(rows)
    return max((rows for rows in tried if tried[rows].fits(memory)), default=None)


def _proposal(points: list[tuple[int, float]], memory: float) -> int:
    """Returns the number of rows at which the line through the last two (rows, bytes needed) reaches `memory`."""
    rows, needed = points[-1]
    if len(points) == 1:  # a row needs less than needed / rows, since part of the memory does not depend on the rows
        return int(rows * memory / needed)
    slope = (needed - points[0][1]) / (rows - points[0][0])
    return int(rows + 0.99 * (memory - needed) / slope) if slope > 0 else 2 * rows


def times(program: Program, chip: Chip) -> dict[str, float]:
    """Returns estimates of the seconds of a step by limiting resource, each at the chip's peak rate.

    Resources whose rate is not known are left out. The estimates contain no latency; `hlo.costs` says what they count.
    """
    share = (program.devices - 1) / program.devices
    # On a ring, gathering or scattering sends every byte once, and an all-reduce twice (Thakur et al., 2005).
    sent = sum(c.bytes * c.times * share * (2 if c.kind == "all-reduce" else 1) for c, _ in program.moved)
    found = {
        "arithmetic": (program.costs["flops"], chip.flops),
        "memory traffic": (program.costs["bytes"], chip.bandwidth),
        "links between chips": (sent, chip.links),
    }
    seconds = {name: amount / rate for name, (amount, rate) in found.items() if rate}
    return seconds | ({"launches": program.launches * chip.launch} if program.launches and chip.launch else {})
