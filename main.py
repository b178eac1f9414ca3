r"""Trains, evaluates and applies stochastic-convolution classifiers.

    python main.py --config=configs/b0_full_split.py --workdir=runs/first \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv

Any key of configs/default.py is set by --config.KEY=VALUE. `evaluate` and `predict` take the config of the run in
--workdir and need only the keys that are to differ.
"""
import logging
import sys

import absl.logging
from absl import app, flags
from ml_collections import config_flags

from stochconv_jax import modes

_CONFIG = config_flags.DEFINE_config_file("config", None, "File that describes the experiment.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder: checkpoints, metrics, predictions.")
_MODE = flags.DEFINE_enum("mode", "train", modes.NAMES, "What to do.")


def main(_):
    """Hands over to the mode."""
    _log_to_stderr()
    overrides = config_flags.get_override_values(flags.FLAGS["config"]) if _CONFIG.value is not None else {}
    return modes.run(_MODE.value, _CONFIG.value, overrides, _WORKDIR.value)


def _log_to_stderr():
    """Our own messages with the time of day; of the libraries only warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    absl.logging.set_verbosity(absl.logging.WARNING)
    logger = logging.getLogger("stochconv_jax")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    app.run(main, argv=sys.argv)
