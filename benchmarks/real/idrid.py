"""Builds a folder of fundus photographs, with their grades of diabetic retinopathy, from the data set IDRiD.

    git clone --bare https://github.com/imsaksham-c/EyeDisease_IDRiD IDRID
    python -m benchmarks.real.idrid IDRID retina --size=1024

Data: Porwal, Pachade and Kokare, "Indian Diabetic Retinopathy Image Dataset" (2018), disease grading: 516 photographs
of 4288x2848 pixels, CC BY 4.0. The field of view is cropped to its bounding box, padded to a square with black and
resized by area. Six pairs of files are the same photograph: one copy is left out, or both where their classes differ.

labels.csv: image, target, split (the data set's own), retinopathy_grade 0..4, dme_risk 0..2. No patients are known.
"""

import argparse
import csv
import io
import pathlib

import cv2
import numpy as np

from benchmarks.real import image_folder
from benchmarks.real.archive import Archive, Clone
from stochconv_jax.training.progress import Progress

ARCHIVE = Archive(
    "https://github.com/imsaksham-c/EyeDisease_IDRiD",
    "dataset/B. Disease Grading",
    "671d72906b4ed1bf51d4f857e26008495169da8b",
)
PARTS = {"train": ("Training", "a. Training Set"), "test": ("Testing", "b. Testing Set")}
# Files of the same bytes: the one that is left out, and the one that stays if both have the same class.
COPIES = {
    "train_IDRiD_118": "test_IDRiD_064",
    "train_IDRiD_391": "train_IDRiD_021",
    "train_IDRiD_279": "train_IDRiD_079",
    "train_IDRiD_327": "train_IDRiD_028",
    "train_IDRiD_375": "train_IDRiD_073",
    "train_IDRiD_333": "train_IDRiD_045",
}
TARGETS = {
    "referable": lambda row: int(row["retinopathy_grade"] >= 2),
    "retinopathy": lambda row: int(row["retinopathy_grade"] >= 1),
    "macular_oedema": lambda row: int(row["dme_risk"] >= 1),
    "grade": lambda row: row["retinopathy_grade"],
}
BACKGROUND = 20  # the largest value of a pixel outside the field of view
SHRINK = 8  # the bounding box is found on an image this many times smaller


def read_labels(clone: Clone, target: str) -> list[dict]:
    """Returns the rows of labels.csv without copies, in the order of the data set, with the path of each file."""
    rows = []
    for split, (part, images) in PARTS.items():
        letter = images[0]
        table = clone.read(f"2. Groundtruths/{letter}. IDRiD_Disease Grading_{part} Labels.csv").decode("utf-8-sig")
        for cells in csv.reader(io.StringIO(table)):
            name = cells[0].strip()
            if not name.startswith("IDRiD_"):  # the header, and empty rows at the end
                continue
            row = {"image": f"{split}_{name}.jpg", "target": 0, "split": split}
            row |= {"retinopathy_grade": int(cells[1]), "dme_risk": int(cells[2])}
            row["target"] = TARGETS[target](row)
            rows.append(row | {"path": f"1. Original Images/{images}/{name}.jpg"})
    classes = {row["image"].removesuffix(".jpg"): row["target"] for row in rows}
    left_out = set(COPIES) | {kept for copy, kept in COPIES.items() if classes[copy] != classes[kept]}
    return [row for row in rows if row["image"].removesuffix(".jpg") not in left_out]


def square(picture: np.ndarray, size: int) -> np.ndarray:
    """Returns the field of view of a photograph, padded to a square and resized by area: uint8 `[size, size, 3]`."""
    height, width = picture.shape[:2]
    small = cv2.resize(picture, (width // SHRINK, height // SHRINK), interpolation=cv2.INTER_AREA)
    seen = small.max(axis=2) > BACKGROUND
    rows, columns = (np.flatnonzero(seen.mean(axis=axis) > 0.02) for axis in (1, 0))
    top, left = (max(0, SHRINK * (found[0] - 1)) for found in (rows, columns))
    bottom, right = (SHRINK * (found[-1] + 2) for found in (rows, columns))
    crop = picture[top:bottom, left:right]
    side = max(crop.shape[:2])
    before = [(side - length) // 2 for length in crop.shape[:2]]
    after = [side - length - offset for length, offset in zip(crop.shape[:2], before)]
    padded = np.pad(crop, ((before[0], after[0]), (before[1], after[1]), (0, 0)))
    return cv2.resize(padded, (size, size), interpolation=cv2.INTER_AREA)


def build(clone: Clone, folder: pathlib.Path, *, size: int, target: str) -> None:
    """Writes the images that are not there yet in this size, and labels.csv."""
    (folder / "labels.csv").unlink(missing_ok=True)  # it is written after all images and says that they are there
    rows = read_labels(clone, target)
    progress = Progress(len(rows), emit=print)
    for index, row in enumerate(rows):
        path = row.pop("path")
        file = folder / "images" / row["image"]
        there = cv2.imread(str(file)) if file.exists() else None
        if there is None or there.shape[:2] != (size, size):
            bgr = cv2.imdecode(np.frombuffer(clone.read(path), np.uint8), cv2.IMREAD_COLOR)
            image_folder.write_image(folder, row["image"], square(bgr, size)[..., ::-1])
        progress.update(index + 1)
    image_folder.write_labels(folder, rows, clone.read("LICENSE.txt"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=pathlib.Path, help=f"a clone of {ARCHIVE.url}")
    parser.add_argument("folder", type=pathlib.Path, help="where to write")
    parser.add_argument("--size", type=int, default=1024, help="side of the images in pixels")
    parser.add_argument("--target", choices=TARGETS, default="referable", help="which classes to write")
    options = parser.parse_args()
    try:
        opened = ARCHIVE.open(options.clone)
    except ValueError as error:
        parser.error(str(error))
    build(opened, options.folder, size=options.size, target=options.target)
