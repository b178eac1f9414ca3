"""--mode=prepare: the ISIC archives' own files to a data set for training; without images, a table of their labels."""

import collections
import logging
import os
import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from stochconv_jax.atomic_files import write_csv, write_text
from stochconv_jax.data import folds, image_files, requested
from stochconv_jax.data.isic import labels, manifest, merge, output_tables, preparation, raw_images, rules, same_names
from stochconv_jax.data.isic.shard_plan import FOLDERS, Settings, Unit, plan, split_of
from stochconv_jax.data.isic.workers import Workers
from stochconv_jax.run_folder import locked
from stochconv_jax.training.progress import Progress

logger = logging.getLogger(__name__)


def run(config: ConfigDict, overrides, workdir: str) -> None:
    """Reads the label files, and prepares the images if there are any; docs/isic.md says what is then in `workdir`.

    What is there already stays; what is missing, has changed or was damaged is made.
    """
    del overrides  # they are in the config
    settings = _settings(config)
    folder = pathlib.Path(workdir).expanduser().absolute()
    raw = [pathlib.Path(os.path.expanduser(part)).absolute() for part in _parts(config.prepare.raw)]
    label_files = find_labels(config.prepare.labels, raw)
    _refuse_nesting(folder, "raw", raw)
    _refuse_nesting(folder, "labels", [*map(pathlib.Path, _parts(config.prepare.labels)), *label_files])
    if not raw and (folder / "units").exists():
        raise ValueError(
            f"{folder} holds prepared images, whose tables would be lost: set config.prepare.raw again, or choose "
            "another --workdir for the tables alone"
        )
    rule = rules.parse(config.prepare.rule)
    columns = {"image_column": config.data.image_column, "target_column": config.data.target_column}
    contents = [labels.read(file, **columns) for file in label_files]
    for content in contents:
        logger.info("%s: %s, %d rows", content.path, content.format, len(content.rows) + len(content.pairs))
    contents = same_names.by_folder(contents)
    entries, conflicts = merge.merge(contents, rule)
    _warn_of_missing_labels(contents, entries)
    pairs = [pair for content in contents for pair in content.pairs]
    with locked(folder):
        manifest.remove_leftovers(folder)
        if raw:
            more, alike, unused, finish = _prepare_images(config, settings, folder, raw, entries, pairs)
        else:
            manifest.refuse_labels_of_others(folder)
            more, alike, unused, finish = merge.drop_duplicates(entries, pairs), [], [], lambda: None
        conflicts += more
        report = [*merge.report(contents, entries, rule), *unused]
        write_csv(folder / "report.csv", merge.REPORT, report)
        write_csv(folder / "conflicts.csv", output_tables.CONFLICTS, output_tables.conflict_rows(conflicts, rule))
        if _nothing_left(entries):
            reasons = collections.Counter(row["reason"] for row in report if row["status"] == "dropped")
            often = "".join(f"; {count} times: {reason}" for reason, count in reasons.most_common(1))
            raise ValueError(f"no labelled image is kept, and {folder / 'report.csv'} says why{often}")
        _write_images(config, folder, list(entries.values()), [*pairs, *alike])
        finish()
        _tell(folder, report, merge.summary(entries, conflicts, rule), conflicts)


def _settings(config: ConfigDict) -> Settings:
    return Settings(
        size=config.prepare.size,
        crop=config.prepare.crop,
        quality=config.prepare.jpeg_quality,
        formats=tuple(config.prepare.formats),
        images_per_shard=config.prepare.images_per_shard,
    )


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def find_labels(text: str, raw: Sequence[pathlib.Path]) -> list[pathlib.Path]:
    """The CSV files that files, folders or patterns, separated by commas, name; by default those in the raw folders.

    ValueError where there is none.
    """
    files = []
    for part in _parts(text) or map(str, raw):
        path = pathlib.Path(os.path.expanduser(part))
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
    """What is read must not be taken for what is written, nor the other way round."""
    for source in (path.expanduser().resolve() for path in sources):
        if folder.resolve().is_relative_to(source) or source.is_relative_to(folder.resolve()):
            raise ValueError(f"--workdir={folder} and config.prepare.{key}={source} must not lie in each other")


