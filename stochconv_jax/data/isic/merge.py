"""Merges the records of all years into one list in which each picture is once, and reports what became of each row.

The records of one image id are about one picture. The images of a pair on the official list of duplicates show one
picture too, and so do, if asked for, images that look the same. Where records of a picture disagree about its class,
the latest year is right, and within a year the record that was read last.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy import sparse

from stochconv_jax.data.isic.labels import Contents
from stochconv_jax.data.isic.records import METADATA, Record
from stochconv_jax.data.isic.rules import Rule

OFFICIAL, SIMILAR = "on the official list as a duplicate", "looks like a duplicate"  # beginnings of reasons
Pairs = Sequence[tuple[str, str]]  # of images that show the same picture


@dataclasses.dataclass(frozen=True)
class Entry:
    """The merged records of one image id.

    `record`: the one that decides about the image. `records`: all of them, oldest year first. `target`: the image's
    class; None if it has no label, or none that the rule knows. `metadata`: patient, lesion, age, sex and site, each
    from the first record that has it, beginning with the deciding one and then the latest year.
    """

    image: str
    record: Record
    records: tuple[Record, ...]
    target: int | None
    metadata: Mapping[str, str]

    @property
    def labelled(self) -> bool:
        """Whether any record says what the image shows."""
        return any(record.labelled for record in self.records)

    @property
    def folder(self) -> str:
        """The image's folder if a record names one, else ''."""
        return next((record.folder for record in self.records if record.folder), "")


@dataclasses.dataclass(frozen=True)
class Drop:
    """Why an image is not in the data set. `copy_of`: the image that represents it there, if it is a duplicate."""

    reason: str
    copy_of: str = ""


@dataclasses.dataclass(frozen=True)
class Conflict:
    """Two records of the same picture with different classes, of which `kept` is right."""

    kept: Record
    other: Record


Entries = dict[str, Entry]  # by image
Dropped = dict[str, Drop]  # by image


def merge(contents: Iterable[Contents], rule: Rule) -> tuple[Entries, list[Conflict]]:
    """Returns the images of all files, sorted by id, and the conflicts between the records of an image."""
    by_image: dict[str, list[Record]] = {}
    for content in contents:
        for record in content.records:
            by_image.setdefault(record.image, []).append(record)
    entries, conflicts = {}, []
    for image in sorted(by_image):
        entry = _merge_records(image, sorted(by_image[image], key=lambda record: record.year), rule)
        entries[image] = entry
        for record in entry.records:
            if rule.target(record) not in (None, entry.target):
                conflicts.append(Conflict(entry.record, record))
    return entries, conflicts


def _merge_records(image: str, records: Sequence[Record], rule: Rule) -> Entry:
    """Returns the entry of one image from its records, oldest year first."""
    labelled = [record for record in records if record.labelled]
    with_class = [record for record in labelled if rule.target(record) is not None]
    decides = (with_class or labelled or records)[-1]
    by_trust = (decides, *records[::-1])
    metadata = {key: next(filter(None, (getattr(record, key) for record in by_trust)), "") for key in METADATA}
    return Entry(image, decides, tuple(records), rule.target(decides), metadata)


def find_without_class(entries: Entries, rule: Rule) -> Dropped:
    """Returns the labelled images for whose diagnosis the rule has no class."""
    dropped = {}
    for name, entry in entries.items():
        if entry.labelled and entry.target is None:
            diagnosis = entry.record.diagnosis or entry.record.category or "an unnamed diagnosis"
            dropped[name] = Drop(f"no class for {diagnosis!r} in the rule {rule.name}")
    return dropped


def find_duplicates(
    entries: Entries, dropped: Dropped, official: Pairs, similar: Pairs = ()
) -> tuple[Dropped, list[Conflict]]:
    """Returns the duplicates of images that are kept, and the conflicts between their classes.

    `official`: pairs of the list of duplicates; `similar`: pairs of images that look the same. Images that pairs
    connect, directly or through other images, show one picture, even if those other images are not in the data. Of the
    labelled ones that are not in `dropped`, the one of the latest year is kept, and of one year the one that the pairs
    name first.
    """
    pairs = [*official, *similar]
    order = {name: place for place, name in reversed(list(enumerate(name for pair in pairs for name in pair)))}
    listed = {name: number for number, names in enumerate(connected(official)) for name in names}
    duplicates, conflicts = {}, []
    for names in connected(pairs):
        candidates = [name for name in names if name in entries and name not in dropped]
        labelled = [name for name in candidates if entries[name].target is not None]
        ranked = sorted(labelled, key=lambda name: order[name])
        kept, *others = sorted(ranked, key=lambda name: entries[name].record.year, reverse=True) or [""]
        for name in others:
            on_list = name in listed and listed[name] == listed.get(kept)
            duplicates[name] = Drop(f"{OFFICIAL if on_list else SIMILAR} of {kept}", copy_of=kept)
            if entries[name].target != entries[kept].target:
                conflicts.append(Conflict(entries[kept].record, entries[name].record))
    return duplicates, conflicts


