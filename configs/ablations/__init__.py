"""Ablations, one file for each question. `get_config()` is common to all runs; `sweep()` has each variant's changes.

    python main.py --mode=sweep --config=configs/ablations/integration.py --workdir=runs/integration \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv
    python main.py --mode=report --workdir=runs/integration

The quick_* files ask the same questions with drawn images and a tiny network. docs/reproduction.md says what their
answers mean.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import quickstart
from stochconv_jax.config import flatten


def changes(config: ConfigDict, base: ConfigDict) -> dict[str, Any]:
    """Returns the dotted keys in which `config` differs from `base`, with the values of `config`.

    Keys that concern the sweep as a whole are left out.
    """
    values, before = flatten(config.to_dict()), flatten(base.to_dict())
    sweep_keys = ("sweep.", "report.")
    return {key: value for key, value in values.items() if value != before[key] and not key.startswith(sweep_keys)}


def compared_with(baseline: str, config: ConfigDict) -> ConfigDict:
    """Returns `config` with `baseline` as the variant that --mode=report compares the others with by default."""
    config.report.baseline = baseline
    return config


def quick_config() -> ConfigDict:
    """Returns the quickstart's full split with smaller images, fewer epochs, three seeds and three passes."""
    config = quickstart.get_config()
    config.num_epochs = 6
    config.data.image_size = (320, 320)
    config.data.thumbnail_size = (64, 64)
    config.sweep.seeds = (0, 1, 2)
    config.sweep.passes = 3
    return config
