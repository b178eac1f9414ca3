"""Times the parts of reading an image in this project and in other libraries, on one core, per image.

    pip install torchvision "pyvips[binary]" kornia_rs
    python -m benchmarks.input_parts --images=FOLDER

The parts: decode a JPEG, warp it by one bilinear affine map, and shrink the result to the thumbnail. Every library gets
the same maps. The sum of each column's fastest time is a lower bound for one image. Libraries that are not installed
are left out.
"""

import argparse
import importlib.util
import io
import os
import pathlib
from collections.abc import Callable, Iterator

import cv2
import numpy as np
import PIL.Image

from benchmarks import timing
from stochconv_jax.data import augment, image_io
from stochconv_jax.runtime import host_memory

PARTS = ("decode", "warp", "thumbnail")
Part = Callable[..., object]


def ours(side: int) -> dict[str, Part]:
    """Returns the parts as in training: simplejpeg and OpenCV."""
    return {"decode": image_io.decode, "warp": augment.warp, "thumbnail": lambda x: augment.resize(x, (side, side))}


def pillow(side: int) -> dict[str, Part]:
    """Returns the parts by Pillow, which also takes the map from output to source; outside the picture it is black."""

    def warp(picture, affine):
        moved = affine @ np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]]) + np.array([[0, 0, 0.5]])
        kind, mode = PIL.Image.Transform.AFFINE, PIL.Image.Resampling.BILINEAR
        return np.asarray(PIL.Image.fromarray(picture).transform(picture.shape[1::-1], kind, moved.ravel(), mode))

    return {
        "decode": lambda content: np.asarray(PIL.Image.open(io.BytesIO(content)).convert("RGB")),
        "warp": warp,
        "thumbnail": lambda x: np.asarray(PIL.Image.fromarray(x).resize((side, side), PIL.Image.Resampling.BOX)),
    }


def torchvision(side: int) -> dict[str, Part]:
    """Returns the parts by Torchvision, on uint8 tensors."""
    import torch
    import torchvision.io
    from torch.nn import functional as nn
    from torchvision.transforms.v2 import functional

    torch.set_num_threads(1)

    def warp(picture, affine):
        height, width = picture.shape[:2]
        # From pixels to -1..1, the coordinates of affine_grid with align_corners=True.
        scale = np.array([[2 / (width - 1), 0, -1], [0, 2 / (height - 1), -1], [0, 0, 1]])
        theta = torch.from_numpy((scale @ np.vstack([affine, [0, 0, 1]]) @ np.linalg.inv(scale))[None, :2]).float()
        grid = nn.affine_grid(theta, [1, 3, height, width], align_corners=True)
        pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
        warped = nn.grid_sample(pixels, grid, padding_mode="reflection", align_corners=True)
        return warped.round().byte()[0].permute(1, 2, 0).numpy()

    return {
        "decode": lambda content: torchvision.io.decode_jpeg(torch.frombuffer(bytearray(content), dtype=torch.uint8)),
        "warp": warp,
        "thumbnail": lambda x: functional.resize(torch.from_numpy(x).permute(2, 0, 1), [side, side], antialias=True),
    }


def pyvips(side: int) -> dict[str, Part]:
    """Returns the parts by libvips, which takes the map from source to output."""
    os.environ["VIPS_CONCURRENCY"] = "1"
    import pyvips as vips

    def warp(picture, affine):
        (a, b, x), (c, d, y) = _inverse(affine)
        height, width = picture.shape[:2]
        place = {"oarea": [0, 0, width, height], "odx": x, "ody": y, "extend": "mirror"}
        bilinear = vips.Interpolate.new("bilinear")
        return vips.Image.new_from_array(picture).affine([a, b, c, d], interpolate=bilinear, **place).numpy()

    def thumbnail(picture):
        return vips.Image.new_from_array(picture).thumbnail_image(side, height=side, size="force").numpy()

    return {
        "decode": lambda content: vips.Image.new_from_buffer(content, "").numpy(),
        "warp": warp,
        "thumbnail": thumbnail,
    }


