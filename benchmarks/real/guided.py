"""Compares random crops at places that the thumbnail chooses with crops at any place and at the places that decide.

    python -m benchmarks.real.guided boards guided

`boards` is a folder of benchmarks.real.deeppcb, in which each block has an image with defects and one without. Images
are shrunk to 320x320 pixels. Every rival but one sees a thumbnail of 112x112 pixels and `--crops` crops of 113x113 of
the image. Each crop goes through the window branch, the mean of their features is joined with the thumbnail's, and one
dense layer follows.

    uniform           crops at places that are drawn uniformly
    guided            at places drawn from a density that a small network computes from the thumbnail
    oracle            at places drawn in proportion to the pixels in which an image differs from the other of its block
    larger_thumbnail  no crops, but a thumbnail that costs as much as one pass of `uniform`

The oracle knows where the defects are, which no network does: it shows how much places matter. The guided density is
learnt by attention sampling (Katharopoulos and Fleuret, "Processing Megapixel Images with Deep Attention-Sampling
Models", 2019, section 3): the mean of the features of sampled crops estimates their expectation under the density, and
so does its gradient, without bias.

Each fold of each repetition leaves a file guided/RIVAL/REPEAT_FOLD.npz and is not made again. The last lines are a
table of all that is made: mean areas under the ROC curve, and differences with the intervals of `probe.interval`.
"""

import argparse
import functools
import pathlib
import time
from collections.abc import Iterator, Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from benchmarks import timing
from benchmarks.real import compare, finetune
from configs.ablations import quick_real
from stochconv_jax.atomic_files import replace
from stochconv_jax.data import augment, sources
from stochconv_jax.experiment import data_sources
from stochconv_jax.experiment.experiment import Experiment

RIVALS = ("larger_thumbnail", "uniform", "guided", "oracle")
SIDE, THUMBNAIL, CROP = 320, 112, 113  # in pixels; a crop is as large as a window of the tiny network's branch
PLACES = 24  # possible places of a crop along each axis, at equal distances
UNIFORM = 0.1  # share of the uniform density in the guided one, so that no place is excluded
ENTROPY = 0.01  # weight of the density's entropy, which keeps it from collapsing onto one place
DIFFERENT = 32  # grey values by which a pixel of a defect differs from the image without defects


class Guide(nn.Module):
    """Maps thumbnails `[B, h, w, 3]` to the logarithm of a density over places, `[B, PLACES * PLACES]`."""

    @nn.compact
    def __call__(self, thumbnail: jax.Array) -> jax.Array:
        x = jnp.asarray(thumbnail, jnp.float32) / 127.5 - 1
        for features in (16, 32, 32):
            x = nn.relu(nn.GroupNorm(4)(nn.Conv(features, (3, 3), 2)(x)))
        x = nn.Conv(1, (3, 3), kernel_init=nn.initializers.zeros)(x)
        scores = jax.image.resize(x, (len(x), PLACES, PLACES, 1), "linear").reshape(len(x), -1)
        return jnp.logaddexp(jnp.log1p(-UNIFORM) + nn.log_softmax(scores), jnp.log(UNIFORM / PLACES**2))


def corners(side: int = SIDE) -> np.ndarray:
    """Returns the places (top, left) of crops in a square image, int32 `[PLACES * PLACES, 2]`."""
    along = np.linspace(0, side - CROP, PLACES).round().astype(np.int32)
    return np.stack(np.meshgrid(along, along, indexing="ij"), axis=-1).reshape(-1, 2)


