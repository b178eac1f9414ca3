"""Fine-tunes the rivals of an ablation fold by fold, with all images in the memory of one device.

    python -m benchmarks.real.finetune IMAGES lite0.safetensors finetuned --variants thumbnail per_image shared_crop

IMAGES is a folder that a builder of benchmarks.real has written, with two classes. Steps, windows, optimiser and
evaluation are those of --mode=sweep with configs/ablations/real.py. Differences make some hundred short runs quick:
each variant is compiled once, images are read once and stay on the device, a random turn or flip (of the eight) is the
only augmentation, epochs drop the last, incomplete batch, batch norm keeps its running statistics, and all layers have
the same learning rate.

Each fold of each repetition leaves a file finetuned/VARIANT/REPEAT_FOLD.npz, of logits `[N, passes]` of the images that
the fold tests, and is not made again. benchmarks.real.compare makes a table of them.
"""

import argparse
import functools
import pathlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import timing
from configs.ablations import real
from stochconv_jax.atomic_files import replace
from stochconv_jax.data import augment, sources
from stochconv_jax.experiment import data_sources
from stochconv_jax.experiment.experiment import Experiment
from stochconv_jax.models import pretrained
from stochconv_jax.training import rngs, state

FOLDS = 5


def config_of(variant: str, options: argparse.Namespace) -> ConfigDict:
    """Returns the config of a variant of configs/ablations/real.py, for the images and sizes of the command line."""
    config = real.get_config(options.sizes)
    config.update_from_flattened_dict(real.sweep(options.sizes)[variant])
    config.data.update({"path": str(options.folder / "images"), "labels": str(options.folder / "labels.csv")})
    config.data.group_by = options.group_by
    config.num_epochs, config.batch_size = options.epochs, options.batch_size
    config.eval.update({"batch_size": options.batch_size, "passes": options.passes})
    config.optimizer.update({"learning_rate": options.learning_rate, "factors": ()})
    config.model.batch_norm_images = 0
    return config


class Images:
    """All images of a folder on the device, at the sizes that a network reads.

    Attributes:
      pixels: uint8 `[N, H, W, 3]` by name, 'image' and 'thumbnail', whichever are read.
      row: number of each image's row, by the image's name.
    """

    def __init__(self, source: sources.Source, sizes: dict[str, tuple[int, int]], threads: int = 16):
        def read(index: int) -> list[np.ndarray]:
            picture = source.read(index)
            return [augment.fit(picture, size) for size in sizes.values()]

        with ThreadPoolExecutor(threads) as pool:
            columns = zip(*pool.map(read, range(len(source))), strict=True)
        self.pixels = {name: jax.device_put(np.stack(column)) for name, column in zip(sizes, columns, strict=True)}
        self.row = {name: row for row, name in enumerate(source.names)}


@functools.partial(jax.jit, static_argnames="turned")
def gather(pixels, rows, labels, mask, key, *, turned: bool) -> dict[str, jax.Array]:
    """Returns a batch for the compiled steps of the images `rows`, each randomly turned or flipped if `turned`."""
    picked = {name: x[rows] for name, x in pixels.items()}
    if turned:
        turns = jax.random.bits(key, (3, len(rows), 1, 1, 1), jnp.uint8) % 2 == 1
        for name, x in picked.items():
            x = jnp.where(turns[0], x[:, ::-1], x)
            x = jnp.where(turns[1], x[:, :, ::-1], x)
            picked[name] = jnp.where(turns[2], x.swapaxes(1, 2), x)
    columns = {"label": labels, "index": rows, "skipped": jnp.full_like(rows, -1), "mask": mask}
    return picked | columns | {"example": rows.astype(jnp.uint32)}


def batches(images: Images, source: sources.Source, order: np.ndarray, size: int, key=None) -> Iterator[dict]:
    """Yields batches of the images of `source` in `order`, the last one filled up; turned with `key`."""
    rows = np.array([images.row[name] for name in source.names], np.int32)
    for start in range(0, len(order), size):
        chosen = np.resize(order[start : start + size], size)
        mask = np.arange(size) < len(order) - start
        own = jax.random.fold_in(jax.random.key(0) if key is None else key, start)
        yield gather(images.pixels, rows[chosen], source.labels[chosen], mask, own, turned=key is not None)


