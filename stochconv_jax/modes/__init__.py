"""One file per --mode. Only this package sees a ConfigDict."""
import importlib
import os
import traceback
from collections.abc import Mapping
from typing import Any

from stochconv_jax.data import stalled
from stochconv_jax.modes import determinism

NAMES = ("train", "evaluate", "predict", "report", "plan", "prepare")


def run(mode: str, config: Any, overrides: Mapping[str, Any], workdir: str) -> int | None:
    """Runs `mode` and returns the process's exit code (None for success).

    `config`: the ConfigDict of --config; `overrides`: the keys set on the command line, by dotted name.
    """
    determinism.ask_for(os.environ)
    try:
        return importlib.import_module(f"stochconv_jax.modes.{mode}").run(config, overrides, workdir)
    except stalled.Stalled:
        traceback.print_exc()
        stalled.end_process(1)
