r"""Stochastic skip on B0: each branch has a stem and three stages, and 40 + 40 channels enter stage 4.

    python main.py --config=configs/b0_stochastic_skip.py --workdir=runs/b0_stochastic_skip \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv

The report trained 5 runs, 2.5 minutes an epoch on two RTX Titans: best validation ROC AUC 0.9571, mean over runs of
each run's best 0.9561 (project report, 2021, results table and published per-epoch files). The published code of this
model does not run, and no reading of the text gives the report's 6 million parameters; this model has 4,140,329.
"""

from configs import default


def get_config():
    """Returns the default config with a merge of both branches after stage 3."""
    config = default.get_config()
    config.model.merge_after = "3"
    return config
