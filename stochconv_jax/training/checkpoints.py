"""Checkpoints by Orbax: saved asynchronously, verified by checksums, and a sound one used in place of a damaged one.

A checkpoint is a folder step_N of items. 'variables' and 'optimizer' hold arrays, see `state.TrainState.to_items`;
'open_epoch' the metrics of the epoch under way; 'metrics' the row of metrics.csv of the epoch that has ended.
"""

import contextlib
import functools
import json
import logging
import math
import pathlib
import shutil
from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from stochconv_jax.atomic_files import remove_unfinished, write_text
from stochconv_jax.runtime import watchdog
from stochconv_jax.training import checkpoint_items, checksums, orbax_manager
from stochconv_jax.training.checkpoint_items import Items
from stochconv_jax.training.orbax_manager import PREFIX, REMOVED

logger = logging.getLogger(__name__)

BEST, LAST = "best", "last"
_METRICS = "metrics"  # step_12/metrics/metrics, as Orbax names them
_NONE, _FAILED = -1, -2  # in place of a step, from the first process to all


class Damaged(ValueError):
    """Checkpoints are not as they were saved; the message names each of them and the reason."""


class NotSaved(OSError):
    """A checkpoint could not be written; the message names the folder and the reason."""


class Checkpoints:
    """The checkpoints in a folder. Keeps the last two, the best and those that cannot be ranked.

    Use it as a context manager, so that a save under way is completed at the end.

    Args:
      folder: of the checkpoints; the first save creates it.
      best_metric: name of the metric that ranks them. One that ends in 'loss' is better when lower, others when higher.
      read_only: whether nothing in the folder is renamed or removed.
      timeout_seconds: longest wait for a save, for its disk or for another process. After it this process ends.
    """

    def __init__(
        self, folder: pathlib.Path, *, best_metric: str, read_only: bool = False, timeout_seconds: float = math.inf
    ):
        self.folder = folder
        self._timeout = timeout_seconds
        self._best_metric, self._read_only = best_metric, read_only
        self._saving: int | None = None
        self._restored: int | None = None
        # Whether the first save was read back, and the shapes to read it by until then.
        self._read_back, self._unread = False, None
        # By step what is wrong with a checkpoint. Only the first process knows. One that was renamed is not in it.
        self._faults: dict[int, str] = {}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind, error, _) -> None:
        if "_manager" not in vars(self):
            return
        try:
            with watchdog.within(self._timeout, since="the wait for the last save"):
                self._manager.close()
                self._remove_old()
        except Exception as failure:
            if kind is None:
                raise self._not_saved(failure) from failure
            logger.error("%s", self._not_saved(failure))  # the error under way is raised

    @functools.cached_property
    def _manager(self) -> orbax_manager.Manager:
        """Orbax's manager, made at the first save: it reads the checkpoints in the folder, which must be sound then."""
        return orbax_manager.create(
            self.folder, quality=self._quality, unranked=self._unranked, when_written=self._complete_files
        )

    def save(self, step: int, items: Items, open_epoch: dict, metrics: dict[str, float] | None = None) -> None:
        """Starts to save `items` of arrays and the `open_epoch` at `step`.

        `metrics`: the row of metrics.csv where an epoch ends here. A step that was restored is saved already: its
        checkpoint gets the `metrics` that it lacked. Raises NotSaved, also for the save before, which ends here.
        """
        if self._unranked(metrics):
            logger.warning("%s is not defined at step %d: its checkpoint is kept", self._best_metric, step)
        if step == self._restored:
            self._add_metrics(step, metrics)
            return
        try:
            with watchdog.within(self._timeout, since=f"the wait for a save, at step {step}"):
                self._manager.wait_until_finished()
                self._remove_old()
                self._saving = step
                if not self._read_back:
                    self._unread = checkpoint_items.shapes_of(items)
                self._manager.save(step, args=checkpoint_items.to_save(items, open_epoch), metrics=metrics, force=True)
        except Exception as error:
            raise self._not_saved(error) from error

    def _add_metrics(self, step: int, metrics: dict[str, float] | None) -> None:
        """Adds the file of metrics to a checkpoint, and to its checksums. A kill at any moment leaves it sound."""
        if jax.process_index() == 0:
            self._saving = step
            try:
                (self._path(step) / _METRICS).mkdir(exist_ok=True)
                for folder in (self._path(step), self._path(step) / _METRICS):
                    remove_unfinished(folder)
                write_text(self._metrics_file(step), json.dumps(metrics))
                if checksums.exist(self._path(step)):
                    checksums.write(self._path(step))
            except OSError as error:
                raise self._not_saved(error) from error
        with watchdog.within(self._timeout, since=f"the end of the epoch, at step {step}"):
            multihost_utils.sync_global_devices("metrics of an epoch")  # every process reads them at the next save

    def _complete_files(self) -> None:
        """Reads back the first save and writes checksums, before the checkpoint gets its name and older ones go."""
        try:
            for unnamed in self.folder.glob(f"{PREFIX}_{self._saving}.*tmp*"):
                if not self._read_back:
                    assert self._unread is not None, "`save` has set it"
                    checkpoint_items.read_back(unnamed, self._unread)
                    self._read_back, self._unread = True, None
                checksums.write(unnamed)
        except Exception as error:
            # Orbax raises this error only after a wait for the other processes, which wait for this one.
            if jax.process_count() > 1:
                logger.error("%s", self._not_saved(error))
            raise

    def _remove_old(self) -> None:
        """Removes the checkpoints that later saves have replaced, of this run or of one that was killed.

        Orbax renames them first. Removed in place, one that a killed run has half removed would look damaged.
        """
        for old in self.folder.glob(f"{REMOVED}.*") if jax.process_index() == 0 else ():
            try:
                shutil.rmtree(old)
            except OSError as error:
                logger.warning("%s, old checkpoints, cannot be removed now (%s); later saves try again", old, error)

    def _not_saved(self, error: Exception) -> NotSaved:
        steps = ", ".join(map(str, self._steps())) or "none"
        return NotSaved(
            f"cannot save the checkpoint of step {self._saving} in {self.folder}: {error}\nComplete checkpoints there: "
            f"{steps}. Make room or mend it, and run the same command again"
        )

    def restore(self, which: str, shapes: Items) -> tuple[int, Items, dict] | None:
        """Restores checkpoint `which`: 'best', 'last' or a step. Returns its step, items and open epoch.

        The arrays come on the shardings in `shapes`. The open epoch of a checkpoint with metrics is {}. Where 'best' or
        'last' is damaged, the next one that is sound is used, with a warning, and the damaged ones are renamed unless
        `read_only`. Returns None where there is no checkpoint. Raises Damaged where no checkpoint is sound or the one
        of that step is not, and ValueError for a step without a checkpoint or other arrays than `shapes`.
        """

        def read(step: int) -> tuple[Items, dict]:
            items = checkpoint_items.read(self._path(step), shapes, exact=True)
            open_epoch = checkpoint_items.read_open_epoch(self._path(step))
            return items, open_epoch if self._metrics(step) is None else {}

        found = self._restore(which, read)
        return found and (found[0], *found[1])

    def restore_part(self, which: str, shapes: Items) -> tuple[int, Items] | None:
        """Restores the arrays in `shapes` alone, as `restore` does; the checkpoint may hold others."""
        return self._restore(which, lambda step: checkpoint_items.read(self._path(step), shapes, exact=False))

    def _restore[Content](self, which: str, read: Callable[[int], Content]) -> tuple[int, Content] | None:
        while (step := self._find(which)) is not None:
            try:
                content = read(step)
            except Exception as error:
                if jax.process_count() == 1 and not self._path(step).exists():
                    continue  # a run under way has removed it since, and has newer ones
                # With checksums it is known to be as it was saved: something else has failed.
                if checksums.exist(self._path(step)) or jax.process_count() > 1:
                    raise
                self._note(step, f"it cannot be restored ({str(error).splitlines()[0]})")
            else:
                if self._faults and (which == BEST or step < max(self._faults)):
                    logger.warning("%s is used instead", self._path(step))
                if not self._read_only:
                    self._rename_damaged()
                    self._remove_old()
                self._restored = step
                return step, content
        return None

    def _find(self, which: str) -> int | None:
        """Returns the step that the first process chooses, on every process; see `_choose`."""
        step, error = _NONE, None
        if jax.process_index() == 0:
            try:
                step = self._choose(which)
            except Exception as raised:  # the other processes wait for the broadcast below
                step, error = _FAILED, raised
        step = int(multihost_utils.broadcast_one_to_all(np.int32(_NONE if step is None else step)))
        if step == _FAILED:
            raise error or ValueError(f"no checkpoint in {self.folder} can be used: see the first process's log")
        return None if step == _NONE else step

    def _choose(self, which: str) -> int | None:
        """Returns the step of a sound checkpoint, or None where there is no checkpoint."""
        saved = self._steps()
        if which not in (BEST, LAST) and not (which.isdigit() and int(which) in saved):
            raise ValueError(f"`checkpoint`={which!r}: expected 'best', 'last' or one of the steps {saved}")
        candidates = saved if which in (BEST, LAST) else [int(which)]
        for step in candidates:
            if step not in self._faults and (fault := self._fault(step)) and self._path(step).exists():
                self._note(step, fault)
        there = [step for step in candidates if self._path(step).exists()]
        if candidates and not there:
            return self._choose(which)  # a run under way has removed them, and has newer ones
        sound = [step for step in there if step not in self._faults]
        if there and not sound:
            listing = "\n".join(f"  {self._path(step)}: {self._faults[step]}" for step in there)
            others = [step for step in saved if step not in there]
            advice = f"choose another of {others}" if others else "bring back a copy, or take another --workdir"
            raise Damaged(f"no checkpoint asked for is sound; {advice}:\n{listing}")
        metrics = {step: row for step in sound if (row := self._metrics(step)) is not None}
        if which == BEST and metrics:
            if all(map(self._unranked, metrics.values())):
                steps = list(metrics)
                logger.warning("%s is defined at none of the steps %s: the last is used", self._best_metric, steps)
            return max(metrics, key=lambda step: (self._quality(metrics[step]), step))
        return sound[-1] if sound else None

    def _steps(self) -> list[int]:
        names = (path.name.removeprefix(f"{PREFIX}_") for path in self.folder.glob(f"{PREFIX}_*") if path.exists())
        return sorted(int(name) for name in names if name.isdigit())

    def _path(self, step: int) -> pathlib.Path:
        return self.folder / f"{PREFIX}_{step}"

    def _fault(self, step: int) -> str | None:
        fault = checksums.fault(self._path(step))
        try:
            self._metrics(step)
        except (OSError, ValueError) as error:
            fault = fault or f"its metrics cannot be read ({error})"
        return fault

    def _note(self, step: int, fault: str) -> None:
        self._faults[step] = fault
        logger.warning("%s is damaged: %s", self._path(step), fault)

    def _rename_damaged(self) -> None:
        """Renames the damaged checkpoints to step_N.damaged, so that they are neither used nor lost."""
        for step in self._faults:
            path, count = self._path(step), 1
            while (aside := path.with_name(f"{path.name}.damaged{count if count > 1 else ''}")).exists():
                count += 1
            path.rename(aside)
            logger.warning("%s is renamed to %s", path, aside.name)
        self._faults.clear()

    def _metrics(self, step: int) -> dict[str, float] | None:
        """Returns the row of metrics.csv that `step` was saved with; None if it was saved inside an epoch."""
        try:
            return json.loads(self._metrics_file(step).read_text())
        except FileNotFoundError:
            return None

    def rows(self) -> list[dict[str, float]]:
        """Returns the rows of metrics.csv that the checkpoints were saved with, as far as they can be read."""
        found = []
        for step in self._steps():
            with contextlib.suppress(OSError, ValueError):
                found.append(self._metrics(step))
        return [row for row in found if row]

    def _metrics_file(self, step: int) -> pathlib.Path:
        return self._path(step) / _METRICS / _METRICS

    def _quality(self, metrics: dict[str, float]) -> float:
        value = metrics[self._best_metric]
        return -math.inf if math.isnan(value) else (-value if self._best_metric.endswith("loss") else value)

    def _unranked(self, metrics: dict[str, float] | None) -> bool:
        return metrics is not None and math.isnan(metrics[self._best_metric])
