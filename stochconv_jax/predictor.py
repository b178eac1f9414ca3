"""Predictions of a trained run. `loading.load` makes a `Predictor`; the modes make theirs themselves."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import jax
import numpy as np

from stochconv_jax import config_rules
from stochconv_jax.data import requested, sources
from stochconv_jax.data.array_source import ArraySource
from stochconv_jax.data.metadata import texts_from
from stochconv_jax.experiment import initial_state, skipped_images
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.training import evaluation
from stochconv_jax.training.progress import Progress

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike
Metadata = Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class ImageProbabilities:
    """Predicted probabilities of N images.

    Attributes:
      names: N texts, the names of the images.
      probability: float64 `[N, classes]`, the mean over passes; NaN for an image that cannot be used.
      std: float64 `[N, classes]`, the standard deviation of the probability over passes; NaN for one pass.
      reasons: N texts, why an image cannot be used; '' for one that can.
    """

    names: Sequence[str]
    probability: np.ndarray
    std: np.ndarray
    reasons: Sequence[str]


def mean_over_runs(found: Sequence[ImageProbabilities]) -> ImageProbabilities:
    """Returns the mean of the probabilities of several runs, and the standard deviation over the runs."""
    probability = np.stack([one.probability for one in found])
    # Runs of different config.data.image_size may refuse different images.
    reasons = [next(filter(None, of_image), "") for of_image in zip(*(one.reasons for one in found))]
    return ImageProbabilities(found[0].names, probability.mean(0), evaluation.spread_of(probability), reasons)


class Predictor:
    """Computes predictions with the restored variables of a run. Created by `loading.load`.

    Attributes:
      folder: the run's folder.
      experiment: the objects that its config describes, such as `experiment.model`.
      step: the step of the checkpoint.
      variables: {'params', 'batch_stats'}, on the devices; their moving averages if the run keeps them.
    """

    def __init__(self, folder: RunFolder, experiment: Experiment):
        self.folder, self.experiment = folder, experiment
        self.step, self.variables = initial_state.restore_variables(folder, experiment)
        self._eval_steps: dict[int, Any] = {}
        logger.info("restored step %d of %s", self.step, folder.path)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes 0, 1, ..., which are the columns of predictions; () if they have none."""
        return tuple(self.experiment.config.data.classes)

    def __repr__(self) -> str:
        model, devices = self.experiment.config.model, self.experiment.mesh.devices.flat
        merge = f", merge_after={model.merge_after}" if len(model.branches) > 1 else ""
        return (
            f"Predictor({str(self.folder.path)!r}, step {self.step} ({self.experiment.config.eval.checkpoint}), model "
            f"{model.variant} ({'+'.join(model.branches)}{merge}), {len(devices)} x {devices[0].device_kind})"
        )

    @property
    def predicted_by(self) -> dict[str, Any]:
        """How predictions with the run's own settings are made, which a calibration must have been fitted to."""
        asked = self.experiment.config.eval
        return {"checkpoint_step": self.step, "passes": asked.passes, "views": asked.views}

    def predict(
        self,
        images: PathLike | Sequence[PathLike] | np.ndarray | Sequence[np.ndarray],
        passes: int | None = None,
        names: Sequence[str] | None = None,
        metadata: Metadata | None = None,
    ) -> ImageProbabilities:
        """Predicts images, with the same results as --mode=predict, on the same CPU bit for bit, see `loading.load`.

        Windows are drawn from the run's seed, the number of the pass and the image's identity, so a prediction does not
        depend on the other images. The identity is computed from the file's name without folder and ending.

        The first call with a given number of passes compiles. All batches have the same size; the last one is padded.

        Args:
          images: a folder, a file, a glob pattern or a table (CSV) of image names, as config.predict.images, or a list
            of these; or RGB images as uint8 arrays `[N, H, W, 3]`, `[H, W, 3]`, or a list of `[H, W, 3]` of any sizes.
          passes: draws of windows per image; by default config.eval.passes of the run.
          names: for arrays only, file names from which their identities are computed. By default the identity of an
            array is computed from its pixels.
          metadata: for a run with config.data.metadata_columns, the values of these columns: {column: one for each
            image}, or a list with a {column: value} for each image; None and NaN are missing values. A table of images
            need not be given any, if it has the columns.

        Raises:
          ValueError: nothing is found, no image can be used, an array is not uint8 `[H, W, 3]`, or the metadata are
            not those that the run takes.
        """
        with jax_settings_of_the_program():
            if isinstance(images, np.ndarray | jax.Array) or not _are_paths(images):
                arrays: Any = images
                if getattr(arrays, "ndim", 0) == 3:
                    arrays = arrays[None]
                source = ArraySource(arrays, names)
                self._encode(source, metadata, range(len(source)), len(source))
                return self._predict(source, passes)
            if names is not None:
                raise ValueError("names are for arrays; files have names")
            paths = [images] if isinstance(images, PathLike) else images
            column = self.experiment.config.data.image_column
            return self.predict_files(_joined([_find(os.fspath(path), column) for path in paths]), passes, metadata)

    def predict_files(
        self, asked: requested.RequestedImages, passes: int | None = None, metadata: Metadata | None = None
    ) -> ImageProbabilities:
        """Predicts the requested files; the result has a row for each, in their order."""
        source, count = asked.source(), len(asked.texts)
        self._encode(source, metadata, asked.found.tolist(), count)
        found = self._predict(source, passes)
        probability, std = (np.full((count, found.probability.shape[1]), np.nan) for _ in range(2))
        probability[asked.found], std[asked.found] = found.probability, found.std
        reasons = np.array(asked.reasons, object)
        reasons[asked.found] = found.reasons
        return ImageProbabilities(asked.texts, probability, std, reasons.tolist())

    def _encode(self, source: sources.Source, given: Metadata | None, chosen: Sequence[int], count: int) -> None:
        """Sets the metadata of `source`, whose images are those at `chosen` among the `count` that were asked for."""
        if given is None:
            return  # the columns of a table are encoded where it is read
        if self.experiment.metadata is None:
            raise ValueError("metadata: the run was trained without, so that it takes none")
        texts = {name: [cells[i] for i in chosen] for name, cells in texts_from(given, count).items()}
        encode = self.experiment.metadata.encode
        source.metadata = encode(texts, "metadata", lambda row: f"metadata of {source.texts[row]}")

    def _predict(self, source: sources.Source, passes: int | None) -> ImageProbabilities:
        found, reasons_by_index = self.predict_source(source, passes)
        log_p = found.log_p()
        probability, std = (np.full((len(source), log_p.shape[1]), np.nan) for _ in range(2))
        probability[found.index], std[found.index] = np.exp(log_p), found.spread()
        reasons = [reasons_by_index.get(index, "") for index in range(len(source))]
        return ImageProbabilities(source.names, probability, std, reasons)

    def predict_source(
        self, source: sources.Source, passes: int | None = None
    ) -> tuple[evaluation.Predictions, dict[int, str]]:
        """Predicts every image of a source, under the settings of JAX that are in force.

        Returns the predictions and, by index, why images were skipped. Raises BadImage at the first image that cannot
        be read unless config.data.on_bad_image is 'skip', and ValueError where no image can be used.
        """
        experiment = self.experiment
        draws: int = experiment.config.eval.passes if passes is None else checked("eval.passes", passes)
        if draws not in self._eval_steps:
            self._eval_steps[draws] = experiment.make_eval_step(draws, experiment.config.eval.views)
        progress = Progress(len(source), every=experiment.config.log_every_seconds)
        with (
            jax.set_mesh(experiment.mesh),
            contextlib.closing(experiment.eval_batches(source, rounds=1)) as batches,
        ):
            on_devices = meshes.to_devices(batches, experiment.mesh)
            step = self._eval_steps[draws]
            found = evaluation.predict(step, self.variables, on_devices, on_batch=progress.update)
        assert found is not None, "nothing requests a stop"
        found = dataclasses.replace(found, views=experiment.config.eval.views)
        reasons = skipped_images.explain(experiment, source, found.skipped)
        if not len(found.index):
            raise ValueError(f"none of the {len(source)} images can be used")
        return found, reasons


