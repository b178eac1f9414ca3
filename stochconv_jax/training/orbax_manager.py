"""Orbax's checkpoint manager with the settings of this project."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import orbax.checkpoint as ocp

Metrics = dict[str, float]
PREFIX = "step"  # of a checkpoint's folder, step_12
REMOVED = ".removed"  # of the folders into which replaced checkpoints are moved


class Manager(ocp.CheckpointManager):
    """Orbax's manager, which never asks JAX whether a SIGTERM has come.

    It would ask for its log alone. Its sync point of a step would be taken for that by which several processes agree
    where to stop, see `runtime.preemption`.
    """

    def reached_preemption(self, step: int) -> bool:
        return False


@dataclasses.dataclass
class _Unranked(ocp.checkpoint_managers.PreservationPolicy):
    """Preserves the checkpoints whose metrics are `unranked`."""

    unranked: Callable[[Metrics | None], bool]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        del context
        return [self.unranked(checkpoint.metrics) for checkpoint in checkpoints]


def create(
    folder: pathlib.Path,
    *,
    quality: Callable[[Metrics], float],
    unranked: Callable[[Metrics | None], bool],
    when_written: Callable[[], None],
) -> Manager:
    """Returns a manager that saves asynchronously and keeps the last two checkpoints, the best and the unranked.

    Args:
      folder: of the checkpoints.
      quality: ranks a checkpoint by its metrics; the larger the better.
      unranked: whether these metrics cannot rank a checkpoint. They are None for one saved inside an epoch.
      when_written: called when all files of a checkpoint are written, before it takes its name.
    """
    policies = ocp.checkpoint_managers
    best = policies.BestN(get_metric_fn=quality, n=1, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        # The last two: one is left if the last is damaged. The unranked: any of them may be the best.
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(2), best, _Unranked(unranked)]),
        best_fn=quality,
        best_mode="max",
        step_prefix=PREFIX,
        cleanup_tmp_directories=True,
        # A new folder each time: old checkpoints that could not be removed do not block later ones.
        todelete_subdir=f"{REMOVED}.{time.time_ns()}",
        async_options=ocp.AsyncOptions(post_finalization_callback=when_written),
    )
    return Manager(folder, options=options)
