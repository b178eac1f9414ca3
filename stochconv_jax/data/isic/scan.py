"""The original image files: where they are, how big, and which look the same."""
import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from stochconv_jax.data.isic import pictures, union
from stochconv_jax.data.isic.rows import image_id
from stochconv_jax.data.isic.workers import Workers
from stochconv_jax.data.sources import IMAGE_ENDINGS

_FILES_A_TASK = 64


@dataclasses.dataclass(frozen=True)
class Found:
    """An image file; height and width in pixels. `look`: its hash, if asked for. `problem`: why it cannot be used."""

    file: pathlib.Path
    height: int = 0
    width: int = 0
    look: int = 0
    problem: str = ""


def find(folders: Iterable[pathlib.Path]) -> dict[str, list[pathlib.Path]]:
    """The image files in the folders and below, by ISIC id, sorted by path. ValueError where there is none."""
    files = []
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"config.prepare.raw: {str(folder)!r} is not a folder")
        files += sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_ENDINGS and file.is_file())
    if not files:
        raise ValueError(f"config.prepare.raw: no image there (endings looked for: {', '.join(sorted(IMAGE_ENDINGS))})")
    by_image: dict[str, list[pathlib.Path]] = {}
    for file in files:
        by_image.setdefault(image_id(file.name), []).append(file)
    return by_image


def measure(files: Sequence[pathlib.Path], workers: Workers, *, looks: bool) -> dict[pathlib.Path, Found]:
    """Size and, if asked for, look of each file."""
    tasks = [files[start : start + _FILES_A_TASK] for start in range(0, len(files), _FILES_A_TASK)]
    results = workers.map(functools.partial(_measure_some, looks=looks), tasks)
    return {found.file: found for result in results for found in result}


def _measure_some(files: Sequence[pathlib.Path], looks: bool) -> list[Found]:
    return [_measure(file, looks) for file in files]


def _measure(file: pathlib.Path, look: bool) -> Found:
    try:
        if not file.stat().st_size:
            raise ValueError("the file is empty")
        height, width = pictures.read_size(file)
        return Found(file, height, width, pictures.look(file.read_bytes()) if look else 0)
    except (OSError, ValueError) as error:
        return Found(file, problem=f"{file.name}: {error}")


def choose(
    entries: union.Entries, by_image: Mapping[str, list[pathlib.Path]], workers: Workers, *, size: int, looks: bool
) -> dict[str, Found]:
    """The file of each entry that is not dropped: of several the one with the most pixels, the first of equals.

    Drops entries that have no file, none that can be read, or none of `size` pixels on both sides.
    """
    wanted = [name for name, entry in entries.items() if not entry.dropped]
    measured = measure([file for name in wanted for file in by_image.get(name, ())], workers, looks=looks)
    chosen = {}
    for name in wanted:
        if name not in by_image:
            entries[name].dropped = "no image file"
            continue
        best = max((measured[file] for file in by_image[name]), key=lambda found: found.height * found.width)
        chosen[name] = best
        if best.problem:
            entries[name].dropped = best.problem
        elif min(best.height, best.width) < size:
            entries[name].dropped = pictures.too_small(best.height, best.width, size)
    return chosen


def drop_alike(entries: union.Entries, chosen: Mapping[str, Found], distance: int) -> list[union.Conflict]:
    """Keeps one of the images whose looks differ in at most `distance` of 64 bits; see `union.drop_duplicates`."""
    names = [name for name in chosen if not entries[name].dropped]
    looks = np.array([chosen[name].look for name in names], np.uint64)
    pairs = [(names[i], names[j]) for i, j in pictures.alike(looks, distance)]
    return union.drop_duplicates(entries, pairs, union.LOOKS)


def unused(
    entries: union.Entries, by_image: Mapping[str, list[pathlib.Path]], chosen: Mapping[str, Found]
) -> list[dict]:
    """Rows of report.csv for image files that no label file names, or that another file of the image goes before."""
    rows = []
    for name, files in by_image.items():
        for file in files:
            reason = ""
            if name not in entries:
                reason = "no label file names it"
            elif name in chosen and file != chosen[name].file:
                reason = f"{chosen[name].file} shows the same image in as many pixels or more"
            if reason:
                about = {"file": file.name, "image": name, "status": "dropped", "reason": reason}
                rows.append(dict.fromkeys(union.REPORT, "") | about)
    return rows
