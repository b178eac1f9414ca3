"""Variables as large as a trained network's, because a new network makes no use of half of its parts."""

import jax
import numpy as np


def random_variables(shapes, random):
    """Draws variables of these shapes with the generator `random`: variances and scales are positive."""

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return random.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        fan_in = max(1, np.prod(leaf.shape[:-1]))
        return (random.normal(size=leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)
