"""--mode=show: pictures of what the model sees, in the run's folder show or where config.show.output says."""

import logging
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from stochconv_jax.atomic_files import make_writable
from stochconv_jax.config import check_together
from stochconv_jax.csv_cells import escape_surrogates
from stochconv_jax.data import image_io, pipeline, requested, sources
from stochconv_jax.experiment import runs
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.predictor import Predictor
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.visualization import detail_size, figures, topics
from stochconv_jax.visualization.shown_model import ShownModel
from stochconv_jax.visualization.suitability import Detail
from stochconv_jax.visualization.topics import ShownImage

logger = logging.getLogger(__name__)

COMPARED = 3  # images in the figures that compare several
ESTIMATED_FROM = 200  # validation images, at most, from which the size of the detail that decides is estimated


def run(config, overrides, workdir) -> None:
    """Writes a PNG for each topic of config.show.topics and each image, and logs a sentence on each.

    A run in `workdir` is restored with its own config, as evaluate does. Without a run --config describes the model,
    and topics that need trained weights are left out. Images that cannot be used are logged with the reason. Raises
    ValueError if none can be used.
    """
    folder = RunFolder(workdir)
    trained = folder.has_checkpoint()
    if trained:
        folder, config = runs.read_run(workdir, overrides)
    else:
        check_together(config)
    experiment = runs.experiment(folder, config) if trained else Experiment(config)
    experiment.use_compilation_cache()
    output = folder.path / pathlib.Path(config.show.output).expanduser()
    make_writable(output, "choose another folder with --config.show.output")
    with jax.set_mesh(experiment.mesh):
        variables = Predictor(folder, experiment).variables if trained else _zeros(experiment)
        model = ShownModel(experiment.model, variables, config.seed)
        settings = topics.TopicSettings(
            seed=config.seed,
            augment=pipeline.Augmentation(**config.augment.to_dict()),
            thumbnail_size=tuple(config.data.thumbnail_size),
            passes=config.show.passes,
            classes=tuple(config.data.classes),
            detail=Detail(config.show.detail or _estimated_size(experiment), config.show.places),
        )
        possible = _possible_topics(config, trained)
        first: list[ShownImage] = []
        for image in _images(experiment):
            first = [*first, image][:COMPARED]
            _draw([topic for topic in possible if topic not in topics.COMPARE_IMAGES], model, [image], settings, output)
        _draw([topic for topic in possible if topic in topics.COMPARE_IMAGES], model, first, settings, output)


def _draw(
    names: Sequence[str],
    model: ShownModel,
    images: Sequence[ShownImage],
    settings: topics.TopicSettings,
    output: pathlib.Path,
) -> None:
    for topic in names:
        for drawing in topics.draw(topic, model, images, settings):
            path = figures.save(drawing.figure, output / f"{drawing.file}_{topic}.png")
            logger.info("%s: %s", path, drawing.text)


def _zeros(experiment: Experiment) -> Any:
    """Returns variables of zeros, which will do where only the positions of windows are shown."""
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), experiment.variable_shapes)


def _possible_topics(config: ConfigDict, trained: bool) -> list[str]:
    """Returns the topics of config.show.topics that apply to this model; logs why others are left out."""
    left_out = {}
    if not trained:
        why = "there is no checkpoint in --workdir, and untrained weights show nothing"
        left_out = dict.fromkeys(topics.NEED_TRAINING, why)
    if "windows" not in config.model.branches:
        left_out |= dict.fromkeys(topics.NEED_WINDOWS, "the model has no window branch")
    for topic in config.show.topics:
        if topic in left_out:
            logger.warning("%s: left out, because %s", topic, left_out[topic])
    return [topic for topic in config.show.topics if topic not in left_out]


def _estimated_size(experiment: Experiment) -> int:
    """Returns the size in pixels of the detail that decides as far as the validation images tell, else 0."""
    show = experiment.config.show
    if "suitability" not in show.topics or show.images or experiment.config.data.num_classes != 2:
        return 0
    source = experiment.val_source
    chosen = np.linspace(0, len(source) - 1, min(ESTIMATED_FROM, len(source))).round().astype(int)
    size = experiment.pixels["image_size"]
    reader = pipeline.Reader(source, image_size=size, thumbnail_size=size, outputs=("image",))
    of_images, labels = [], []
    for index in map(int, chosen):
        try:
            of_images.append(detail_size.contrasts(reader.picture(index)))
            labels.append(source.labels[index])
        except sources.BadImage as error:
            logger.warning("skipped: %s", error)
    found = detail_size.estimate(of_images, np.array(labels)) if of_images else 0
    size = "not known: no contrast was found that tells the classes apart"
    if found:
        size = f"estimated to be {found} pixels, which is a guess: if you can measure it, set --config.show.detail"
    logger.info("suitability: by %d images, the size of the detail that decides is %s", len(of_images), size)
    return found


def _images(experiment: Experiment) -> Iterator[ShownImage]:
    """Yields the images asked for, as the model takes them; logs those that cannot be used.

    Raises ValueError if none can be used. Without config.show.images, the first config.show.count validation images are
    tried.
    """
    show = experiment.config.show
    reasons = []
    if show.images:
        asked = requested.find(show.images, "show.images", experiment.config.data.image_column)
        reasons += filter(None, asked.reasons)
        for reason in reasons:
            logger.warning("skipped: %s", reason)
        source = asked.source()
        count = len(source)
    else:
        source = experiment.val_source
        count = min(show.count, len(source))
    reader = pipeline.Reader(experiment.with_metadata(source), **experiment.pixels)
    shown = 0
    for index in range(count):
        try:
            picture = reader.picture(index)
        except sources.BadImage as error:
            logger.warning("skipped: %s", error)
            reasons.append(str(error))
            continue
        row = reader.row(index, picture)
        batch = {name: row[name][None] for name in experiment.inputs()}
        shown += 1
        yield ShownImage(escape_surrogates(pathlib.PurePath(source.names[index]).name), index, picture, batch)
    if not shown:
        advice = ". Set a smaller config.data.image_size" if image_io.all_too_small(reasons) else ""
        raise ValueError(f"none of the {len(reasons)} images that were tried can be used: {reasons[0]}{advice}")
