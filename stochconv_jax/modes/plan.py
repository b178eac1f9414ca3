"""--mode=plan: describes the model, and what its steps need on a machine, without training and without the machine."""

import dataclasses
import functools
import logging
from collections.abc import Callable
from typing import Any

import jax
from ml_collections import ConfigDict

from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.models import summary
from stochconv_jax.planning import cost, hlo, report, targets
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.runtime import mesh as meshes
from stochconv_jax.runtime import provenance

logger = logging.getLogger(__name__)


def run(config, overrides, workdir) -> None:
    """Prints the model's parts and, for the machine config.plan.topology, what its steps need; writes plan.json.

    Raises hlo.ImagesCrossDevices after that, where a step moves images between devices.
    """
    del overrides
    target = config.plan.topology
    if not target:
        jax.config.update("jax_platforms", "cpu")  # counting leaves the machine's accelerator to other processes
    devices = meshes.create() if target in ("", "devices") else targets.mesh_of(target)
    experiment = Experiment(config, mesh=devices, **_without_images(config))
    rows = summary.parts(experiment.model, experiment.inputs())
    print(summary.table(rows), flush=True)
    content = summary.totals(rows) | {"parts": [vars(row) for row in rows]} | provenance.software()
    folder = RunFolder(workdir).create()
    if not target:
        folder.write_json("plan.json", content)
        return
    plan, compile_train = _plan(experiment)
    print(f"\n{report.text(plan)}", flush=True)
    folder.write_json("plan.json", content | report.as_json(plan))
    for step in plan.steps.values():
        hlo.refuse_images(step.moved)
    # The search takes longest, so the rest is printed before it.
    if config.plan.largest_batch and plan.chip.memory:
        rows = cost.largest_rows(compile_train, plan.steps["train"].rows, plan.chip.memory)
        plan = dataclasses.replace(plan, largest_batch=compile_train(rows).batch_size if rows else 0)
        print(report.describe_largest_batch(plan))
        folder.write_json("plan.json", content | report.as_json(plan))


def _without_images(config: ConfigDict) -> dict[str, Any]:
    """Returns objects of an experiment that are of the training images, in place of which any constants will do."""
    balanced = config.loss.class_weights == "balanced"
    weights = {"class_weights": (1.0,) * config.data.num_classes} if balanced else {}
    return {"steps_per_epoch": 1.0, **weights}


def _plan(experiment: Experiment) -> tuple[report.Plan, Callable[[int], cost.Program]]:
    """Compiles the config's own steps; also returns what compiles the training step for other rows on a device."""
    config, devices, shapes = experiment.config, experiment.mesh, experiment.state_shapes
    variables = shapes.to_evaluate()
    options = targets.compiler_options(devices)
    idle = cost.bytes_per_device(shapes) - cost.bytes_per_device(variables)

    def compile_step(step, arguments, batch_size: int, **about) -> cost.Program:
        batch = experiment.batch_shapes(batch_size)
        with jax.set_mesh(devices):
            program = cost.compile_step(step, arguments, batch, parameters=shapes.params, options=options, **about)
        logger.info("a step of %d images: compiled in %.0f s", batch_size, program.seconds)
        return program

    parts = config.optimizer.accumulate_steps

    @functools.cache
    def compile_train(rows: int) -> cost.Program:
        return compile_step(experiment.train_step, shapes, rows * parts * devices.size, parts=parts)

    rows = -(-config.batch_size // (parts * devices.size))
    steps = {
        "train": compile_train(rows),
        "evaluate": compile_step(experiment.eval_step, variables, experiment.eval_batch_size, beside=idle),
    }
    chip = targets.chip_of(devices)
    return report.Plan(config.plan.topology, chip, experiment.dtype, config.batch_size, steps), compile_train
