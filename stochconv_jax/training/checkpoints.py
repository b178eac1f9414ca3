"""Checkpoints: Orbax, asynchronous; the last two and the best are kept, and what is damaged on disk is passed over."""

import contextlib
import functools
import json
import logging
import math
import pathlib
import shutil
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from stochconv_jax.atomic_files import remove_unfinished, write_text
from stochconv_jax.runtime import watchdog
from stochconv_jax.training import checksums, orbax_manager
from stochconv_jax.training.orbax_manager import PREFIX, REMOVED

logger = logging.getLogger(__name__)

BEST, LAST = "best", "last"
_METRICS = "metrics"  # step_12/metrics/metrics, as Orbax names them
_NONE, _FAILED = -1, -2  # instead of a step, from the first process to all


class Damaged(ValueError):
    """Checkpoints are not as they were saved; the message names each, with the reason."""


class NotSaved(OSError):
    """A checkpoint could not be written; the message names the folder and the reason."""


class Checkpoints:
    """The checkpoints in `folder`. A checkpoint holds the train state and the open epoch's predictions so far.

    `best_metric` is the name of the metric that ranks them; names that end in 'loss' are better when lower. Close it,
    or use it as a context, so that a save under way is completed. With `read_only` nothing in the folder is touched.
    Where a save is waited for longer than `timeout_seconds`, for its disk or for another process, this process ends.
    """

    def __init__(
        self, folder: pathlib.Path, *, best_metric: str, read_only: bool = False, timeout_seconds: float = math.inf
    ):
        self.folder = folder
        self._timeout = timeout_seconds
        self._best_metric, self._read_only = best_metric, read_only
        self._saving: int | None = None
        self._restored: int | None = None
        self._read_back, self._unread = False, None  # whether the first save was; and until then its shapes
        self._faults: dict[int, str] = {}  # by step, known to the first process; one set aside is no longer listed

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
            logger.error("%s", self._not_saved(failure))  # and the error under way goes on

    @functools.cached_property
    def _manager(self) -> orbax_manager.Manager:
        """What saves. Made at the first save: it reads what is there, which must be sound by then."""
        return orbax_manager.create(
            self.folder, quality=self._quality, unranked=self._unranked, when_written=self._complete_files
        )

    def save(self, step: int, state: Any, accumulator: dict, metrics: dict[str, float] | None = None) -> None:
        """Starts to save `state` at `step`; `metrics` are given where an epoch ends, and evaluated.

        The checkpoint that was restored has this state already: it gets the `metrics` that it lacked. Raises NotSaved,
        also for the save before, which ends here.
        """
        if self._unranked(metrics):
            logger.warning("%s is not defined at step %d: its checkpoint is kept", self._best_metric, step)
        if step == self._restored:
            self._complete(step, metrics)
            return
        items = {"state": ocp.args.StandardSave(state), "open_epoch": ocp.args.JsonSave(accumulator)}
        try:
            with watchdog.within(self._timeout, since=f"the wait for a save, at step {step}"):
                self._manager.wait_until_finished()
                self._remove_old()
                self._saving = step
                if not self._read_back:
                    self._unread = jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), state)
                self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)
        except Exception as error:
            raise self._not_saved(error) from error

    def _complete(self, step: int, metrics: dict[str, float]) -> None:
        """Adds a file, and changes none but the checksums: it is whole at any moment, whatever happens."""
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
            multihost_utils.sync_global_devices("metrics of an epoch")  # all of them read it for the next save

    def _complete_files(self) -> None:
        """When all files are written, and before the checkpoint takes its name and older ones are removed."""
        try:
            for unnamed in self.folder.glob(f"{PREFIX}_{self._saving}.*tmp*"):
                if not self._read_back:
                    self._restore_unnamed(unnamed)
                checksums.write(unnamed)
        except Exception as error:
            if jax.process_count() > 1:  # Orbax waits for the others before it raises this, and they for this process
                logger.error("%s", self._not_saved(error))
            raise

    def _restore_unnamed(self, unnamed: pathlib.Path) -> None:
        """Reads the first save whole, into the memory of the first process alone: what it cannot read is not saved."""
        alone = {
            "multiprocessing_options": ocp.options.MultiprocessingOptions(
                primary_host=0, active_processes={0}, barrier_sync_key_prefix="read_back"
            )
        }
        with ocp.Checkpointer(ocp.StandardCheckpointHandler(**alone), **alone) as reader:
            reader.restore(unnamed / "state", args=ocp.args.StandardRestore(self._unread))
        self._read_back, self._unread = True, None

    def _remove_old(self) -> None:
        """What later saves have made superfluous, of this run or of one that was killed.

        Orbax moves it away whole: one that a killed run has half removed would be taken for a damaged one.
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

    def restore(self, which: str, shapes: Any) -> tuple[int, Any, dict] | None:
        """The step, state and open epoch of checkpoint `which`: 'best', 'last' or a number; None if there is none.

        The open epoch of one with metrics is {}. The state comes on the shardings in `shapes`. In place of a damaged
        'best' or 'last' comes the next one that is sound, with a warning; unless `read_only`, the damaged ones get
        another name. Raises Damaged where none is sound or the one of that number is not, and ValueError for a number
        that there is not.
        """
        while (step := self._find(which)) is not None:
            try:
                restored = self._read(step, shapes)
            except Exception as error:
                if jax.process_count() == 1 and not self._path(step).exists():
                    continue  # a run under way has removed it since, and has newer ones
                # With checksums it is known to be whole: what failed is something else.
                if checksums.exist(self._path(step)) or jax.process_count() > 1:
                    raise
                self._note(step, f"it cannot be restored ({str(error).splitlines()[0]})")
            else:
                if self._faults and (which == BEST or step < max(self._faults)):
                    logger.warning("%s is used instead", self._path(step))
                if not self._read_only:
                    self._set_aside()
                    self._remove_old()
                self._restored = step
                return step, *restored
        return None

    def _read(self, step: int, shapes: Any) -> tuple[Any, dict]:
        items = {"state": ocp.args.StandardRestore(shapes), "open_epoch": ocp.args.JsonRestore()}
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
            restored = reader.restore(self._path(step), args=ocp.args.Composite(**items))
        return restored["state"], restored["open_epoch"] if self._metrics(step) is None else {}

    def _find(self, which: str) -> int | None:
        """`_choose` by the first process, for all."""
        step, error = _NONE, None
        if jax.process_index() == 0:
            try:
                step = self._choose(which)
            except Exception as raised:  # or the others would wait for its word
                step, error = _FAILED, raised
        step = int(multihost_utils.broadcast_one_to_all(np.int32(_NONE if step is None else step)))
        if step == _FAILED:
            raise error or ValueError(f"no checkpoint in {self.folder} can be used: see the first process's log")
        return None if step == _NONE else step

    def _choose(self, which: str) -> int | None:
        """The step of a sound checkpoint, or None where there is none at all."""
        saved = self._steps()
        if which not in (BEST, LAST) and not (which.isdigit() and int(which) in saved):
            raise ValueError(f"config.eval.checkpoint={which!r}: expected 'best', 'last' or one of the steps {saved}")
        candidates = saved if which in (BEST, LAST) else [int(which)]
        for step in candidates:
            if step not in self._faults and (fault := self._fault(step)) and self._path(step).exists():
                self._note(step, fault)
        there = [step for step in candidates if self._path(step).exists()]
        if candidates and not there:
            return self._choose(which)  # a run under way has removed them, and has newer ones
        candidates = there
        sound = [step for step in candidates if step not in self._faults]
        if candidates and not sound:
            listing = "\n".join(f"  {self._path(step)}: {self._faults[step]}" for step in candidates)
            others = [step for step in saved if step not in candidates]
            advice = f"choose another of {others}" if others else "bring back a copy, or take another --workdir"
            raise Damaged(f"no checkpoint asked for is sound; {advice}:\n{listing}")
        metrics = {step: self._metrics(step) for step in sound}
        if which == BEST and (ranked := [step for step in sound if metrics[step] is not None]):
            if all(self._unranked(metrics[step]) for step in ranked):
                logger.warning("%s is defined at none of the steps %s: the last is taken", self._best_metric, ranked)
            return max(ranked, key=lambda step: (self._quality(metrics[step]), step))
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

    def _set_aside(self) -> None:
        """Renames what is damaged, so that it is neither used nor lost."""
        for step in self._faults:
            path, count = self._path(step), 1
            while (aside := path.with_name(f"{path.name}.damaged{count if count > 1 else ''}")).exists():
                count += 1
            path.rename(aside)
            logger.warning("%s is set aside as %s", path, aside.name)
        self._faults.clear()

    def _metrics(self, step: int) -> dict[str, float] | None:
        """The epoch's row with which `step` was saved; None if it was saved inside an epoch."""
        try:
            return json.loads(self._metrics_file(step).read_text())
        except FileNotFoundError:
            return None

    def rows(self) -> list[dict[str, float]]:
        """The epochs' rows of metrics.csv that the checkpoints were saved with, as far as they can be read."""
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
