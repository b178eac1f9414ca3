"""Makes a table of what the training steps of configs need on several topologies, by --mode=plan.

    python -m benchmarks.plans --python .venv-tpu/bin/python --configs b0 b0_full_split \
        --topologies v5e:2x4 v5e:16x16 --images 8 --out plans.json
    python -m benchmarks.plans --python .venv-gpu-plan/bin/python --configs b0 b0_full_split \
        --topologies h100:1x8 a100:1x8 --images 64 --out gpu_plans.json

`ablations/real@per_image` is the variant `per_image` of configs/ablations/real.py, and `ablations/real@` means all its
variants.

Each plan is made by a process of its own and takes minutes. Plans that are in --out already are not made again, so that
the same command continues an interrupted one; failed plans are tried again. The table, of all plans in --out, is
printed, and written as Markdown next to --out.
"""

import argparse
import itertools
import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from stochconv_jax.atomic_files import write_text
from stochconv_jax.experiment import sweep_runs

Changes = Mapping[str, Any]  # values of config keys, by dotted key
MAIN = pathlib.Path(__file__).parents[1] / "main.py"
HEAD = (
    "config", "topology", "million multiply-adds an image and pass", "chips", "images a chip", "GiB of HBM a chip",
    "fits", "GFLOP", "GiB to and from memory", "kernels launched", "ms at least, limited by", "bytes between chips",
    "compiled in s",
)  # fmt: skip


def plan(name: str, changes: Changes, topology: str, images: int | None, python: str) -> dict:
    """Returns the content of plan.json without its longest lists, or {'failed': last line printed} if it failed."""
    settings = {"plan.topology": topology, "plan.largest_batch": False, **changes}
    if images:
        settings["batch_size"] = images * math.prod(map(int, re.findall(r"\d+", topology.partition(":")[2])))
    with tempfile.TemporaryDirectory() as workdir:
        flags = [f"--config.{key}={value}" for key, value in settings.items()]
        command = [python, str(MAIN), "--mode=plan", f"--config={_file(name)}", f"--workdir={workdir}", *flags]
        ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if ended.returncode:
            return {"failed": ended.stdout.strip().splitlines()[-1] if ended.stdout.strip() else "without a message"}
        content = json.loads((pathlib.Path(workdir) / "plan.json").read_text())
    for step in content["steps"].values():
        del step["moved"]
    del content["parts"]
    return content


def _file(config: str) -> str:
    """Returns the path of the config file of 'NAME', 'NAME:ARGUMENT' or either with '@VARIANT', with the argument."""
    name, colon, argument = config.partition("@")[0].partition(":")
    return f"{MAIN.parent / 'configs' / name}.py{colon}{argument}"


def with_variants(configs: Sequence[str]) -> dict[str, Changes]:
    """Returns the keys that each of `configs` changes, with an entry for each variant in place of 'NAME@'.

    Raises ValueError, beginning with the name, for a variant that is not there or a file that has none.
    """
    found: dict[str, Changes] = {}
    for name in configs:
        config, at, variant = name.partition("@")
        if not at:
            found[name] = {}
            continue
        try:
            variants = sweep_runs.variants_of(_file(config))
        except (ValueError, TypeError, OSError) as error:
            raise ValueError(f"{name}: {error}") from None
        if variant and variant not in variants:
            raise ValueError(f"{name}: there is no variant {variant!r}, only {', '.join(variants)}")
        found |= {f"{config}@{each}": keys for each, keys in variants.items() if not variant or each == variant}
    return found


def plan_all(
    configs: Mapping[str, Changes], topologies: Sequence[str], *, images: int | None, python: str, out: pathlib.Path
) -> dict[str, dict]:
    """Returns the plans of all configs for all topologies by 'CONFIG, TOPOLOGY, IMAGES a chip', and those in `out`.

    `configs` has the keys that each changes, see `with_variants`.
    """
    results = json.loads(out.read_text()) if out.exists() else {}
    left = {_title(*pair, images): pair for pair in itertools.product(configs, topologies)}
    left = {title: pair for title, pair in left.items() if "failed" in results.get(title, {"failed": ""})}
    begun = time.monotonic()
    for number, (title, (name, topology)) in enumerate(left.items(), 1):
        results[title] = plan(name, configs[name], topology, images, python)
        write_text(out, json.dumps(results, indent=2) + "\n")
        seconds = time.monotonic() - begun
        rest = seconds / number * (len(left) - number)
        print(f"{number} of {len(left)}: {title}: {results[title].get('failed', 'planned')}; {seconds:.0f} s gone, "
              f"about {rest:.0f} s left", flush=True)  # fmt: skip
    return results


