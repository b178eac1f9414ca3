"""Kinds of config values, such as integers, fractions and image sizes: each converts a value or refuses it."""

import dataclasses
import difflib
import math
import numbers
import os
import re
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeGuard


@dataclasses.dataclass(frozen=True)
class Kind:
    """The values that a config key accepts.

    `read` converts a value to the type that the program uses, and raises ValueError, TypeError or OverflowError for a
    value that is not accepted. `expected` describes the accepted values and follows a colon in messages; '' means that
    the error of `read` describes them. `choices` lists the accepted words if there is a fixed list of them.
    """

    read: Callable[[Any], Any]
    expected: str = ""
    choices: Collection[str] = ()


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns the end of an error message that suggests the closest of `known`, or '' if none is close to `name`."""
    found = difflib.get_close_matches(name, known, n=1)
    return f'. Did you mean "{found[0]}"?' if found else ""


def integer(minimum: int, maximum: int = 2**63 - 1) -> Kind:
    """Accepts an int, or a float without a fraction, from `minimum` to `maximum`."""

    def read(value):
        _require(_is_real(value) and value == int(value))
        _require(minimum <= value <= maximum)
        return int(value)

    upper = "or more" if maximum == 2**63 - 1 else f"to {maximum}"
    return Kind(read, f"expected a whole number, {minimum} {upper}")


def number_of(choices: Collection[int]) -> Kind:
    """Accepts one of the whole numbers `choices`."""

    def read(value):
        value = integer(0).read(value)
        _require(value in choices)
        return value

    return Kind(read, f"choose one of {', '.join(map(str, choices))}")


def number(expected: str, accepts: Callable[[float], bool], *, may_be_infinite: bool = False) -> Kind:
    """Accepts a real number for which `accepts` returns True, but never NaN. `expected` describes it in messages."""

    def read(value):
        _require(_is_real(value))
        value = float(value)
        _require(accepts(value) and (math.isfinite(value) or (may_be_infinite and value == math.inf)))
        return value

    return Kind(read, f"expected {expected}")


def fraction() -> Kind:
    """Accepts a number from 0 to 1, without 1 itself."""
    return number("a share, 0 or more and less than 1", lambda value: 0 <= value < 1)


def boolean() -> Kind:
    """Accepts True or False."""

    def read(value):
        _require(isinstance(value, bool))
        return value

    return Kind(read, "expected True or False")


def optional(kind: Kind) -> Kind:
    """Accepts None, or a value of `kind`."""
    return Kind(lambda value: None if value in (None, "None") else kind.read(value), f"{kind.expected}, or None")


def text(pattern: str = ".*", expected: str = "text") -> Kind:
    """Accepts a str that `pattern` matches completely; a path or an int is converted to its text first."""

    def read(value):
        _require(isinstance(value, str | os.PathLike | int) and not isinstance(value, bool))
        value = os.fspath(value) if isinstance(value, os.PathLike) else str(value)
        _require(re.fullmatch(pattern, value, re.DOTALL))
        return value

    return Kind(read, f"expected {expected}")


def choice(choices: Collection[str]) -> Kind:
    """Accepts one of `choices`. The collection is not copied: choices that are added to it later are accepted too."""

    def read(value):
        value = text().read(value)
        _require(value in choices)
        return value

    return Kind(read, f"choose one of {', '.join(choices)}", choices)


def subset(choices: Collection[str], *, may_be_empty: bool = False) -> Kind:
    """Accepts a tuple of one or more different `choices`, or a single choice without a tuple."""

    def read(value):
        values = tuple(map(choice(choices).read, _as_tuple(value)))
        _require((values or may_be_empty) and len(set(values)) == len(values))
        return values

    empty = ", or ()" if may_be_empty else ""
    return Kind(read, f"expected one or more of {', '.join(choices)}, each once{empty}", choices)


def sequence(kind: Kind, expected: str, accepts: Callable[[tuple], bool] = lambda values: True) -> Kind:
    """Accepts a tuple of values of `kind` for which `accepts` returns True, or a single value without a tuple."""

    def read(value):
        values = tuple(map(kind.read, _as_tuple(value)))
        _require(accepts(values))
        return values

    return Kind(read, f"expected {expected}")


def word_or(word: str, kind: Kind) -> Kind:
    """Accepts `word`, also as the tuple that the command line makes of it, or a value of `kind`."""

    def read(value):
        return word if _as_tuple(value) == (word,) else kind.read(value)

    return Kind(read, f"{kind.expected}, or {word!r}", (word,))


def column_names() -> Kind:
    """Accepts a tuple of different names, whatever their capitals, or a single name without a tuple."""

    def read(value):
        names = tuple(text(r"\s*\S.*").read(name).strip() for name in _as_tuple(value))
        _require(len({name.casefold() for name in names}) == len(names))
        return names

    return Kind(read, "expected different names of columns, or ()")


def size() -> Kind:
    """Accepts a height and width in pixels, as (H, W) or 'HxW'; a single number N is read as (N, N)."""

    def read(value):
        values = _as_tuple(value)
        if len(values) == 1 and isinstance(values[0], str):
            values = tuple(map(int, values[0].lower().split("x")))
        values = tuple(map(integer(1).read, values))
        _require(len(values) in (1, 2))
        return values * 2 if len(values) == 1 else values

    return Kind(read, "expected height and width in pixels, as (512, 768) or 512x768; 512 is (512, 512)")


def part_of(minimum: int) -> Kind:
    """Accepts 'M/N', the M-th of N parts, where N is `minimum` or more."""

    def read(value):
        part, count = map(int, text(r"\d+/\d+").read(value).split("/"))
        _require(1 <= part <= count and count >= minimum)
        return value

    return Kind(read, f"expected a part and the number of parts, {minimum} at least, such as '2/5'")


def empty_or(kind: Kind) -> Kind:
    """Accepts '', or a value of `kind`."""
    return Kind(lambda value: "" if value == "" else kind.read(value), f"{kind.expected}, or ''", kind.choices)


def _is_real(value: Any) -> TypeGuard[float]:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _as_tuple(value: Any) -> tuple:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _require(condition: Any) -> None:
    if not condition:
        raise ValueError
