"""The log of a run's epochs: metrics.csv, trackers and log lines."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from stochconv_jax.run_folder import RunFolder
from stochconv_jax.training.trackers import Trackers

logger = logging.getLogger(__name__)

NOT_DRAWN = ("epoch", "step")  # columns of metrics.csv that trackers have no curve of


class MetricsLog:
    """Writes the row of each epoch, and keeps them all in `rows`. Only the first process writes files.

    Args:
      folder: of the run.
      first_step: the first step that is to come. Rows of it and of later steps are dropped from metrics.csv, because a
        run that was killed did these steps without saving them.
      saved: rows that checkpoints hold, which replace those that metrics.csv has lost; the log names them.
      ended: number of epochs that have ended. The log names those whose rows are nowhere.
      trackers: programs that are told of each epoch, in the first process; None for none.

    Raises:
      ValueError: a row of metrics.csv is damaged.
    """

    def __init__(
        self,
        folder: RunFolder,
        first_step: int,
        saved: Iterable[Mapping[str, Any]] = (),
        ended: int = 0,
        trackers: Trackers | None = None,
    ):
        self._folder, self._trackers = folder, trackers
        folder.epochs()  # raises ValueError that names a damaged row
        rows = {int(row["step"]): row for row in folder.read_metrics()}
        lost = {row["step"]: row for row in saved if row["step"] not in rows}
        rows = {step: row for step, row in sorted((rows | lost).items()) if step < first_step}
        self.rows = list(rows.values())
        if back := [str(row["epoch"]) for step, row in rows.items() if step in lost]:
            logger.warning("metrics.csv had lost the row of epoch %s; it is read from the checkpoint", ", ".join(back))
        there = {int(row["epoch"]) for row in self.rows}
        if gone := [str(epoch) for epoch in range(1, ended + 1) if epoch not in there]:
            logger.warning("metrics.csv has lost the row of epoch %s, and no checkpoint has it", ", ".join(gone))
        self._writes = jax.process_index() == 0
        if self._writes:
            folder.write_metrics(self.rows)

    def __call__(self, row: dict[str, float]) -> None:
        """Adds `row`, whose keys are the columns of metrics.csv. Raises OSError where it cannot be written."""
        self.rows.append(row)
        logger.info("epoch %d: %s", row["epoch"], ", ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "epoch"))
        if not self._writes:
            return
        self._folder.write_metrics(self.rows)
        if self._trackers:
            figures = {name: value for name, value in row.items() if name not in NOT_DRAWN}
            self._trackers.log(int(row["step"]), figures)
