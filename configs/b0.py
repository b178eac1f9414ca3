r"""Plain EfficientNet-B0 on the thumbnail only: the report's baseline.

    python main.py --config=configs/b0.py --workdir=runs/b0 \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv

The report trained 14 runs on two RTX Titans, 1.5 minutes an epoch: best validation ROC AUC 0.9584, mean over runs of
each run's best 0.9566 (project report, 2021, results table).
"""

from configs import default


def get_config():
    """Returns the default config with the thumbnail branch only."""
    config = default.get_config()
    config.model.branches = ("thumbnail",)
    return config
