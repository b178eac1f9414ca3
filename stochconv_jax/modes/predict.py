"""--mode=predict: applies the run in --workdir to other images."""
import csv
import glob
import logging
import os
import pathlib

import jax

from stochconv_jax.data import sources
from stochconv_jax.modes import build, evaluate, runs
from stochconv_jax.run_folder import make_writable, write_csv

logger = logging.getLogger(__name__)


def run(_, overrides, workdir) -> None:
    """Writes `config.predict.output` with image, probability and std for each of `config.predict.images`.

    Where those are the rows of a CSV, its other columns follow.

    Images that cannot be used are named with the reason, and the others predicted. ValueError if none can be used.
    """
    folder, config = runs.load(overrides, workdir)
    build.use_compilation_cache(config)
    files, columns = find_images(config.predict.images)
    with config.unlocked():
        config.data.on_bad_image = "skip"
    output = folder.path / pathlib.Path(config.predict.output).expanduser()
    make_writable(output.parent, "choose another file with --config.predict.output")
    source = sources.FolderSource.from_files(files, columns)
    _, predictions = evaluate.predict_with(folder, config, source)
    logger.info("%d of %d images predicted", len(predictions.index), len(source))
    if jax.process_index() == 0:
        rows = evaluate.prediction_rows(source, predictions, with_target=False)
        write_csv(output, list(rows[0]), rows)
    logger.info("written: %s", output)


def find_images(images: str, key: str = "predict.images") -> tuple[list[pathlib.Path], dict[str, list[str]]]:
    """Image files named by a folder, a glob pattern or a CSV with a column `image` (relative to the CSV's folder).

    `key`: the config key that `images` is the value of.

    Also returns the CSV's other columns by name. ValueError where nothing is found.
    """
    if not images:
        raise ValueError(f"--config.{key} is needed: a folder, a glob pattern or a CSV")
    path = pathlib.Path(os.path.expanduser(images))
    if path.suffix.lower() == ".csv":
        return _from_csv(path, key)
    found = path.iterdir() if path.is_dir() else map(pathlib.Path, glob.glob(str(path), recursive=True))
    files = sorted(file for file in found if file.suffix.lower() in sources.IMAGE_ENDINGS)
    if not files:
        endings = ", ".join(sorted(sources.IMAGE_ENDINGS))
        raise ValueError(f"config.{key}={images!r}: no image found there (endings looked for: {endings})")
    return files, {}


def _from_csv(path: pathlib.Path, key: str) -> tuple[list[pathlib.Path], dict[str, list[str]]]:
    if not path.exists():
        raise ValueError(f"config.{key}={str(path)!r}: there is no such file")
    rows, seen = [], {}
    with path.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        if "image" not in (reader.fieldnames or ()):
            raise ValueError(f"{path}: expected a column `image`, found {reader.fieldnames}")
        for row in reader:
            where = f"{path}, row {reader.line_num}"
            if None in row or None in row.values():
                raise ValueError(f"{where}: expected {len(reader.fieldnames)} cells, as the header has")
            if not (name := row["image"].strip()):
                raise ValueError(f"{where}: the cell `image` is empty")
            if name in seen:
                raise ValueError(f"{where}: {name} is in row {seen[name]} already")
            seen[name] = reader.line_num
            rows.append(row)
    if not rows:
        raise ValueError(f"{path}: no rows")
    columns = {name: [row[name] for row in rows] for name in reader.fieldnames if name != "image"}
    return [path.parent / name for name in seen], columns