def checked(key: str, value: Any) -> Any:
    """Returns `value` as the config key `key` takes it. Raises ValueError that names the argument."""
    try:
        return config_rules.read(key, value)
    except config_rules.BadValue as error:
        raise ValueError(str(error).replace(f"config.{key}", key.rpartition(".")[2])) from None


def _are_paths(images: Any) -> TypeGuard[PathLike | Sequence[PathLike]]:
    if isinstance(images, PathLike):
        return True
    if not len(images):
        raise ValueError("there is no image to predict")
    return all(isinstance(image, PathLike) for image in images)


def _find(path: str, image_column: str) -> requested.RequestedImages:
    try:
        return requested.find(path, "predict.images", image_column)
    except ValueError as error:
        raise ValueError(str(error).replace("config.predict.images", "images")) from None


def _joined(parts: Sequence[requested.RequestedImages]) -> requested.RequestedImages:
    return parts[0] if len(parts) == 1 else requested.joined(parts)


@contextlib.contextmanager
def jax_settings_of_the_program() -> Iterator[None]:
    """Sets JAX's options for dtypes, random keys and errors to their defaults, in this thread and context."""
    with (
        jax.enable_x64(False),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.default_prng_impl("threefry2x32"),
        jax.threefry_partitionable(True),
        jax.transfer_guard("allow"),
    ):
        yield
