r"""Trains, evaluates and applies stochastic-convolution classifiers.

    python main.py --config=configs/b0_full_split.py --workdir=runs/first \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv

Any key of configs/default.py is set by --config.KEY=VALUE. `evaluate` and `predict` take the config of the run in
--workdir and need only the keys that are to differ.
"""
import difflib
import logging
import pathlib
import re
import sys
from collections.abc import Mapping
from typing import Any

import absl.logging
from absl import app, flags
from ml_collections import config_flags

from configs import default, saved
from stochconv_jax import modes

CONFIGS = pathlib.Path(__file__).parent / "configs"
DEFAULT, SAVED = CONFIGS / "default.py", CONFIGS / "saved.py"
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "File that describes the experiment: one of configs/ (if none: default.py), or a run's config.json."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder: checkpoints, metrics, predictions.", required=True)
_MODE = flags.DEFINE_enum("mode", "train", modes.NAMES, "What to do.")


def main(_):
    """Hands over to the mode."""
    _log_to_stderr()
    flag = flags.FLAGS["config"]
    overrides, file = config_flags.get_override_values(flag), config_flags.get_config_filename(flag)
    return modes.run(_MODE.value, _CONFIG.value, overrides, _WORKDIR.value, file)


def parse(arguments):
    """Parses the command line; an unknown key or file ends with the nearest name, not with a traceback."""
    joined = re.sub(r"(^|\n)--?config\n", r"\1--config=", "\n".join(arguments))  # `--config FILE` is `--config=FILE`
    files = re.findall(r"^--?config=([^:\n]*)", joined, re.MULTILINE)
    for file in files:
        if not pathlib.Path(file).expanduser().is_file():
            known = {path.name: path.relative_to(CONFIGS.parent) for path in CONFIGS.rglob("*.py")}
            sys.exit(f"main.py: --config={file}: there is no such file{_guess(pathlib.Path(file).name, known)}")
    known = {key: key for key in saved.flatten(default.get_config().to_dict())}
    for key in re.findall(r"^--?config\.([\w.]+)", joined, re.MULTILINE):
        if key not in known:
            sys.exit(f"main.py: unknown config key {key}{_guess(key, known)}")
    arguments = re.sub(r"(^|\n)--?config=(.*\.json)(?=\n|$)", rf"\1--config={SAVED}:\2", joined).split("\n")
    return app.parse_flags_with_usage(arguments if files else [arguments[0], f"--config={DEFAULT}", *arguments[1:]])


def _guess(name: str, known: Mapping[str, Any]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return f'. Did you mean "{known[nearest[0]]}"?' if nearest else ""


def _log_to_stderr():
    """Our own messages with the time of day; of the libraries only errors."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    absl.logging.set_verbosity(absl.logging.ERROR)
    for name in ("stochconv_jax", "configs"):
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
