"""Trains, evaluates and applies stochastic-convolution classifiers.

    python main.py --config=configs/b0_full_split.py --workdir=runs/first --config.data.path=... --config.data.labels=...

Any key of configs/default.py is set by --config.KEY=VALUE. `evaluate` and `predict` take the config of the run in
--workdir and need only the keys that are to differ.
"""
import sys

from absl import app, flags
from ml_collections import config_flags

from stochconv_jax import modes

_CONFIG = config_flags.DEFINE_config_file("config", None, "File that describes the experiment.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "The run's folder: checkpoints, metrics, predictions.")
_MODE = flags.DEFINE_enum("mode", "train", modes.NAMES, "What to do.")


def main(_):
    """Hands over to the mode."""
    overrides = config_flags.get_override_values(flags.FLAGS["config"]) if _CONFIG.value is not None else {}
    return modes.run(_MODE.value, _CONFIG.value, overrides, _WORKDIR.value)


if __name__ == "__main__":
    flags.mark_flag_as_required("workdir")
    app.run(main, argv=sys.argv)
