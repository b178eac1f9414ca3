"""Checks configs, and reads the configs of earlier runs from their config.json.

    python main.py --config=runs/first/config.json --workdir=runs/again

repeats a run: the program calls `get_config` below for a `--config` that ends in .json.
"""

import json
import logging
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ml_collections import ConfigDict

from stochconv_jax import config_conflicts, config_rules, default_config
from stochconv_jax.run_folder import FREE_KEYS

logger = logging.getLogger(__name__)


def get_config(file: str) -> ConfigDict:
    """Returns the config that is saved in `file`, the config.json of a run. Raises ValueError if there is none."""
    try:
        content = json.loads(pathlib.Path(file).expanduser().read_text())
        saved = content["config"]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"--config={file}: not the config.json of a run ({error!r})") from error
    return complete(saved, file)


def complete(saved: Mapping[str, Any], where: Any) -> ConfigDict:
    """Returns a full config from the values that a run of this or an older version has saved.

    Keys that `saved` lacks take their defaults, with a warning. A key that does not affect training takes its default,
    with a warning, if its saved value is not allowed. `where` names the source of `saved` in messages.

    Raises ValueError for keys that this version does not have, because it cannot do what they asked for, and for values
    that are not allowed.
    """
    if not isinstance(saved, Mapping):
        raise ValueError(f"{where}: its config is {saved!r}, expected a table of keys and values")
    defaults, values = flatten(default_config.get_config().to_dict()), flatten(saved)
    removed = sorted(values.keys() - defaults.keys())
    if removed:
        raise ValueError(f"{where} has keys that this version does not know: {', '.join(removed)}")
    for key in sorted(defaults.keys() - values.keys()):
        logger.warning(
            "%s is from an older version and lacks config.%s; its default, %r, is used", where, key, defaults[key]
        )
    for key, value in values.items():
        try:
            config_rules.read(key, value)
        except config_rules.BadValue as error:
            if not key.startswith(FREE_KEYS):
                raise config_rules.BadValue(f"{where}: {error}") from None
            logger.warning("%s: %s; its default, %r, is used", where, error, defaults[key])
            values[key] = defaults[key]
    return checked(defaults | values, str(where))


def checked(values: Mapping[str, Any], where: str = "") -> ConfigDict:
    """Returns a locked config of `values`, nested or by dotted key, each converted by its rule in config_rules.

    Raises BadValue, with `where` before the message, for unknown keys, missing keys and values that are not allowed.
    """
    config = default_config.get_config()
    config.update_from_flattened_dict(config_rules.check(flatten(values), where))
    return config.lock()


def check_together(config: ConfigDict) -> None:
    """Raises BadValue if the values of two keys of a checked `config` contradict each other."""
    config_conflicts.check_together(flatten(config.to_dict()))


def name_keys(message: str, sections: Iterable[str]) -> str:
    """Returns a message in which each argument in backquotes has become its config key.

    Modules that see no config name their arguments. `size` becomes config.prepare.size if 'prepare' is the first of
    `sections` with a key of this name. If none of them has one, and exactly one other section does, that one is taken.
    Any other word stays as it is.
    """

    def key(found: re.Match[str]) -> str:
        first = [f"{section}.{found[1]}" for section in sections if f"{section}.{found[1]}" in config_rules.RULES]
        others = [key for key in config_rules.RULES if key.endswith(f".{found[1]}")]
        known = first or (others if len(others) == 1 else [])
        return f"config.{known[0]}" if known else found[0]

    return re.sub(r"`(\w+)`", key, message)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns a nested mapping with dotted keys: {'a': {'b': 1}} becomes {'a.b': 1}."""
    flat = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat
