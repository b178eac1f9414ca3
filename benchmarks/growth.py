r"""Measures time and memory of a step as the image, the batch, the passes and the filters grow; as JSON and a figure.

    python -m benchmarks.growth --figure docs/growth.png

Compares three networks of one variant: on the thumbnail alone, the full split (thumbnail and windows), and the network
on the whole image at full resolution. Times are medians, for one image per device unless the batch grows. Memory is
what the compiler plans for a step. A step that needs more than --memory is compiled but not run.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Iterator

import jax
import matplotlib
import matplotlib.figure

from benchmarks import cases, timing
from configs import b0_full_split
from stochconv_jax.models import variants

THUMBNAIL, SPLIT, WHOLE = "thumbnail alone", "thumbnail and windows", "whole image"
AXES = {
    "side": "side of the image in pixels",
    "batch": "images a device ({size}x{size})",
    "passes": "passes in evaluation",
    "filters": "filters of a stem",
}
STEPS = {"train": "-", "evaluate": "--"}  # line styles
COLORS = {THUMBNAIL: "#0072B2", SPLIT: "#D55E00", WHOLE: "#009E73"}


def config_of(network: str, variant: str, *, side: int, batch: int = 1, passes: int = 1):
    """Returns the config of one point of the figure. `batch` is the number of images per device."""
    config = b0_full_split.get_config()
    config.model.variant = variant
    config.batch_size = config.eval.batch_size = batch * jax.device_count()
    config.eval.passes = passes
    config.data.image_size = (side, side)
    if network != SPLIT:
        config.model.branches = ("thumbnail",)
    if network == WHOLE:
        config.data.thumbnail_size = (side, side)
    return config


def points(options: argparse.Namespace) -> Iterator[tuple[str, int, str, dict]]:
    """Yields (axis, value, network, arguments of `config_of`) of every point of the figure."""
    size, networks = options.size, (THUMBNAIL, SPLIT, WHOLE)

    def more(**number):
        return {name: value for name, value in number.items() if value > 1}

    for network in networks:
        for side in options.sides:
            yield "side", side, network, {"variant": options.variant, "side": side}
        for batch in options.batches:
            yield "batch", batch, network, {"variant": options.variant, "side": size} | more(batch=batch)
    for passes in options.passes:
        yield "passes", passes, SPLIT, {"variant": options.variant, "side": size} | more(passes=passes)
    original = variants.get(options.variant)
    for filters in options.filters:
        name = original.name if filters == original.stem_filters else f"{original.name}_{filters}"
        variants.VARIANTS[name] = dataclasses.replace(original, name=name, stem_filters=filters)
        for network in (THUMBNAIL, SPLIT):
            yield "filters", filters, network, {"variant": name, "side": size}


def measure(network: str, *, rounds: int, limit: float, only: tuple[str, ...], **arguments) -> dict[str, dict]:
    """Returns 'milliseconds' and 'bytes' of each step; no time if it needs more than `limit` bytes and is not run."""
    case = cases.case(config_of(network, **arguments), only=only)
    results = {}
    for step in only:
        bytes_needed, times = case.memory[step]["total"], None
        if bytes_needed <= limit:
            times = timing.times_in_turn({step: getattr(case, step)}, rounds=rounds)[step]
        results[step] = {"milliseconds": times and statistics.median(times), "bytes": bytes_needed}
    return results


def draw(rows: list[dict], size: int) -> matplotlib.figure.Figure:
    """Draws a column of two plots for each axis: milliseconds above, MiB below, on logarithmic scales."""
    figure = matplotlib.figure.Figure(figsize=(12.5, 6.2), layout="constrained")
    grid = figure.subplots(2, len(AXES), sharex="col", sharey="row")
    for column, (axis, title) in zip(grid.T, AXES.items()):
        for network, color in COLORS.items():
            for step, style in STEPS.items():
                line = [row for row in rows if (row["axis"], row["network"], row["step"]) == (axis, network, step)]
                line.sort(key=lambda row: row["value"])
                timed = [row for row in line if row["milliseconds"] is not None]
                look = {"color": color, "linestyle": style, "marker": "o", "markersize": 3}
                column[0].plot([row["value"] for row in timed], [row["milliseconds"] for row in timed], **look)
                column[1].plot([row["value"] for row in line], [row["bytes"] / 2**20 for row in line], **look)
        values = sorted({row["value"] for row in rows if row["axis"] == axis})
        column[1].set_xlabel(title.format(size=size))
        for axes in column:
            axes.set_xscale("log", base=2)
            axes.set_xticks(values, [str(value) for value in values])
            axes.minorticks_off()
            axes.set_yscale("log")
            axes.grid(alpha=0.3)
    grid[0, 0].set_ylabel("milliseconds a step")
    grid[1, 0].set_ylabel("MiB planned by the compiler")
    legend = [matplotlib.lines.Line2D([], [], color=color, label=network) for network, color in COLORS.items()]
    legend += [matplotlib.lines.Line2D([], [], color="grey", linestyle=s, label=step) for step, s in STEPS.items()]
    figure.legend(handles=legend, loc="outside upper center", ncols=len(legend), frameon=False)
    return figure


def main(args: list[str] | None = None) -> None:
    """Runs the benchmark, prints and writes the results and draws the figure."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    numbers = {"type": int, "nargs": "*"}
    parser.add_argument("--variant", default="b0", help="the network (default: b0)")
    parser.add_argument("--size", type=int, default=1024, help="side of the image on the other axes")
    parser.add_argument("--sides", default=[512, 1024, 2048, 4096, 8192], help="sides of images", **numbers)
    parser.add_argument("--batches", default=[1, 2, 4, 8, 16], help="batch sizes", **numbers)
    parser.add_argument("--passes", default=[1, 2, 4, 8, 16], help="numbers of passes", **numbers)
    parser.add_argument("--filters", default=[16, 32, 64, 128], help="filters of a stem", **numbers)
    parser.add_argument("--memory", type=float, default=12, help="GiB that a step may need to be run (default: 12)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each step is timed (default: 5)")
    parser.add_argument("--json", default="growth.json", help="where the results go (default: growth.json)")
    parser.add_argument("--figure", default="growth.png", help="where the figure goes (default: growth.png)")
    options = parser.parse_args(args)
    timing.prepare_process()
    rows, done = [], {}
    for axis, value, network, arguments in points(options):
        # Axes share points, and the thumbnail's network does not see the side of the image.
        point = (network, *sorted((arguments | ({"side": 0} if network == THUMBNAIL else {})).items()))
        if point not in done:
            only = ("evaluate",) if "passes" in arguments else ("train", "evaluate")
            limit = options.memory * 2**30
            done[point] = measure(network, rounds=options.rounds, limit=limit, only=only, **arguments)
        shown = {step: result for step, result in done[point].items() if axis != "passes" or step == "evaluate"}
        for step, result in shown.items():
            rows.append({"axis": axis, "value": value, "network": network, "step": step} | result)
            time = "not run" if result["milliseconds"] is None else f"{result['milliseconds']:,.0f} ms"
            print(f"{axis} {value}, {network}, {step}: {time}, {result['bytes'] / 2**20:,.0f} MiB", flush=True)
        jax.clear_caches()
    timing.write(options.json, {"rows": rows})
    draw(rows, options.size).savefig(options.figure, dpi=110)
    print(f"written to {options.json} and {options.figure}")


if __name__ == "__main__":
    main()
