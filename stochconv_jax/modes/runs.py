"""What the modes share about the run in --workdir: claiming it, reading its config, restoring its model."""
import importlib.metadata
import json
import logging
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from configs import default
from stochconv_jax.data import pipeline, sources
from stochconv_jax.modes import build
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.training import mesh as meshes
from stochconv_jax.training import state
from stochconv_jax.training.checkpoints import Checkpoints

logger = logging.getLogger(__name__)

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
    "opencv-python-headless",
    "simplejpeg",
    "scikit-learn",
)
# Keys that change no number of a run. The data itself is compared by names and labels, not by where it lies.
FREE_KEYS = frozenset(
    {
        "data.path",
        "data.labels",
        "data.validation_labels",
        "data.num_workers",
        "eval.batch_size",
        "eval.checkpoint",
        "predict.images",
        "predict.output",
        "log_every_seconds",
        "compilation_cache",
    }
)


def claim(folder: RunFolder, config: ConfigDict, *, parameters: int, data: Mapping[str, Any]) -> None:
    """Writes config.json of a new run; of an old one checks that it is the same run, and never overwrites another.

    Raises ValueError that lists the keys that differ.
    """
    new = json.loads(json.dumps(config.to_dict()))
    old = folder.read_config()
    if old is not None:
        before, after = flatten(old["config"] | {"data_set": old["data"]}), flatten(new | {"data_set": data})
        differences = [
            f"  {key}: {before.get(key, 'absent')!r} there, {after.get(key, 'absent')!r} now"
            for key in sorted(before.keys() | after.keys())
            if key not in FREE_KEYS and before.get(key) != after.get(key)
        ]
        if differences:
            listing = "\n".join(differences)
            raise ValueError(f"{folder.path} holds another run; choose another --workdir. What differs:\n{listing}")
        return
    if jax.process_index() == 0:
        about = {
            "config": new,
            "parameters": parameters,
            "data": data,
            "command": sys.argv,
            "versions": {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in PACKAGES},
            "devices": {
                "kind": jax.devices()[0].device_kind,
                "platform": jax.default_backend(),
                "count": jax.device_count(),
                "hosts": jax.process_count(),
            },
        }
        folder.write_json("config.json", about)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'a': {'b': 1}} -> {'a.b': 1}."""
    flat = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def load(overrides: Mapping[str, Any], workdir: str) -> tuple[RunFolder, ConfigDict]:
    """The run in `workdir` and its own config, with the keys set on the command line laid over it.

    --config is not looked at: the run's checkpoint fits no other model. ValueError where there is no run, or where an
    override would change its model.
    """
    folder = RunFolder(workdir)
    about = folder.read_config()
    if about is None:
        raise ValueError(f"no run in {folder.path}: it has no config.json; train first, with the same --workdir")
    own = default.get_config()
    for key, value in flatten(about["config"]).items():
        own.update_from_flattened_dict({key: tuple(value) if isinstance(value, list) else value})
    for key, value in overrides.items():
        if key.startswith("model.") and flatten(own.to_dict())[key] != value:
            raise ValueError(f"config.{key}={value!r}: the run in {folder.path} has {flatten(own.to_dict())[key]!r}")
    own.update_from_flattened_dict(dict(overrides))
    model = own.model
    logger.info("%s: %s, branches %s, meeting %s", folder.path, model.variant, "+".join(model.branches), model.merge_after)
    own.lock()
    return folder, own


def restore(folder: RunFolder, config: ConfigDict, devices: jax.sharding.Mesh) -> tuple[int, Any]:
    """The step of the checkpoint that `config.eval.checkpoint` names, and its variables to evaluate with."""
    model = build.classifier(config)
    transform = build.optimizer(config, build.schedule(config, steps_per_epoch=1.0))
    shapes = state.shapes(build.initializer(config, model, transform), meshes.replicated(devices))
    with Checkpoints(folder.checkpoints, best_metric=config.checkpoint.best_metric, read_only=True) as saved:
        step = saved.find(config.eval.checkpoint)
        restored, _ = saved.restore(step, shapes)
    logger.info("restored step %d of %s", step, folder.path)
    return step, restored.to_evaluate()


def log_skipped(config: ConfigDict, source: sources.Source, skipped: Sequence[int]) -> None:
    """Says how many images were skipped, and of each why: the workers only tell which, so it is read once more."""
    indices = sorted(set(map(int, skipped)))
    if not indices:
        return
    logger.warning("%d of %d images cannot be used:", len(indices), len(source))
    reader = pipeline.Reader(source, **build.pixels(config))
    for index in indices:
        try:
            reader.picture(index)
        except sources.BadImage as error:
            logger.warning("  %s", error)
