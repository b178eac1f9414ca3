"""One file per --mode. Only this package sees a ConfigDict."""
import importlib
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any

from stochconv_jax import ending, host_memory
from stochconv_jax.config import check_together
from stochconv_jax.modes import compiler_flags, hosts
from stochconv_jax.training import rendezvous

BEGAN = time.monotonic()  # seconds; nearly when the program began, and before JAX is imported
TOGETHER = ("train", "evaluate", "predict")  # by several processes as one
OTHER_CONFIGS = ("evaluate", "predict", "show", "sweep")  # those of runs, to which --config is not all, or nothing
NAMES = (*TOGETHER, "sweep", "report", "show", "plan", "prepare")


def run(mode: str, config: Any, overrides: Mapping[str, Any], workdir: str, config_file: str) -> int | None:
    """Runs `mode` and returns the process's exit code (None for success).

    `config`: the ConfigDict of --config, checked; `overrides`: the keys set on the command line, by dotted name;
    `config_file`: what --config names, which only a sweep needs: it asks the file for its variants, and gives it to
    other processes.
    Raises config_rules.BadValue, before any work, where values do not fit each other.
    """
    if mode not in OTHER_CONFIGS:  # else it is asked of those
        check_together(config)
    compiler_flags.add(os.environ)
    os.environ["MPLBACKEND"] = "agg"  # a notebook's environment names its own, which may not be installed here
    host_memory.keep_freed()
    more = {"config_file": config_file} if mode == "sweep" else {}
    try:
        if mode in TOGETHER:
            hosts.join(config.distributed, stops_together=mode == "train")
        return importlib.import_module(f"stochconv_jax.modes.{mode}").run(config, overrides, workdir, **more)
    except rendezvous.NotAllHere as error:
        sys.exit(f"stochconv_jax: {error}")
    except ending.Stalled:
        traceback.print_exc()
        ending.end_process(1)
    except Exception as error:
        if _says_what_is_wrong(error):
            sys.exit(f"stochconv_jax: {getattr(error, 'strerror', None) or error}")
        # Of JAX and Grain, at the end of the error, whose last line is to say what is wrong.
        error.__notes__ = [n for n in getattr(error, "__notes__", ()) if "removed its internal frames" not in n]
        raise


def _says_what_is_wrong(error: Exception) -> bool:
    """Whether this package has raised `error` itself, for something that the user can mend: no traceback is needed.

    What a library raises, and a fault in this package, keeps its traceback.
    """
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = pathlib.Path(last.filename).is_relative_to(pathlib.Path(__file__).parents[1])
    return ours and isinstance(error, ValueError | OSError | RuntimeError) and (last.line or "").startswith("raise ")
