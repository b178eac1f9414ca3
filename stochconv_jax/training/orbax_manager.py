"""Orbax's manager of checkpoints, with the settings of this project."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any

import orbax.checkpoint as ocp

Metrics = dict[str, float]
PREFIX = "step"  # of a checkpoint's folder, step_12
REMOVED = ".removed"  # of the folders into which superfluous checkpoints are moved


class Manager(ocp.CheckpointManager):
    """Orbax's. It would ask, for its log alone, whether a SIGTERM has come, and the numbers it asks with, which are of
    steps, would be taken for those that several processes agree by: see `modes.stopping`.
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
    """Makes what saves in `folder`, asynchronously, and keeps the last two, the best and those that cannot be ranked.

    Args:
      folder: of the checkpoints.
      quality: ranks a checkpoint by its metrics; the larger the better.
      unranked: whether these metrics, None inside an epoch, do not rank a checkpoint.
      when_written: called when all files of a checkpoint are written, before it takes its name.
    """
    policies = ocp.checkpoint_managers
    best = policies.BestN(get_metric_fn=quality, n=1, keep_checkpoints_without_metrics=False)
    options = ocp.CheckpointManagerOptions(
        # Two, so that one is left where the last proves damaged; and what cannot be ranked, for it may be the best.
        preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(2), best, _Unranked(unranked)]),
        best_fn=quality,
        best_mode="max",
        step_prefix=PREFIX,
        cleanup_tmp_directories=True,
        todelete_subdir=f"{REMOVED}.{time.time_ns()}",  # a new one: what it cannot remove is in nobody's way
        async_options=ocp.AsyncOptions(post_finalization_callback=when_written),
    )
    return Manager(folder, options=options)
