"""Turns the classes of images, as tables and folders name them, into the numbers 0, 1, ... of the network's outputs."""

import re
from collections.abc import Iterable, Sequence

from stochconv_jax.config_kinds import nearest
from stochconv_jax.data import table_reader

NAMED = 10  # the largest number of classes that an error names
_NUMBER = re.compile(r"[-+]?[\d.,]+")  # also numbers that are no class, such as 0.5


def find(targets: Iterable[str], num_classes: int, given: Sequence[str] = ()) -> tuple[str, ...]:
    """Returns the names of the classes 0, 1, ...: `given`, or the different words in `targets`, in sorted order.

    Returns () if a target is a number, because the targets are then the classes' numbers. Raises ValueError if the
    words are not `num_classes` different ones.
    """
    if given:
        return tuple(given)
    words = sorted({target for target in targets if target})
    if any(_NUMBER.fullmatch(word) for word in words):
        return ()
    if words and len(words) != num_classes:
        listed = ", ".join(words[:NAMED]) + (", ..." if len(words) > NAMED else "")
        raise ValueError(
            f"the names of the classes are {listed}, {len(words)} in all, and `num_classes`={num_classes}: correct the "
            "number, or list the right names as `classes`"
        )
    return tuple(words)


def number(target: str, num_classes: int, names: Sequence[str]) -> int:
    """Returns the class that `target` means: its place in `names`, or the number that it is.

    Raises ValueError if it means none of the classes 0, ..., num_classes - 1.
    """
    if target in names:
        return names.index(target)
    found = table_reader.class_number(target)
    if found is not None and found < num_classes:
        return found
    if names:
        raise ValueError(f"target {target!r} is none of the classes {', '.join(names)}{nearest(target, names)}")
    hint = "" if found is not None else "; classes are numbers here, in the column that `target_column` names"
    raise ValueError(f"target {target!r} is not a class 0..{num_classes - 1} (`num_classes`){hint}")


def describe(number: int, names: Sequence[str]) -> str:
    """Returns a class for messages and figures: its name, or 'class 1' if the classes have no names."""
    return names[number] if names else f"class {number}"
