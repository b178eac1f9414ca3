"""Small checkpoints for tests: what is saved, what must be restored, and damage to their files."""

import jax
import numpy as np

from stochconv_jax.runtime import mesh
from stochconv_jax.training.checkpoints import Checkpoints

PLACE = mesh.placement(mesh.create(), split=True)


def values(step):
    """Small items, different for each step; one array is split over the devices, the others are not."""
    random = np.random.default_rng(step)
    kernel, scale = (random.normal(size=shape).astype(np.float32) for shape in ((64, 128), (3,)))
    return {"variables": {"kernel": kernel, "scale": scale}, "optimizer": {"step": np.array(step, np.int32)}}


def items(step):
    """Returns `values` on the devices."""
    return jax.tree.map(lambda array: jax.device_put(array, PLACE(array.shape)), values(step))


SHAPES = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), items(0))


def open_epoch(step):
    return {"loss": [step / 3]}


def save(folder, metrics, best_metric="val_roc_auc"):
    """Saves a checkpoint for each step of `metrics`, which are None inside an epoch."""
    with Checkpoints(folder, best_metric=best_metric) as kept:
        for step, value in metrics.items():
            kept.save(step, items(step), open_epoch(step), None if value is None else {best_metric: value})


def restored(folder, which="last", **options):
    """Restores a checkpoint, checks that everything in it is what was saved, bit for bit, and returns its step."""
    with Checkpoints(folder, best_metric="val_roc_auc", **options) as kept:
        step, arrays, epoch = kept.restore(which, SHAPES)
    assert_saved(step, arrays)
    evaluated = (folder / f"step_{step}" / "metrics" / "metrics").exists()
    assert epoch == ({} if evaluated else open_epoch(step))
    return step


def assert_saved(step, arrays):
    """Asserts that `arrays` are those that `save` has saved at `step`; of two processes neither has all their parts."""
    for item, tree in arrays.items():
        assert tree.keys() == values(step)[item].keys()
        for name, expected in values(step)[item].items():
            assert tree[name].dtype == expected.dtype
            for shard in tree[name].addressable_shards:
                np.testing.assert_array_equal(shard.data, expected[shard.index], err_msg=name)


def names(folder):
    return {path.name for path in folder.iterdir()}


def flip(file):
    """Flips one bit; which one depends on the file's size only."""
    content = bytearray(file.read_bytes())
    random = np.random.default_rng(len(content))
    content[random.integers(len(content))] ^= 1 << random.integers(8)
    file.write_bytes(content)


def truncate(file):
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[: np.random.default_rng(size).integers(size)])


def data_file(checkpoint, item="variables"):
    """Returns the largest file of an item's arrays."""
    return max(checkpoint.glob(f"{item}/ocdbt.process_0/d/*"), key=lambda file: file.stat().st_size)
