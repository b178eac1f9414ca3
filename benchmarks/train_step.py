"""Times training and evaluation steps of whole networks, as --mode=train runs them, on the device at hand.

    python -m benchmarks.train_step --configs b0 b0_full_split --torch

The steps of all configs take turns on a batch of random pixels on the device. Prints images per second, the ratio to
the training step of the first config, seconds of compilation without a cache, and memory. With --torch, a PyTorch
EfficientNet of the first config's variant runs in the same rounds, and the ratios to its steps are printed too; on a
GPU it is compiled by torch.compile and uses bfloat16. On an accelerator, five steps in a row are timed together.
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import multiprocessing
import os
from functools import partial
from multiprocessing.connection import Connection

import jax

from benchmarks import cases, timing
from stochconv_jax.models import variants

STEPS = ("train", "evaluate")


def torch_steps(config, threads: int) -> dict:
    """Returns the PyTorch network's steps by name; a process of its own runs them, with its own allocator and threads.

    Raises SystemExit, saying what to install, if PyTorch is missing.
    """
    if importlib.util.find_spec("torch") is None:
        raise SystemExit("--torch needs PyTorch, which is not installed: pip install torch")
    rates = {"dropout": config.model.dropout, "stochastic_depth": config.model.stochastic_depth}
    side, variant = tuple(config.data.thumbnail_size), variants.get(config.model.variant)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    arguments = (there, variant, side, config.batch_size, threads, device)
    context.Process(target=_serve_torch, args=arguments, kwargs=rates, daemon=True).start()

    def run(step):
        here.send(step)
        return _Sent(here)

    return {step: partial(run, step) for step in STEPS}


@dataclasses.dataclass(frozen=True)
class _Sent:
    """A step that PyTorch's process was told to run. `jax.block_until_ready` waits until it has run."""

    connection: Connection

    def block_until_ready(self) -> None:
        self.connection.send(None)
        self.connection.recv()


def _serve_torch(connection: Connection, *arguments, **rates) -> None:
    """Runs each step whose name is received, and answers None when all have ended, until the other process ends."""
    from benchmarks import torch_efficientnet

    *steps, wait = torch_efficientnet.steps(*arguments, **rates)
    named = dict(zip(STEPS, steps, strict=True))
    with contextlib.suppress(EOFError):
        while True:
            if step := connection.recv():
                named[step]()
            else:
                wait()
                connection.send(None)


def measure(names: list[str], *, batch_size: int, rounds: int, torch: bool) -> dict[str, dict]:
    """Returns the figures of each step by 'NAME, STEP'."""
    measured = {name: cases.case(cases.config_named(name, batch_size)) for name in names}
    runs = {f"{name}, train": case.train for name, case in measured.items()}
    runs |= {f"{name}, evaluate": case.evaluate for name, case in measured.items()}
    if torch:
        steps = torch_steps(cases.config_named(names[0], batch_size), len(os.sched_getaffinity(0)))
        runs |= {f"PyTorch, {step}": run for step, run in steps.items()}
    # Idle threads of either library may still spin on the cores of the one that runs next: let them come to rest.
    rest = 0.5 if torch else 0.0
    times = timing.times_in_turn(runs, rounds=rounds, rest=rest, calls=timing.calls(few=5))
    results = timing.summaries(times)
    for title, result in results.items():
        name, step = title.split(", ")
        result["images_per_second"] = 1e3 * batch_size / result["median"]
        if torch:
            result["to_torch"] = timing.ratio(times[title], times[f"PyTorch, {step}"])
        if name in measured:
            result["compile_seconds"] = measured[name].seconds[step]
            result["memory"] = measured[name].memory[step]
    return results


def table(results: dict[str, dict]) -> str:
    """Returns the results as a Markdown table."""
    head = ["step", "images/s", "ms, median", "ms, spread", "to the first", "to PyTorch's", "compiled in s", "MiB"]
    lines = ["| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for title, r in results.items():
        cells = [title, f"{r['images_per_second']:.1f}", f"{r['median']:.0f}", f"{r['spread']:.0f}"]
        cells.append(f"{r['ratio']:.2f}")
        cells.append(f"{r['to_torch']:.2f}" if "to_torch" in r else "")
        compiled = "memory" in r
        cells += [f"{r['compile_seconds']:.0f}", f"{r['memory']['total'] / 2**20:,.0f}"] if compiled else ["", ""]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def arguments(args: list[str] | None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--configs", nargs="+", default=["b0", "b0_full_split"], help="NAME or NAME:ARGUMENT")
    parser.add_argument("--batch_size", type=int, default=8, help="images in a step, over all devices")
    parser.add_argument("--rounds", type=int, default=11, help="how often each step is timed")
    parser.add_argument("--torch", action="store_true", help="also time PyTorch, on all cores or the GPU")
    parser.add_argument("--json", default="train_step.json", help="where to write the results")
    return parser.parse_args(args)


def main(args: list[str] | None = None) -> None:
    """Runs the benchmark, prints a table and writes JSON."""
    options = arguments(args)
    timing.prepare_process()
    results = measure(options.configs, batch_size=options.batch_size, rounds=options.rounds, torch=options.torch)
    print(f"{jax.devices()[0].device_kind}, batch of {options.batch_size}\n{table(results)}")
    timing.write(options.json, results)
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
