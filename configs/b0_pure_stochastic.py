r"""Pure stochastic B0: random windows only, no thumbnail.

    python main.py --config=configs/b0_pure_stochastic.py --workdir=runs/b0_pure_stochastic \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv

The report names the model and gives no figure for it. 4,008,829 parameters.
"""

from configs import default


def get_config():
    """Returns the default config with the window branch only."""
    config = default.get_config()
    config.model.branches = ("windows",)
    return config
