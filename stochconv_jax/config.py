"""Configs of earlier runs, from their config.json:

    python main.py --config=runs/first/config.json --workdir=runs/again

The program reads `--config=FILE.json` by `get_config` below.
"""

import json
import logging
import pathlib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from stochconv_jax import config_rules, default_config
from stochconv_jax.run_folder import FREE_KEYS

logger = logging.getLogger(__name__)


def get_config(file: str) -> ConfigDict:
    """The config in `file`, a run's config.json."""
    try:
        content = json.loads(pathlib.Path(file).expanduser().read_text())
        saved = content["config"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"--config={file}: not the config.json of a run ({error!r})") from error
    return complete(saved, file)


def complete(saved: Mapping[str, Any], where: Any) -> ConfigDict:
    """A config from the values that a run, perhaps of an older version, has saved.

    Keys that are new since take their defaults, and the log says so. ValueError for keys that are no more: what they
    meant cannot be repeated, and for values that no key can have.
    """
    if not isinstance(saved, Mapping):
        raise ValueError(f"{where}: its config is no table of keys but {saved!r}")
    known, values = flatten(default_config.get_config().to_dict()), flatten(saved)
    removed = sorted(values.keys() - known.keys())
    if removed:
        raise ValueError(f"{where} has keys that this version does not know: {', '.join(removed)}")
    for key in sorted(known.keys() - values.keys()):
        logger.warning("%s is of an older version: config.%s takes its default, %r", where, key, known[key])
    for key, value in values.items():
        try:
            config_rules.read(key, value)
        except config_rules.BadValue as error:
            if not key.startswith(FREE_KEYS):  # it says nothing of what was trained
                raise config_rules.BadValue(f"{where}: {error}") from None
            logger.warning("%s: %s; its default, %r, is taken", where, error, known[key])
            values[key] = known[key]
    return checked(known | values, str(where))


def checked(values: Mapping[str, Any], where: str = "") -> ConfigDict:
    """The config of `values`, nested or by dotted key, each as its rule reads it; locked.

    BadValue, beginning with `where`, for what no key can have, for unknown keys and for missing ones.
    """
    config = default_config.get_config()
    config.update_from_flattened_dict(config_rules.check(flatten(values), where))
    return config.lock()


def check_together(config: ConfigDict) -> None:
    """BadValue where values of a checked `config` do not fit each other."""
    config_rules.check_together(flatten(config.to_dict()))


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'a': {'b': 1}} -> {'a.b': 1}."""
    flat = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
