"""A plan in words: tables of memory, time and traffic, and what follows from them."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from stochconv_jax.planning import cost, hlo
from stochconv_jax.planning.targets import GIB, Chip


@dataclasses.dataclass(frozen=True)
class Plan:
    """The compiled `steps` ('train', 'evaluate') of a config.

    `asked`: the config's batch size, before it is rounded up to a multiple of the chips. `largest_batch`: images, over
    all chips, of the largest that was found to fit, 0 if none did, None before it was looked for.
    """

    topology: str
    chip: Chip
    asked: int
    steps: Mapping[str, cost.Program]
    largest_batch: int | None = None

    @property
    def chips(self) -> int:
        """Number of chips."""
        return self.steps["train"].devices


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as mappings and lists; what is not known is null."""
    steps = {}
    for name, step in plan.steps.items():
        steps[name] = dataclasses.asdict(step) | {"needed": step.needed, "traffic": traffic(step)}
        steps[name]["seconds_by_limit"] = {} if step.refusal else cost.times(step, plan.chip)
        steps[name]["moved"] = [dataclasses.asdict(collective) | {"purpose": what} for collective, what in step.moved]
        if math.isinf(step.needed):
            steps[name]["needed"] = steps[name]["memory"]["total"] = None
    about = {"topology": plan.topology, "chips": plan.chips, "chip": dataclasses.asdict(plan.chip)}
    return about | {"steps": steps, "largest_batch": plan.largest_batch, "in_words": words(plan)}


def text(plan: Plan) -> str:
    """Everything as text."""
    lines = [f"{plan.topology}: {plan.chips} x {plan.chip.kind}"]
    if plan.chip.memory:
        lines[0] += f", {plan.chip.memory / GIB:.2f} GiB each ({plan.chip.source})"
    for name, step in plan.steps.items():
        lines += ["", f"{name} step, {step.batch_size} images, compiled in {step.seconds:.0f} s"]
        if step.refusal:
            lines.append(f"  refused by the compiler: {step.refusal}")
            continue
        lines.append("  a chip's memory: " + ", ".join(f"{kind} {_size(size)}" for kind, size in step.memory.items()))
        lines.append(f"  needed in all: {_size(step.needed)}{_share(step.needed, plan.chip.memory)}")
        images = step.batch_size / step.devices
        flops, moved = step.costs["flops"], step.costs["bytes"]
        lines.append(f"  a chip's work: {flops / 1e9:,.1f} GFLOP, {_size(moved)} to and from memory, {images:g} images")
        if step.launches is not None:
            lines[-1] += f", {step.launches:,} kernels launched"
        for what, seconds in cost.times(step, plan.chip).items():
            lines.append(f"    {what}: about {1e3 * seconds:.3g} ms")
        lines.append("  between chips:" + ("" if step.moved else " nothing"))
        lines += _table(traffic(step))
    return "\n".join([*lines, "", *words(plan)])


def traffic(step: cost.Program) -> list[dict[str, Any]]:
    """The collectives summed by purpose, kind and element type; bytes count every run of a loop's body."""
    groups: dict[tuple[str, str, str], list[hlo.Collective]] = {}
    for collective, what in step.moved:
        dtypes = "+".join(sorted({dtype for dtype, _ in collective.arrays}))
        groups.setdefault((what, collective.kind, dtypes), []).append(collective)
    rows = []
    for (what, kind, dtypes), members in sorted(groups.items()):
        shapes = [shape for member in members for _, shape in member.arrays]
        rows.append(
            {
                "purpose": what,
                "kind": kind,
                "dtype": dtypes,
                "runs": sum(member.times for member in members),
                "bytes": sum(member.bytes * member.times for member in members),
                "largest": list(max(shapes, key=math.prod)),
            }
        )
    return rows


def _table(rows: list[dict[str, Any]]) -> list[str]:
    return [
        f"    {row['purpose']:<10}  {row['kind']:<18}  {row['dtype']:<8}  {row['runs']:>4} runs  "
        f"{row['bytes']:>13,.0f} bytes  largest {'x'.join(map(str, row['largest'])) or 'a number'}"
        for row in rows
    ]


