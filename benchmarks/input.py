"""Times the training input against the same steps in PIL, on one core, in milliseconds per image.

    python -m benchmarks.input --images=FOLDER

Both decode a JPEG, take a random crop of 0.6 to 1 of its area, flip it, rotate it by any angle (bilinear) and make
image and thumbnail, or the thumbnail alone. The reference works like torchvision's transforms of PIL images: a resized
crop, flips, a rotation and a resize, one after the other; for the thumbnail alone, the crop is resized directly to the
thumbnail's size. Prints tables of medians and writes them as JSON. Without a folder, drawn pictures are read, which do
not decode as fast as photographs.
"""

import argparse
import io
import itertools
import pathlib
import tempfile
from collections.abc import Callable

import cv2
import numpy as np
import PIL.Image

from benchmarks import timing
from stochconv_jax.data import pipeline
from stochconv_jax.data.augment import Augmentation
from stochconv_jax.data.sources import FolderSource
from stochconv_jax.data.synthetic import SyntheticSource
from stochconv_jax.runtime import host_memory

DRAWN = 20
OUTPUTS = {"image and thumbnail": ("image", "thumbnail"), "thumbnail only": ("thumbnail",)}


def with_pil(
    content: bytes, random: np.random.Generator, *, image_size: int, thumbnail_size: int, outputs: tuple[str, ...]
) -> list[np.ndarray]:
    """Runs the reference on one image. Outside of a rotated image it is black, not mirrored, which is faster."""
    picture = PIL.Image.open(io.BytesIO(content)).convert("RGB")
    area, aspect = random.uniform(0.6, 1.0), np.exp(random.uniform(-0.28, 0.28))
    width = min(picture.width, picture.width * np.sqrt(area * aspect))
    height = min(picture.height, picture.height * np.sqrt(area / aspect))
    left, top = random.uniform(0, picture.width - width), random.uniform(0, picture.height - height)
    side = image_size if "image" in outputs else thumbnail_size
    picture = picture.resize((side, side), PIL.Image.Resampling.BILINEAR, box=(left, top, left + width, top + height))
    for flip in (PIL.Image.Transpose.FLIP_LEFT_RIGHT, PIL.Image.Transpose.FLIP_TOP_BOTTOM):
        if random.random() < 0.5:
            picture = picture.transpose(flip)
    picture = picture.rotate(random.uniform(-180, 180), PIL.Image.Resampling.BILINEAR)
    if "image" not in outputs:
        return [np.asarray(picture)]
    thumbnail = picture.resize((thumbnail_size, thumbnail_size), PIL.Image.Resampling.BILINEAR)
    return [np.asarray(picture), np.asarray(thumbnail)]


def alternatives(
    files: list[pathlib.Path], *, image_size: int, thumbnail_size: int, outputs: tuple[str, ...]
) -> dict[str, Callable[[], None]]:
    """Returns functions that read all `files`: with PIL, and like a training worker of this project."""
    sizes = {"image_size": image_size, "thumbnail_size": thumbnail_size, "outputs": outputs}
    random, steps = np.random.default_rng(0), itertools.count()
    squares = {name: (value, value) for name, value in sizes.items() if name != "outputs"}
    row = pipeline.TrainRow(
        pipeline.Reader(FolderSource.from_files(files), outputs=outputs, **squares),
        Augmentation(),
        seed=0,
        batch_size=len(files),
        host_index=0,
        host_count=1,
        skip_bad=False,
        order="shuffled",
    )

    def reference():
        for file in files:
            with_pil(file.read_bytes(), random, **sizes)

    def ours():
        start = next(steps) * len(files)
        for position in range(start, start + len(files)):
            row.map(position)

    return {"PIL": reference, "stochconv_jax": ours}


def draw(folder: pathlib.Path, size: int) -> None:
    """Draws pictures of `size` x `size` pixels into `folder`, as JPEGs."""
    source = SyntheticSource(size=DRAWN, image_size=(size, size), seed=0)
    for index, name in enumerate(source.names):
        cv2.imwrite(str(folder / f"{name}.jpg"), source.read(index)[..., ::-1])


def measure(files: list[pathlib.Path], *, image_size: int, thumbnail_size: int, rounds: int) -> dict[str, dict]:
    """Returns timings of both per image, for each kind of output."""
    cv2.setNumThreads(1)
    host_memory.keep_freed()  # as in a worker
    results = {}
    for title, outputs in OUTPUTS.items():
        passes = alternatives(files, image_size=image_size, thumbnail_size=thumbnail_size, outputs=outputs)
        timed = timing.in_turn(passes, rounds=rounds)
        for row in timed.values():
            row |= {name: row[name] / len(files) for name in ("median", "spread")}
        results[f"{title}, {image_size} -> {thumbnail_size}, one image"] = timed
    return results


def main(args: list[str] | None = None) -> None:
    """Runs the benchmark, prints tables and writes JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.input", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=pathlib.Path, help="a folder of JPEGs of --size or more (default: drawn ones)")
    parser.add_argument("--size", type=int, default=1024, help="side of the image in pixels (default: 1024)")
    parser.add_argument("--thumbnail", type=int, default=224, help="side of the thumbnail (default: 224)")
    parser.add_argument("--rounds", type=int, default=7, help="passes over the folder, 2 or more (default: 7)")
    parser.add_argument("--json", default="input.json", help="where the results go (default: input.json)")
    options = parser.parse_args(args)
    with tempfile.TemporaryDirectory() as drawn:
        if options.images is None:
            draw(pathlib.Path(drawn), options.size)
        folder = options.images or pathlib.Path(drawn)
        files = sorted(folder.glob("*.jpg"))
        if not files:
            raise SystemExit(f"--images={folder} holds no .jpg")
        results = measure(files, image_size=options.size, thumbnail_size=options.thumbnail, rounds=options.rounds)
    for title, timings in results.items():
        print(timing.table(title, timings), flush=True)
    timing.write(options.json, results)
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
