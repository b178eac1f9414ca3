"""Parts of a network: the parameters whose names, as in parameters.txt, begin in the same way."""

from collections.abc import Mapping
from typing import Any

import jax


def name_of(path: tuple[Any, ...]) -> str:
    """Returns the name of a parameter from its path in a tree: 'thumbnail/stage1/block1/project/kernel'."""
    return "/".join(entry.key for entry in path)


def values_by_part[Value](tree: Any, values: Mapping[str, Value], default: Value) -> Any:
    """Returns a tree like `tree` with the value of the part that each array belongs to.

    `values`: by the beginning of names; the last that fits counts, and `default` where none does. A beginning that fits
    no name is no error here, see `refuse_unknown`.
    """

    def value_of(path, _):
        return next((values[part] for part in reversed(list(values)) if name_of(path).startswith(part)), default)

    return jax.tree_util.tree_map_with_path(value_of, tree)


def refuse_unknown(tree: Any, parts: Mapping[str, Any]) -> None:
    """Raises ValueError if a part is no beginning of a name in `tree`."""
    names = [name_of(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    for part in parts:
        if not any(name.startswith(part) for name in names):
            known = ", ".join(sorted({name.split("/")[0] for name in names}))
            raise ValueError(f"`factors`: no parameter's name begins with {part!r}; names begin with {known}")


def keep(frozen: tuple[str, ...], old: Any, new: Any) -> Any:
    """Returns `new` with the arrays of `old` in the parts `frozen`."""
    if not frozen:
        return new
    is_frozen = values_by_part(new, dict.fromkeys(frozen, True), False)
    return jax.tree.map(lambda keeps, before, after: before if keeps else after, is_frozen, old, new)
