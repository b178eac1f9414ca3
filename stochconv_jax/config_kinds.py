"""Kinds of values that a config key can have: each reads a value as the program takes it, or refuses it."""

import dataclasses
import difflib
import math
import numbers
import os
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Kind:
    """`read`: gives the value as the program takes it; ValueError, TypeError or OverflowError for one that is none.

    `expected`: what a value must be, in words that follow a colon; '' where the error of `read` says it. `choices`:
    the words there are, where these are all.
    """

    read: Callable[[Any], Any]
    expected: str = ""
    choices: Collection[str] = ()


def nearest(name: str, known: Iterable[str]) -> str:
    """A question that ends an error message: the one of `known` most like `name`; '' where none is like it."""
    found = difflib.get_close_matches(name, known, n=1)
    return f'. Did you mean "{found[0]}"?' if found else ""


def whole(least: int, most: int = 2**63 - 1) -> Kind:
    """An int, or a float without a fraction, in `least`..`most`."""

    def read(value):
        _refuse_unless(isinstance(value, numbers.Real) and not isinstance(value, bool) and value == int(value))
        _refuse_unless(least <= value <= most)
        return int(value)

    return Kind(read, f"expected a whole number, {least} {'or more' if most == 2**63 - 1 else f'to {most}'}")


def number(words: str, fits: Callable[[float], bool], *, endless: bool = False) -> Kind:
    """A float that is as `fits` says, `words` in words. Never NaN, and infinity only where it may be `endless`."""

    def read(value):
        _refuse_unless(isinstance(value, numbers.Real) and not isinstance(value, bool))
        value = float(value)
        _refuse_unless(fits(value) and (math.isfinite(value) or (endless and value == math.inf)))
        return value

    return Kind(read, f"expected {words}")


def share() -> Kind:
    """A float in 0 .. 1 without 1."""
    return number("a share, 0 or more and less than 1", lambda value: 0 <= value < 1)


def switch() -> Kind:
    """True or False."""

    def read(value):
        _refuse_unless(isinstance(value, bool))
        return value

    return Kind(read, "expected True or False")


def optional(kind: Kind) -> Kind:
    """None, or a value of `kind`."""
    return Kind(lambda value: None if value in (None, "None") else kind.read(value), f"{kind.expected}, or None")


def text(pattern: str = ".*", words: str = "text") -> Kind:
    """A str that `pattern` matches, `words` in words. A path and a whole number are read as their text."""

    def read(value):
        _refuse_unless(isinstance(value, str | os.PathLike | int) and not isinstance(value, bool))
        value = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
        _refuse_unless(re.fullmatch(pattern, value, re.DOTALL))
        return value

    return Kind(read, f"expected {words}")


def choice(choices: Collection[str]) -> Kind:
    """Accepts one of `choices`, which may grow later."""

    def read(value):
        value = text().read(value)
        _refuse_unless(value in choices)
        return value

    return Kind(read, f"choose one of {', '.join(choices)}", choices)


def some_of(choices: Collection[str]) -> Kind:
    """A tuple of different `choices`, one at least. A single one may stand without a tuple."""

    def read(value):
        values = tuple(map(choice(choices).read, _several(value)))
        _refuse_unless(values and len(set(values)) == len(values))
        return values

    return Kind(read, f"expected one or more of {', '.join(choices)}, each once", choices)


def several(kind: Kind, words: str, fits: Callable[[tuple], bool] = lambda values: True) -> Kind:
    """A tuple of values of `kind` that together are as `fits` says, `words` in words."""

    def read(value):
        values = tuple(map(kind.read, _several(value)))
        _refuse_unless(fits(values))
        return values

    return Kind(read, f"expected {words}")


def size() -> Kind:
    """Height and width in pixels, (H, W) or 'HxW'; one number N is (N, N)."""

    def read(value):
        values = _several(value)
        if len(values) == 1 and isinstance(values[0], str):
            values = tuple(map(int, values[0].lower().split("x")))
        values = tuple(map(whole(1).read, values))
        _refuse_unless(len(values) in (1, 2))
        return values * 2 if len(values) == 1 else values

    return Kind(read, "expected height and width in pixels, as (512, 768) or 512x768; 512 is (512, 512)")


def part_of(least: int) -> Kind:
    """'M/N': the M-th of N parts, where N is at least `least`."""

    def read(value):
        number, count = map(int, text(r"\d+/\d+").read(value).split("/"))
        _refuse_unless(1 <= number <= count and count >= least)
        return value

    return Kind(read, f"expected a part and their number, {least} at least, such as '2/5'")


def empty_or(kind: Kind) -> Kind:
    """'', or a value of `kind`."""
    return Kind(lambda value: "" if value == "" else kind.read(value), f"{kind.expected}, or ''", kind.choices)


def _several(value: Any) -> tuple:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _refuse_unless(fits: Any) -> None:
    if not fits:
        raise ValueError
