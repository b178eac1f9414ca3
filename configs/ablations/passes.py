"""How much does it help to average predictions over several draws of windows?

Training does not depend on the passes, so each model is trained once for each seed, and its last checkpoint is
evaluated with 16 draws. evaluation.json has the ROC AUC after 1, 2, ... 16 of them, and the chart `passes` of
--mode=report shows it. The report (2021) averaged three passes of the full split: the best run had 0.9605 instead of
0.9594, and the mean over three runs of each run's best epoch was 0.9586, as for eight runs with one pass.

Cost: by the report's minutes an epoch on two RTX Titans (stem 2, skip 2.5, full split 4) and an assumed 2 for windows
only, 10.5 hours a seed without the evaluation.
"""

from configs import b0_full_split, b0_pure_stochastic, b0_stochastic_skip, b0_stochastic_stem
from configs.ablations import changes, compared_with

MODELS = {
    "stochastic_stem": b0_stochastic_stem,
    "stochastic_skip": b0_stochastic_skip,
    "full_split": b0_full_split,
    "windows_only": b0_pure_stochastic,
}


def get_config():
    """Returns the config of the full split on B0, evaluated with 16 draws."""
    config = b0_full_split.get_config()
    config.sweep.passes = 16
    return compared_with("full_split", config)


def sweep():
    """Returns the changes for each model with windows."""
    return {name: changes(model.get_config(), get_config()) for name, model in MODELS.items()}
