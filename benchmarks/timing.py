"""Timing of alternatives in turn (A B A B ...), so that other load on the machine affects all of them equally."""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping

import jax

from stochconv_jax.runtime import compiler_flags, host_memory


def prepare_process() -> None:
    """Sets compiler flags and the allocator's behaviour as main.py does before its first computation."""
    compiler_flags.add(os.environ)
    host_memory.keep_freed()


def calls(few: int) -> int:
    """Returns how many calls to time together: 1 on a CPU, `few` on an accelerator, where calls run behind Python."""
    return 1 if jax.default_backend() == "cpu" else few


def times_in_turn(
    alternatives: Mapping[str, Callable[[], object]], *, rounds: int, rest: float = 0.0, calls: int = 1
) -> dict[str, list[float]]:
    """Returns the milliseconds of each alternative in each round.

    Args:
      alternatives: functions without arguments that return arrays or None. Each is called twice before the first round,
        which compiles it.
      rounds: how often each is timed.
      rest: pause before each timing, in seconds, for threads that the alternative before left running.
      calls: number of calls that are timed together. More than one hides the time that Python needs to start a call on
        a GPU or TPU, as a training loop does.
    """
    for run in alternatives.values():
        for _ in range(2):
            jax.block_until_ready(run())
    times = {name: [] for name in alternatives}
    for _ in range(rounds):
        for name, run in alternatives.items():
            time.sleep(rest)
            start = time.perf_counter()
            for _ in range(calls):
                outputs = run()
            jax.block_until_ready(outputs)
            times[name].append(1e3 * (time.perf_counter() - start) / calls)
    return times


def summaries(times: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Returns 'median' and 'spread' (interquartile range) of the times by name, and 'ratio' to the first name's."""
    reference = next(iter(times.values()))
    return {name: _summary(values, reference) for name, values in times.items()}


def in_turn(
    alternatives: Mapping[str, Callable[[], object]], *, rounds: int, calls: int = 1
) -> dict[str, dict[str, float]]:
    """Returns the `summaries` of `times_in_turn`."""
    return summaries(times_in_turn(alternatives, rounds=rounds, calls=calls))


def ratio(times: list[float], reference: list[float]) -> float:
    """Returns the median over rounds of the ratio of one alternative's time to another's."""
    return statistics.median(time / other for time, other in zip(times, reference, strict=True))


def _summary(values: list[float], reference: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4)
    return {"median": median, "spread": high - low, "ratio": ratio(values, reference)}


def table(title: str, results: Mapping[str, Mapping[str, float]]) -> str:
    """Returns the results as a Markdown table."""
    lines = [f"### {title}", "| what | ms, median | ms, spread | ratio |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {r['median']:.2f} | {r['spread']:.2f} | {r['ratio']:.2f} |" for name, r in results.items()]
    return "\n".join(lines)


def write(path: str, results: Mapping[str, object]) -> None:
    """Writes the results and a description of the machine to `path`, as JSON."""
    device = jax.devices()[0]
    machine = {
        "device": f"{len(jax.devices())} x {device.device_kind}",
        "processor": platform.processor() or platform.machine(),
        "jax": jax.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    with open(path, "w") as file:
        json.dump({"machine": machine, "results": results}, file, indent=2)
