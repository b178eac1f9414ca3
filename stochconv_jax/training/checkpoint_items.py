"""Items of a checkpoint: trees of arrays by name, as Orbax saves and restores them.

Earlier versions saved the trees of all items in one item, 'state', which is read too.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

Items = Mapping[str, Mapping[str, Any]]  # by the item's name a tree of arrays, or of their shapes
OPEN_EPOCH = "open_epoch"
ONE_ITEM = "state"  # of earlier versions


def to_save(items: Items, open_epoch: dict) -> ocp.args.Composite:
    """Returns Orbax's arguments that save `items` and the JSON item of the open epoch."""
    arrays = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
    return ocp.args.Composite(**arrays, **{OPEN_EPOCH: ocp.args.JsonSave(open_epoch)})


def shapes_of(items: Items) -> Items:
    """Returns arrays on the host of the same shapes and dtypes that take no memory, for `read_back`."""
    return jax.tree.map(lambda x: np.broadcast_to(np.zeros((), x.dtype), x.shape), items)


def read(checkpoint: pathlib.Path, shapes: Items, *, exact: bool) -> Items:
    """Reads items of a checkpoint onto the shardings in `shapes`, and no other item.

    `exact`: whether the checkpoint must hold nothing but `shapes` in these items; else further arrays are left unread.
    Raises ValueError where an array of `shapes` is missing or has another shape.
    """
    if (checkpoint / ONE_ITEM).exists():
        together = {name: tree for item in shapes.values() for name, tree in item.items()}
        (found,) = _restore(checkpoint, {ONE_ITEM: together}, partial=True).values()
        return {item: {name: found[name] for name in tree} for item, tree in shapes.items()}
    return _restore(checkpoint, shapes, partial=not exact)


def read_open_epoch(checkpoint: pathlib.Path) -> dict:
    """Reads the item of the open epoch."""
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        return reader.restore(checkpoint, args=ocp.args.Composite(**{OPEN_EPOCH: ocp.args.JsonRestore()}))[OPEN_EPOCH]


def _restore(checkpoint: pathlib.Path, shapes: Items, *, partial: bool) -> Items:
    wanted = {name: _restore_args(tree, partial) for name, tree in shapes.items()}
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as reader:
        found = dict(reader.restore(checkpoint, args=ocp.args.Composite(**wanted)).items())
    # A partial restore returns the shape of an array that is missing, without an error.
    leaves = jax.tree_util.tree_leaves_with_path(found)
    missing = [jax.tree_util.keystr(path) for path, leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct)]
    if missing:
        raise ValueError(f"{checkpoint} does not hold {', '.join(missing)}: it is of another network")
    return found


def _restore_args(tree: Any, partial: bool) -> ocp.args.PyTreeRestore:
    onto = ocp.checkpoint_utils.construct_restore_args(tree)
    return ocp.args.PyTreeRestore(tree, restore_args=onto, partial_restore=partial)


def read_back(checkpoint: pathlib.Path, shapes: Items) -> None:
    """Reads all of a checkpoint into the memory of the first process alone, which no other process takes part in.

    Raises what Orbax raises where it cannot be restored. `shapes`: see `shapes_of`.
    """
    alone = ocp.options.MultiprocessingOptions(
        primary_host=0, active_processes={0}, barrier_sync_key_prefix="read_back"
    )
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    with ocp.Checkpointer(handler, multiprocessing_options=alone) as reader:
        for name, tree in shapes.items():
            reader.restore(checkpoint / name, args=ocp.args.StandardRestore(tree))
