"""Times window_conv against an ordinary stem convolution with the same output, on the device at hand.

The reference is XLA's 3x3 convolution with stride 2 of 224x224x3 float32 thumbnails; window_conv reads full-resolution
images. Both are timed in turn, forward and forward + backward (of the kernel), with outputs of 112x112. Prints a table
for each batch size, image size and pixel type, and writes all of them as JSON.
"""

import argparse
import itertools
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from benchmarks import timing
from stochconv_jax.ops import sample_windows, window_conv, window_size

OUTPUT, KERNEL, STRIDES = (112, 112), (3, 3), (2, 2)
WINDOW = window_size(OUTPUT, KERNEL, STRIDES)
SAMPLINGS = ("per_image", "per_batch", "shared")


def plain_stem(kernel: jax.Array, thumbnails: jax.Array) -> jax.Array:
    """Computes the reference."""
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(thumbnails, kernel, STRIDES, "SAME", dimension_numbers=layout)


def window_stem(kernel: jax.Array, images: jax.Array, windows: jax.Array) -> jax.Array:
    """Computes the stochastic stem."""
    return window_conv(images, windows, kernel, strides=STRIDES, window_size=WINDOW)


def both_ways(stem, kernel, g, *inputs):
    """Returns the stem's output and its kernel's gradient."""
    out, back = jax.vjp(lambda kernel: stem(kernel, *inputs), kernel)
    return out, back(g)


def measure(*, batch: int, size: int, dtype: str, features: int, rounds: int) -> dict[str, dict]:
    """Returns timings of 'forward' and 'forward + backward' for one batch size, image size and pixel type."""
    keys = jax.random.split(jax.random.key(0), 5)
    kernel = jax.random.normal(keys[0], (*KERNEL, 3, features))
    g = jax.random.normal(keys[1], (batch, *OUTPUT, features))
    thumbnails = jax.random.normal(keys[2], (batch, 224, 224, 3))
    images = jax.random.bits(keys[3], (batch, size, size, 3), jnp.uint8).astype(dtype)
    cases = {"ordinary stem": (plain_stem, thumbnails)}
    for sampling in SAMPLINGS:
        windows = sample_windows(
            keys[4], image_size=(size, size), window_size=WINDOW, batch=batch, features=features, sampling=sampling
        )
        cases[sampling] = (window_stem, images, windows)

    forward, backward = {}, {}
    for name, (stem, *inputs) in cases.items():
        forward[name] = partial(jax.jit(stem), kernel, *inputs)
        backward[name] = partial(jax.jit(partial(both_ways, stem)), kernel, g, *inputs)
    calls = timing.calls(few=20)
    return {
        "forward": timing.in_turn(forward, rounds=rounds, calls=calls),
        "forward + backward": timing.in_turn(backward, rounds=rounds, calls=calls),
    }


def arguments(args: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stem", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, nargs="+", default=[8], help="batch sizes (default: 8)")
    parser.add_argument(
        "--size", type=int, nargs="+", default=[512, 1024, 2048, 4096], help="image sides in pixels, 225 or more"
    )
    parser.add_argument(
        "--dtype", nargs="+", choices=["uint8", "float32"], default=["uint8"], help="types of the pixels"
    )
    parser.add_argument("--features", type=int, default=32, help="filters (default: 32)")
    parser.add_argument("--rounds", type=int, default=15, help="how often each is timed, 2 or more (default: 15)")
    parser.add_argument("--json", default="stem.json", help="where the results go (default: stem.json)")
    return parser.parse_args(args)


def main(args: list[str] | None = None) -> None:
    """Runs the benchmark, prints tables and writes JSON."""
    options, results = arguments(args), {}
    timing.prepare_process()
    for batch, size, dtype in itertools.product(options.batch, options.size, options.dtype):
        measured = measure(batch=batch, size=size, dtype=dtype, features=options.features, rounds=options.rounds)
        for way, timings in measured.items():
            title = f"batch {batch}, {size}x{size} {dtype}, {way}"
            results[title] = timings
            print(timing.table(title, timings), flush=True)
    timing.write(options.json, results)
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
