"""The topics of --mode=show: for given images, figures of what a model sees and a sentence on each."""

import dataclasses
import logging
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from stochconv_jax.data import augment, class_names
from stochconv_jax.data.random_streams import Stream, generator
from stochconv_jax.ops import Sampling
from stochconv_jax.visualization import attribution, figures, suitability
from stochconv_jax.visualization.shown_model import Batch, ShownModel
from stochconv_jax.visualization.suitability import UNKNOWN, Detail

logger = logging.getLogger(__name__)

DRAWS = 3  # of augmentation, beside the image itself
PASSES = (1, 3, 10)  # after which coverage is shown
NEED_WINDOWS = ("windows", "coverage", "sampling", "relevance", "suitability")
NEED_TRAINING = ("filters", "relevance")
COMPARE_IMAGES = ("sampling", "suitability")  # show several images together, the others one


@dataclasses.dataclass(frozen=True)
class ShownImage:
    """An image that can be used.

    Attributes:
      name: its title.
      index: in its source.
      picture: uint8 `[H, W, 3]`.
      batch: a batch of this image alone, as the model takes it.
    """

    name: str
    index: int
    picture: np.ndarray
    batch: Batch

    @property
    def file(self) -> str:
        """The beginning of the names of its figures' files."""
        return f"{self.index:03d}_{re.sub(r'[^-.0-9A-Za-z_]+', '_', pathlib.PurePath(self.name).stem)}"


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure; `file`: how its file's name begins; `text`: a sentence on it."""

    file: str
    figure: figures.Figure
    text: str


@dataclasses.dataclass(frozen=True)
class TopicSettings:
    """What the topics need beside a model and images; see the config's keys of these names.

    Attributes:
      seed: of the drawn augmentations.
      augment: ranges of the augmentation.
      thumbnail_size: (height, width) in pixels.
      passes: passes that a relevance map is estimated from.
      classes: names of the classes; () for none.
      detail: what decides the class.
    """

    seed: int
    augment: augment.Augmentation
    thumbnail_size: tuple[int, int]
    passes: int
    classes: tuple[str, ...] = ()
    detail: Detail = UNKNOWN


def draw(topic: str, model: ShownModel, images: Sequence[ShownImage], settings: TopicSettings) -> Iterator[Drawing]:
    """Draws the figures of a topic, which is a name in `TOPICS`."""
    return TOPICS[topic](model, images, settings)


def _augmentation(model: ShownModel, images: Sequence[ShownImage], settings: TopicSettings) -> Iterator[Drawing]:
    del model
    for image in images:
        pictures = [image.picture]
        for number in range(DRAWS):
            random = generator(settings.seed, Stream.SHOWN_AUGMENTATION, image.index, number)
            pictures.append(augment.apply(random, image.picture, settings.augment))
        thumbnails = [augment.resize(picture, settings.thumbnail_size) for picture in pictures]
        figure = figures.augmentation(image.name, pictures, thumbnails)
        yield Drawing(image.file, figure, f"{DRAWS} draws of augmentation")


def _windows(model: ShownModel, images: Sequence[ShownImage], settings: TopicSettings) -> Iterator[Drawing]:
    del settings
    height, width = size = model.model.window_size
    for image in images:
        boxes = model.windows(image.batch, 1)[0, 0]
        figure = figures.windows(image.name, image.picture, boxes, size)
        yield Drawing(image.file, figure, f"{len(boxes)} windows of {height}x{width} pixels, first pass")


def _coverage(model: ShownModel, images: Sequence[ShownImage], settings: TopicSettings) -> Iterator[Drawing]:
    del settings
    for image in images:
        boxes = model.windows(image.batch, max(PASSES))[:, 0]
        drawn = {passes: boxes[:passes].reshape(-1, 2) for passes in PASSES}
        figure, shares = figures.covered(image.name, image.picture, drawn, model.model.window_size)
        listed = ", ".join(f"{share:.1%} after {passes}" for passes, share in shares.items())
        yield Drawing(image.file, figure, f"share of pixels covered, by passes: {listed}")


def _sampling(model: ShownModel, images: Sequence[ShownImage], settings: TopicSettings) -> Iterator[Drawing]:
    del settings
    if len(images) < 2:
        logger.warning("sampling: left out, because it compares several images, and there is only one")
        return
    batch = {name: np.concatenate([image.batch[name] for image in images]) for name in images[0].batch}
    drawn = {sampling: model.with_sampling(sampling).windows(batch, 1)[0] for sampling in Sampling.__args__}
    names, pictures = [image.name for image in images], [image.picture for image in images]
    figure = figures.sampling(names, pictures, drawn, model.model.window_size)
    yield Drawing("batch", figure, f"the windows of {len(images)} images under {', '.join(drawn)}")


def _filters(model: ShownModel, images: Sequence[ShownImage], settings: TopicSettings) -> Iterator[Drawing]:
    del settings
    for image in images:
        branches = {branch: (kernel, maps[0]) for branch, (kernel, maps) in model.first_layers(image.batch).items()}
        yield Drawing(image.file, figures.filters(image.name, branches), "first-layer filters and their maps")


def _relevance(model: ShownModel, images: Sequence[ShownImage], settings: TopicSettings) -> Iterator[Drawing]:
    for image in images:
        logits, windows = model.passes(image.batch, settings.passes)
        number, odds = attribution.log_odds(logits[:, 0])
        sizes = {"window_size": model.model.window_size, "image_size": image.picture.shape[:2]}
        found = attribution.relevance(windows[:, 0], odds, **sizes)
        name = class_names.describe(number, settings.classes)
        figure = figures.relevance(image.name, image.picture, found, class_name=name, odds=odds)
        spread = f"standard deviation {odds.std():.2f} over {len(odds)} passes"
        share = f"{found.explained:.0%}" if np.isfinite(found.explained) else "nothing, for there is none,"
        text = f"log-odds of {name} {odds.mean():.2f}, {spread}; places explain {share} of it"
        yield Drawing(image.file, figure, text)


def _suitability(model: ShownModel, images: Sequence[ShownImage], settings: TopicSettings) -> Iterator[Drawing]:
    network = model.model
    windows = suitability.Windows(
        image_size=images[0].picture.shape[:2],
        thumbnail_size=settings.thumbnail_size,
        window_size=network.window_size,
        number=network.windows_per_pass,
        axes=network.axes,
    )
    yield Drawing("data", suitability.draw(windows, settings.detail), suitability.describe(windows, settings.detail))


TOPICS: dict[str, Callable[[ShownModel, Sequence[ShownImage], TopicSettings], Iterator[Drawing]]] = {
    "augmentation": _augmentation,
    "windows": _windows,
    "coverage": _coverage,
    "sampling": _sampling,
    "filters": _filters,
    "relevance": _relevance,
    "suitability": _suitability,
}
