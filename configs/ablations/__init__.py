"""One file a question: `get_config()` is what all runs share, `sweep()` what each variant changes of it.

    python main.py --mode=sweep --config=configs/ablations/integration.py --workdir=runs/integration \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv
    python main.py --mode=report --workdir=runs/integration

The quick_* files ask the same of drawn images and a tiny network. What their answers say is in docs/reproduction.md.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import quickstart
from stochconv_jax.config import flatten


def changes(config: ConfigDict, base: ConfigDict) -> dict[str, Any]:
    """The keys of a run, with dots, in which `config` differs from `base`, with its values."""
    values, before = flatten(config.to_dict()), flatten(base.to_dict())
    of_the_sweep = ("sweep.", "report.")
    return {key: value for key, value in values.items() if value != before[key] and not key.startswith(of_the_sweep)}


def compared_with(baseline: str, config: ConfigDict) -> ConfigDict:
    """`config`, whose runs the report compares with the variant `baseline` unless it is told otherwise."""
    config.report.baseline = baseline
    return config


def quick_config() -> ConfigDict:
    """The quickstart's full split, shorter: smaller images, three seeds, three draws of windows in the evaluation."""
    config = quickstart.get_config()
    config.num_epochs = 6
    config.data.image_size = (320, 320)
    config.data.thumbnail_size = (64, 64)
    config.sweep.seeds = (0, 1, 2)
    config.sweep.passes = 3
    return config
