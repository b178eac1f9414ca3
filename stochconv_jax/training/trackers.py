"""Sends the figures of a run to programs that draw them: TensorBoard, also through clu, Weights & Biases and MLflow.

metrics.csv has all figures, so a tracker that fails does not end the training. It is logged and gets no more figures.
"""

import importlib.util
import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import tensorboardX

from stochconv_jax.run_folder import RunFolder

logger = logging.getLogger(__name__)

PROJECT = "stochconv_jax"  # of runs in Weights & Biases and MLflow, unless their own variables name another
FILE = "trackers.json"  # in the run's folder: the run's name in each tracker, with which a resumed run continues there
PARAMETERS = 100  # the largest number of parameters that MLflow takes at once


class Tracker(Protocol):
    """Receives the figures of a run."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Records the figures of the epoch that ended with `step`."""
        ...

    def close(self, finished: bool) -> None:
        """Ends the work in this process; `finished` says whether the run is complete."""
        ...


class TensorBoard:
    """Writes event files into the run's folder. Earlier figures of `first_step` and later steps are not drawn."""

    def __init__(self, folder: RunFolder, config: Mapping[str, Any], first_step: int):
        del config
        self._writer = tensorboardX.SummaryWriter(str(folder.events), purge_step=first_step)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Implements `Tracker`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, finished: bool) -> None:
        """Implements `Tracker`."""
        del finished
        self._writer.close()


class Clu:
    """Writes event files by clu's writer, with the config, into the folder clu/ of the run. Needs TensorFlow."""

    def __init__(self, folder: RunFolder, config: Mapping[str, Any], first_step: int):
        import tensorflow as tf  # pyright: ignore[reportMissingImports, reportMissingModuleSource]
        from clu import metric_writers

        del first_step  # repeated figures are the same
        tf.config.set_visible_devices([], "GPU")  # TensorFlow would take their memory from JAX
        self._writer = metric_writers.SummaryWriter(str(folder.path / "clu"))
        self._writer.write_hparams(
            {key: value if isinstance(value, bool | int | float) else str(value) for key, value in config.items()}
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Implements `Tracker`."""
        self._writer.write_scalars(step, dict(values))
        self._writer.flush()

    def close(self, finished: bool) -> None:
        """Implements `Tracker`."""
        del finished
        self._writer.close()


class WeightsAndBiases:
    """Logs to Weights & Biases, with files in the run's folder. Reads WANDB_MODE and the other variables of wandb."""

    def __init__(self, folder: RunFolder, config: Mapping[str, Any], first_step: int):
        import wandb  # pyright: ignore[reportMissingImports]

        del first_step  # wandb ignores repeated steps, whose figures are the same
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.path.name,
            id=_recorded(folder, "wandb", lambda: uuid.uuid4().hex),
            resume="allow",
            dir=str(folder.path),
            config=dict(config),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Implements `Tracker`."""
        self._run.log(dict(values), step=step)

    def close(self, finished: bool) -> None:
        """Implements `Tracker`."""
        self._run.finish(exit_code=0 if finished else 1)


class MLflow:
    """Logs to MLflow, into mlflow.db in the run's folder unless MLFLOW_TRACKING_URI names another store."""

    def __init__(self, folder: RunFolder, config: Mapping[str, Any], first_step: int):
        from mlflow import MlflowClient, entities  # pyright: ignore[reportMissingImports]

        del first_step  # repeated figures are the same
        local = f"sqlite:///{folder.path / 'mlflow.db'}"
        self._client = client = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI", local))

        def create() -> str:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
            experiment = client.get_experiment_by_name(name)
            number = experiment.experiment_id if experiment else client.create_experiment(name)
            run = client.create_run(number, run_name=folder.path.name).info.run_id
            parameters = [entities.Param(key, str(value)) for key, value in config.items()]
            for first in range(0, len(parameters), PARAMETERS):
                client.log_batch(run, params=parameters[first : first + PARAMETERS])
            return run

        self._run = _recorded(folder, "mlflow", create)
        client.update_run(self._run, status="RUNNING")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Implements `Tracker`."""
        for name, value in values.items():
            self._client.log_metric(self._run, name, value, step=step)

    def close(self, finished: bool) -> None:
        """Implements `Tracker`."""
        self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")


TRACKERS: Mapping[str, Callable[[RunFolder, Mapping[str, Any], int], Tracker]] = {
    "tensorboard": TensorBoard,
    "clu": Clu,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}
# The packages that a tracker needs besides those of this project, and what installs them.
PACKAGES = {
    "clu": (("tensorflow", "tensorboard"), "tensorflow tensorboard"),
    "wandb": (("wandb",), "'stochconv_jax[wandb]'"),
    "mlflow": (("mlflow",), "'stochconv_jax[mlflow]'"),
}


def check_packages(names: Sequence[str]) -> None:
    """Raises RuntimeError if a package of one of the trackers `names` is not installed."""
    for name in names:
        packages, install = PACKAGES.get(name, ((), ""))
        if missing := [package for package in packages if importlib.util.find_spec(package) is None]:
            raise RuntimeError(f"`trackers` has {name}, which needs {' and '.join(missing)}: pip install {install}")


class Trackers:
    """Sends figures to the trackers `names` of a run. A tracker that fails does not end the training.

    `config`: the run's config, flattened. `first_step`: the next step of the run. Only one process of a run may create
    this object.
    """

    def __init__(self, names: Sequence[str], folder: RunFolder, config: Mapping[str, Any], first_step: int):
        self._trackers: dict[str, Tracker] = {}
        for name in names:
            self._try(name, lambda name: self._trackers.update({name: TRACKERS[name](folder, config, first_step)}))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Gives every tracker the figures of the epoch that ended with `step`."""
        for name in list(self._trackers):
            self._try(name, lambda name: self._trackers[name].log(step, values))

    def close(self, finished: bool) -> None:
        """Ends the trackers' work; `finished` says whether the run is complete."""
        for name in list(self._trackers):
            self._try(name, lambda name: self._trackers[name].close(finished))

    def _try(self, name: str, action: Callable[[str], None]) -> None:
        try:
            action(name)
        except Exception as error:  # training must not end because of a tracker
            logger.warning("the tracker %s has failed and gets no more figures (%r); metrics.csv has all", name, error)
            self._trackers.pop(name, None)


def _recorded(folder: RunFolder, tracker: str, create: Callable[[], str]) -> str:
    """Returns the run's name in a tracker, which the first start of the run creates and writes into trackers.json."""
    names = folder.read_json(FILE) or {}
    if tracker not in names:
        names[tracker] = create()
        folder.write_json(FILE, names)
    return names[tracker]
