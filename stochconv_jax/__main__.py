r"""Trains, evaluates and applies stochastic-convolution classifiers.

    python main.py --config=configs/b0_full_split.py --workdir=runs/first \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv

`python -m stochconv_jax` is the same program. Any key of stochconv_jax/default_config.py is set by --config.KEY=VALUE.
`evaluate` and `predict` take the config of the run in --workdir and need only the keys that are to differ.
"""
import contextlib
import difflib
import logging
import pathlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import absl.logging
from absl import app, flags
from ml_collections import config_flags

from stochconv_jax import config, default_config, modes

EXPERIMENTS = (pathlib.Path("configs"), pathlib.Path(__file__).parents[1] / "configs")  # where --config is guessed from
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment: a file of configs/, or a run's config.json. Not given: the default config."
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
            known = {path.name: path for folder in reversed(EXPERIMENTS) for path in folder.rglob("*.py")}
            sys.exit(f"stochconv_jax: --config={file}: there is no such file{_guess(pathlib.Path(file).name, known)}")
    known = {key: key for key in config.flatten(default_config.get_config().to_dict())}
    for key in re.findall(r"^--?config\.([\w.]+)", joined, re.MULTILINE):
        if key not in known:
            sys.exit(f"stochconv_jax: unknown config key {key}{_guess(key, known)}")
    read = f"--config={config.__file__}:"  # it makes a config of a run's config.json
    joined = re.sub(r"(^|\n)--?config=(?=.*\.json(\n|$))", lambda found: found[1] + read, joined)
    program, *arguments = joined.split("\n")
    default = [] if files else [f"--config={default_config.__file__}"]
    with _neighbours_importable(files):
        return app.parse_flags_with_usage([program, *default, *arguments])


@contextlib.contextmanager
def _neighbours_importable(files: Iterable[str]) -> Iterator[None]:
    """While config files are read: puts the folders above the packages that they lie in on the import path.

    Later on it could make the processes that this one starts import another package than this one has.
    """
    before = list(sys.path)
    for folder in (pathlib.Path(file).expanduser().absolute().parent for file in files):
        if (folder / "__init__.py").exists():
            above = next(parent for parent in folder.parents if not (parent / "__init__.py").exists())
            sys.path.insert(0, str(above))
    try:
        yield
    finally:
        sys.path[:] = before


def _guess(name: str, known: Mapping[str, Any]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return f'. Did you mean "{known[nearest[0]]}"?' if nearest else ""


def _log_to_stderr():
    """Our own messages with the time of day; of the libraries only errors."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    absl.logging.set_verbosity(absl.logging.ERROR)
    logger = logging.getLogger("stochconv_jax")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
