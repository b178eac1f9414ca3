"""--mode=plan: what a config would train, and whether it fits a machine, without training and without the machine."""
import dataclasses
import functools
import logging
from collections.abc import Callable

import jax

from stochconv_jax.models import summary
from stochconv_jax.modes import build, provenance
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.training import compiled, plan_report, planning, state, topologies
from stochconv_jax.training import mesh as meshes

logger = logging.getLogger(__name__)


def run(config, overrides, workdir) -> None:
    """Prints the model's parts and, for a target, what its steps need; writes plan.json.

    Raises compiled.ImagesCrossDevices after that, where a step moves images between devices.
    """
    del overrides
    target = config.plan.topology
    devices = None if not target else meshes.create() if target == "devices" else topologies.mesh_of(target)
    rows = summary.parts(build.classifier(config), build.inputs(config, 1))
    print(summary.table(rows), flush=True)
    content = summary.totals(rows) | {"parts": [vars(row) for row in rows]} | provenance.software()
    folder = RunFolder(workdir).create()
    if devices is None:
        folder.write_json("plan.json", content)
        return
    plan, train = _plan(config, devices)
    print(f"\n{plan_report.text(plan)}", flush=True)
    folder.write_json("plan.json", content | plan_report.as_json(plan))
    for step in plan.steps.values():
        compiled.refuse_images(step.moved)
    if config.plan.largest_batch and plan.chip.memory:  # takes longest, so what is known is said before
        rows = planning.largest(train, plan.steps["train"].rows, plan.chip.memory)
        plan = dataclasses.replace(plan, largest_batch=train(rows).batch_size if rows else 0)
        print(plan_report.largest(plan))
        folder.write_json("plan.json", content | plan_report.as_json(plan))


def _plan(config, devices: jax.sharding.Mesh) -> tuple[plan_report.Plan, Callable[[int], planning.Program]]:
    """The config's own steps compiled for `devices`, and what compiles the training step for other rows."""
    model = build.classifier(config)
    optimizer = build.optimizer(config, build.schedule(config, steps_per_epoch=1.0))
    shapes = state.shapes(build.initializer(config, model, optimizer), build.placement(config, devices))
    variables = shapes.to_evaluate()
    train_step = build.train_step(config, model, optimizer, devices)
    eval_step = build.eval_step(config, model, devices)
    options = topologies.compiler_options(devices)
    idle = planning.bytes_a_device(shapes) - planning.bytes_a_device(variables)

    def compile_step(step, arguments, batch_size: int, **about) -> planning.Program:
        batch = build.batch_shapes(config, batch_size, meshes.batch_sharding(devices))
        with jax.set_mesh(devices):
            program = planning.compile_step(step, arguments, batch, parameters=shapes.params, options=options, **about)
        logger.info("a step of %d images: compiled in %.0f s", batch_size, program.seconds)
        return program

    @functools.cache
    def train(rows: int) -> planning.Program:
        parts = config.optimizer.accumulate_steps
        return compile_step(train_step, shapes, rows * parts * devices.size, parts=parts)

    rows = -(-config.batch_size // (config.optimizer.accumulate_steps * devices.size))
    eval_batch = -(-config.eval.batch_size // devices.size) * devices.size
    steps = {"train": train(rows), "evaluate": compile_step(eval_step, variables, eval_batch, beside=idle)}
    return plan_report.Plan(config.plan.topology, topologies.chip_of(devices), config.batch_size, steps), train
