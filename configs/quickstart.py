"""Shows the effect of windows in minutes on a laptop, on drawn lesions whose classes differ in a fine texture only.

    make quickstart

trains `quickstart.py`, the full split, and `quickstart.py:control`, the same network on the thumbnail only. The images
are made so that windows show the texture and the thumbnail does not; results say nothing about real lesions.
"""

from configs import default

CONTROL = "control"


def get_config(which: str = ""):
    """Returns the config of the full split or, for `quickstart.py:control`, of the thumbnail only."""
    if which not in ("", CONTROL):
        raise ValueError(f"configs/quickstart.py:{which}: the only choice after the colon is {CONTROL!r}")
    config = default.get_config()
    if which == CONTROL:
        config.model.branches = ("thumbnail",)
    config.model.variant = "tiny"
    # In a run of a few hundred steps the statistics of batch norm must converge faster than by default.
    config.model.batch_norm_momentum = 0.9
    config.model.dropout = 0.0
    config.model.stochastic_depth = 0.0
    config.data.source = "synthetic"
    config.data.num_train = 640
    config.data.num_validation = 200
    config.data.image_size = (512, 512)
    config.data.thumbnail_size = (80, 80)
    config.num_epochs = 10
    config.batch_size = 32
    config.eval.batch_size = 40
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-3
    config.optimizer.schedule = "cosine"
    return config
