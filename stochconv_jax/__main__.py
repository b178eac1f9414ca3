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
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import absl.logging
from absl import app, flags
from ml_collections import config_flags

from stochconv_jax import config, config_kinds, config_rules, default_config, modes

CHECKOUT = pathlib.Path(__file__).parents[1]  # where main.py lies, if the package is not installed
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment: a file of configs/, or a run's config.json. Not given: the default config."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder: checkpoints, metrics, predictions.", required=True)
_MODE = flags.DEFINE_enum("mode", "train", modes.NAMES, "What to do.")


def main(_):
    """Hands over to the mode."""
    _log_to_stderr()
    flag = flags.FLAGS["config"]
    try:
        config_rules.check_path("--workdir", _WORKDIR.value)
        settings = config.checked(_values(_CONFIG.value))
        flat = config.flatten(settings.to_dict())
        overrides = {key: flat[key] for key in config_flags.get_override_values(flag)}
        return modes.run(_MODE.value, settings, overrides, _WORKDIR.value, config_flags.get_config_filename(flag))
    except config_rules.BadValue as error:
        sys.exit(f"stochconv_jax: {error}")


def _values(settings: Any) -> dict[str, Any]:
    """The values of a config. BadValue where a file's get_config() has returned something else."""
    if not callable(getattr(settings, "to_dict", None)):
        raise config_rules.BadValue(f"its get_config() returns {settings!r}, not a config")
    return settings.to_dict()


def parse(arguments):
    """Parses the command line; what is wrong with it, or with the config's values, ends in a line and no traceback."""
    _read_any_value()
    joined = re.sub(r"(^|\n)--?config\n", r"\1--config=", "\n".join(arguments))  # `--config FILE` is `--config=FILE`
    joined = re.sub(r"(?m)^--?config=([^:\n]*)", lambda found: f"--config={_find(found[1])}", joined)
    files = re.findall(r"(?m)^--config=([^:\n]*)", joined)
    for key in re.findall(r"^--?(?:no)?config\.([\w.]+)", joined, re.MULTILINE):
        if key not in config_rules.RULES:
            sys.exit(f"stochconv_jax: unknown config key {key}{config_kinds.nearest(key, config_rules.RULES)}")
    read = f"--config={config.__file__}:"  # it makes a config of a run's config.json
    joined = re.sub(r"(?m)^--config=(?=.*\.json$)", read, joined)
    program, *arguments = joined.split("\n")
    default = [] if files else [f"--config={default_config.__file__}"]
    with _neighbours_importable(files):
        try:
            return flags.FLAGS([program, *default, *arguments])
        except flags.Error as error:
            sys.exit(f"stochconv_jax: {error}")


def _find(file: str) -> pathlib.Path:
    """The config file of that name: in the current folder, or else beside main.py. Ends the program where none is."""
    path = pathlib.Path(file).expanduser()
    folders = [pathlib.Path.cwd(), *([CHECKOUT] if (CHECKOUT / "main.py").exists() else [])]
    places = list(dict.fromkeys(folder / path for folder in folders))
    for place in places:
        if place.is_file():
            return place
    known = {found.name: found for folder in reversed(folders) for found in (folder / "configs").rglob("*.py")}
    guess = difflib.get_close_matches(path.name, known, n=1)
    meant = f'. Did you mean "{known[guess[0]]}"?' if guess else ""
    looked_for = " and ".join(map(str, places))
    sys.exit(f"stochconv_jax: --config={file}: there is no such file; looked for {looked_for}{meant}")


class _FileParser(flags.ArgumentParser):
    """Reads a config file as `read` does and checks its values, before those of the command line are laid over them."""

    def __init__(self, read: Callable[[str], Any]):
        self._read = read

    def parse(self, path):
        try:
            settings = self._read(path)
        except config_rules.BadValue:
            raise
        except Exception as error:  # the file's own code; absl's message is a traceback
            told = isinstance(error, TypeError | ValueError)
            cause = error.__context__ or error if told else error
            place = traceback.extract_tb(cause.__traceback__)[-1]
            where = f"{cause.filename}, line {cause.lineno}" if isinstance(cause, SyntaxError) else (
                f"{place.filename}, line {place.lineno}"
            )
            raise ValueError(f"{'' if told else f'{type(cause).__name__}: '}{cause} ({where})") from None
        return config.checked(_values(settings))


class _ValueParser(flags.ArgumentParser):
    """Reads a value of the command line as `read` does, or as text where that cannot: the key's rule says more."""

    def __init__(self, read: Callable[[str], Any]):
        self._read = read

    def parse(self, argument):
        try:
            return self._read(argument) if isinstance(argument, str) else argument
        except ValueError:
            return argument


def _read_any_value() -> None:
    """Makes absl take each key's value, the last where it is given several times, for the rules to check."""
    flag = flags.FLAGS["config"]
    flag.parser = _FileParser(flag.parser.parse)
    readers = {int: _number, float: float, bool: flags.BooleanParser().parse, tuple: _tuple}
    for kind, reader in readers.items():
        config_flags.register_flag_parser_for_type(kind, _ValueParser(reader))


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _tuple(text: str) -> tuple:
    """The values between commas, with or without brackets about them and quotes about each."""
    parts = [part.strip().strip("\"'") for part in text.strip().strip("()[]").split(",")]
    return tuple(_ValueParser(_number).parse(part) for part in (parts if parts[-1] else parts[:-1]))


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
