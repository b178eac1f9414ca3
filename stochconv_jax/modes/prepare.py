"""--mode=prepare: makes a data set for training from the ISIC archives; without images, only the tables of labels."""

import collections
import dataclasses
import logging
import pathlib
from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

from stochconv_jax.atomic_files import write_csv, write_text
from stochconv_jax.data import folds, image_files, paths, requested
from stochconv_jax.data.isic import (
    image_encoding,
    labels,
    manifest,
    merge,
    output_tables,
    preparation,
    raw_images,
    rules,
    same_names,
)
from stochconv_jax.data.isic.shard_plan import FOLDERS, OUTCOMES, PlannedShard, Settings, plan_shards, split_of
from stochconv_jax.data.isic.workers import Workers
from stochconv_jax.run_folder import locked
from stochconv_jax.training.progress import Progress

logger = logging.getLogger(__name__)


def run(config: ConfigDict, overrides, workdir: str) -> None:
    """Reads the label files and prepares the images, if there are any; docs/isic.md lists what is then in `workdir`.

    Keeps what an earlier run has made, and makes what is missing, damaged or has changed.
    """
    del overrides  # they are in the config
    settings = _settings(config)
    folder = pathlib.Path(workdir).expanduser().absolute()
    raw = [paths.parse(part).absolute() for part in _split_list(config.prepare.raw)]
    label_files = find_labels(config.prepare.labels, raw)
    _refuse_nesting(folder, "raw", raw)
    _refuse_nesting(folder, "labels", [*map(pathlib.Path, _split_list(config.prepare.labels)), *label_files])
    if not raw and (folder / OUTCOMES).exists():
        raise ValueError(
            f"{folder} holds prepared images, whose tables would be lost: set config.prepare.raw again, or choose "
            "another --workdir for the tables alone"
        )
    rule = rules.parse(config.prepare.rule)
    contents = _read_labels(config, label_files)
    entries, conflicts = merge.merge(contents, rule)
    dropped = merge.find_without_class(entries, rule)
    _warn_of_missing_labels(contents, entries)
    pairs = [pair for content in contents for pair in content.pairs]
    with locked(folder):
        manifest.remove_leftovers(folder)
        if raw:
            result = _prepare_images(config, settings, folder, raw, entries, dropped, pairs)
        else:
            manifest.refuse_foreign_labels(folder)
            duplicates, between_copies = merge.find_duplicates(entries, dropped, pairs)
            result = _Result(dropped | duplicates, between_copies)
        conflicts += result.conflicts
        report = [*merge.report(contents, entries, result.dropped, rule), *result.unused]
        write_csv(folder / "report.csv", merge.REPORT, report)
        write_csv(folder / "conflicts.csv", output_tables.CONFLICTS, output_tables.conflict_rows(conflicts, rule))
        if _nothing_left(entries, result.dropped):
            reasons = collections.Counter(row["reason"] for row in report if row["status"] == "dropped")
            often = "".join(f"; {count} times: {reason}" for reason, count in reasons.most_common(1))
            raise ValueError(f"no labelled image is kept, and {folder / 'report.csv'} says why{often}")
        _write_tables(config, folder, list(entries.values()), result.dropped, [*pairs, *result.similar])
        result.finish()
        _write_summary(folder, report, merge.summary(entries, result.dropped, conflicts, rule), conflicts)


def _settings(config: ConfigDict) -> Settings:
    size, crop = config.prepare.size, config.prepare.crop
    if crop == "report" and size > image_encoding.CROP_TO:
        raise ValueError(
            f"config.prepare.size={size} with config.prepare.crop='report': that rule leaves {image_encoding.CROP_TO} "
            "pixels of a large picture, which would be enlarged; choose a size up to that, or crop='square'"
        )
    formats = tuple(config.prepare.formats)
    return Settings(size, crop, config.prepare.jpeg_quality, formats, config.prepare.images_per_shard)


