"""One file per --mode. Only this package sees a ConfigDict."""
import importlib
import sys
from collections.abc import Mapping
from typing import Any

from stochconv_jax.modes import hosts
from stochconv_jax.training import rendezvous

TOGETHER = ("train", "evaluate", "predict")  # by several processes as one
NAMES = (*TOGETHER, "report", "plan", "prepare")


def run(mode: str, config: Any, overrides: Mapping[str, Any], workdir: str) -> int | None:
    """Runs `mode` and returns the process's exit code (None for success).

    `config`: the ConfigDict of --config; `overrides`: the keys set on the command line, by dotted name.
    """
    if mode in TOGETHER:
        try:
            hosts.join(config.distributed, stops_together=mode == "train")
        except rendezvous.NotAllHere as error:
            sys.exit(f"main.py: {error}")
    return importlib.import_module(f"stochconv_jax.modes.{mode}").run(config, overrides, workdir)
