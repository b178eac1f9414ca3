"""Times evaluation with several passes over the same images against one pass. All passes share the thumbnail's
encoding.

python -m benchmarks.eval_passes --config b0_full_split --passes 1 3 8
"""

import argparse

from benchmarks import cases, timing


def measure(name: str, passes: list[int], *, batch_size: int, rounds: int) -> dict[str, dict[str, float]]:
    """Returns timings by number of passes; the first is the reference."""
    runs = {}
    for number in passes:
        config = cases.config_named(name, batch_size)
        config.eval.passes = number
        runs[f"{number} passes"] = cases.case(config, only=("evaluate",)).evaluate
    return timing.in_turn(runs, rounds=rounds, calls=timing.calls(few=5))


def main(args: list[str] | None = None) -> None:
    """Runs the benchmark, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.eval_passes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", default="b0_full_split", help="configs/NAME.py or NAME:ARGUMENT")
    parser.add_argument("--passes", type=int, nargs="+", default=[1, 3, 8], help="the first is the reference")
    parser.add_argument("--batch_size", type=int, default=8, help="images in a batch, over all devices")
    parser.add_argument("--rounds", type=int, default=11, help="how often each is timed")
    parser.add_argument("--json", default="eval_passes.json", help="where to write the results")
    options = parser.parse_args(args)
    timing.prepare_process()
    results = measure(options.config, options.passes, batch_size=options.batch_size, rounds=options.rounds)
    title = f"evaluation of {options.config}, batch of {options.batch_size}"
    print(timing.table(title, results))
    timing.write(options.json, {title: results})
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
