"""--mode=show: pictures of what the model sees, in the run's folder show or where config.show.output says."""

import dataclasses
import functools
import logging
import pathlib
import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stochconv_jax import ops
from stochconv_jax.config import check_together
from stochconv_jax.csv_cells import as_text
from stochconv_jax.data import augment, pipeline, requested, sources
from stochconv_jax.experiment import build, data_sources, runs
from stochconv_jax.models.classifier import Classifier
from stochconv_jax.ops.windows import Sampling
from stochconv_jax.run_folder import RunFolder, make_writable
from stochconv_jax.training import mesh, rngs, state, steps
from stochconv_jax.visualization import attribution, figures

logger = logging.getLogger(__name__)

SHOWN_DRAWS = 5  # random stream, of the augmentations
DRAWS = 3  # of augmentation beside the image itself
PASSES = (1, 3, 10)  # after which coverage is shown
TOGETHER = 3  # images of the batch in which ways of sampling are compared
NEEDS_WINDOWS = ("windows", "coverage", "sampling", "relevance")
NEEDS_TRAINING = ("filters", "relevance")


@dataclasses.dataclass(frozen=True)
class Shown:
    """An image that can be used. `batch`: what the model takes of it, a batch of one."""

    name: str
    index: int
    picture: np.ndarray
    batch: dict[str, np.ndarray]

    @property
    def file(self) -> str:
        """How the names of its pictures begin."""
        return f"{self.index:03d}_{re.sub(r'[^-.0-9A-Za-z_]+', '_', pathlib.PurePath(self.name).stem)}"


@dataclasses.dataclass(frozen=True)
class Network:
    """The model and its variables, and the size of its windows if it has any."""

    model: Classifier
    variables: Any
    seed: int

    @property
    def window_size(self) -> tuple[int, int]:
        return ops.window_size(self.model.window_output, (3, 3), (2, 2))

    @functools.cached_property
    def passes(self) -> rngs.Seeded:
        """The compiled steps.predict_passes of variables, a batch and the passes' numbers."""
        return rngs.Seeded(jax.jit(functools.partial(steps.predict_passes, model=self.model)), self.seed)

    @functools.cached_property
    def stems(self) -> rngs.Seeded:
        """Compiled: of variables and a batch the first layer's maps by branch, in the first pass."""
        model = self.model

        def stem(variables, batch, branch, seed):
            if branch == "thumbnail":
                return model.apply(variables, branch, batch, method="stem")
            return steps.apply_window_branch(variables, batch, 0, model=model, seed=seed, method="stem")[0]

        def stems(variables, batch, seed):
            return {branch: stem(variables, batch, branch, seed) for branch in model.branches}

        return rngs.Seeded(jax.jit(stems), self.seed)

    def windows(self, batch: dict[str, np.ndarray], number: int) -> np.ndarray:
        """Windows of the first `number` passes, `[number, B, F, 2]`; the network behind them is not computed."""
        return np.asarray(self._windows(self.variables, batch, jnp.arange(number)))

    @functools.cached_property
    def _windows(self) -> rngs.Seeded:
        def windows(variables, batch, numbers, seed):
            return steps.predict_passes(variables, batch, numbers, model=self.model, seed=seed)[1]

        return rngs.Seeded(jax.jit(windows), self.seed)

    def sampled(self, way: str) -> "Network":
        """The same with another way of sharing windows."""
        return dataclasses.replace(self, model=self.model.clone(sampling=way))


def run(config, overrides, workdir) -> None:
    """Writes a PNG for each topic of `config.show.topics` and each image, and says of each what is on it.

    A run in `workdir` is restored with its own config, as evaluate does. Without one --config says what the model is,
    and what needs trained weights is left out. Images that cannot be used are named with the reason. ValueError if none
    can be used.
    """
    folder = RunFolder(workdir)
    trained = folder.has_checkpoint()
    if trained:
        folder, config = runs.load(overrides, workdir)
    else:
        check_together(config)
    build.use_compilation_cache(config)
    output = folder.path / pathlib.Path(config.show.output).expanduser()
    make_writable(output, "choose another folder with --config.show.output")
    devices = mesh.create()
    with jax.set_mesh(devices):
        network = Network(build.classifier(config), _variables(folder, config, devices, trained), config.seed)
        topics = _topics(config, network, trained)
        first = []
        for image in _images(config):
            first = [*first, image][:TOGETHER]
            _draw(config, network, [topic for topic in topics if topic != "sampling"], [image], output)
        if not first:
            raise ValueError("none of the images can be used")
        _draw(config, network, [topic for topic in topics if topic == "sampling"], first, output)


def _draw(config, network: Network, topics: list[str], shown: list[Shown], output: pathlib.Path) -> None:
    for topic in topics:
        for name, figure, what in TOPICS[topic](config, network, shown):
            path = output / f"{name}_{topic}.png"
            figures.save(figure, path)
            logger.info("%s: %s", path, what)