def _split_list(text: str) -> list[str]:
    """Returns the parts of a text that are separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def find_labels(text: str, raw: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """Returns the CSV files that `text` names: files, folders or glob patterns, separated by commas.

    '' means the folders `raw`. Raises ValueError if a part names no CSV file.
    """
    files = []
    for part in _split_list(text) or map(str, raw):
        path = paths.parse(part)
        if path.is_dir():
            found = sorted(file for file in raw_images.files_below(path) if file.suffix.lower() == ".csv")
        elif path.is_file():
            found = [path]
        else:
            _, found = requested.match_pattern(path)
        if not found:
            raise ValueError(f"config.prepare.labels: {part!r} names no CSV file")
        files += found
    if not files:
        raise ValueError("--mode=prepare needs --config.prepare.labels: CSV files, folders of them or patterns")
    return list(dict.fromkeys(files))  # a file that two patterns name counts once


def _refuse_nesting(folder: pathlib.Path, key: str, sources: Sequence[pathlib.Path]) -> None:
    """Raises ValueError if a source is in the folder or the folder in it: outputs would be read as inputs."""
    for source in (path.expanduser().resolve() for path in sources):
        if folder.resolve().is_relative_to(source) or source.is_relative_to(folder.resolve()):
            raise ValueError(f"--workdir={folder} and config.prepare.{key}={source} must not lie in each other")


def _read_labels(config: ConfigDict, files: Sequence[pathlib.Path]) -> list[labels.Contents]:
    """Returns the contents of the label files; images of one name in several folders have different names."""
    columns = {"image_column": config.data.image_column, "target_column": config.data.target_column}
    contents = [labels.read(file, **columns) for file in files]
    for content in contents:
        logger.info("%s: %s, %d rows", content.path, content.format, len(content.records) + len(content.pairs))
    return same_names.by_folder(contents)


def _warn_of_missing_labels(contents: Sequence[labels.Contents], entries: merge.Entries) -> None:
    """Logs a warning for each file with images without labels: a year's ground truth may have been forgotten."""
    for content in contents:
        images = dict.fromkeys(record.image for record in content.records)
        without = [name for name in images if not entries[name].labelled]
        if without:
            logger.warning(
                "%s: no label file has %d of its %d images (%s, ...), which become images to predict; if they are for "
                "training, their ground truth is missing from config.prepare.labels",
                *(content.path, len(without), len(images), without[0]),
            )


@dataclasses.dataclass(frozen=True)
class _Result:
    """The outcome of a preparation.

    `dropped`: the images that are not in the data set. `conflicts`: between duplicates. `similar`: pairs of images that
    look the same. `unused`: rows of report.csv for files that were not used. `finish`: the last step, after the tables.
    """

    dropped: merge.Dropped
    conflicts: Sequence[merge.Conflict] = ()
    similar: merge.Pairs = ()
    unused: Sequence[dict] = ()
    finish: Callable[[], None] = lambda: None


def _prepare_images(
    config: ConfigDict,
    settings: Settings,
    folder: pathlib.Path,
    raw: Sequence[pathlib.Path],
    entries: merge.Entries,
    dropped: merge.Dropped,
    pairs: merge.Pairs,
) -> _Result:
    """Prepares the images of the entries that are not in `dropped`."""
    try:
        by_name, others = raw_images.find(raw)
    except ValueError as error:
        raise ValueError(f"config.prepare.raw: {error}") from error
    if others:
        logger.info("no images in config.prepare.raw: %s", image_files.describe_others(others))
    by_image = same_names.files_by_image(entries, by_name)
    # Once more, with the files' own folders: a link in one of the folders may lead to the workdir.
    _refuse_nesting(folder, "raw", sorted({file.parent for files in by_image.values() for file in files}))
    hashes = config.prepare.hash_distance >= 0
    with Workers(config.prepare.num_workers) as workers:
        wanted = [name for name in entries if name not in dropped]
        chosen, unusable = raw_images.choose(wanted, by_image, others, workers, size=settings.size, hashes=hashes)
        dropped = dropped | unusable
        compared = same_names.compare_files(chosen, workers)
        similar = raw_images.similar_pairs(chosen, dropped, config.prepare.hash_distance) if hashes else []
        # Damage among copies must be known before one of them is kept, so that it is not a damaged one.
        copies = {name for pair in (*pairs, *similar) for name in pair}
        damaged, damage = raw_images.find_damaged(chosen, (copies & chosen.keys()) - dropped.keys(), workers)
        dropped |= damaged
        duplicates, conflicts = merge.find_duplicates(entries, dropped, pairs, similar)
        dropped |= duplicates
        if _nothing_left(entries, dropped):  # most likely a wrong folder: what is prepared stays as it is
            return _Result(dropped, conflicts, similar, raw_images.unused(entries, by_image, chosen, damage, compared))
        kept = (entry for name, entry in entries.items() if name not in dropped)
        plan = plan_shards(kept, chosen, settings.images_per_shard)
        outcomes = preparation.run(folder, plan, settings, workers, **_log_callbacks(config, plan))
    results = [result for outcome in outcomes for result in outcome["images"]]
    dropped |= {result["image"]: merge.Drop(result["dropped"]) for result in results if result["dropped"]}
    if _nothing_left(entries, dropped):
        manifest.close(folder, settings)  # the tables of an earlier run do not list these files
        (folder / "splits.csv").unlink(missing_ok=True)
    damage |= preparation.damaged_files(plan, outcomes)
    unused = raw_images.unused(entries, by_image, chosen, damage, compared)
    return _Result(dropped, conflicts, similar, unused, lambda: preparation.finish(folder, plan, outcomes, settings))


