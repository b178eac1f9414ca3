"""The nine modes of --mode, one file each, and what runs them."""

import contextlib
import importlib
import os
import pathlib
import sys
import time
import traceback
from collections.abc import Mapping
from typing import Any

from stochconv_jax.config import check_together, name_keys
from stochconv_jax.runtime import compiler_flags, distributed, host_memory, rendezvous, watchdog

BEGAN = time.monotonic()  # seconds; shortly after the program began, and before JAX is imported
TOGETHER = ("train", "evaluate", "predict")  # run by several processes as one
# They read or make configs of runs, which they check themselves.
OTHER_CONFIGS = ("evaluate", "predict", "show", "export", "sweep")
NAMES = (*TOGETHER, "sweep", "report", "show", "export", "plan", "prepare")


def run(mode: str, config: Any, overrides: Mapping[str, Any], workdir: str, config_file: str) -> int | None:
    """Runs `mode` and returns the process's exit code (None for success).

    An error that the user can fix ends the process with one line; other errors keep their traceback.

    Args:
      mode: one of `NAMES`.
      config: the ConfigDict of --config, checked.
      overrides: the values set on the command line, by dotted key.
      workdir: --workdir.
      config_file: --config. A sweep reads its variants from this file and gives it to other processes.

    Raises:
      config_rules.BadValue: values of the config do not fit each other. Raised before any work.
    """
    if mode not in OTHER_CONFIGS:
        check_together(config)
    compiler_flags.add(os.environ)
    os.environ["MPLBACKEND"] = "agg"  # a notebook's environment names its own, which may not be installed here
    host_memory.keep_freed()
    more = {"config_file": config_file} if mode == "sweep" else {}
    try:
        if mode in TOGETHER:
            distributed.join(**config.distributed, stops_together=mode == "train")
        with _in_file_system(workdir, mode) as folder:
            return importlib.import_module(f"stochconv_jax.modes.{mode}").run(config, overrides, folder, **more)
    except rendezvous.RendezvousError as error:
        sys.exit(f"stochconv_jax: {name_keys(str(error), ['distributed'])}")
    except watchdog.Stalled as error:
        error.args = (name_keys(str(error), [mode, "data"]),)
        traceback.print_exc()
        watchdog.end_process(1)
    except Exception as error:
        if _is_for_the_user(error):
            sys.exit(f"stochconv_jax: {name_keys(_message(error), [mode, 'data'])}")
        if _is_out_of_memory(error):
            sys.exit(
                f"stochconv_jax: a device has too little memory ({str(error).splitlines()[0]}): set a smaller "
                "config.batch_size or config.eval.batch_size, config.optimizer.accumulate_steps or "
                "config.model.remat=True; --mode=plan says what a config needs"
            )
        # JAX and Grain add such a note at the end, where the error itself is to stand.
        error.__notes__ = [n for n in getattr(error, "__notes__", ()) if "removed its internal frames" not in n]
        raise


def _in_file_system(workdir: str, mode: str) -> contextlib.AbstractContextManager[str]:
    """Returns a context with the folder in which `mode` works: `workdir`, or a local copy if that is an address."""
    if "://" not in workdir:
        return contextlib.nullcontext(workdir)
    if mode in TOGETHER:
        import jax

        if jax.process_count() > 1:
            raise ValueError(
                f"--workdir={workdir}: several processes need a folder that all of them share, and a bucket is none: "
                "choose a folder"
            )
    from stochconv_jax.buckets import staging  # imports fsspec

    return staging.local_copy(workdir, mode)


def _message(error: Exception) -> str:
    """Returns the error in words, with the name of its file but without the number of an OSError."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _is_out_of_memory(error: Exception) -> bool:
    """Returns whether `error` is that of a device without memory left. JAX need not have been imported."""
    return type(error).__name__ == "JaxRuntimeError" and str(error).startswith("RESOURCE_EXHAUSTED")


def _is_for_the_user(error: Exception) -> bool:
    """Returns whether `error` was raised by a statement of this package and is something that the user can fix.

    Returns False for errors of a library and for bugs in this package.
    """
    last = traceback.extract_tb(error.__traceback__)[-1]
    ours = pathlib.Path(last.filename).is_relative_to(pathlib.Path(__file__).parents[1])
    return ours and isinstance(error, ValueError | OSError | RuntimeError) and (last.line or "").startswith("raise ")
