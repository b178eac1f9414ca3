"""Compares thumbnails and windows by a linear probe on the frozen features of a pretrained network.

    python -m benchmarks.real.probe retina lite0.safetensors --features=features.npz

The folder is one that a builder of benchmarks.real has written, with two classes. Each image becomes the pooled
features of the network, of thumbnails of several sides and of random windows, several passes of each number of filters
a window.
A logistic regression on the first principal components is fitted and tested on repeated stratified folds. The table has
the mean area under the ROC curve, and the difference from a larger thumbnail of equal cost, with an interval.

Features are kept in `--features`, so that the table can be made again in seconds. They take two cores some minutes.
"""

import argparse
import pathlib
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks import timing
from stochconv_jax import Classifier
from stochconv_jax.atomic_files import replace
from stochconv_jax.data import augment, sources
from stochconv_jax.models import pretrained, summary, variants
from stochconv_jax.training.progress import Progress

VARIANT = "lite0"
SIDE = 224  # of the thumbnail that goes with windows
OUTPUT = (112, 112)  # of the window stem
FOLDS, COMPONENTS, PENALTY = 5, 100, 0.01  # the penalty is C of scikit-learn, the inverse of its strength
Features = dict[str, np.ndarray]


def network(branch: str, filters_per_window: int = 1) -> Classifier:
    """Returns the network on one branch."""
    variant = variants.get(VARIANT)
    return Classifier(variant=variant, branches=(branch,), window_output=OUTPUT, filters_per_window=filters_per_window)


def inputs(branch: str, pixels: np.ndarray, index: int = 0) -> dict[str, np.ndarray]:
    """Returns the network's inputs for one image, of which `pixels` are the thumbnail or the image, by `branch`."""
    name = "thumbnail" if branch == "thumbnail" else "image"
    return {name: pixels[None], "example": np.array([index], np.uint32)}


def load(branch: str, weights: pathlib.Path) -> dict:
    """Returns the variables of the network on one branch."""
    model, pixels = network(branch), np.zeros((256, 256, 3), np.uint8)
    keys = {"params": jax.random.key(0), "windows": jax.random.key(0)}
    variables, report = pretrained.load(str(weights), model, jax.jit(model.init)(keys, inputs(branch, pixels)))
    if lacking := [name for name in report.fresh if not name.startswith("classifier")]:
        raise ValueError(f"{weights} lacks {lacking[0]}")
    return variables


def measure(
    source: sources.Source, weights: pathlib.Path, *, sides: Sequence[int], groups: Sequence[int], passes: int
) -> Features:
    """Returns the features of all images by name: 'thumbnail S' `[N, F]` and 'windows G' `[N, passes, F]`.

    `sides`: of thumbnails, S, in pixels. `groups`: numbers of filters a window, G.
    """
    thumbnail, windows = (load(branch, weights) for branch in ("thumbnail", "windows"))

    @jax.jit
    def of_thumbnail(given):
        return network("thumbnail").apply(thumbnail, "thumbnail", given, method="encode")[0]

    def of_windows(number):
        @jax.jit
        def features(given):
            def one_pass(key):
                return network("windows", number).apply(
                    windows, "windows", given, method="encode", rngs={"windows": key}
                )[0]

            return jax.lax.map(one_pass, jax.random.split(jax.random.key(0), passes))

        return features

    steps = {number: of_windows(number) for number in groups}
    names = [*(f"thumbnail {side}" for side in sides), *(f"windows {number}" for number in groups)]
    found: dict[str, list] = {name: [] for name in names}
    progress = Progress(len(source), every=10.0, emit=print)
    for index in range(len(source)):
        picture = source.read(index)
        for side in sides:
            small = augment.fit(picture, (side, side))
            found[f"thumbnail {side}"].append(of_thumbnail(inputs("thumbnail", small)))
        for number, step in steps.items():
            found[f"windows {number}"].append(step(inputs("windows", picture, index)))
        progress.update(index + 1)
    return {name: np.asarray(jnp.stack(rows)) for name, rows in found.items()}


