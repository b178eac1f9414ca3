"""A small full split, and the plan of its training step."""

import jax

from configs import quickstart
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.planning import cost


def tiny_full_split():
    """Returns the config of a small full split on small images."""
    config = quickstart.get_config()
    config.update({"batch_size": 16, "data": {"image_size": (96, 80), "thumbnail_size": (32, 32)}})
    return config


def plan_of(config, mesh):
    """Plans the config's training step for the devices of `mesh`: shapes of state and batch, the step, and its plan."""
    experiment = Experiment(config, mesh=mesh, steps_per_epoch=5.0)
    shapes, step = experiment.state_shapes, experiment.train_step
    batch = experiment.batch_shapes(config.batch_size)
    with jax.set_mesh(mesh):
        return shapes, batch, step, cost.compile_step(step, shapes, batch, parameters=shapes.params)