def _log_callbacks(config: ConfigDict, plan: Sequence[PlannedShard]) -> dict[str, Callable]:
    """Returns the callbacks of `preparation.run` that log its progress."""
    total = sum(len(shard.images) for shard in plan)
    progress = Progress(total, every=config.log_every_seconds)

    def on_start(missing: int) -> None:
        logger.info("%d of %d images are prepared already", total - missing, total)
        progress.total = missing

    return {
        "on_start": on_start,
        "on_images": progress.update,
        "on_damage": lambda message: logger.warning("%s; it is made again", message),
    }


def _nothing_left(entries: merge.Entries, dropped: merge.Dropped) -> bool:
    """Returns whether no image is left to train on or, if there never were labels, to predict."""
    kept = [entry for name, entry in entries.items() if name not in dropped]
    labelled = any(entry.labelled for entry in entries.values())
    return not any(entry.target is not None for entry in kept) and (labelled or not kept)


def _write_tables(
    config: ConfigDict,
    folder: pathlib.Path,
    entries: Sequence[merge.Entry],
    dropped: merge.Dropped,
    pairs: merge.Pairs,
) -> None:
    """Writes splits.csv, unlabelled.csv and, last, labels.csv. Raises folds.Leak if the splits leak."""
    rows = output_tables.label_rows(entries, dropped, pairs)
    try:
        sides = output_tables.split_rows(
            rows, fraction=config.data.validation_fraction, num_folds=config.prepare.folds, seed=config.data.seed
        )
        write_csv(folder / "splits.csv", output_tables.SPLITS, sides)
    except ValueError as error:
        (folder / "splits.csv").unlink(missing_ok=True)
        if isinstance(error, folds.Leak):
            raise
        logger.warning("no splits.csv: %s", error)
    kept = [entry for entry in entries if entry.image not in dropped]
    _write_unlabelled(config, folder, [entry for entry in kept if split_of(entry) == "test"])
    write_csv(folder / "labels.csv", output_tables.LABELS, rows)


def _write_unlabelled(config: ConfigDict, folder: pathlib.Path, entries: Sequence[merge.Entry]) -> None:
    """Writes unlabelled.csv if its images are plain files; else removes it."""
    if config.prepare.raw and "folder" in config.prepare.formats:
        output_tables.write_unlabelled(folder / "unlabelled.csv", entries, FOLDERS["test"])
        return
    (folder / "unlabelled.csv").unlink(missing_ok=True)
    if config.prepare.raw and entries:
        logger.warning(
            "%d images without labels are in the shards' split 'test' alone; --mode=predict reads files: for it add "
            "'folder' to config.prepare.formats",
            len(entries),
        )


def _write_summary(folder: pathlib.Path, report: Sequence[dict], summary: Sequence[dict], conflicts: Sequence) -> None:
    """Writes summary.txt and summary.csv; logs the summary, the reasons for dropped images, and the conflicts."""
    write_csv(folder / "summary.csv", merge.SUMMARY, summary)
    text = merge.as_text(summary)
    write_text(folder / "summary.txt", text + "\n")
    reasons = collections.defaultdict(list)
    for row in report:
        if row["status"] == "dropped" and not row["reason"].startswith(("the same image", merge.OFFICIAL)):
            reasons[row["reason"]].append(row["image"])
    for reason, images in reasons.items():
        more = f" and {len(images) - 5} more" if len(images) > 5 else ""
        logger.info("dropped: %s%s: %s", ", ".join(images[:5]), more, reason)
    for conflict in conflicts[:20]:
        about = conflict.other.image, conflict.kept.where, conflict.other.where
        logger.warning("conflict about %s: %s goes before %s", *about)
    logger.info("by year, over labelled rows; the rest is in %s:\n%s", folder / "report.csv", text)
