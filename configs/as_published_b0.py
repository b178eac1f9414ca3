r"""EfficientNet-B0 as the report's published code computes it: 2,515,745 parameters.

    python main.py --config=configs/as_published_b0.py --workdir=runs/as_published_b0 \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv

The report calls this model B0: 14 runs, best validation ROC AUC 0.9584, mean over runs of each run's best 0.9566
(project report, 2021, results table). The repeats of a stage share their weights, and details of the blocks differ: see
`Conventions` in models/efficientnet.py.
"""

from configs import b0


def get_config():
    """Returns the config of the official model with the conventions of the published code."""
    config = b0.get_config()
    config.model.conventions = "as_published"
    config.model.batch_norm_momentum = 0.9  # PyTorch's momentum of 0.1
    return config
