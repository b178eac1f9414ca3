"""Which normalisation makes the figures of a run steady? With 384 drawn images and a tiny network, in minutes.

See normalization.py for the question on real images, and quick_integration.py for the limits of drawn images. The
results are in docs/train.md.
"""

from configs.ablations import compared_with, normalization, quick_config


def get_config():
    """Returns the config of the quick full split for 384 training images and 12 epochs at a constant learning rate."""
    config = quick_config()
    config.data.num_train = 384
    config.batch_size = 24
    config.num_epochs = 12
    config.optimizer.schedule = "constant"
    return compared_with("running", config)


def sweep():
    """Returns the changes for each normalisation."""
    return normalization.variants(images=384, decay=0.95)