def _variables(folder: RunFolder, config, devices: jax.sharding.Mesh, trained: bool) -> Any:
    """The checkpoint's variables; zeros without one, for where windows lie they do not matter."""
    if trained:
        return runs.restore(folder, config, devices)[1]
    transform = build.optimizer(config, build.schedule(config, steps_per_epoch=1.0))
    init = build.initializer(config, build.classifier(config), transform)
    shapes = state.shapes(init, build.placement(config, devices)).to_evaluate()
    return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def _topics(config, network: Network, trained: bool) -> list[str]:
    """Those of `config.show.topics` that this model has something to show of; the log says why others are left out."""
    left_out = {}
    if not trained:
        why = "there is no checkpoint in --workdir, and fresh weights have nothing to say"
        left_out = dict.fromkeys(NEEDS_TRAINING, why)
    if "windows" not in network.model.branches:
        left_out |= dict.fromkeys(NEEDS_WINDOWS, "the model has no window branch")
    for topic in config.show.topics:
        if topic in left_out:
            logger.warning("%s: left out, for %s", topic, left_out[topic])
    return [topic for topic in config.show.topics if topic not in left_out]


def _images(config) -> Iterator[Shown]:
    """The images asked for, as the model takes them; those that cannot be used are named and left out."""
    if config.show.images:
        images = requested.find(config.show.images, "show.images", config.data.image_column)
        for reason in filter(None, images.reasons):
            logger.warning("skipped: %s", reason)
        source = images.source()
        indices = range(len(source))
    else:
        _, source = data_sources.training_and_validation(config)
        indices = range(min(config.show.count, len(source)))
    reader = pipeline.Reader(source, **build.pixels(config))
    for index in indices:
        try:
            picture = reader.picture(index)
        except sources.BadImage as error:
            logger.warning("skipped: %s", error)
            continue
        row = reader.row(index, picture)
        batch = {name: row[name][None] for name in (*reader.outputs, "example")}
        yield Shown(as_text(pathlib.PurePath(source.names[index]).name), index, picture, batch)


def _augmentation(config, network, shown):
    ranges = pipeline.Augmentation(**config.augment.to_dict())
    for image in shown:
        pictures = [image.picture]
        for draw in range(DRAWS):
            random = np.random.default_rng([config.seed, SHOWN_DRAWS, image.index, draw])
            pictures.append(augment.vary(random, image.picture, ranges))
        thumbnails = [augment.resize(picture, tuple(config.data.thumbnail_size)) for picture in pictures]
        yield image.file, figures.augmentation(image.name, pictures, thumbnails), f"{DRAWS} draws of augmentation"


def _windows(config, network, shown):
    for image in shown:
        boxes = network.windows(image.batch, 1)[0, 0]
        figure = figures.windows(image.name, image.picture, boxes, network.window_size)
        height, width = network.window_size
        yield image.file, figure, f"{len(boxes)} windows of {height}x{width} pixels, first pass"


def _coverage(config, network, shown):
    for image in shown:
        boxes = network.windows(image.batch, max(PASSES))[:, 0]
        drawn = {passes: boxes[:passes].reshape(-1, 2) for passes in PASSES}
        figure, shares = figures.covered(image.name, image.picture, drawn, network.window_size)
        found = ", ".join(f"{share:.1%} after {passes}" for passes, share in shares.items())
        yield image.file, figure, f"share of pixels covered, by passes: {found}"


def _sampling(config, network, together):
    if len(together) < 2:
        logger.warning("sampling: left out, for it compares the images of a batch, and there is one only")
        return
    batch = {name: np.concatenate([image.batch[name] for image in together]) for name in together[0].batch}
    drawn = {way: network.sampled(way).windows(batch, 1)[0] for way in Sampling.__args__}
    names, pictures = [image.name for image in together], [image.picture for image in together]
    figure = figures.sampling(names, pictures, drawn, network.window_size)
    yield "batch", figure, f"the windows of {len(together)} images under {', '.join(drawn)}"


def _filters(config, network, shown):
    params = network.variables["params"]
    for image in shown:
        maps = network.stems(network.variables, image.batch)
        branches = {
            branch: (np.asarray(params[f"{branch}_stem"]["conv"]["kernel"]), np.asarray(found[0]))
            for branch, found in maps.items()
        }
        yield image.file, figures.filters(image.name, branches), "first-layer filters and their maps"


def _relevance(config, network, shown):
    numbers = jnp.arange(config.show.passes)
    for image in shown:
        logits, windows = network.passes(network.variables, image.batch, numbers)
        number, odds = attribution.log_odds(np.asarray(logits)[:, 0])
        sizes = {"window_size": network.window_size, "image_size": image.picture.shape[:2]}
        found = attribution.relevance(np.asarray(windows)[:, 0], odds, **sizes)
        spread = f"standard deviation {odds.std():.2f} over {len(odds)} passes"
        what = f"log-odds of class {number} {odds.mean():.2f}, {spread}"
        figure = figures.relevance(image.name, image.picture, found, number=number, odds=odds)
        share = f"{found.explained:.0%}" if np.isfinite(found.explained) else "nothing, for there is none,"
        yield image.file, figure, f"{what}; places explain {share} of it"


TOPICS = {
    "augmentation": _augmentation,
    "windows": _windows,
    "coverage": _coverage,
    "sampling": _sampling,
    "filters": _filters,
    "relevance": _relevance,
}