def _title(name: str, topology: str, images: int | None) -> str:
    return f"{name}, {topology}, {images} a chip" if images else f"{name}, {topology}, its own batch"


def table(results: dict[str, dict]) -> str:
    """Returns the results as a Markdown table."""
    lines = ["| " + " | ".join(HEAD) + " |", "| --- " * len(HEAD) + "|"]
    return "\n".join(lines + ["| " + " | ".join(_cells(title, content)) + " |" for title, content in results.items()])


def _cells(title: str, content: dict) -> list[str]:
    name, topology, _ = title.split(", ")
    if "failed" in content:
        return [name, topology, f"failed: {content['failed']}", *[""] * (len(HEAD) - 3)]
    train, memory, chips = content["steps"]["train"], content["chip"]["memory"], content["chips"]
    needed = "?" if train["needed"] is None else f"{train['needed'] / 2**30:.2f}"
    cells = [name, topology, f"{content['multiply_adds'] / 1e6:,.1f}", f"{chips:,}", f"{train['batch_size'] / chips:g}"]
    cells += [f"{needed} of {memory / 2**30:.2f}" if memory else needed, _fits(content)]
    if train["refusal"]:
        return [*cells, *[""] * 5, f"{train['seconds']:.0f}"]
    times = train["seconds_by_limit"]
    limit = max(times, key=times.get, default="")
    moved = dict.fromkeys((row["purpose"] for row in train["traffic"]), 0)
    for row in train["traffic"]:
        moved[row["purpose"]] += row["bytes"]
    return [
        *cells,
        f"{train['costs']['flops'] / 1e9:,.1f}",
        f"{train['costs']['bytes'] / 2**30:.2f}",
        f"{train['launches']:,}" if train.get("launches") else "",  # of GPUs only
        f"{1e3 * times[limit]:.3g}, {limit}" if times else "",
        ", ".join(f"{purpose} {size:,.0f}" for purpose, size in moved.items()),
        f"{train['seconds']:.0f}",
    ]


def _fits(content: dict) -> str:
    """Returns whether both steps fit; '?' if the chip's memory is not known."""
    steps, memory = content["steps"].values(), content["chip"]["memory"]
    if not memory:
        return "?"
    return "yes" if all(not step["refusal"] and step["needed"] <= memory for step in steps) else "NO"


def main(args: list[str] | None = None) -> None:
    """Makes the plans, prints and writes the table, and exits with code 1 if a plan failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.plans", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--configs", nargs="+", required=True, help="NAME, NAME:ARGUMENT, or either with @VARIANT or @")
    parser.add_argument(
        "--topologies", nargs="+", required=True, help="as config.plan.topology: v5e:16x16, h100:1x8, devices"
    )
    parser.add_argument(
        "--images", type=int, help="images per chip of a topology by name; else the config's batch_size over all chips"
    )
    parser.add_argument(
        "--python", default=sys.executable, help="interpreter with requirements-tpu.txt or -gpu-plan.txt"
    )
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("plans.json"), help="where to write")
    options = parser.parse_args(args)
    if options.images and "devices" in options.topologies:
        parser.error("--images is for topologies by name: leave it out for the devices here")
    try:
        configs = with_variants(options.configs)
    except ValueError as error:
        parser.error(str(error))
    made = {"images": options.images, "python": options.python, "out": options.out}
    results = plan_all(configs, options.topologies, **made)
    lines = table(results)
    page = write_text(options.out.with_suffix(".md"), f"{lines}\n")
    print(f"{lines}\nwritten to {options.out} and {page}")
    wanted = (_title(*pair, options.images) for pair in itertools.product(configs, options.topologies))
    sys.exit(any("failed" in results[title] for title in wanted))


if __name__ == "__main__":
    main()