def connected(pairs: Pairs) -> list[list[str]]:
    """Returns the sets of names that pairs connect, directly or through others, in the order of first appearance."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(name for pair in pairs for name in pair))}
    if not numbers:
        return []
    ends = np.array([[numbers[name] for name in pair] for pair in pairs]).T
    graph = sparse.coo_array((np.ones(len(pairs)), tuple(ends)), shape=(len(numbers), len(numbers)))
    sets = collections.defaultdict(list)
    for name, component in zip(numbers, sparse.csgraph.connected_components(graph, directed=False)[1].tolist()):
        sets[component].append(name)
    return list(sets.values())


def groups(entries: Sequence[Entry], pairs: Pairs) -> list[str]:
    """Returns a group for each image, which is equal for images of one patient or lesion, or that `pairs` connect.

    A group has the name of a patient if one is known, else that of a lesion, else that of an image.
    """
    ties = [("3" + first, "3" + second) for first, second in pairs]
    for entry in entries:
        # The digits keep the three kinds of names apart, and sort patients first.
        keys = ["1" + entry.metadata["patient_id"], "2" + entry.metadata["lesion_id"], "3" + entry.image]
        ties += [(keys[2], key) for key in keys if len(key) > 1]
    names = {key: min(keys)[1:] for keys in connected(ties) for key in keys}
    return [names["3" + entry.image] for entry in entries]


REPORT = ("file", "row", "image", "year", "diagnosis", "target", "status", "reason")


def report(contents: Iterable[Contents], entries: Entries, dropped: Dropped, rule: Rule) -> list[dict]:
    """Returns a row of report.csv for each record: kept; dropped and why; or metadata and what it was joined to."""
    rows = []
    for record in (record for content in contents for record in content.records):
        status, reason = _outcome(record, entries[record.image], dropped)
        target = rule.target(record)
        about = (record.file.name, record.line, record.image, record.year, record.diagnosis)
        rows.append(dict(zip(REPORT, (*about, "" if target is None else target, status, reason))))
    return rows


def _outcome(record: Record, entry: Entry, dropped: Dropped) -> tuple[str, str]:
    """Returns status and reason of a record for the report."""
    if entry.image in dropped:
        return "dropped", dropped[entry.image].reason
    if record is entry.record:
        return "kept", "" if entry.target is not None else "without a label"
    if not record.labelled:
        return "metadata", f"joined to {entry.record.where}"
    return "dropped", f"the same image as {entry.record.where}"


SUMMARY = ("year", "rows", "positives", "unique_ids", "duplicates", "conflicts", "dropped", "kept", "kept_positives")


def summary(entries: Entries, dropped: Dropped, conflicts: Iterable[Conflict], rule: Rule) -> list[dict]:
    """Returns a row of summary.csv for each year, and one for all, that count the labelled records.

    rows = duplicates + dropped + kept. `duplicates`: records of which another record of the image decides, and images
    that are duplicates of others. `conflicts`: records whose class is not the one that counts.
    """
    records = [(record, entry) for entry in entries.values() for record in entry.records if record.labelled]
    overruled = [conflict.other for conflict in conflicts]
    years = sorted({record.year for record, _ in records})
    of_year = {year: [pair for pair in records if pair[0].year == year] for year in years}
    return [_count(year, pairs, dropped, overruled, rule) for year, pairs in (of_year | {"all": records}).items()]


def _count(
    year: str, records: Sequence[tuple[Record, Entry]], dropped: Dropped, overruled: Sequence[Record], rule: Rule
) -> dict:
    """Returns the row of the summary for the records of a year, or of all years."""
    deciding = [entry for record, entry in records if record is entry.record]
    kept = [entry for entry in deciding if entry.image not in dropped]
    copies = sum(entry.image in dropped and bool(dropped[entry.image].copy_of) for entry in deciding)
    return {
        "year": year or "unknown",
        "rows": len(records),
        "positives": sum(rule.target(record) in rule.positive for record, _ in records),
        "unique_ids": len({record.image for record, _ in records}),
        "duplicates": len(records) - len(deciding) + copies,
        "conflicts": sum(year in ("all", record.year) for record in overruled),
        "dropped": len(deciding) - len(kept) - copies,
        "kept": len(kept),
        "kept_positives": sum(entry.target in rule.positive for entry in kept),
    }


def as_text(table: Sequence[Mapping]) -> str:
    """Returns a table as text with aligned columns."""
    columns = list(table[0])
    widths = {name: max(len(name), *(len(str(row[name])) for row in table)) for name in columns}
    rows = [{name: name for name in columns}, *table]
    return "\n".join("  ".join(f"{row[name]!s:>{widths[name]}}" for name in columns) for row in rows)
