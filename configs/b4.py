r"""Plain EfficientNet-B4 on a thumbnail of 380x380: the larger baseline.

    python main.py --config=configs/b4.py --workdir=runs/b4 \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv

The report trained 5 runs, 4.67 minutes an epoch on two RTX Titans: best validation ROC AUC 0.9588, mean over runs of
each run's best 0.9565 (project report, 2021, results table and published per-epoch files). 17,550,409 parameters.
"""

from configs import default


def get_config():
    """Returns the default config with the thumbnail branch of B4 only."""
    config = default.get_config()
    config.model.variant = "b4"
    config.model.branches = ("thumbnail",)
    config.data.thumbnail_size = (380, 380)
    return config
