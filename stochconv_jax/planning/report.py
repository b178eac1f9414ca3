"""A plan as text and as JSON: memory, time and traffic of the steps, and conclusions in words."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from stochconv_jax.planning import cost, hlo
from stochconv_jax.planning.targets import GIB, Chip


@dataclasses.dataclass(frozen=True)
class Plan:
    """The compiled steps of a config for one topology.

    Attributes:
      topology: name of the topology.
      chip: peak rates and memory of one chip.
      dtype: dtype of activations.
      configured_batch_size: the config's batch size, before it is rounded up to a multiple of the chips.
      steps: the compiled steps, 'train' and 'evaluate'.
      largest_batch: images, over all chips, of the largest batch found to fit; 0 if none fits, None before the search.
    """

    topology: str
    chip: Chip
    dtype: str
    configured_batch_size: int
    steps: Mapping[str, cost.Program]
    largest_batch: int | None = None

    @property
    def chips(self) -> int:
        """Number of chips."""
        return self.steps["train"].devices


def as_json(plan: Plan) -> dict[str, Any]:
    """Returns the plan as mappings and lists for JSON, with None for unknown values."""
    steps = {}
    for name, step in plan.steps.items():
        steps[name] = dataclasses.asdict(step) | {"needed": step.needed, "traffic": traffic(step)}
        steps[name]["seconds_by_limit"] = {} if step.refusal else cost.times(step, plan.chip)
        steps[name]["moved"] = [
            dataclasses.asdict(collective) | {"purpose": purpose} for collective, purpose in step.moved
        ]
        if math.isinf(step.needed):
            steps[name]["needed"] = steps[name]["memory"]["total"] = None
    about = {"topology": plan.topology, "chips": plan.chips, "chip": dataclasses.asdict(plan.chip)}
    about["dtype"] = plan.dtype
    return about | {"steps": steps, "largest_batch": plan.largest_batch, "in_words": conclusions(plan)}


def text(plan: Plan) -> str:
    """Returns the whole plan as text."""
    lines = [f"{plan.topology}: {plan.chips} x {plan.chip.kind}"]
    if plan.chip.memory:
        lines[0] += f", {plan.chip.memory / GIB:.2f} GiB each ({plan.chip.source})"
    lines[0] += f"; activations in {plan.dtype}"
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
        for resource, seconds in cost.times(step, plan.chip).items():
            lines.append(f"    {resource}: about {1e3 * seconds:.3g} ms")
        lines.append("  between chips:" + ("" if step.moved else " nothing"))
        lines += _table(traffic(step))
    return "\n".join([*lines, "", *conclusions(plan)])


def traffic(step: cost.Program) -> list[dict[str, Any]]:
    """Returns the collectives summed by purpose, kind and element type; bytes count every iteration of loops."""
    groups: dict[tuple[str, str, str], list[hlo.Collective]] = {}
    for collective, purpose in step.moved:
        dtypes = "+".join(sorted({dtype for dtype, _ in collective.arrays}))
        groups.setdefault((purpose, collective.kind, dtypes), []).append(collective)
    rows = []
    for (purpose, kind, dtypes), members in sorted(groups.items()):
        shapes = [shape for member in members for _, shape in member.arrays]
        rows.append(
            {
                "purpose": purpose,
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


def conclusions(plan: Plan) -> list[str]:
    """Returns sentences that say whether the steps fit, what limits them, what to change and what is not known."""
    train, memory = plan.steps["train"], plan.chip.memory
    sentences = []
    if train.batch_size != plan.configured_batch_size:
        sentences.append(
            f"the configured batch of {plan.configured_batch_size} cannot be split evenly over {plan.chips} chips"
            + (f", {train.parts} parts each" if train.parts > 1 else "")
            + f", and training would refuse it: planned for {train.batch_size}."
        )
    if memory:
        sentences += [_describe_fit(name, step, memory) for name, step in plan.steps.items()]
    if plan.largest_batch is not None:
        sentences.append(describe_largest_batch(plan))
    if memory and not all(step.fits(memory) for step in plan.steps.values()):
        sentences.append(
            "To fit: a smaller batch_size, the same batch in parts (optimizer.accumulate_steps), model.remat=True, "
            + ("model.dtype=bfloat16, " if plan.dtype == "float32" else "")
            + "or sharding.parameters=sharded where the parameters are what is large."
        )
    sentences += _describe_limit(plan, train)
    images, unknown = (_bytes_by_purpose(plan, purpose) for purpose in (hlo.IMAGES, hlo.UNKNOWN))
    sentences.append(f"IMAGES CROSS CHIPS in {len(images)} places." if images else "No image crosses chips.")
    if unknown:
        sentences.append(f"Collectives of unknown purpose: {len(unknown)}, of {sum(unknown):,} bytes.")
    sentences.append(_describe_omissions(train))
    return sentences


def _describe_omissions(train: cost.Program) -> str:
    """Returns a sentence on what the figures leave out."""
    among = sum(collective.times for collective, _ in train.moved)
    if train.launches is not None:
        return (
            "Kernels, operations and bytes are counted in the compiled program, the call of a library as one kernel. "
            + (f"{among:,} of them move data between cards; a run combines what is ready together. " if among else "")
            + "Without the card, the memory that cuDNN and cuBLAS work in, the algorithms that are chosen by timing "
            "them and the efficiency of kernels are unknown: the times are estimates."
        )
    return (
        "The compiler counts the operations of a loop's body once, and except for TPUs its bytes (the window stem is a "
        "loop over images except on TPUs and GPUs). For TPUs, memory traffic is what instructions read from main "
        "memory and write to it, each operand once. The times are estimates, the memory is what it will use."
    )


def _bytes_by_purpose(plan: Plan, purpose: str) -> list[int]:
    """Returns the bytes of each collective of `purpose`, over all iterations of loops."""
    moved = (pair for step in plan.steps.values() for pair in step.moved)
    return [collective.bytes * collective.times for collective, its_purpose in moved if its_purpose == purpose]


def describe_largest_batch(plan: Plan) -> str:
    """Returns a sentence with the result of the search for the largest batch."""
    if not plan.largest_batch:
        return "No batch was found that fits."
    each, parts = plan.largest_batch // plan.chips, plan.steps["train"].parts
    more = "; larger ones were not tried" if each >= cost.MAX_ROWS * parts else ""
    return f"The largest batch found to fit, by compiling it: {plan.largest_batch} images, {each} a chip{more}."


def _describe_fit(name: str, step: cost.Program, memory: float) -> str:
    verdict = "fits" if step.fits(memory) else "DOES NOT FIT"
    needed = "more than there is" if math.isinf(step.needed) else _size(step.needed)
    return f"The {name} step {verdict}: {needed} of {_size(memory)} a chip."


def _describe_limit(plan: Plan, train: cost.Program) -> list[str]:
    times = {} if train.refusal else cost.times(train, plan.chip)
    if not times:
        return []
    limit = max(times, key=lambda name: times[name])
    advice = {
        "arithmetic": "only more chips help",
        "memory traffic": "model.dtype=bfloat16 halves the activations"
        if plan.dtype == "float32"
        else "only more chips help",
        "links between chips": "more images a chip give each exchange more work, or optimizer.accumulate_steps",
        "launches": "more images a chip give each kernel more work",
    }[limit]
    rate = train.batch_size / times[limit]
    return [f"What limits training is {limit}, to about {rate:,.0f} images a second: {advice}."]


def _size(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= 0.1 * GIB else f"{size / 2**20:.2f} MiB"


def _share(size: float, memory: float) -> str:
    return f" of {_size(memory)}, {size / memory:.0%}" if memory else ""
