"""Which class a row's image is of."""

import dataclasses
from collections.abc import Mapping

from stochconv_jax.data.isic.labels import CATEGORIES
from stochconv_jax.data.isic.records import Row

MALIGNANT = frozenset({"MEL", "BCC", "AK", "SCC"})
NAMES = ("report", "melanoma_only", "categories")


@dataclasses.dataclass(frozen=True)
class Rule:
    """`classes`: the class of each diagnosis or category; `positive`: the classes that count as positives.

    `own_words`: a file that says benign or malignant itself, or gives a target, is believed.
    """

    name: str
    classes: Mapping[str, int]
    positive: frozenset[int]
    own_words: bool = False

    def target(self, row: Row) -> int | None:
        """The row's class; None if the rule has none for it."""
        if self.own_words and row.target is not None:
            return row.target
        if self.own_words and row.malignant is not None:
            return int(row.malignant)
        return self.classes.get(row.diagnosis.lower(), self.classes.get(row.category))

    @property
    def num_classes(self) -> int:
        """Classes that the rule gives."""
        return max(self.classes.values()) + 1


def parse(text: str) -> Rule:
    """The rule that `text` names, or that it spells out, as in 'MEL=1,BCC=1,NV=0,lentigo nos=0'.

    report: melanoma, basal cell and squamous cell carcinoma and actinic keratosis are 1, and the years that say
    malignant themselves are believed (project report, 2021). melanoma_only: melanoma is 1. categories: the place among
    2019's categories. A diagnosis goes before its category. ValueError if it is none of these.
    """
    if text == "report":
        return Rule(text, {name: int(name in MALIGNANT) for name in CATEGORIES}, frozenset({1}), own_words=True)
    if text == "melanoma_only":
        # 2016's benign have no category, and they are no melanoma either.
        known = {name: int(name == "MEL") for name in CATEGORIES}
        return Rule(text, known | {"benign": 0}, frozenset({1}))
    if text == "categories":
        places = {name: place for place, name in enumerate(CATEGORIES)}
        return Rule(text, places, frozenset(places[name] for name in MALIGNANT))
    assignments = [_assignment(part, text) for part in text.split(",")]
    classes = dict(assignments)
    if len(classes) < len(assignments):
        raise ValueError(f"a category or diagnosis has two classes in {text!r}")
    if set(classes.values()) != set(range(max(classes.values()) + 1)) or len(set(classes.values())) < 2:
        raise ValueError(f"the classes of {text!r} must be 0, 1, ... without a gap, two at least")
    return Rule("mapping", classes, frozenset(classes.values()) - {0})


def _assignment(part: str, text: str) -> tuple[str, int]:
    name, _, number = (word.strip() for word in part.partition("="))
    if not name or not number.isdecimal():
        known = ", ".join(CATEGORIES)
        raise ValueError(
            f"choose one of {', '.join(NAMES)}, or spell out a class for each category "
            f"({known}) or diagnosis, as in 'MEL=1,NV=0'; {part!r} is not of that form"
        )
    return (name.upper() if name.upper() in CATEGORIES else name.lower()), int(number)
