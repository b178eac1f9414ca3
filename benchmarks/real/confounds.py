"""Checks whether brightness, size or other things beside the matter in hand tell the classes of a data set apart.

    python -m benchmarks.real.confounds retina
    python -m benchmarks.real.confounds boards --group-by=block

The folder is one that a builder of benchmarks.real has written, with two classes. A random forest predicts the class
from simple features of each image, fitted and tested on stratified folds that keep groups together. An area under the
ROC curve far from 0.5 means that a network may reach it without any detail. Of MVTec's screws, for example, brightness
alone tells the good from the bad test pictures with 1.0.
"""

import argparse
import pathlib
from collections.abc import Callable, Sequence

import cv2
import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from stochconv_jax import metrics
from stochconv_jax.data import augment, sources, table_reader

FOLDS, TREES, LEAST_LEAF = 5, 300, 5
SMALL = (8, 8)  # size of the tiny picture
CORNER = 0.05  # sides of a corner, as a share of the sides of the image


def brightness(picture: np.ndarray, file: bytes) -> np.ndarray:
    """Returns mean and standard deviation of each channel."""
    del file
    return np.concatenate([picture.mean((0, 1)), picture.std((0, 1))])


def tones(picture: np.ndarray, file: bytes) -> np.ndarray:
    """Returns the 1st, 10th, 50th, 90th and 99th percentile of each channel."""
    del file
    cumulative = [np.cumsum(np.bincount(channel.ravel(), minlength=256)) for channel in cv2.split(picture)]
    shares = np.array([0.01, 0.1, 0.5, 0.9, 0.99])
    return np.concatenate([np.searchsorted(counts, shares * counts[-1]) for counts in cumulative]).astype(float)


def size(picture: np.ndarray, file: bytes) -> np.ndarray:
    """Returns height, width and bytes of the file, which grow with the amount of detail too."""
    return np.array([*picture.shape[:2], len(file)], float)


def corners(picture: np.ndarray, file: bytes) -> np.ndarray:
    """Returns mean and standard deviation of each channel in each corner."""
    height, width = (max(1, round(CORNER * side)) for side in picture.shape[:2])
    rows, columns = (slice(height), slice(-height, None)), (slice(width), slice(-width, None))
    return np.concatenate([brightness(picture[row, column], file) for row in rows for column in columns])


def tiny_picture(picture: np.ndarray, file: bytes) -> np.ndarray:
    """Returns the pixels of the picture at 8x8."""
    del file
    return augment.resize(picture, SMALL).ravel().astype(float)


FEATURES: dict[str, Callable[[np.ndarray, bytes], np.ndarray]] = {
    "mean and deviation of each channel": brightness,
    "percentiles of each channel": tones,
    "height, width and bytes of the file": size,
    "corners": corners,
    "picture of 8x8 pixels": tiny_picture,
}


def measure(files: Sequence[pathlib.Path]) -> dict[str, np.ndarray]:
    """Returns the features of all files by name, and all of them together, `[N, F]`."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in FEATURES}
    for file in files:
        content = file.read_bytes()
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        for name, function in FEATURES.items():
            rows[name].append(function(picture, content))
    found = {name: np.stack(values) for name, values in rows.items()}
    return found | {"all of these": np.hstack(list(found.values()))}


def predicted(features: np.ndarray, labels: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Returns the probability of class 1 of each image, by the forest of the fold in which it is tested."""
    probability = np.empty(len(labels))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for train, test in folds.split(features, labels, groups):
        forest = RandomForestClassifier(TREES, min_samples_leaf=LEAST_LEAF, random_state=0)
        probability[test] = forest.fit(features[train], labels[train]).predict_proba(features[test])[:, 1]
    return probability


def main() -> None:
    """Prints a table with a row for each kind of features."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="images/ and labels.csv, of two classes")
    parser.add_argument("--group-by", default="image", help="column whose equal values stay in one fold")
    options = parser.parse_args()
    table = options.folder / "labels.csv"
    source = sources.FolderSource.from_csv(str(options.folder / "images"), str(table), num_classes=2)
    groups = table_reader.read(table).columns[options.group_by]
    names = source.names
    found = measure([options.folder / "images" / name for name in names])
    print(f"{len(names)} images, {int(source.labels.sum())} of class 1, {len(set(groups))} groups; {FOLDS} folds\n")
    print("| features | AUC [95 % interval] |\n| --- | --- |")
    for name, features in found.items():
        score = predicted(features, source.labels, groups)
        low, high = metrics.roc_auc_interval(source.labels, score, groups=groups)
        area = roc_auc_score(source.labels, score)
        print(f"| {name} | {area:.3f} [{low:.3f}, {high:.3f}] |")


if __name__ == "__main__":
    main()
