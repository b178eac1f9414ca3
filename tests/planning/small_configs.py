"""Configs of small networks whose steps are planned in tests."""

from configs import quickstart


def tiny_full_split():
    """Returns the config of a small full split on small images."""
    config = quickstart.get_config()
    config.update({"batch_size": 16, "data": {"image_size": (96, 80), "thumbnail_size": (32, 32)}})
    return config