class Rival:
    """A variant, compiled once for all folds and repetitions."""

    def __init__(self, variant: str, options: argparse.Namespace):
        self.config, self.weights = config_of(variant, options), options.weights
        everything = sources.FolderSource.from_csv(
            self.config.data.path, self.config.data.labels, num_classes=self.config.data.num_classes
        )
        self.steps = int(len(everything) * (FOLDS - 1) / FOLDS) // self.config.batch_size  # of an epoch
        self.experiment = Experiment(self.config, steps_per_epoch=float(self.steps), class_weights=())
        self.experiment.use_compilation_cache()
        sizes = {name: self.experiment.pixels[f"{name}_size"] for name in self.experiment.pixels["outputs"]}
        self.images = Images(everything, sizes)
        self.start = functools.lru_cache(1)(self._start)  # folds of a repetition begin alike

    def _start(self, seed: int) -> state.TrainState:
        """Returns the state before training, on the host, with the pretrained weights if there are any."""
        init = rngs.Seeded(self.experiment.initializer.function, seed)
        fresh = state.create(init, state.shardings(self.experiment.state_shapes))
        if not self.weights:
            return jax.device_get(fresh)
        variables, _ = pretrained.load(self.weights, self.experiment.model, fresh.trained())
        return jax.device_get(fresh.with_variables(variables))

    def run(self, repeat: int, fold: int) -> dict[str, np.ndarray]:
        """Trains without one fold, and returns 'logits' `[N, passes]`, 'label', 'name' of its images, and 'loss'."""
        config, seed = self.config.copy_and_resolve_references(), np.int32(repeat)
        config.data.update({"seed": repeat, "fold": f"{fold}/{FOLDS}"})
        train, test = data_sources.training_and_validation(config)
        now = jax.device_put(self.start(repeat), state.shardings(self.experiment.state_shapes))
        random, losses = np.random.default_rng([repeat, fold]), []
        for epoch in range(config.num_epochs):
            order = random.permutation(len(train))[: self.steps * config.batch_size]
            key = jax.random.fold_in(jax.random.key(repeat), epoch)
            for batch in batches(self.images, train, order, config.batch_size, key):
                now, metrics = self.experiment.train_step.function(now, batch, seed=seed)
                losses.append(metrics.steps.values["loss"][0])
        variables, logits = now.to_evaluate(), []
        for batch in batches(self.images, test, np.arange(len(test)), config.eval.batch_size):
            metrics = self.experiment.eval_step.function(variables, batch, seed=seed)
            logits.append(metrics.rows.values["logits"][0])
        found = np.concatenate(jax.device_get(logits))[: len(test), :, 0]
        history = np.array(jax.device_get(losses), np.float32).ravel()
        return {"logits": found, "label": test.labels, "name": np.array(test.names), "loss": history}


def arguments(args: list[str] | None = None) -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="images/ and labels.csv, of two classes")
    parser.add_argument("weights", help="as config.init.weights, for Lite0; '' for random weights")
    parser.add_argument("output", type=pathlib.Path, help="folder of the results")
    parser.add_argument("--variants", nargs="+", required=True, choices=sorted(real.sweep()), help="in this order")
    parser.add_argument("--sizes", default=real.SIZES, help="sides of image and thumbnail (default: %(default)s)")
    parser.add_argument("--group_by", default="", help="column of labels.csv whose equal values share a fold")
    parser.add_argument("--repeats", type=int, default=1, help="repetitions of the folds (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=15, help="(default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument("--learning_rate", type=float, default=5e-4, help="its maximum (default: %(default)s)")
    parser.add_argument("--passes", type=int, default=16, help="draws of windows (default: %(default)s)")
    return parser.parse_args(args)


def main(args: list[str] | None = None) -> None:
    """Makes the runs that the output folder lacks."""
    options = arguments(args)
    timing.prepare_process()
    for variant in options.variants:
        folder = options.output / variant
        folder.mkdir(parents=True, exist_ok=True)
        todo = [(repeat, fold) for repeat in range(options.repeats) for fold in range(1, FOLDS + 1)]
        files = {run: folder / "{}_{}.npz".format(*run) for run in todo}
        if all(file.exists() for file in files.values()):
            continue
        rival = Rival(variant, options)
        with jax.set_mesh(rival.experiment.mesh):
            for run, file in files.items():
                if file.exists():
                    continue
                begun = time.monotonic()
                found = rival.run(*run)
                with replace(file) as temporary, open(temporary, "wb") as opened:
                    np.savez(opened, **found)
                print(f"{variant}, repetition {run[0]}, fold {run[1]}: {time.monotonic() - begun:.1f} s", flush=True)


if __name__ == "__main__":
    main()
