"""Finds the original image files, measures them, and chooses the files of each image."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from stochconv_jax.atomic_files import explain_os_errors
from stochconv_jax.data import image_files, image_io, names, paths
from stochconv_jax.data.isic import image_encoding, merge
from stochconv_jax.data.isic.records import image_id
from stochconv_jax.data.isic.workers import Workers

SAME_BYTES, SAME_LOOKS = "the same bytes", "the same looks"  # how two files show one picture, in report.csv
_FILES_A_TASK = 64


@dataclasses.dataclass(frozen=True)
class RawImage:
    """An original image file.

    `height`, `width`: in pixels. `perceptual_hash`: 0 if it was not asked for. `problem`: why it cannot be used, or ''.
    """

    file: pathlib.Path
    height: int = 0
    width: int = 0
    perceptual_hash: int = 0
    problem: str = ""


Chosen = dict[str, list[RawImage]]  # by image: files without a problem first, then those of more pixels


def find(folders: Iterable[pathlib.Path]) -> tuple[dict[str, list[pathlib.Path]], list[pathlib.Path]]:
    """Returns the image files in the folders and below by ISIC id, sorted by path, and the other files.

    Raises ValueError if a folder is none, or if there is no image.
    """
    files, others = [], []
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"{str(folder)!r} is not a folder")
        images, rest = image_files.sort_out(file for file in files_below(folder) if file.is_file())
        files, others = files + images, others + rest
    if not files:
        raise ValueError(image_files.describe_no_image(others))
    by_image: dict[str, list[pathlib.Path]] = {}
    for file in files:
        by_image.setdefault(image_id(file.name), []).append(file)
    return by_image, others


def files_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields what `names.files_below` yields. Raises OSError naming a folder that cannot be read."""

    def fail(error: OSError) -> None:
        raise error

    return names.files_below(folder, fail)


def _explain_read_errors(file: pathlib.Path) -> contextlib.AbstractContextManager[None]:
    """Names the file in errors of the disk or of permissions, which end the run; the image need not be damaged."""
    return explain_os_errors("read", file, "mend that and run again")


def read_content(file: pathlib.Path) -> bytes:
    """Returns the file's bytes. Raises OSError naming it if it cannot be read."""
    with _explain_read_errors(file):
        return file.read_bytes()


def first_sound[Made](files: Sequence[pathlib.Path], use: Callable[[bytes], Made]) -> tuple[Made | None, list[str]]:
    """Returns what `use` makes of the first undamaged file, or None, and the problems of the files before that one.

    `use` takes a file's content, and raises ValueError if it is damaged. Raises OSError naming a file that cannot be
    read.
    """
    problems = []
    for file in files:
        content = read_content(file)
        try:
            return use(content), problems
        except ValueError as error:
            problems.append(f"{file.name}: {error}")
    return None, problems


def _measure_all(files: Sequence[pathlib.Path], size: int, hashes: bool) -> list[RawImage]:
    return [_measure(file, size, hashes) for file in files]


def _measure(file: pathlib.Path, size: int, hashes: bool) -> RawImage:
    try:
        with _explain_read_errors(file):
            if not paths.state(file)[0]:
                raise ValueError("the file is empty")
            height, width = image_io.read_size(file)
            if min(height, width) < size:
                return RawImage(file, height, width, problem=image_encoding.too_small(height, width, size))
            perceptual_hash = image_encoding.hash_encoded(file.read_bytes()) if hashes else 0
            return RawImage(file, height, width, perceptual_hash)
    except ValueError as error:
        return RawImage(file, problem=f"{file.name}: {error}")