def _warn_of_missing_labels(contents: Sequence[labels.Contents], entries: merge.Entries) -> None:
    """Without its ground truth a year's metadata would make test images of all its images, and nobody be the wiser."""
    for content in contents:
        images = dict.fromkeys(row.image for row in content.rows)
        without = [name for name in images if not any(row.labelled for row in entries[name].rows)]
        if without:
            logger.warning(
                "%s: no label file has %d of its %d images (%s, ...), which become images to predict; if they are for "
                "training, their ground truth is missing from config.prepare.labels",
                *(content.path, len(without), len(images), without[0]),
            )


def _prepare_images(config, settings: Settings, folder, raw, entries: merge.Entries, pairs):
    """Makes the images and drops the entries that have none of use.

    Returns the conflicts between duplicates, pairs that look alike, report rows of unused files, and what is to be done
    last.
    """
    by_name, others = raw_images.find(raw)
    if others:
        logger.info("no images in config.prepare.raw: %s", image_files.describe_others(others))
    by_image = same_names.files_of(entries, by_name)
    # Once more: a link in one of the folders may lead here.
    _refuse_nesting(folder, "raw", sorted({file.parent for files in by_image.values() for file in files}))
    distance = config.prepare.hash_distance
    with Workers(config.prepare.num_workers) as workers:
        chosen = raw_images.choose(entries, by_image, others, workers, size=settings.size, looks=distance >= 0)
        compared = same_names.refuse_others(chosen, workers)
        alike = raw_images.alike(entries, chosen, distance) if distance >= 0 else []
        # Before one of each copies is kept: a damaged one must not go before a sound one.
        copies = {name for pair in (*pairs, *alike) for name in pair}
        damage = raw_images.drop_damaged(entries, chosen, copies, workers)
        conflicts = merge.drop_duplicates(entries, pairs, alike)
        if _nothing_left(entries):  # most likely a wrong folder: what is prepared stays as it is
            return conflicts, alike, raw_images.unused(entries, by_image, chosen, damage, compared), lambda: None
        units = plan(entries.values(), chosen, settings.images_per_shard)
        outcomes = preparation.run(folder, units, settings, workers, **_reports(config, units))
    for image in (image for outcome in outcomes for image in outcome["images"]):
        entries[image["image"]].dropped = image["dropped"]
    if _nothing_left(entries):
        manifest.close(folder, settings)  # tables of an earlier run are not of these files
        (folder / "splits.csv").unlink(missing_ok=True)
    unused = raw_images.unused(entries, by_image, chosen, damage | preparation.damage(units, outcomes), compared)
    return conflicts, alike, unused, lambda: preparation.finish(folder, units, outcomes, settings)


def _reports(config: ConfigDict, units: Sequence[Unit]) -> dict:
    """What `prepare.run` tells, to the log."""
    total = sum(len(unit.items) for unit in units)
    progress = Progress(total, every=config.log_every_seconds)

    def on_start(missing: int) -> None:
        logger.info("%d of %d images are prepared already", total - missing, total)
        progress.total = missing

    return {
        "on_start": on_start,
        "on_images": progress.update,
        "on_damage": lambda message: logger.warning("%s; it is made again", message),
    }


def _nothing_left(entries: merge.Entries) -> bool:
    """Whether no image is left to train on. Where there never were labels there may be images to predict alone."""
    kept = [entry for entry in entries.values() if not entry.dropped]
    labels = any(row.labelled for entry in entries.values() for row in entry.rows)
    return not any(entry.target is not None for entry in kept) and (labels or not kept)


def _write_images(config: ConfigDict, folder: pathlib.Path, entries: Sequence[merge.Entry], pairs) -> None:
    """labels.csv, splits.csv and unlabelled.csv."""
    rows = output_tables.label_rows(entries, pairs)
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
    unlabelled = [entry for entry in entries if not entry.dropped and split_of(entry) == "test"]
    _write_unlabelled(config, folder, unlabelled)
    write_csv(folder / "labels.csv", output_tables.LABELS, rows)


def _write_unlabelled(config: ConfigDict, folder: pathlib.Path, entries: Sequence[merge.Entry]) -> None:
    """unlabelled.csv, whose images are plain files: where there are none there is no such table."""
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


def _tell(folder: pathlib.Path, report: Sequence[dict], summary: Sequence[dict], conflicts: Sequence) -> None:
    """The summary to summary.txt, summary.csv and the log; each reason to drop with its images to the log."""
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
        logger.warning("conflict about %s: %s goes before %s", *_words(conflict))
    logger.info("by year, over labelled rows; the rest is in %s:\n%s", folder / "report.csv", text)


def _words(conflict: merge.Conflict) -> tuple[str, str, str]:
    return conflict.other.image, conflict.kept.where, conflict.other.where
