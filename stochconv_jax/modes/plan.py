"""--mode=plan: what a config would train, without training it."""
from stochconv_jax.models import summary
from stochconv_jax.modes import build
from stochconv_jax.run_folder import RunFolder


def run(config, overrides, workdir) -> None:
    """Prints the model's parts and writes plan.json."""
    del overrides
    rows = summary.parts(build.classifier(config), build.inputs(config, 1))
    print(summary.table(rows))
    RunFolder(workdir).create().write_json(
        "plan.json",
        summary.totals(rows) | {"parts": [vars(row) for row in rows]},
    )
