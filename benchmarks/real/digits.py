r"""Builds a folder of large images with small handwritten digits, whose class is the digit.

    python -m benchmarks.real.digits digits --side=320 --detail=16 --copies=4

An image of class 0 has `copies` digits 3, and one of class 1 as many digits 8, each `detail` pixels wide, at random
places that do not overlap, on a grey and grainy ground. All digits have the same grey values, in other places of their
squares, so that the shape alone tells the classes apart. As the "megapixel MNIST" of Katharopoulos and Fleuret (2019,
section 4.1), these images ask whether a network finds a small shape. Both the size of the detail and the number of
places that show it can be chosen.

Data: the handwritten digits of scikit-learn, 8x8 pixels, by 13 writers (Alpaydin and Kaynak 1998, the test set of UCI's
"Optical Recognition of Handwritten Digits", CC BY 4.0).

labels.csv: image, target, pool. Images of different pools have no picture of a digit in common: keep pools on one side
of a split with --config.data.group_by=pool. A writer's digits are in many pools.
"""

import argparse
import pathlib

import cv2
import numpy as np
from sklearn.datasets import load_digits

from benchmarks.real import image_folder

CLASSES = (3, 8)
POOLS = 60  # parts of the pictures, with two to four of each digit
GROUND, GRAIN = 170.0, 8.0  # grey level of the ground, and standard deviation of its grain
MEAN, DEVIATION = 30.0, 35.0  # by which a digit is darker than the ground, over its square, in grey levels
LICENCE = b"Handwritten digits: E. Alpaydin and C. Kaynak, UCI Machine Learning Repository, 1998. CC BY 4.0.\n"


def read_digits(detail: int) -> list[np.ndarray]:
    """Returns the pictures of each class, float32 `[N, detail, detail]`, by how much they are darker than the ground.

    All pictures have the same values: the k-th darkest pixel of each has the mean of the k-th darkest pixels of all.
    Pixels of equal ink are darker the more ink there is around them.
    """
    pictures, labels = load_digits(return_X_y=True)
    chosen = np.isin(labels, CLASSES)
    large = [cv2.resize(one.reshape(8, 8), (detail, detail)) for one in pictures[chosen].astype(np.float32)]
    ink = np.sort(np.reshape(large, (len(large), -1)), axis=1).mean(0)
    ink = MEAN + DEVIATION * (ink - ink.mean()) / ink.std()
    equalised = np.empty((len(large), detail**2), np.float32)
    for one, picture in zip(equalised, large):
        one[np.argsort((picture + 1e-3 * cv2.GaussianBlur(picture, (0, 0), detail / 8)).ravel())] = ink
    equalised = equalised.reshape(-1, detail, detail)
    return [equalised[labels[chosen] == digit] for digit in CLASSES]


def draw(random: np.random.Generator, pictures: np.ndarray, *, side: int, copies: int) -> np.ndarray:
    """Draws an image with `copies` of the `pictures`, different ones if there are enough: uint8 `[side, side]`.

    The places are in cells of a grid whose corner is random. Cells are wider than digits, so that digits do not touch.
    """
    picture = GROUND + random.normal(0, GRAIN, (side, side))
    detail = pictures.shape[1]
    step = cell_side(detail)
    top, left = random.integers(0, step, 2)
    rows, columns = (side - top) // step, (side - left) // step
    chosen = pictures[random.choice(len(pictures), copies, replace=copies > len(pictures))]
    for digit, cell in zip(chosen, random.choice(rows * columns, copies, replace=False)):
        y, x = top + cell // columns * step, left + cell % columns * step
        picture[y : y + detail, x : x + detail] -= digit
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)


def cell_side(detail: int) -> int:
    """Returns the side in pixels of the grid's cells for digits of `detail` pixels."""
    return detail + max(1, detail // 4)


def build(folder: pathlib.Path, *, number: int, side: int, detail: int, copies: int) -> None:
    """Writes `number` images, half of each class, and labels.csv. Image i is a function of i and the sizes.

    Raises ValueError if the image has no room for the digits.
    """
    room = ((side + 1) // cell_side(detail) - 1) ** 2  # with any corner
    if copies > room:
        raise ValueError(f"copies={copies}: at most {room} digits of {detail} pixels fit into {side}x{side} pixels")
    (folder / "labels.csv").unlink(missing_ok=True)  # it is written last and says that all images are there
    pools = [np.array_split(pictures, POOLS) for pictures in read_digits(detail)]
    rows = []
    for index in range(number):
        target, pool = index % 2, index // 2 % POOLS
        random = np.random.default_rng([index, side, detail, copies])
        name = f"{index:05d}.bmp"  # which is read faster than a PNG; grain hardly compresses
        image_folder.write_image(folder, name, draw(random, pools[target][pool], side=side, copies=copies))
        rows.append({"image": name, "target": target, "pool": pool})
    image_folder.write_labels(folder, rows, LICENCE)


def _at_least(least: int):
    def number(text: str) -> int:
        if int(text) < least:
            raise argparse.ArgumentTypeError(f"{text}: must be {least} or more")
        return int(text)

    return number


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="where to write")
    parser.add_argument("--number", type=_at_least(2), default=1200, help="images, half of each class")
    parser.add_argument("--side", type=_at_least(16), default=320, help="side of an image in pixels")
    parser.add_argument("--detail", type=_at_least(4), default=16, help="side of a digit in pixels")
    parser.add_argument("--copies", type=_at_least(1), default=4, help="digits of an image")
    options = parser.parse_args()
    try:
        build(options.folder, number=options.number, side=options.side, detail=options.detail, copies=options.copies)
    except ValueError as error:
        parser.error(str(error))