def rows(found: Features, passes: Sequence[int]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the name of each row of the table and its features `[N, F]`; windows also with a thumbnail beside them."""
    beside = found[f"thumbnail {SIDE}"]
    for name, features in found.items():
        if name.startswith("thumbnail"):
            yield name, features
            continue
        for number in passes:
            pooled = features[:, :number].mean(1)
            yield f"{name}, {number} passes", pooled
            yield f"{name}, {number} passes, and thumbnail {SIDE}", np.concatenate([beside, pooled], axis=1)


def cross_validate(features: np.ndarray, labels: np.ndarray, repeats: int) -> np.ndarray:
    """Returns the area under the ROC curve on each fold of each repetition, `[repeats * FOLDS]`."""
    probe = make_pipeline(
        StandardScaler(),
        PCA(COMPONENTS, random_state=0),
        StandardScaler(),
        LogisticRegression(C=PENALTY, max_iter=2000),
    )
    areas = []
    folds = RepeatedStratifiedKFold(n_splits=FOLDS, n_repeats=repeats, random_state=0)
    for train, test in folds.split(features, labels):
        scores = probe.fit(features[train], labels[train]).decision_function(features[test])
        areas.append(roc_auc_score(labels[test], scores))
    return np.array(areas)


def interval(values: np.ndarray) -> tuple[float, float]:
    """Returns the 95 % interval of the mean of values from repeated cross-validation.

    The folds of repetitions share images, so the variance of the mean is increased by the ratio of test to training
    images. Source: Nadeau and Bengio, "Inference for the Generalization Error" (2003), corrected resampled t-test.
    """
    variance = values.var(ddof=1) * (1 / len(values) + 1 / (FOLDS - 1))
    half = stats.t.ppf(0.975, len(values) - 1) * np.sqrt(variance)
    return values.mean() - half, values.mean() + half


def cost(name: str) -> float:
    """Returns the million multiply-adds of the features of a row, see `rows`."""
    total = 0
    for part in name.removeprefix("windows").split("thumbnail"):
        words = part.replace(",", " ").split()
        if "passes" in words:
            total += int(words[words.index("passes") - 1]) * _multiply_adds("windows", 256)
        elif words and words[0].isdigit():
            total += _multiply_adds("thumbnail", int(words[0]))
    return total / 1e6


def _multiply_adds(branch: str, side: int) -> int:
    given = inputs(branch, np.zeros((side, side, 3), np.uint8))
    shapes = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in given.items()}
    return summary.totals(summary.parts(network(branch), shapes))["multiply_adds"]


def main() -> None:
    """Measures or reads the features, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="images/ and labels.csv, of two classes")
    parser.add_argument("weights", type=pathlib.Path, help=f"weights of {VARIANT}, see benchmarks.real.lite_weights")
    parser.add_argument("--features", type=pathlib.Path, required=True, help="file of the features; made if missing")
    parser.add_argument("--sides", type=int, nargs="+", default=(SIDE, 320, 512, 1024), help="sides of thumbnails")
    parser.add_argument("--filters-per-window", type=int, nargs="+", default=(1, 8, 32), help="filters a window")
    parser.add_argument("--passes", type=int, nargs="+", default=(1, 4, 8, 16), help="passes of windows")
    parser.add_argument("--reference", default="thumbnail 320", help="row with which the others are compared")
    parser.add_argument("--repeats", type=int, default=10, help="repetitions of the folds")
    options = parser.parse_args()
    labels = options.folder / "labels.csv"
    source = sources.FolderSource.from_csv(str(options.folder / "images"), str(labels), num_classes=2)
    if not options.features.exists():
        timing.prepare_process()
        sizes = {"sides": options.sides, "groups": options.filters_per_window, "passes": max(options.passes)}
        measured = measure(source, options.weights, **sizes)
        with replace(options.features) as temporary, open(temporary, "wb") as file:
            np.savez(file, **measured)
    with np.load(options.features) as file:
        table = dict(rows(dict(file), options.passes))
    reference = cross_validate(table[options.reference], source.labels, options.repeats)
    print(f"{len(source)} images, {int(source.labels.sum())} of class 1; {options.repeats} times {FOLDS} folds\n")
    print(f"| features | million multiply-adds | AUC | minus {options.reference} |\n| --- | --- | --- | --- |")
    for name, features in table.items():
        areas = cross_validate(features, source.labels, options.repeats)
        low, high = interval(areas - reference)
        compared = f"{(areas - reference).mean():+.3f} [{low:+.3f}, {high:+.3f}]"
        print(f"| {name} | {cost(name):,.0f} | {areas.mean():.3f} | {compared} |", flush=True)


if __name__ == "__main__":
    main()
