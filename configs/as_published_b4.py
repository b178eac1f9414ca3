r"""EfficientNet-B4 as the report's published code computes it: 7,988,873 parameters.

    python main.py --config=configs/as_published_b4.py --workdir=runs/as_published_b4 \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv

The report calls this model B4: 5 runs, best validation ROC AUC 0.9588, mean over runs of each run's best 0.9565
(project report, 2021, results table).
"""

from configs import b4


def get_config():
    """Returns the config of the official model with the conventions of the published code."""
    config = b4.get_config()
    config.model.conventions = "as_published"
    config.model.batch_norm_momentum = 0.9  # PyTorch's momentum of 0.1
    return config
