"""The runs that the config file of an ablation describes, and the progress of each."""

import dataclasses
import importlib.util
import itertools
import pathlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from stochconv_jax import config_rules, early_stopping
from stochconv_jax.config import check_together, checked, complete, flatten
from stochconv_jax.experiment import runs
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.training.checkpoints import LAST

LOG = "output.log"  # in a run's folder: the output of its processes
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclasses.dataclass(frozen=True)
class SweepRun:
    """A variant of an ablation with one seed, and one fold if there are folds. Its folder says how far it is.

    Attributes:
      name: VARIANT/seed_SEED or VARIANT/fold_FOLD/seed_SEED, its folder below the sweep's.
      folder: the folder of the run.
      config: the complete config of the run.
      config_file: the config file of the ablation.
      flags: the values to set on the command line, by dotted key.
    """

    name: str
    folder: RunFolder
    config: ConfigDict
    config_file: str
    flags: Mapping[str, Any]

    def epochs(self) -> int:
        """Returns the number of epochs done, or 0 if metrics.csv is damaged, which the run itself will report."""
        return self._last_row("epoch")

    def trained(self) -> bool:
        """Returns whether the last epoch is done with exactly this config, and is saved or evaluated.

        A run with a damaged file counts as not trained.
        """
        try:
            about = self.folder.read_config()
            if about is None or (self.epochs() < self.config.num_epochs and not self._stopped_early()):
                return False
            there = complete(about["config"], self.folder.path)
            wanted = runs.with_dtype(self.config, there.model.dtype)
            kept = self.folder.has_checkpoint(self._last_step()) or self.evaluated()
            return kept and not runs.differences(there.to_dict(), wanted.to_dict())
        except (ValueError, KeyError):
            return False

    def evaluated(self) -> bool:
        """Returns whether eval.checkpoint=last was evaluated for the last step, with the passes and views asked for."""
        try:
            summary = self.folder.read_json(runs.EVALUATION) or {}
        except ValueError:
            return False
        made = {"checkpoint_asked_for": LAST, "views": 1} | summary  # earlier versions did not record these
        wanted = {"checkpoint_asked_for": LAST, "checkpoint_step": self._last_step()}
        wanted |= {"passes": self.config.sweep.passes, "views": self.config.eval.views}
        return wanted.items() <= made.items()

    def finished(self) -> bool:
        """Returns whether nothing is left to do."""
        return self.trained() and (self.evaluated() or not self.config.sweep.passes)

    def work_left(self) -> int:
        """Returns the number of epochs left; a missing evaluation counts as one epoch."""
        evaluation = bool(self.config.sweep.passes) and not self.evaluated()
        return (0 if self.trained() else max(0, self.config.num_epochs - self.epochs())) + evaluation

    def train_command(self) -> list[str]:
        """Returns the command that starts or continues training."""
        return self._command(f"--config={self.config_file}", keys=self.flags)

    def evaluate_command(self) -> list[str]:
        """Returns the command that evaluates the last checkpoint on the validation images."""
        asked = {"eval.checkpoint": LAST, "eval.passes": self.config.sweep.passes}
        asked |= dict.fromkeys(("eval.path", "eval.labels", "eval.output"), "")
        return self._command("--mode=evaluate", keys=dict(self.flags) | asked)

    def _stopped_early(self) -> bool:
        checkpoint = self.config.checkpoint
        return early_stopping.is_over(self.folder.read_metrics(), checkpoint.best_metric, checkpoint.patience)

    def _last_step(self) -> int:
        return self._last_row("step")

    def _last_row(self, column: str) -> int:
        try:
            return int(self.folder.read_metrics()[-1][column])
        except (ValueError, TypeError, LookupError):
            return 0

    def _command(self, *words: str, keys: Mapping[str, Any]) -> list[str]:
        # One process, even if a launcher's variables describe several: each of those runs its own sweep.
        settings = [f"--config.{key}={value}" for key, value in {**keys, "distributed.num_processes": 1}.items()]
        return [sys.executable, "-P", "-m", "stochconv_jax", *words, f"--workdir={self.folder.path}", *settings]


