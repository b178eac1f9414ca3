r"""Trains, evaluates and applies stochastic-convolution classifiers.

    python main.py --config=configs/b0_full_split.py --workdir=runs/first \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv

`python -m stochconv_jax` is the same program. --config.KEY=VALUE sets any key of stochconv_jax/default_config.py.
`evaluate` and `predict` take the config of the run in --workdir; name only the keys that are to differ.
"""

import contextlib
import difflib
import logging
import pathlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import absl.logging
from absl import app, flags
from ml_collections import config_flags

from stochconv_jax import config, config_kinds, config_rules, default_config, modes

CHECKOUT = pathlib.Path(__file__).parents[1]  # the folder of main.py, unless the package is installed
CONFIG_FLAGS = ("--config", "-config")
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment: a file of configs/, or a run's config.json. Not given: the default config."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder: checkpoints, metrics, predictions.", required=True)
_MODE = flags.DEFINE_enum("mode", "train", modes.NAMES, "What to do.")


def main(_):
    """Runs the chosen mode and returns its exit code."""
    _log_to_stderr()
    flag = flags.FLAGS["config"]
    try:
        config_rules.check_workdir(_WORKDIR.value, _MODE.value)
        settings = config.checked(_values(_CONFIG.value))
        flat = config.flatten(settings.to_dict())
        overrides = {key: flat[key] for key in config_flags.get_override_values(flag)}
        return modes.run(_MODE.value, settings, overrides, _WORKDIR.value, config_flags.get_config_filename(flag))
    except config_rules.BadValue as error:
        sys.exit(f"stochconv_jax: {error}")


def parse(arguments: Sequence[str]) -> list[str]:
    """Parses the command line. Ends the program with one line if an argument or a value of the config is wrong."""
    program, *words = arguments
    for place, word in enumerate(words):
        flag, equals, value = word.partition("=")
        if flag in CONFIG_FLAGS and equals:
            words[place] = f"{flag}={_locate(value)}"
        elif place and words[place - 1] in CONFIG_FLAGS:
            words[place] = _locate(word)
        else:
            _check_key(flag)
    if not any(word.partition("=")[0] in CONFIG_FLAGS for word in words):
        words.insert(0, f"--config={default_config.__file__}")
    _install_parsers()
    try:
        return flags.FLAGS([program, *words])
    except flags.Error as error:
        sys.exit(f"stochconv_jax: {error}")


def _check_key(flag: str) -> None:
    """Ends the program if `flag` sets a config key that does not exist."""
    prefix, dot, key = flag.lstrip("-").partition(".")
    if flag.startswith("-") and dot and prefix in ("config", "noconfig") and key not in config_rules.RULES:
        sys.exit(f"stochconv_jax: unknown config key {key}{config_kinds.nearest(key, config_rules.RULES)}")


def _locate(value: str) -> str:
    """Returns FILE or FILE:ARGUMENT, a value of --config, with the path of the file.

    A relative path is looked for in the current folder, then beside main.py. A config.json becomes an argument of
    config.py, which makes a config of it. Ends the program if there is no such file.
    """
    name, colon, argument = value.partition(":")
    path = pathlib.Path(name).expanduser()
    folders = [pathlib.Path.cwd(), *([CHECKOUT] if (CHECKOUT / "main.py").exists() else [])]
    places = list(dict.fromkeys(folder / path for folder in folders))
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        known = {file.name: file for folder in reversed(folders) for file in (folder / "configs").rglob("*.py")}
        guess = difflib.get_close_matches(path.name, known, n=1)
        hint = f'. Did you mean "{known[guess[0]]}"?' if guess else ""
        looked_for = " and ".join(map(str, places))
        sys.exit(f"stochconv_jax: --config={name}: there is no such file; looked for {looked_for}{hint}")
    return f"{config.__file__}:{found}" if found.suffix == ".json" else f"{found}{colon}{argument}"


def _values(settings: Any) -> dict[str, Any]:
    """Returns the values of a config. Raises BadValue if `settings`, the result of a get_config(), is no config."""
    if not callable(getattr(settings, "to_dict", None)):
        raise config_rules.BadValue(f"its get_config() returns {settings!r}, not a config")
    return settings.to_dict()


def _install_parsers() -> None:
    """Makes absl accept any value for each key, and of repeated keys the last one, so that config_rules checks them."""
    flag = flags.FLAGS["config"]
    flag.parser = _FileParser(flag.parser.parse)
    readers = {int: _number, float: float, bool: flags.BooleanParser().parse, tuple: _tuple}
    for kind, reader in readers.items():
        config_flags.register_flag_parser_for_type(kind, _ValueParser(reader))


class _FileParser(flags.ArgumentParser):
    """A parser that reads a config file with `read` and checks its values, before the command line changes them."""

    def __init__(self, read: Callable[[str], Any]):
        self._read = read

    def parse(self, argument: str) -> Any:
        """Returns the config of FILE or FILE:ARGUMENT. Raises ValueError, which absl prints, if there is a mistake."""
        try:
            with _package_importable(pathlib.Path(argument.partition(":")[0])):
                settings = self._read(argument)
        except Exception as error:  # the file's own code may raise anything
            raise ValueError(_describe(error)) from None
        return config.checked(_values(settings))


def _describe(error: Exception) -> str:
    """Returns one line about an error in a config file, with its file and line."""
    raised_anew = isinstance(error, TypeError | ValueError)  # by ml_collections, with a traceback as its message
    cause = error.__context__ or error if raised_anew else error
    if isinstance(cause, config_rules.BadValue):
        return str(cause)
    last = traceback.extract_tb(cause.__traceback__)[-1]
    file, line = (cause.filename, cause.lineno) if isinstance(cause, SyntaxError) else (last.filename, last.lineno)
    message = config.name_keys(str(cause), ["model"])
    return f"{'' if raised_anew else f'{type(cause).__name__}: '}{message} ({file}, line {line})"


class _ValueParser(flags.ArgumentParser):
    """A parser that converts a value with `read`, or returns its text if that fails: config_rules explains better."""

    def __init__(self, read: Callable[[str], Any]):
        self._read = read

    def parse(self, argument):
        try:
            return self._read(argument) if isinstance(argument, str) else argument
        except ValueError:
            return argument


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)


def _tuple(text: str) -> tuple:
    """Returns the values between commas; brackets around them and quotes around each are optional."""
    parts = [part.strip().strip("\"'") for part in text.strip().strip("()[]").split(",")]
    return tuple(_ValueParser(_number).parse(part) for part in (parts if parts[-1] else parts[:-1]))


@contextlib.contextmanager
def _package_importable(file: pathlib.Path) -> Iterator[None]:
    """Puts the folder above the package of a config file on the import path while the file is read.

    It is removed afterwards: worker processes inherit the path and could import another stochconv_jax from there.
    """
    before = list(sys.path)
    if (file.parent / "__init__.py").exists():
        sys.path.insert(0, str(next(folder for folder in file.parents if not (folder / "__init__.py").exists())))
    try:
        yield
    finally:
        sys.path[:] = before


def _log_to_stderr() -> None:
    """Logs this package's messages with the time of day, and only errors of libraries."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    absl.logging.set_verbosity(absl.logging.ERROR)
    logger = logging.getLogger("stochconv_jax")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