def crop(images: jax.Array, places: jax.Array) -> jax.Array:
    """Returns the crops `[B, K, CROP, CROP, 3]` of images `[B, H, W, 3]` at places (top, left) `[B, K, 2]`."""

    def one(image: jax.Array, place: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice(image, (place[0], place[1], 0), (CROP, CROP, image.shape[-1]))

    return jax.vmap(jax.vmap(one, (None, 0)))(images, places)


def oracle(different: jax.Array) -> jax.Array:
    """Returns the logarithm of a density over places, in proportion to the pixels of `different` `[B, H, W, 1]`.

    The density of an image without such pixels is uniform.
    """
    sums = jnp.cumsum(jnp.cumsum(different[..., 0].astype(jnp.int32), 1), 2)
    sums = jnp.pad(sums, ((0, 0), (1, 0), (1, 0)))
    top, left = corners(different.shape[1]).T
    bottom, right = top + CROP, left + CROP
    inside = sums[:, bottom, right] - sums[:, top, right] - sums[:, bottom, left] + sums[:, top, left]
    inside = jnp.where(inside.sum(1, keepdims=True) > 0, inside, 1)
    return jnp.log(inside / inside.sum(1, keepdims=True))


def mean_of_crops(features: jax.Array, log_density: jax.Array) -> jax.Array:
    """Returns the mean `[B, C]` of the features `[B, K, C]` of crops at places drawn with `log_density` `[B, K]`.

    Its gradient estimates, without bias, that of the expectation of the features under the density.
    """
    one = jnp.exp(log_density - jax.lax.stop_gradient(log_density))
    return (features * one[..., None]).mean(1)


class Rival:
    """One of RIVALS, with compiled steps and all images on the device."""

    def __init__(self, name: str, options: argparse.Namespace):
        self.name, self.crops, self.config = name, options.crops, config_of(name, options)
        self.images = read(
            options.folder, self.config.data.thumbnail_size[0], whole="windows" in self.config.model.branches
        )
        self.steps = int(len(self.images.row) * (finetune.FOLDS - 1) / finetune.FOLDS) // self.config.batch_size
        self.experiment = Experiment(self.config, steps_per_epoch=float(self.steps), class_weights=())
        self.model, self.optimizer = self.experiment.model, self.experiment.optimizer
        self.train_step = jax.jit(self._train_step, donate_argnums=0)
        self.predict = jax.jit(lambda variables, batch, key: self.forward(variables, batch, key, train=False)[0])

    def start(self, seed: int) -> dict[str, dict]:
        """Returns fresh variables: 'params' of 'network' and 'guide', and 'batch_stats'."""
        keys = jax.random.split(jax.random.key(seed), 3)
        inputs = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.experiment.inputs())
        found = self.model.init({"params": keys[0], "windows": keys[1]}, inputs)
        guide = Guide().init(keys[2], inputs["thumbnail"])["params"] if self.name == "guided" else {}
        return {"params": {"network": found["params"], "guide": guide}, "batch_stats": found["batch_stats"]}

    def density(self, params: Mapping, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns the logarithm of the density over places, `[B, PLACES * PLACES]`."""
        if self.name == "guided":
            return Guide().apply({"params": params["guide"]}, batch["thumbnail"])
        if self.name == "oracle":
            return oracle(batch["different"])
        return jnp.full((len(batch["label"]), PLACES**2), -2 * jnp.log(PLACES))

    def forward(self, variables: Mapping, batch: Mapping, key: jax.Array, *, train: bool):
        """Returns logits `[B]`, the new batch statistics and the mean entropy of the densities."""

        def network(model):
            features = {"thumbnail": model.encode("thumbnail", batch, train=train)}
            if "windows" in model.branches:
                drawn = jax.random.categorical(key, log_density, shape=(self.crops, len(log_density))).T
                crops = crop(batch["image"], jnp.asarray(corners())[drawn])
                flat = {"image": crops.reshape(-1, CROP, CROP, 3), "example": jnp.zeros(drawn.size, jnp.uint32)}
                found = model.encode("windows", flat, train=train).reshape(*drawn.shape, -1)
                chosen = jnp.take_along_axis(log_density, drawn, axis=1)
                features["windows"] = mean_of_crops(found, chosen)
            return model.join(features, train=train)

        log_density = self.density(variables["params"], batch)
        mutable = ["batch_stats"] if train else []
        parts = {"params": variables["params"]["network"], "batch_stats": variables["batch_stats"]}
        logits, updated = nn.apply(network, self.model, mutable=mutable)(parts, rngs={"windows": key})
        entropy = -(jnp.exp(log_density) * jnp.where(log_density > -jnp.inf, log_density, 0)).sum(1).mean()
        return logits[:, 0], updated.get("batch_stats", variables["batch_stats"]), entropy

    def _train_step(self, variables: dict, moments: optax.OptState, batch: Mapping, key: jax.Array):
        labels = batch["label"].astype(jnp.float32)

        def loss(params):
            logits, stats, entropy = self.forward(variables | {"params": params}, batch, key, train=True)
            return optax.sigmoid_binary_cross_entropy(logits, labels).mean() - ENTROPY * entropy, stats

        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
        with jax.numpy_dtype_promotion("standard"):  # optax multiplies floats by its integer step count
            updates, moments = self.optimizer.update(gradient, moments, variables["params"])
        return {"params": optax.apply_updates(variables["params"], updates), "batch_stats": stats}, moments, value

    def run(self, repeat: int, fold: int) -> dict[str, np.ndarray]:
        """Trains without one fold, and returns 'logits' `[N, passes]`, 'label' and 'name' of its images, and 'loss'."""
        config = self.config.copy_and_resolve_references()
        config.data.update({"seed": repeat, "fold": f"{fold}/{finetune.FOLDS}"})
        train, test = data_sources.training_and_validation(config)
        variables, random, losses = self.start(repeat), np.random.default_rng([repeat, fold]), []
        moments = self.optimizer.init(variables["params"])
        turns, draws = jax.random.split(jax.random.key(repeat))
        for epoch in range(config.num_epochs):
            order = random.permutation(len(train))[: self.steps * config.batch_size]
            for batch in self.batches(train, order, config.batch_size, jax.random.fold_in(turns, epoch)):
                of_step = jax.random.fold_in(draws, len(losses))
                variables, moments, value = self.train_step(variables, moments, batch, of_step)
                losses.append(value)
        logits = []
        for number, batch in enumerate(self.batches(test, np.arange(len(test)), config.eval.batch_size)):
            keys = jax.random.split(jax.random.fold_in(jax.random.key(repeat), number), config.eval.passes)
            logits.append(np.stack([self.predict(variables, batch, of_pass) for of_pass in keys], axis=1))
        found = np.concatenate(logits)[: len(test)]
        return {"logits": found, "label": test.labels, "name": np.array(test.names), "loss": np.array(losses)}

    def batches(self, source: sources.Source, order: np.ndarray, size: int, key=None) -> Iterator[dict]:
        """See `finetune.batches`."""
        return finetune.batches(self.images, source, order, size, key)


@functools.lru_cache
def read(folder: pathlib.Path, thumbnail: int, *, whole: bool) -> finetune.Images:
    """Returns the thumbnails, and if `whole` also the 'image's and their 'different' pixels. Rivals share them."""
    source = sources.FolderSource.from_csv(folder / "images", folder / "labels.csv", num_classes=2)
    sizes = {"thumbnail": (thumbnail, thumbnail)} | ({"image": (SIDE, SIDE)} if whole else {})
    images = finetune.Images(source, sizes)
    if whole:
        images.pixels["different"] = jax.device_put(differences(source))
    return images


def differences(source: sources.Source) -> np.ndarray:
    """Returns where each image differs from the other of its block, uint8 `[N, H, W, 1]`."""
    blocks: dict[str, list[int]] = {}
    for index, block in enumerate(source.column("block")):
        blocks.setdefault(block, []).append(index)
    found = np.zeros((len(source), SIDE, SIDE, 1), np.uint8)
    for members in blocks.values():
        pictures = np.stack([augment.fit(source.read(index), (SIDE, SIDE)) for index in members]).astype(np.int16)
        found[members] = np.ptp(pictures, axis=0).max(-1, keepdims=True) > DIFFERENT
    return found


def config_of(name: str, options: argparse.Namespace) -> ConfigDict:
    """Returns the config of a rival: that of quick_real.py for an image that is a single crop."""
    cost = 1 + options.crops  # of the thumbnail's
    thumbnail = THUMBNAIL if name != "larger_thumbnail" else 16 * round(THUMBNAIL * cost**0.5 / 16)
    config = quick_real.get_config(f"{CROP},{thumbnail}")
    config.model.sampling = "shared"
    config.model.branches = ("thumbnail",) if name == "larger_thumbnail" else ("thumbnail", "windows")
    config.data.update({"source": "folder", "group_by": "block"})
    config.data.update({"path": str(options.folder / "images"), "labels": str(options.folder / "labels.csv")})
    config.num_epochs, config.eval.passes = options.epochs, 1 if name == "larger_thumbnail" else options.passes
    return config


def table(areas: Mapping[str, compare.Areas]) -> str:
    """Returns the areas of the rivals, and their differences from the larger thumbnail and from uniform crops."""
    one_pass = {name: {run: found[:1] for run, found in runs.items()} for name, runs in areas.items()}
    larger, uniform, *_ = RIVALS
    lines = [
        "| rival | folds | AUC, 1 pass | all passes | 1 pass minus larger thumbnail | all passes minus it | "
        "all passes minus uniform |",
        "| --- " * 7 + "|",
    ]
    for name in (name for name in RIVALS if areas[name]):
        runs = areas[name].values()
        cells = [f"{np.mean([run[index] for run in runs]):.3f}" for index in (0, -1)]
        for to, of in ((larger, one_pass), (larger, areas), (uniform, areas)):
            cells.append(compare.difference(of[name], of[to]) if name not in (to, larger) else "")
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(args: list[str] | None = None) -> None:
    """Makes the runs that the output folder lacks, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path, help="images/ and labels.csv of benchmarks.real.deeppcb")
    parser.add_argument("output", type=pathlib.Path, help="folder of the results")
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=RIVALS, help="(default: all)")
    parser.add_argument("--repeats", type=int, default=1, help="repetitions of the folds (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--crops", type=int, default=2, help="crops of an image in a pass (default: %(default)s)")
    parser.add_argument("--passes", type=int, default=8, help="draws of the crops in a test (default: %(default)s)")
    options = parser.parse_args(args)
    timing.prepare_process()
    todo = [(repeat, fold) for repeat in range(options.repeats) for fold in range(1, finetune.FOLDS + 1)]
    rival = functools.lru_cache(len(RIVALS))(lambda name: Rival(name, options))
    for repeat, fold in todo:
        for name in options.rivals:
            file = options.output / name / f"{repeat}_{fold}.npz"
            file.parent.mkdir(parents=True, exist_ok=True)
            if not file.exists():
                begun = time.monotonic()
                with jax.set_mesh(rival(name).experiment.mesh):
                    found = rival(name).run(repeat, fold)
                with replace(file) as temporary, open(temporary, "wb") as opened:
                    np.savez(opened, **found)
                print(f"{name}, repetition {repeat}, fold {fold}: {time.monotonic() - begun:.1f} s", flush=True)
    print(table({name: compare.read(options.output / name) for name in RIVALS}))


if __name__ == "__main__":
    main()
