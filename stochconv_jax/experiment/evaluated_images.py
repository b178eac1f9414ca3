"""The images that --mode=evaluate evaluates, and the folder for the results."""

import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from stochconv_jax.atomic_files import make_writable
from stochconv_jax.data import sources
from stochconv_jax.experiment import data_sources, runs
from stochconv_jax.experiment.runs import EVALUATION
from stochconv_jax.run_folder import RunFolder

logger = logging.getLogger(__name__)

VALIDATION, TEST, OTHER = "validation", "test", "other"
LABELS = ("data.labels", "data.validation_labels")
NAME_A_TEST_SET = "to measure the run on a test set, name all of it by config.eval.path and config.eval.labels"


def choose(folder: RunFolder, config: ConfigDict, overrides: Mapping[str, Any]) -> tuple[str, sources.Source]:
    """Returns the kind of the images to evaluate, VALIDATION, TEST or OTHER, and their source.

    `overrides` are the values set on the command line, by dotted key. Raises ValueError if the images are neither a
    test set nor the run's validation images, unless an override changes a key that selects images.
    """
    if config.eval.path or config.eval.labels:
        source = data_sources.test_set(config)
        _warn_of_training_images(folder, config, source)
        return TEST, source
    changed = [key for key in runs.changed_keys(folder, overrides) if key.startswith("data.")]
    try:
        _, source = data_sources.training_and_validation(config)
    except ValueError as error:
        if not {"data.path", *LABELS}.intersection(changed):
            raise
        raise ValueError(f"{error}; {NAME_A_TEST_SET}") from error
    columns = config.data.metadata_columns
    data, expected = runs.fingerprint(source, columns), runs.recorded(folder)["data"]["validation"]
    redrawn = config.data.source == "synthetic" and "data.seed" in changed  # drawn images have the same names
    if data == expected and not redrawn:
        return VALIDATION, source
    if "data.labels" in changed and not config.data.validation_labels:
        raise ValueError(f"config.data.labels would be split, and a share of it measured: {NAME_A_TEST_SET}")
    asked_for = [key for key in changed if key not in (*runs.FREE_DATA_KEYS, "data.labels")]
    if not asked_for:
        raise ValueError(
            f"the validation images are not those of the run in {folder.path} (names, labels or metadata differ: "
            f"{data} now, {expected} there), so some may have been trained on. Give the files that it was trained "
            f"with, or, {NAME_A_TEST_SET}"
        )
    logger.warning("other validation images than the run's own, because of %s", ", ".join(asked_for))
    return OTHER, source


def kind_of_all(kinds: Sequence[str]) -> str:
    """Returns the kind of the images of several runs together: that of each, or OTHER if they differ.

    Images that one run validated on, another may have trained on.
    """
    return kinds[0] if len(set(kinds)) == 1 else OTHER


def _warn_of_training_images(folder: RunFolder, config: ConfigDict, source: sources.Source) -> None:
    """Logs how many images of a test set the run was trained on, if that can be found out.

    Names identify images within one folder only, and the training files may be missing.
    """
    one, other = (pathlib.Path(path).expanduser().resolve() for path in (config.data.path, config.eval.path or "."))
    if config.eval.path and one != other:
        return
    try:
        train, _ = data_sources.training_and_validation(config)
    except ValueError:
        return
    shared = sorted(set(train.names).intersection(source.names))
    if shared and runs.fingerprint(train, config.data.metadata_columns) == runs.recorded(folder)["data"]["train"]:
        logger.warning(
            "the run was trained on %d of the %d images of the test set (%s%s): its figures are too good",
            len(shared), len(source), ", ".join(shared[:3]), ", ..." if len(shared) > 3 else "",
        )  # fmt: skip


def output_folder(folder: RunFolder, config: ConfigDict, kind: str, data: Mapping[str, int]) -> RunFolder:
    """Creates and returns the folder to write the results into.

    `kind` is that of the images, see `choose`, and `data` is their fingerprint. Raises ValueError if the folder holds
    results of other images, or if config.eval.output must name one; OSError if the folder cannot be written.
    """
    own = {VALIDATION: ".", TEST: f"test_{pathlib.Path(config.eval.labels or config.eval.path).stem}", OTHER: ""}
    name = config.eval.output or own[kind]
    if not name:
        raise ValueError("config.eval.output must name a folder for the figures of other images than the run's own")
    output = RunFolder(folder.path / pathlib.Path(name).expanduser())
    is_own = output.path.resolve() == folder.path.resolve()
    if not (is_own and kind == VALIDATION):
        if (output.path / "config.json").exists():
            what = "what is there is of the validation images of a run"
            raise ValueError(f"config.eval.output={name!r}: {what}; choose another folder")
        before = output.read_json(EVALUATION)
        if before is not None and before.get("data") != data:
            advice = "choose another folder with --config.eval.output, or remove it"
            raise ValueError(f"{output.path / EVALUATION} is of other images: {advice}")
    make_writable(output.path, "choose another folder with --config.eval.output")
    return output