def choose(
    wanted: Sequence[str],
    by_image: Mapping[str, list[pathlib.Path]],
    others: Iterable[pathlib.Path],
    workers: Workers,
    *,
    size: int,
    hashes: bool,
) -> tuple[Chosen, merge.Dropped]:
    """Returns the files of each image in `wanted`, and the images that have no file of `size` pixels that can be read.

    `by_image`: the image files; `others`: files that are not read; `hashes`: whether perceptual hashes are wanted.
    """
    files = [file for name in wanted for file in by_image.get(name, ())]
    tasks = [files[start : start + _FILES_A_TASK] for start in range(0, len(files), _FILES_A_TASK)]
    results = workers.map(functools.partial(_measure_all, size=size, hashes=hashes), tasks)
    measured = {raw.file: raw for result in results for raw in result}
    unread = {image_id(file.name): file for file in others}
    chosen, dropped = {}, {}
    for name in wanted:
        if name not in by_image:
            file = unread.get(name)
            dropped[name] = merge.Drop(f"{file.name}: {image_files.why_unread(file)}" if file else "no image file")
            continue
        raws = (measured[file] for file in by_image[name])
        chosen[name] = sorted(raws, key=lambda raw: (bool(raw.problem), -raw.height * raw.width))
        if chosen[name][0].problem:
            dropped[name] = merge.Drop(chosen[name][0].problem)
    return chosen, dropped


def usable(raws: Iterable[RawImage]) -> tuple[pathlib.Path, ...]:
    """Returns the files without a problem."""
    return tuple(raw.file for raw in raws if not raw.problem)


def similar_pairs(chosen: Chosen, dropped: merge.Dropped, distance: int) -> list[tuple[str, str]]:
    """Returns pairs of images, not in `dropped`, whose perceptual hashes differ in at most `distance` of 64 bits."""
    images = [name for name in chosen if name not in dropped]
    hashes = np.array([chosen[name][0].perceptual_hash for name in images], np.uint64)
    return [(images[i], images[j]) for i, j in image_encoding.similar_hashes(hashes, distance)]


def find_damaged(chosen: Chosen, images: Iterable[str], workers: Workers) -> tuple[merge.Dropped, dict]:
    """Returns the images among `images` of which no file can be decoded, and the damaged files with their reasons.

    The preparation finds damage by itself. This is for images whose damage must be known before, because one of several
    copies is to be kept.
    """
    asked = sorted(images)
    files = [usable(chosen[name]) for name in asked]
    dropped, damage = {}, {}
    for name, candidates, problems in zip(asked, files, workers.map(_decoding_problems, files)):
        damage |= dict(zip(candidates, problems))
        if len(problems) == len(candidates):
            dropped[name] = merge.Drop(problems[0])
    return dropped, damage


def _decoding_problems(files: Sequence[pathlib.Path]) -> list[str]:
    # Decoding at a quarter of the size reads the whole file too, in less time.
    return first_sound(files, lambda content: image_io.decode(content, shrink=4) is not None)[1]


def unused(
    entries: merge.Entries,
    by_image: Mapping[str, list[pathlib.Path]],
    chosen: Chosen,
    damage: Mapping[pathlib.Path, str],
    compared: Mapping[pathlib.Path, str],
) -> list[dict]:
    """Returns rows of report.csv for image files that no label file names, or that another file of the image replaces.

    `damage`: the damaged files with their reasons. `compared`: how files show the same picture as the first of their
    image, see `same_names.compare_files`.
    """
    reasons = {file: "no label file names it" for name in by_image.keys() - entries for file in by_image[name]}
    for raws in chosen.values():
        used = next((file for file in usable(raws) if file not in damage), raws[0].file)
        for raw in (raw for raw in raws if raw.file != used):
            how = compared.get(raw.file) or compared.get(used, "")
            replaced = f"{how}: {used} shows the same image in as many pixels or more"
            reasons[raw.file] = damage.get(raw.file, raw.problem) or (
                replaced if how in (SAME_BYTES, SAME_LOOKS) else how
            )
    return [
        dict.fromkeys(merge.REPORT, "")
        | {"file": file.name, "image": name if name in entries else image_id(file.name)}
        | {"status": "dropped", "reason": reasons[file]}
        for name, files in by_image.items()
        for file in files
        if file in reasons
    ]