def plan(config: ConfigDict, overrides: Mapping[str, Any], config_file: str, root: pathlib.Path) -> list[SweepRun]:
    """Returns all runs of the ablation in `config_file`: every variant with the first seed, then with the next.

    With config.sweep.folds, every variant has a run for each fold, with the first seed, then with the next.

    `config` is the config of that file with the command line's `overrides`, and `root` is the folder of the sweep.
    Raises ValueError if the file describes no ablation, or the same run twice.
    """
    seeds, folds = config.sweep.seeds, config.sweep.folds
    variants = _chosen(variants_of(config_file, folds), config.sweep.variants, config_file)
    configs = {
        name: _changed(f"{config_file}: sweep()[{name!r}]", name, changes, config, overrides)
        for name, changes in variants.items()
    }
    for_all = {key: value for key, value in overrides.items() if not key.startswith("sweep.")}
    planned = []
    for seed, fold, name in itertools.product(seeds, range(1, folds + 1) if folds else [0], variants):
        changes = {"seed": seed} | ({"data.fold": f"{fold}/{folds}"} if fold else {})
        own = configs[name].copy_and_resolve_references()
        own.update_from_flattened_dict(changes)
        path = f"{name}/fold_{fold}/seed_{seed}" if fold else f"{name}/seed_{seed}"
        flags = for_all | dict(variants[name]) | changes
        planned.append(SweepRun(path, RunFolder(root / path), own, config_file, flags))
    for one, other in itertools.combinations(planned[: len(variants)], 2):
        if not runs.differences(one.config.to_dict(), other.config.to_dict()):
            raise ValueError(f"{config_file}: sweep() has the same run twice, as {one.name} and as {other.name}")
    return planned


def share(planned: Sequence[SweepRun], number: int, count: int) -> list[SweepRun]:
    """Returns the `number`-th of `count` shares of the runs, 1-based, in the order of `planned`.

    Every share has the same number of runs of each variant, give or take one. Since variants differ in cost, jobs with
    one share each then end at about the same time.
    """
    by_variant = sorted(planned, key=lambda run: run.folder.path.parent)
    mine = {run.name for run in by_variant[number - 1 :: count]}
    return [run for run in planned if run.name in mine]


def parse_shard(text: str) -> tuple[int, int]:
    """Returns (2, 8) for '2/8', the second of eight shares."""
    number, _, count = text.partition("/")
    return int(number), int(count)


def variants_of(config_file: str, folds: int = 0) -> Mapping[str, Mapping[str, Any]]:
    """Returns the result of the file's sweep(): for each variant the values that differ from its get_config().

    An argument after a colon in `config_file` is passed to both. With `folds`, a file without a sweep() has one
    variant, named as the file, that changes nothing. Raises ValueError if the file describes no ablation.
    """
    path, colon, argument = config_file.partition(":")
    spec = importlib.util.spec_from_file_location("ablation", path)
    assert spec is not None and spec.loader is not None, f"{path} is no Python file"
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if folds and not hasattr(module, "sweep"):
        return {pathlib.Path(path).stem: {}}
    if not hasattr(module, "sweep"):
        raise ValueError(
            f"--config={config_file} describes one run and no sweep: take a file of configs/ablations/, or add a "
            "function sweep() that returns {'name of a variant': {'key': value, ...}, ...}, or set config.sweep.folds"
        )
    variants = module.sweep(argument) if colon else module.sweep()
    if not variants:
        raise ValueError(f"{config_file}: sweep() returns no variant")
    if not (isinstance(variants, Mapping) and all(isinstance(keys, Mapping) for keys in variants.values())):
        raise ValueError(f"{config_file}: sweep() must return {{'name of a variant': {{'key': value, ...}}, ...}}")
    return variants


def _chosen(
    variants: Mapping[str, Mapping[str, Any]], names: Sequence[str], config_file: str
) -> Mapping[str, Mapping[str, Any]]:
    """Returns the variants in `names`, in the order of the file, or all if there are none. Raises ValueError."""
    if unknown := [name for name in names if name not in variants]:
        raise ValueError(
            f"config.sweep.variants={tuple(names)}: {config_file} has no variant {unknown[0]!r}, only "
            f"{', '.join(variants)}"
        )
    return {name: changes for name, changes in variants.items() if name in names} if names else variants


def _changed(
    where: str, name: str, changes: Mapping[str, Any], config: ConfigDict, overrides: Mapping[str, Any]
) -> ConfigDict:
    """Returns the config of a variant. Raises ValueError, beginning with `where`, for an invalid name or key."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{where}: the name becomes a folder's; use letters, digits, '_', '.', '+' and '-'")
    per_run = {"seed", "data.fold"} if config.sweep.folds else {"seed"}
    for key in changes:
        if key in per_run or key.startswith("sweep."):
            raise ValueError(
                f"{where}: {key} is of the whole sweep; seeds are config.sweep.seeds, and folds config.sweep.folds"
            )
    if taken := sorted((changes.keys() | per_run) & overrides.keys()):
        raise ValueError(f"{where} and the command line both set config.{taken[0]}: leave it to the sweep")
    try:
        own = checked({**flatten(config.to_dict()), **changes})
        check_together(own)
    except config_rules.BadValue as error:
        raise config_rules.BadValue(f"{where}: {error}") from None
    return own
