"""Who needs windows of its own? Asked of drawn images and a tiny network, in minutes.

See sampling.py for the question on real images, and quick_integration.py for what drawn ones can tell.
"""
from configs.ablations import quick_config as get_config
from configs.ablations.sampling import sweep

__all__ = ["get_config", "sweep"]
