r"""Builds a folder of large images with small handwritten digits, whose class is the digit.

    python -m benchmarks.real.digits digits --side=320 --detail=16 --copies=4

An image of class 0 has `copies` digits 3, and one of class 1 as many digits 8, each `detail` pixels wide, at random
places that do not overlap, on a grey and grainy ground. All digits have the same mean and the same deviation, so that
neither brightness nor contrast tells the classes apart. As the "megapixel MNIST" of Katharopoulos and Fleuret (2019,
section 4.1), these images ask whether a network finds a small shape. Both the size of the detail and the number of
places that show it can be chosen.

Data: the handwritten digits of scikit-learn, 8x8 pixels, by 13 writers (Alpaydin and Kaynak 1998, the test set of UCI's
"Optical Recognition of Handwritten Digits", CC BY 4.0).

labels.csv: image, target, pool. Images of different pools have no handwriting in common: keep pools on one side of a
split with --config.data.group_by=pool.
"""

import argparse
import pathlib

import cv2
import numpy as np
from sklearn.datasets import load_digits

from benchmarks.real import image_folder

CLASSES = (3, 8)
POOLS = 60  # parts of the handwriting, of three pictures of each digit
GROUND, GRAIN = 170.0, 8.0  # grey level of the ground, and standard deviation of its grain
MEAN, DEVIATION = 30.0, 35.0  # by which a digit is darker than the ground, over its square, in grey levels
LICENCE = b"Handwritten digits: E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998. CC BY 4.0.\n"


def read_digits(digit: int) -> np.ndarray:
    """Returns the pictures of a digit, float32 `[N, 8, 8]` of 0 to 16, in the order of the data."""
    pictures, labels = load_digits(return_X_y=True)
    return pictures[labels == digit].reshape(-1, 8, 8).astype(np.float32)


def draw(random: np.random.Generator, pictures: np.ndarray, *, side: int, detail: int, copies: int) -> np.ndarray:
    """Draws an image with `copies` of the `pictures`, each another one if there are enough: uint8 `[side, side]`.

    The places are in cells of a grid whose corner is random. Cells are wider than digits, so that digits do not touch.
    """
    picture = GROUND + random.normal(0, GRAIN, (side, side))
    step = detail * 5 // 4
    top, left = random.integers(0, step, 2)
    rows, columns = (side - top) // step, (side - left) // step
    chosen = pictures[random.choice(len(pictures), copies, replace=copies > len(pictures))]
    for digit, cell in zip(chosen, random.choice(rows * columns, copies, replace=False)):
        y, x = top + cell // columns * step, left + cell % columns * step
        ink = cv2.resize(digit, (detail, detail), interpolation=cv2.INTER_LINEAR)
        picture[y : y + detail, x : x + detail] -= MEAN + DEVIATION * (ink - ink.mean()) / ink.std()
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def build(folder: pathlib.Path, *, number: int, side: int, detail: int, copies: int) -> None:
    """Writes `number` images, half of each class, and labels.csv. Image i is a function of i and the sizes."""
    pools = [np.array_split(read_digits(digit), POOLS) for digit in CLASSES]
    rows = []
    for index in range(number):
        target, pool = index % 2, index // 2 % POOLS
        random = np.random.default_rng([index, side, detail, copies])
        name = f"{index:05d}.png"
        picture = draw(random, pools[target][pool], side=side, detail=detail, copies=copies)
        image_folder.write_image(folder, name, picture)
        rows.append({"image": name, "target": target, "pool": pool})
    image_folder.write_labels(folder, rows, LICENCE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="where to write")
    parser.add_argument("--number", type=int, default=1200, help="images, half of each class")
    parser.add_argument("--side", type=int, default=320, help="side of an image in pixels")
    parser.add_argument("--detail", type=int, default=16, help="side of a digit in pixels")
    parser.add_argument("--copies", type=int, default=4, help="digits of an image")
    options = parser.parse_args()
    build(options.folder, number=options.number, side=options.side, detail=options.detail, copies=options.copies)
