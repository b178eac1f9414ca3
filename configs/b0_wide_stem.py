r"""Plain EfficientNet-B0 with 64 stem filters: the control with the same cost as a stochastic stem.

    python main.py --config=configs/b0_wide_stem.py --workdir=runs/b0_wide_stem \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv

The report trained 5 runs: best validation ROC AUC 0.9589, mean over runs of each run's best 0.9576
(project report, 2021, results table and published per-epoch files). 4,012,197 parameters.
"""

from configs import default


def get_config():
    """Returns the default config with the thumbnail branch only and twice as many stem filters."""
    config = default.get_config()
    config.model.variant = "b0_wide_stem"
    config.model.branches = ("thumbnail",)
    return config
