"""Times --mode=prepare against a loop in PIL, in images per second on the same originals and cores.

    python -m benchmarks.prepare --raw=FOLDER

Links the originals of FOLDER that are large enough `--copies` times and prepares them with one worker and with
`--workers`, to plain files and also to shards. The reference is a loop as in a notebook, which opens, crops (by the
report's rule), resizes and saves (as JPEG of quality 95) one image after the other. PIL has no area filter that weights
the pixels at an edge; BOX is the closest, BICUBIC the default. Prints a table and writes it as JSON.
"""

import argparse
import functools
import json
import pathlib
import tempfile
import time
from collections.abc import Callable, Sequence

import PIL.Image

from stochconv_jax.data import image_io
from stochconv_jax.data.isic import image_encoding, isic_melanoma, preparation
from stochconv_jax.data.isic.shard_plan import FORMATS, PlannedImage, PlannedShard, Settings
from stochconv_jax.data.isic.workers import Workers

QUALITY = 95
FILTERS = {"box": PIL.Image.Resampling.BOX, "bicubic": PIL.Image.Resampling.BICUBIC}


def pil_loop(files: Sequence[pathlib.Path], folder: pathlib.Path, *, size: int, resample: PIL.Image.Resampling) -> None:
    """Runs the reference."""
    for file in files:
        with PIL.Image.open(file) as picture:
            top, left, height, width = image_encoding.crop_box(picture.height, picture.width, "report")
            picture = picture.convert("RGB").crop((left, top, left + width, top + height))
            picture.resize((size, size), resample).save(folder / file.name, quality=QUALITY)


def ours(
    files: Sequence[pathlib.Path], folder: pathlib.Path, *, size: int, workers: Workers, formats: Sequence[str]
) -> None:
    """Does the same work like --mode=prepare, with records and checksums."""
    settings = Settings(size, "report", QUALITY, tuple(formats), images_per_shard=8)
    images = [PlannedImage(file.stem, (file,), 0, dict.fromkeys(isic_melanoma.TEXTS, "")) for file in files]
    parts = [tuple(images[start : start + 8]) for start in range(0, len(images), 8)]
    plan = [PlannedShard("train", index, len(parts), part) for index, part in enumerate(parts)]
    preparation.run(folder, plan, settings, workers)


def link(raw: pathlib.Path, folder: pathlib.Path, size: int, copies: int) -> list[pathlib.Path]:
    """Makes `copies` links to each original that is large enough, and returns them."""
    files = [file for file in sorted(raw.glob("*.jpg")) if min(image_io.read_size(file)) >= size]
    if not files:
        raise SystemExit(f"no original of {size} pixels or more in {raw}")
    links = []
    for copy in range(copies):
        for file in files:
            links.append(folder / f"{file.stem}_{copy}.jpg")
            links[-1].symlink_to(file.absolute())
    return links


def images_a_second(work: Callable, files: Sequence[pathlib.Path]) -> float:
    """Returns the speed of `work(files, folder)` with an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        work(files, pathlib.Path(folder))
        return len(files) / (time.perf_counter() - start)


def measure(files: Sequence[pathlib.Path], size: int, num_workers: int, rounds: int) -> dict[str, float]:
    """Returns the best of `rounds` for each case; cases take turns, so that other load affects all of them."""
    with Workers(1) as one, Workers(num_workers) as all_of_them:
        many = {"size": size, "workers": all_of_them}
        both = functools.partial(ours, **many, formats=FORMATS)
        images_a_second(both, files[:8])  # starts the processes
        cases = {
            **{f"PIL loop, {n}": functools.partial(pil_loop, size=size, resample=f) for n, f in FILTERS.items()},
            "prepare, 1 worker": functools.partial(ours, size=size, workers=one, formats=("folder",)),
            f"prepare, {all_of_them.count} workers": functools.partial(ours, **many, formats=("folder",)),
            "  and to shards too": both,
        }
        taken = [{name: images_a_second(work, files) for name, work in cases.items()} for _ in range(rounds)]
    return {name: max(round_[name] for round_ in taken) for name in taken[0]}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=pathlib.Path, required=True, help="a folder of originals")
    parser.add_argument("--size", type=int, default=1024, help="side of the prepared images in pixels")
    parser.add_argument("--workers", type=int, default=0, help="number of workers, 0 for one per core")
    parser.add_argument("--copies", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("prepare_benchmark.json"))
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        files = link(options.raw, pathlib.Path(folder), options.size, options.copies)
        speeds = measure(files, options.size, options.workers, options.rounds)
    reference = speeds["PIL loop, bicubic"]
    print(f"{'':24}{'images/s':>10}{'x PIL bicubic':>15}")
    for name, speed in speeds.items():
        print(f"{name:24}{speed:10.1f}{speed / reference:15.2f}")
    result = {"size": options.size, "quality": QUALITY, "images_per_second": speeds}
    options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
