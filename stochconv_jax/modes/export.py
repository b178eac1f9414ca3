"""--mode=export: writes the run in --workdir as files that other programs run, and a card that describes the model."""

import logging
import math
import pathlib

import jax
import numpy as np

from stochconv_jax.atomic_files import make_writable, write_text
from stochconv_jax.experiment import runs
from stochconv_jax.exporting import files
from stochconv_jax.exporting.program import Program
from stochconv_jax.predictor import Predictor
from stochconv_jax.reporting import model_card
from stochconv_jax.run_folder import RunFolder

logger = logging.getLogger(__name__)


def run(_, overrides, workdir) -> None:
    """Writes model.stablehlo, model.onnx and model_card.md into config.export.output.

    The models take images uint8 [batch, height, width, 3] of config.data.image_size and return the mean probabilities
    over config.eval.passes passes. A network that takes metadata has a second input of that name, and metadata.json is
    written, too. Each file is read back, run, and compared with the network. Raises RuntimeError, before the work, if a
    package is missing, and after it if a file is wrong.
    """
    folder, config = runs.read_run(workdir, overrides)
    files.check_packages(config.export.formats)
    output = folder.path / pathlib.Path(config.export.output).expanduser()
    make_writable(output, "choose another folder with --config.export.output")
    experiment = runs.experiment(folder, config)
    experiment.use_compilation_cache()
    predictor = Predictor(folder, experiment)
    program = Program(
        model=experiment.model,
        variables=jax.tree.map(np.asarray, predictor.variables),
        seed=experiment.eval_step.seed,
        passes=config.eval.passes,
        views=config.eval.views,
        image_size=experiment.pixels["image_size"],
        thumbnail_size=experiment.pixels["thumbnail_size"],
    )
    written = {}
    if "stablehlo" in config.export.formats:
        file, written[file.name] = files.write_stablehlo(output, program, config.export.platforms)
    if "onnx" in config.export.formats:
        file, written[file.name] = files.write_onnx(output, program)
    for name, difference in written.items():
        if math.isnan(difference):
            logger.warning("%s: not compared, because it is not for %s", output / name, jax.default_backend())
        else:
            logger.info("%s: largest difference of a probability from the network's: %.1e", output / name, difference)
    if experiment.metadata:
        RunFolder(output).write_json(runs.METADATA, experiment.metadata.as_json())
    card = model_card.describe(folder, predictor.predicted_by, output, written, config.export.platforms)
    logger.info("written: %s", write_text(output / "model_card.md", card))
