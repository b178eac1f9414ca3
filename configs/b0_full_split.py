r"""Full stochastic split on B0: two whole networks, thumbnail and windows, joined at the classifier.

    python main.py --config=configs/b0_full_split.py --workdir=runs/b0_full_split \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv

The report trained 8 runs on two RTX Titans, 4 minutes an epoch: best validation ROC AUC 0.9594, mean over runs of each
run's best 0.9586; 3 passes 0.9605 (project report, 2021, results table). Its published code shares weights between the
repeats of a stage; this is the official network, 8,017,657 parameters.
"""

from configs import default


def get_config():
    """Returns the default config, which describes this model."""
    return default.get_config()
