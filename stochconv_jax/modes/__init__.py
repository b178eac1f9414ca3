"""One file per --mode. Only this package sees a ConfigDict."""
import importlib
from collections.abc import Mapping
from typing import Any

NAMES = ("train", "evaluate", "predict", "sweep", "report", "plan", "prepare")


def run(mode: str, config: Any, overrides: Mapping[str, Any], workdir: str, config_file: str) -> int | None:
    """Runs `mode` and returns the process's exit code (None for success).

    `config`: the ConfigDict of --config; `overrides`: the keys set on the command line, by dotted name; `config_file`:
    what --config names, which only a sweep needs: it asks the file for its variants, and gives it to other processes.
    """
    more = {"config_file": config_file} if mode == "sweep" else {}
    return importlib.import_module(f"stochconv_jax.modes.{mode}").run(config, overrides, workdir, **more)
