"""Turns columns of a table, such as age, sex and site, into numbers that a network takes besides the image.

A column that has only numbers in the training images is standardised. Any other column is one-hot encoded. A missing
value has a feature of its own. The encoding is fitted to the training images once, and then used for all other images.
"""

import collections
import dataclasses
import itertools
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stochconv_jax.config_kinds import nearest
from stochconv_jax.data import table_reader
from stochconv_jax.data.sources import Source

logger = logging.getLogger(__name__)

MISSING = ""
_MISSING_TEXTS = ("", "na", "n/a", "nan", "null", "<na>")  # as programs write an empty cell
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?")
NAMED = 5  # the largest number of words in a message


@dataclasses.dataclass(frozen=True)
class Column:
    """Encodes the texts of a column as features.

    Attributes:
      name: the column.
      words: one feature each, which is 1 for this text and 0 for others. A column of numbers has at most `MISSING`.
      mean, deviation: of the training images' numbers, for the standardised number; None for a column of words.
    """

    name: str
    words: tuple[str, ...]
    mean: float | None = None
    deviation: float | None = None

    @classmethod
    def fit(cls, name: str, texts: Sequence[str], where: Callable[[int], str]) -> "Column":
        """Returns the column for the texts of the training images. `where` describes the row of a text.

        Raises ValueError, naming a row, if some texts are numbers and others are words, or if all are missing.
        """
        texts = list(map(_normal, texts))
        words, numbers = sorted(set(texts)), {row: _number(text) for row, text in enumerate(texts) if _is_number(text)}
        if words == [MISSING]:
            raise ValueError(f"`metadata_columns`: no training image has a value of {name!r}; leave this column out")
        if not numbers:
            return cls(name, tuple(words))
        if (other := next((row for row, text in enumerate(texts) if text and row not in numbers), None)) is not None:
            first = next(iter(numbers))
            raise ValueError(
                f"{where(other)}: {name!r} has the word {texts[other]!r}, and the number {texts[first]!r} in "
                f"{where(first)}: `metadata_columns` needs numbers or words; leave the cell of a missing value empty"
            )
        values = list(numbers.values())
        try:
            mean = math.fsum(values) / len(values)  # exact sums, so that every machine finds the same
            deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
        except OverflowError:
            row = max(numbers, key=lambda row: abs(numbers[row]))
            raise ValueError(f"{where(row)}: {name!r} is {texts[row]}, a number too large to be standardised") from None
        if len(set(values)) > 1 and not deviation:
            raise ValueError(f"`metadata_columns`: the numbers of {name!r} differ by too little to be standardised")
        missing = (MISSING,) if MISSING in words else ()
        return cls(name, missing, mean, deviation if len(set(values)) > 1 else 1.0)

    def __str__(self) -> str:
        if self.mean is None:
            return f"{self.name} is one of {len(self.words)} words"
        return f"{self.name} has mean {self.mean:.6g} and deviation {self.deviation:.6g}"

    def features(self) -> list[str]:
        """Returns the names of the features, such as 'age', 'age missing' and 'sex=female'."""
        number = [] if self.mean is None else [self.name]
        return number + [f"{self.name}={word}" if word else f"{self.name} missing" for word in self.words]

    def encode(self, texts: Sequence[str], where: Callable[[int], str]) -> np.ndarray:
        """Returns the features of N texts, float64 `[N, features]`.

        A text that no training image has, or a missing value if none is missing there, is 0 in all features, and is
        logged. Raises ValueError, naming the row, for a word in a column of numbers.
        """
        texts = list(map(_normal, texts))
        encoded, places = np.zeros((len(texts), len(self.words))), {word: k for k, word in enumerate(self.words)}
        for row, text in enumerate(texts):
            if text in places:
                encoded[row, places[text]] = 1.0
        if self.mean is not None and self.deviation is not None:
            number = np.zeros((len(texts), 1))
            for row, text in enumerate(texts):
                if text and not _is_number(text):
                    raise ValueError(
                        f"{where(row)}: {self.name!r} is {text!r}, and the training images have numbers; write a "
                        "number or leave the cell empty"
                    )
                number[row] = (_number(text) - self.mean) / self.deviation if text else 0.0
                if abs(number[row, 0]) > np.finfo(np.float32).max:
                    raise ValueError(
                        f"{where(row)}: {self.name!r} is {text}, too far from the training images' numbers"
                    )
            encoded = np.hstack([number, encoded])
        self._log_unseen(texts)
        return encoded

    def _log_unseen(self, texts: Sequence[str]) -> None:
        words = texts if self.mean is None else [text for text in texts if text == MISSING]
        unseen = collections.Counter(text for text in words if text not in self.words)
        if unseen:
            named = ", ".join(repr(text) if text else "no value" for text in list(unseen)[:NAMED])
            more = ", ..." if len(unseen) > NAMED else ""
            logger.warning(
                "metadata %r: %d of %d images have a value that no training image has (%s%s), counted as %s",
                *(self.name, unseen.total(), len(texts), named, more),
                "none of the known words" if self.mean is None else "the mean",
            )


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Encodes the metadata of an image as float32 `[features]`, the features of one column after another."""

    columns: tuple[Column, ...]

    @classmethod
    def fit(cls, source: Source, names: Sequence[str]) -> "Encoding":
        """Returns the encoding of the columns `names` of `source`, the training images.

        Raises ValueError if there is no such column, or if its texts cannot be encoded, see `Column.fit`.
        """
        found = texts_of(source.columns, names, source.origin)
        encoding = cls(tuple(Column.fit(name, texts, source.where) for name, texts in found.items()))
        for name, texts in found.items():
            values = set(texts)
            if 1 < len(values) <= len(texts) / 2 and len(set(zip(texts, source.labels.tolist()))) == len(values):
                logger.warning("each value of %r occurs in one class only: does this column tell the class?", name)
        logger.info("metadata of the training images: %s", "; ".join(map(str, encoding.columns)))
        return encoding

    @property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    def features(self) -> list[str]:
        """Returns the name of each feature."""
        return [feature for column in self.columns for feature in column.features()]

    def encode(self, columns: Mapping[str, Sequence[str]], origin: str, where: Callable[[int], str]) -> np.ndarray:
        """Returns the metadata of N images from their texts by column, float32 `[N, features]`.

        `origin` names the table and `where` its rows in messages. Raises ValueError if a column is missing, or for a
        word in a column of numbers.
        """
        found = texts_of(columns, self.names, origin)
        return np.hstack([column.encode(found[column.name], where) for column in self.columns]).astype(np.float32)

    def attach(self, source: Source) -> Source:
        """Sets `source.metadata` from its columns unless they are set, and returns `source`. Raises as `encode`."""
        if source.metadata is None:
            source.metadata = self.encode(source.columns, source.origin, source.where)
        return source

    def as_json(self) -> dict[str, Any]:
        """Returns the content of metadata.json, from which `from_json` makes an equal encoding."""
        return {"columns": [dataclasses.asdict(column) for column in self.columns], "features": self.features()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Encoding":
        """Returns the encoding that `as_json` has written.

        Raises ValueError for a number that is not finite, and ValueError, TypeError or KeyError for other content.
        """
        columns = tuple(Column(**{**column, "words": tuple(column["words"])}) for column in content["columns"])
        numbers = [number for column in columns for number in (column.mean, column.deviation) if number is not None]
        if not columns or not all(map(math.isfinite, numbers)):
            raise ValueError("no column, or a number that is not finite")
        return cls(columns)


def texts_of(columns: Mapping[str, Sequence[str]], names: Sequence[str], origin: str) -> dict[str, Sequence[str]]:
    """Returns the texts of the columns `names`, ignoring case.

    Raises ValueError, naming `origin`, if a column is missing.
    """
    if not columns:
        raise ValueError(
            f"`metadata_columns`: the network takes {', '.join(names)} besides each image, and class folders and "
            "single files have no such columns: give a table, as `labels` for training and evaluation or as `images` "
            "for predictions, or in Python the argument `metadata`"
        )
    found = {}
    for name in names:
        there = table_reader.find_column(columns, name)
        if there is None:
            known = f"{', '.join(columns)}{nearest(name, columns)}"
            raise ValueError(f"`metadata_columns`: there is no column {name!r} in {origin}, which has {known}")
        found[name] = columns[there]
    return found


def texts_from(metadata: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]], count: int) -> dict[str, list[str]]:
    """Returns the texts of each column from Python values.

    `metadata`: {column: one value for each of `count` images}, or a list with a {column: value} for each. None and NaN
    are missing values. The names that are returned have no capitals. Raises ValueError if there are more or fewer
    values than images, or if two names differ by capitals only.
    """
    if not isinstance(metadata, Mapping):
        rows = list(metadata)
        if not all(isinstance(row, Mapping) for row in rows):
            raise ValueError("metadata: expected {column: values}, or a list with a {column: value} for each image")
        by_name = list(map(_without_capitals, rows))
        metadata = {name: [row.get(name) for row in by_name] for name in dict.fromkeys(itertools.chain(*by_name))}
    columns = {
        name: [MISSING if value is None else str(value) for value in values]
        for name, values in _without_capitals(metadata).items()
    }
    for name, texts in columns.items():
        if len(texts) != count:
            raise ValueError(f"metadata has {len(texts)} values of {name!r} for {count} images; give one for each")
    return columns


def _without_capitals(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `row` with its names in small letters. Raises ValueError if two of them are equal then."""
    found = {str(name).casefold(): value for name, value in row.items()}
    if len(found) < len(row):
        raise ValueError(f"metadata: two of the names {list(row)} differ by their capitals only; leave one out")
    return found


def _normal(text: str) -> str:
    text = text.strip()
    return MISSING if text.casefold() in _MISSING_TEXTS else text


def _is_number(text: str) -> bool:
    return bool(_NUMBER.fullmatch(text)) and math.isfinite(_number(text))


def _number(text: str) -> float:
    return float(text.replace(",", "."))
