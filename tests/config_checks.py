"""What tests of the config's rules share."""

import pytest

from configs import default
from stochconv_jax import config, config_rules

DEFAULTS = config.flatten(default.get_config().to_dict())
FREE_TEXT = {
    *(
        "init.weights",
        "init.run",
        "data.path",
        "data.labels",
        "data.validation_labels",
        "data.group_by",
        "data.stratify_by",
        "data.metadata_columns",
    ),
    *("data.image_column", "eval.path", "eval.labels", "eval.output", "report.output"),
    *("predict.images", "prepare.raw", "prepare.labels", "report.baseline", "show.images", "compilation_cache"),
}


def check(**keys):
    """Returns the checked values of the default config with `keys`, in which '__' stands for a dot."""
    return config_rules.check(DEFAULTS | {key.replace("__", "."): value for key, value in keys.items()})


def refused(key, value):
    """Returns the message with which `value` is refused."""
    with pytest.raises(config_rules.BadValue) as caught:
        config_rules.check(DEFAULTS | {key: value})
    message = str(caught.value)
    assert message.startswith(f"config.{key}=") and "\n" not in message, message
    return message
