"""Rules that give the image of a record its class."""

import dataclasses
from collections.abc import Mapping

from stochconv_jax.data.isic.labels import CATEGORIES
from stochconv_jax.data.isic.records import Record

MALIGNANT = frozenset({"MEL", "BCC", "AK", "SCC"})
NAMES = ("report", "melanoma_only", "categories")


@dataclasses.dataclass(frozen=True)
class Rule:
    """A class for each diagnosis or category.

    `classes`: the class by diagnosis, in lower case, or by category. `positive`: the classes that count as positive.
    `trusts_files`: whether a target, or the word benign or malignant, in a label file goes before `classes`.
    """

    name: str
    classes: Mapping[str, int]
    positive: frozenset[int]
    trusts_files: bool = False

    def target(self, record: Record) -> int | None:
        """Returns the record's class; None if the rule has none for it."""
        if self.trusts_files and record.target is not None:
            return record.target
        if self.trusts_files and record.malignant is not None:
            return int(record.malignant)
        return self.classes.get(record.diagnosis.lower(), self.classes.get(record.category))

    @property
    def num_classes(self) -> int:
        """The number of classes that the rule gives."""
        return max(self.classes.values()) + 1


def parse(text: str) -> Rule:
    """Returns the rule that `text` names, or spells out as in 'MEL=1,BCC=1,NV=0,lentigo nos=0'.

    report: melanoma, basal cell carcinoma, squamous cell carcinoma and actinic keratosis are 1, and label files that
    say benign or malignant are trusted (project report, 2021). melanoma_only: melanoma is 1. categories: the index of
    2019's category. In a rule that is spelled out, a diagnosis goes before its category. Raises ValueError for any
    other text.
    """
    if text == "report":
        return Rule(text, {name: int(name in MALIGNANT) for name in CATEGORIES}, frozenset({1}), trusts_files=True)
    if text == "melanoma_only":
        known = {name: int(name == "MEL") for name in CATEGORIES}
        return Rule(text, known | {"benign": 0}, frozenset({1}))  # 2016's benign images have no category
    if text == "categories":
        indices = {name: index for index, name in enumerate(CATEGORIES)}
        return Rule(text, indices, frozenset(indices[name] for name in MALIGNANT))
    assignments = [_parse_assignment(part, text) for part in text.split(",")]
    classes = dict(assignments)
    if len(classes) < len(assignments):
        raise ValueError(f"a category or diagnosis has two classes in {text!r}")
    if set(classes.values()) != set(range(max(classes.values()) + 1)) or len(set(classes.values())) < 2:
        raise ValueError(f"the classes of {text!r} must be 0, 1, ... without a gap, two at least")
    return Rule("mapping", classes, frozenset(classes.values()) - {0})


def _parse_assignment(part: str, text: str) -> tuple[str, int]:
    name, _, number = (word.strip() for word in part.partition("="))
    if not name or not number.isdecimal():
        known = ", ".join(CATEGORIES)
        raise ValueError(
            f"choose one of {', '.join(NAMES)}, or spell out a class for each category "
            f"({known}) or diagnosis, as in 'MEL=1,NV=0'; {part!r} is not of that form"
        )
    return (name.upper() if name.upper() in CATEGORIES else name.lower()), int(number)