def words(plan: Plan) -> list[str]:
    """What the figures mean: whether it fits, what limits, what to change; and what the figures leave out."""
    train, memory = plan.steps["train"], plan.chip.memory
    said = []
    if train.batch_size != plan.asked:
        said.append(
            f"config.batch_size={plan.asked} cannot be split evenly over {plan.chips} chips"
            + (f", {train.parts} parts each" if train.parts > 1 else "")
            + f", and training would refuse it: planned for {train.batch_size}."
        )
    if memory:
        said += [_fit(name, step, memory) for name, step in plan.steps.items()]
    if plan.largest_batch is not None:
        said.append(largest(plan))
    if memory and not all(step.fits(memory) for step in plan.steps.values()):
        said.append(
            "To fit: a smaller batch_size, the same batch in parts (optimizer.accumulate_steps), model.remat=True, "
            "model.dtype=bfloat16, or sharding.parameters=sharded where the parameters are what is large."
        )
    said += _limit(plan, train)
    images, unknown = (_of_purpose(plan, what) for what in (hlo.IMAGES, hlo.UNKNOWN))
    said.append(f"IMAGES CROSS CHIPS in {len(images)} places." if images else "No image crosses chips.")
    if unknown:
        said.append(f"Collectives of unknown purpose: {len(unknown)}, of {sum(unknown):,} bytes.")
    said.append(_left_out(train))
    return said


def _left_out(train: cost.Program) -> str:
    """What the figures do not know."""
    if train.launches is not None:
        return (
            "Kernels, operations and bytes are counted in the compiled program, a library's call as one kernel. Not "
            "known without the card: memory that cuDNN and cuBLAS work in, the algorithms that are chosen by timing "
            "them, and how well kernels run: the times are estimates."
        )
    return (
        "The compiler counts the body of a loop once (except on TPUs the window stem has some, one round an image), "
        "and as memory traffic also what it may keep on the chip: the times are estimates, "
        "the memory is what it will use."
    )


def _of_purpose(plan: Plan, purpose: str) -> list[int]:
    """Bytes of each collective of `purpose`, over every run of a loop's body."""
    moved = (pair for step in plan.steps.values() for pair in step.moved)
    return [collective.bytes * collective.times for collective, what in moved if what == purpose]


def largest(plan: Plan) -> str:
    """The outcome of the search for the largest batch."""
    if not plan.largest_batch:
        return "No batch was found that fits."
    each, parts = plan.largest_batch // plan.chips, plan.steps["train"].parts
    more = "; larger ones were not tried" if each >= cost.MOST_ROWS * parts else ""
    return f"The largest batch found to fit, by compiling it: {plan.largest_batch} images, {each} a chip{more}."


def _fit(name: str, step: cost.Program, memory: float) -> str:
    verdict = "fits" if step.fits(memory) else "DOES NOT FIT"
    needed = "more than there is" if math.isinf(step.needed) else _size(step.needed)
    return f"The {name} step {verdict}: {needed} of {_size(memory)} a chip."


def _limit(plan: Plan, train: cost.Program) -> list[str]:
    times = {} if train.refusal else cost.times(train, plan.chip)
    if not times:
        return []
    limit = max(times, key=times.get)
    advice = {
        "arithmetic": "only more chips help",
        "memory traffic": "model.dtype=bfloat16 halves the activations",
        "links between chips": "more images a chip give each exchange more work, or optimizer.accumulate_steps",
        "launches": "more images a chip give each kernel more work",
    }[limit]
    rate = train.batch_size / times[limit]
    return [f"What limits training is {limit}, to about {rate:,.0f} images a second: {advice}."]


def _size(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= 0.1 * GIB else f"{size / 2**20:.2f} MiB"


def _share(size: float, memory: float) -> str:
    return f" of {_size(memory)}, {size / memory:.0%}" if memory else ""
