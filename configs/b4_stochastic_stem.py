r"""Stochastic stem on B4: 48 ordinary and 48 stochastic filters, concatenated before stage 1.

    python main.py --config=configs/b4_stochastic_stem.py --workdir=runs/b4_stochastic_stem \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv

The report trained 5 runs: best validation ROC AUC 0.9554, mean over runs of each run's best 0.9543
(project report, 2021, results table and published per-epoch files).
"""

from configs import default


def get_config():
    """Returns the default config with both branches of B4, merged after the stem."""
    config = default.get_config()
    config.model.variant = "b4"
    config.model.merge_after = "0"
    config.data.thumbnail_size = (380, 380)
    return config
