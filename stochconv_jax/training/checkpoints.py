"""Checkpoints: Orbax, asynchronous, the last one and the best one kept."""
import math
import pathlib
from typing import Any

import orbax.checkpoint as ocp

BEST, LAST = "best", "last"


class Checkpoints:
    """The checkpoints in `folder`. A checkpoint holds the train state and the open epoch's predictions so far.

    `best_metric` is the name of the metric that ranks them; names that end in 'loss' are better when lower. Close it,
    or use it as a context, so that a save under way is completed.
    """

    def __init__(self, folder: pathlib.Path, *, best_metric: str, read_only: bool = False):
        self.folder = folder
        lower_is_better = best_metric.endswith("loss")

        def quality(metrics: dict[str, float]) -> float:
            value = metrics[best_metric]
            return -math.inf if math.isnan(value) else (-value if lower_is_better else value)

        policies = ocp.checkpoint_managers
        keep = policies.AnyPreservationPolicy(
            [policies.LatestN(1), policies.BestN(get_metric_fn=quality, n=1, keep_checkpoints_without_metrics=False)]
        )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=keep,
            best_fn=quality,
            best_mode="max",
            read_only=read_only,
            create=not read_only,
            step_prefix="step",
        )
        self._manager = ocp.CheckpointManager(folder, options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()

    def save(self, step: int, state: Any, open_epoch: dict, metrics: dict[str, float] | None = None) -> None:
        """Starts to save `state` at `step`; `metrics` are given where an epoch ends."""
        items = {"state": ocp.args.StandardSave(state), "open_epoch": ocp.args.JsonSave(open_epoch)}
        self._manager.save(step, args=ocp.args.Composite(**items), metrics=metrics, force=True)

    def latest_step(self) -> int | None:
        """The last completed step saved, or None."""
        return self._manager.latest_step()

    def find(self, which: str) -> int:
        """The step of checkpoint `which`: 'best', 'last' or a number. ValueError naming those there are."""
        saved = sorted(self._manager.all_steps())
        if not saved:
            raise ValueError(f"no checkpoint in {self.folder}: train first, with the same --workdir")
        if which == LAST:
            return saved[-1]
        if which == BEST:
            best = self._manager.best_step()
            return saved[-1] if best is None else best
        if not which.isdigit() or int(which) not in saved:
            raise ValueError(f"config.eval.checkpoint={which!r}: expected 'best', 'last' or one of the steps {saved}")
        return int(which)

    def restore(self, step: int, shapes: Any) -> tuple[Any, dict]:
        """The state of `step`, on the shardings in `shapes`, and the open epoch's predictions."""
        items = {"state": ocp.args.StandardRestore(shapes), "open_epoch": ocp.args.JsonRestore()}
        restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        return restored["state"], restored["open_epoch"]
