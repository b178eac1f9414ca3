"""All years as one list in which a picture stands once, and an account of where each input row went.

Rows of one image id are one picture; so are the pairs of the official list and, if asked for, pictures that look the
same. Where they disagree about the class, the later year is right; within a year the row that was read last is.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from stochconv_jax.data.isic.labels import Contents
from stochconv_jax.data.isic.records import METADATA, Row
from stochconv_jax.data.isic.rules import Rule


@dataclasses.dataclass
class Entry:
    """One image id. `row`: the row whose word counts; `target`: its class, None if there is no label.

    `metadata`: patient, lesion, age, sex and site, from whichever rows have them. `dropped`: why the image is not in
    the data, '' if it is. `copy_of`: the image that stands for it in the data, '' if it was not dropped as a duplicate.
    """

    image: str
    row: Row
    rows: tuple[Row, ...]
    target: int | None
    metadata: Mapping[str, str]
    dropped: str = ""
    copy_of: str = ""

    @property
    def folder(self) -> str:
        """That of the image, as far as a row names it."""
        return next((row.folder for row in self.rows if row.folder), "")


@dataclasses.dataclass(frozen=True)
class Conflict:
    """Two rows about the same picture with two classes; `kept` is believed."""

    kept: Row
    other: Row


Entries = dict[str, Entry]


def merge(contents: Iterable[Contents], rule: Rule) -> tuple[Entries, list[Conflict]]:
    """The images of all files, sorted by id, and the rows that disagree."""
    by_image: dict[str, list[Row]] = {}
    for content in contents:
        for row in content.rows:
            by_image.setdefault(row.image, []).append(row)
    entries, conflicts = {}, []
    for image in sorted(by_image):
        entry = _entry(image, sorted(by_image[image], key=lambda row: row.year), rule)
        entries[image] = entry
        for row in entry.rows:
            if rule.target(row) not in (None, entry.target):
                conflicts.append(Conflict(entry.row, row))
    return entries, conflicts


def _entry(image: str, rows: Sequence[Row], rule: Rule) -> Entry:
    """From the rows of one image, oldest year first."""
    labelled = [row for row in rows if row.labelled]
    with_class = [row for row in labelled if rule.target(row) is not None]
    row = (with_class or labelled or rows)[-1]
    values = {key: next((value for r in (row, *rows[::-1]) if (value := getattr(r, key))), "") for key in METADATA}
    entry = Entry(image, row, tuple(rows), rule.target(row), values)
    if labelled and not with_class:
        words = row.diagnosis or row.category or "an unnamed diagnosis"
        entry.dropped = f"no class for {words!r} in the rule {rule.name}"
    return entry


def drop_duplicates(
    entries: Entries, official: Sequence[tuple[str, str]], alike: Sequence[tuple[str, str]] = ()
) -> list[Conflict]:
    """Of each set of images that pairs tie together keeps one, and returns the classes that disagree with its own.

    `official`: pairs of the list of duplicates; `alike`: of images that look the same. Any image ties, one that is not
    in the data too; kept is a labelled one that is not dropped yet, of the latest year and among these the one that the
    pairs name first.
    """
    pairs = [*official, *alike]
    order = {name: place for place, name in reversed(list(enumerate(name for pair in pairs for name in pair)))}
    listed = {name: number for number, names in enumerate(connected(official)) for name in names}
    conflicts = []
    for names in connected(pairs):
        candidates = [name for name in names if name in entries and _is_candidate(entries[name])]
        ranked = sorted(candidates, key=lambda name: order[name])
        first, *others = sorted(ranked, key=lambda name: entries[name].row.year, reverse=True) or [""]
        for name in others:
            on_list = name in listed and listed[name] == listed.get(first)
            entries[name].dropped = f"{OFFICIAL if on_list else LOOKS} of {first}"
            entries[name].copy_of = first
            if entries[name].target != entries[first].target:
                conflicts.append(Conflict(entries[first].row, entries[name].row))
    return conflicts


def _is_candidate(entry: Entry) -> bool:
    return not entry.dropped and entry.target is not None


def connected(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The sets of names that are tied together by pairs, directly or through others; in order of first appearance."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for first, second in pairs:
        parent[root(second)] = root(first)
    sets: dict[str, list[str]] = {}
    for name in list(parent):
        sets.setdefault(root(name), []).append(name)
    return list(sets.values())


def groups(entries: Sequence[Entry], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """A group for each image: those with the same patient or lesion, or that `pairs` ties together, have the same.

    It is named by a patient where one is known, else by a lesion, else by an image.
    """
    ties = [("3" + first, "3" + second) for first, second in pairs]
    for entry in entries:
        # The digit keeps the three kinds of names apart and puts the patient's first.
        keys = ["1" + entry.metadata["patient_id"], "2" + entry.metadata["lesion_id"], "3" + entry.image]
        ties += [(keys[2], key) for key in keys if len(key) > 1]
    names = {key: min(keys)[1:] for keys in connected(ties) for key in keys}
    return [names["3" + entry.image] for entry in entries]


REPORT = ("file", "row", "image", "year", "diagnosis", "target", "status", "reason")


def report(contents: Iterable[Contents], entries: Entries, rule: Rule) -> list[dict]:
    """A row of report.csv for each input row: kept, or dropped and why; metadata tells where it went."""
    lines = []
    for row in (row for content in contents for row in content.rows):
        status, reason = _fate(row, entries[row.image])
        target = rule.target(row)
        about = (row.file.name, row.line, row.image, row.year, row.diagnosis, "" if target is None else target)
        lines.append(dict(zip(REPORT, (*about, status, reason))))
    return lines


def _fate(row: Row, entry: Entry) -> tuple[str, str]:
    if entry.dropped:
        return "dropped", entry.dropped
    if row is entry.row:
        return "kept", "" if entry.target is not None else "without a label"
    if not row.labelled:
        return "metadata", f"joined to {entry.row.where}"
    return "dropped", f"the same image as {entry.row.where}"


SUMMARY = ("year", "rows", "positives", "unique_ids", "duplicates", "conflicts", "dropped", "kept", "kept_positives")


def summary(entries: Entries, conflicts: Iterable[Conflict], rule: Rule) -> list[dict]:
    """A row a year, and a last one for all, over labelled rows.

    rows = duplicates + dropped + kept. duplicates: rows whose image is in the data, or was dropped, by another row, and
    images that look like another. conflicts: rows that were overruled.
    """
    rows = [(row, entry) for entry in entries.values() for row in entry.rows if row.labelled]
    overruled = [conflict.other for conflict in conflicts]
    years = sorted({row.year for row, _ in rows})
    table = [_summary(year, [pair for pair in rows if pair[0].year == year], overruled, rule) for year in years]
    return [*table, _summary("all", rows, overruled, rule)]


def _summary(year: str, rows: Sequence[tuple[Row, Entry]], overruled: Sequence[Row], rule: Rule) -> dict:
    deciding = [(row, entry) for row, entry in rows if row is entry.row]
    kept = [entry for _, entry in deciding if not entry.dropped]
    copies = sum(bool(entry.copy_of) for _, entry in deciding)
    return {
        "year": year or "unknown",
        "rows": len(rows),
        "positives": sum(rule.target(row) in rule.positive for row, _ in rows),
        "unique_ids": len({row.image for row, _ in rows}),
        "duplicates": len(rows) - len(deciding) + copies,
        "conflicts": sum(year in ("all", row.year) for row in overruled),
        "dropped": len(deciding) - len(kept) - copies,
        "kept": len(kept),
        "kept_positives": sum(entry.target in rule.positive for entry in kept),
    }


OFFICIAL, LOOKS = "on the official list as a duplicate", "looks like a duplicate"


def as_text(table: Sequence[Mapping]) -> str:
    """A table with its columns aligned."""
    columns = list(table[0])
    widths = {name: max(len(name), *(len(str(line[name])) for line in table)) for name in columns}
    lines = [{name: name for name in columns}, *table]
    return "\n".join("  ".join(f"{line[name]!s:>{widths[name]}}" for name in columns) for line in lines)