def kornia_rs(side: int) -> dict[str, Part]:
    """Returns the parts by Kornia's Rust library, which takes the map from source to output.

    Its bilinear resize does not average over pixels, so the thumbnail uses Lanczos.
    """
    os.environ["RAYON_NUM_THREADS"] = "1"
    import kornia_rs as kornia

    def warp(picture, affine):
        return kornia.imgproc.warp_affine(picture, _inverse(affine).ravel().tolist(), picture.shape[:2], "bilinear")

    return {
        "decode": lambda content: kornia.io.decode_image_jpegturbo(content, "rgb"),
        "warp": warp,
        "thumbnail": lambda x: kornia.imgproc.resize(x, (side, side), "lanczos"),
    }


def _inverse(affine: np.ndarray) -> np.ndarray:
    return np.linalg.inv(np.vstack([affine, [0, 0, 1]]))[:2]


LIBRARIES = {"stochconv_jax": ours, "PIL": pillow, "torchvision": torchvision, "pyvips": pyvips, "kornia_rs": kornia_rs}


def installed() -> Iterator[str]:
    """Returns the names in `LIBRARIES` that can be imported."""
    return (name for name in LIBRARIES if importlib.util.find_spec(name))


def measure(files: list[pathlib.Path], *, thumbnail: int, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Returns timings per image by part and library, on the same pictures and maps."""
    cv2.setNumThreads(1)
    host_memory.keep_freed()  # as in a worker of this project
    contents = [file.read_bytes() for file in files]
    pictures = [image_io.decode(content) for content in contents]
    random, ranges = np.random.default_rng(0), augment.Augmentation()
    maps = [augment.random_affine(random, picture.shape[:2], ranges) for picture in pictures]
    inputs = {"decode": (contents,), "warp": (pictures, maps), "thumbnail": (pictures,)}
    libraries = {name: LIBRARIES[name](thumbnail) for name in installed()}

    def over_all(part: Part, *rows) -> Callable[[], None]:
        return lambda: [part(*row) for row in zip(*rows)] and None

    results = {}
    for part in PARTS:
        runs = {name: over_all(library[part], *inputs[part]) for name, library in libraries.items()}
        results[part] = timing.in_turn(runs, rounds=rounds)
        for row in results[part].values():
            row |= {name: row[name] / len(files) for name in ("median", "spread")}
    return results


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """Returns the medians as a Markdown table, and the sum of the fastest of each column."""
    lines = ["| ms an image | " + " | ".join(PARTS) + " |", "| --- " * (len(PARTS) + 1) + "|"]
    for name in results[PARTS[0]]:
        lines.append(f"| {name} | " + " | ".join(f"{results[part][name]['median']:.1f}" for part in PARTS) + " |")
    floor = sum(min(row["median"] for row in results[part].values()) for part in PARTS)
    return "\n".join([*lines, f"The fastest of each part together: {floor:.1f} ms."])


def main(args: list[str] | None = None) -> None:
    """Runs the benchmark, prints a table and writes JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.input_parts",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=pathlib.Path, required=True, help="a folder of JPEGs")
    parser.add_argument("--count", type=int, default=24, help="use the first so many (default: 24)")
    parser.add_argument("--thumbnail", type=int, default=224, help="side of the thumbnail (default: 224)")
    parser.add_argument("--rounds", type=int, default=7, help="passes over the images, 2 or more (default: 7)")
    parser.add_argument("--json", default="input_parts.json", help="where the results go")
    options = parser.parse_args(args)
    files = sorted(options.images.glob("*.jpg"))[: options.count]
    if not files:
        raise SystemExit(f"--images={options.images} holds no .jpg")
    results = measure(files, thumbnail=options.thumbnail, rounds=options.rounds)
    print(table(results))
    timing.write(options.json, results)
    print(f"written to {options.json}")


if __name__ == "__main__":
    main()
