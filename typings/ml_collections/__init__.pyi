"""Types of ml_collections: without them the type checker infers a union of seven types for each config key."""

from ml_collections import config_dict as config_dict
from ml_collections import config_flags as config_flags
from ml_collections.config_dict import ConfigDict as ConfigDict
