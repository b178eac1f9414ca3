"""--mode=plan: what a config would train, and whether it fits a machine, without training and without the machine."""

import dataclasses
import functools
import logging
from collections.abc import Callable

import jax

from stochconv_jax.experiment import build
from stochconv_jax.models import summary
from stochconv_jax.planning import cost, hlo, report, targets
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.runtime import provenance
from stochconv_jax.training import mesh as meshes
from stochconv_jax.training import state

logger = logging.getLogger(__name__)


def run(config, overrides, workdir) -> None:
    """Prints the model's parts and, for a target, what its steps need; writes plan.json.

    Raises compiled.ImagesCrossDevices after that, where a step moves images between devices.
    """
    del overrides
    target = config.plan.topology
    devices = None if not target else meshes.create() if target == "devices" else targets.mesh_of(target)
    rows = summary.parts(build.classifier(config), build.inputs(config, 1))
    print(summary.table(rows), flush=True)
    content = summary.totals(rows) | {"parts": [vars(row) for row in rows]} | provenance.software()
    folder = RunFolder(workdir).create()
    if devices is None:
        folder.write_json("plan.json", content)
        return
    plan, train = _plan(config, devices)
    print(f"\n{report.text(plan)}", flush=True)
    folder.write_json("plan.json", content | report.as_json(plan))
    for step in plan.steps.values():
        hlo.refuse_images(step.moved)
    if config.plan.largest_batch and plan.chip.memory:  # takes longest, so what is known is said before
        rows = cost.largest_rows(train, plan.steps["train"].rows, plan.chip.memory)
        plan = dataclasses.replace(plan, largest_batch=train(rows).batch_size if rows else 0)
        print(report.describe_largest_batch(plan))
        folder.write_json("plan.json", content | report.as_json(plan))


def _plan(config, devices: jax.sharding.Mesh) -> tuple[report.Plan, Callable[[int], cost.Program]]:
    """The config's own steps compiled for `devices`, and what compiles the training step for other rows."""
    model = build.classifier(config)
    optimizer = build.optimizer(config, build.schedule(config, steps_per_epoch=1.0))
    shapes = state.shapes(build.initializer(config, model, optimizer), build.placement(config, devices))
    variables = shapes.to_evaluate()
    train_step = build.train_step(config, model, optimizer, devices)
    eval_step = build.eval_step(config, model, devices)
    options = targets.compiler_options(devices)
    idle = cost.bytes_per_device(shapes) - cost.bytes_per_device(variables)

    def compile_step(step, arguments, batch_size: int, **about) -> cost.Program:
        batch = build.batch_shapes(config, batch_size, meshes.batch_sharding(devices))
        with jax.set_mesh(devices):
            program = cost.compile_step(step, arguments, batch, parameters=shapes.params, options=options, **about)
        logger.info("a step of %d images: compiled in %.0f s", batch_size, program.seconds)
        return program

    @functools.cache
    def train(rows: int) -> cost.Program:
        parts = config.optimizer.accumulate_steps
        return compile_step(train_step, shapes, rows * parts * devices.size, parts=parts)

    rows = -(-config.batch_size // (config.optimizer.accumulate_steps * devices.size))
    eval_batch = -(-config.eval.batch_size // devices.size) * devices.size
    steps = {"train": train(rows), "evaluate": compile_step(eval_step, variables, eval_batch, beside=idle)}
    return report.Plan(config.plan.topology, targets.chip_of(devices), config.batch_size, steps), train
