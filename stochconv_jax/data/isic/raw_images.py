"""The original image files: where they are, how big, and which look the same."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from stochconv_jax.data import image_files, image_io, names
from stochconv_jax.data.isic import image_encoding, merge
from stochconv_jax.data.isic.records import image_id
from stochconv_jax.data.isic.workers import Workers

SAME = ("the same bytes", "the same looks")  # how files were found to show one picture
_FILES_A_TASK = 64


@dataclasses.dataclass(frozen=True)
class RawImage:
    """An image file; height and width in pixels. `look`: its hash, if asked for. `problem`: why it cannot be used."""

    file: pathlib.Path
    height: int = 0
    width: int = 0
    look: int = 0
    problem: str = ""


Chosen = dict[str, list[RawImage]]  # by image, best first: without a problem, of the most pixels, the first of equals


def find(folders: Iterable[pathlib.Path]) -> tuple[dict[str, list[pathlib.Path]], list[pathlib.Path]]:
    """The image files in the folders and below, by ISIC id, sorted by path; and the other files.

    ValueError where there is no image.
    """
    files, others = [], []
    for folder in folders:
        if not folder.is_dir():
            raise ValueError(f"config.prepare.raw: {str(folder)!r} is not a folder")
        images, rest = image_files.sort_out(file for file in files_below(folder) if file.is_file())
        files, others = files + images, others + rest
    if not files:
        raise ValueError(f"config.prepare.raw: {image_files.describe_no_image(others)}")
    by_image: dict[str, list[pathlib.Path]] = {}
    for file in files:
        by_image.setdefault(image_id(file.name), []).append(file)
    return by_image, others


def files_below(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """See `names.files_below`. OSError naming a folder that cannot be read: its files would be missing."""

    def fail(error: OSError) -> None:
        raise error

    return names.files_below(folder, fail)


@contextlib.contextmanager
def _named(file: pathlib.Path) -> Iterator[None]:
    """What keeps a file from being read, a disk or a permission, is no damage of the image: it ends the run."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{file} cannot be read: {error.strerror}; mend that and run again") from error


def content_of(file: pathlib.Path) -> bytes:
    """Its bytes. OSError naming it if it cannot be read."""
    with _named(file):
        return file.read_bytes()


def first_sound[Made](files: Sequence[pathlib.Path], use: Callable[[bytes], Made]) -> tuple[Made | None, list[str]]:
    """What `use` makes of the first file that it takes, or None; and what is wrong with each file before that one.

    `use` raises ValueError for a damaged image. OSError naming the file if one cannot be read.
    """
    problems = []
    for file in files:
        content = content_of(file)
        try:
            return use(content), problems
        except ValueError as error:
            problems.append(f"{file.name}: {error}")
    return None, problems


def _measure_some(files: Sequence[pathlib.Path], size: int, looks: bool) -> list[RawImage]:
    return [_measure(file, size, looks) for file in files]


def _measure(file: pathlib.Path, size: int, look: bool) -> RawImage:
    try:
        with _named(file):
            if not file.stat().st_size:
                raise ValueError("the file is empty")
            height, width = image_io.read_size(file)
            if min(height, width) < size:
                return RawImage(file, height, width, problem=image_encoding.too_small(height, width, size))
            return RawImage(file, height, width, image_encoding.look(file.read_bytes()) if look else 0)
    except ValueError as error:
        return RawImage(file, problem=f"{file.name}: {error}")


def choose(
    entries: merge.Entries,
    by_image: Mapping[str, list[pathlib.Path]],
    others: Iterable[pathlib.Path],
    workers: Workers,
    *,
    size: int,
    looks: bool,
) -> Chosen:
    """The files of each entry that is not dropped; drops entries without a file of `size` pixels that can be read.

    `others`: files of other formats; `looks`: whether the files' looks are wanted too.
    """
    wanted = [name for name, entry in entries.items() if not entry.dropped]
    files = [file for name in wanted for file in by_image.get(name, ())]
    tasks = [files[start : start + _FILES_A_TASK] for start in range(0, len(files), _FILES_A_TASK)]
    results = workers.map(functools.partial(_measure_some, size=size, looks=looks), tasks)
    measured = {found.file: found for result in results for found in result}
    unread = {image_id(file.name): file for file in others}
    chosen = {}
    for name in wanted:
        if name not in by_image:
            file = unread.get(name)
            entries[name].dropped = f"{file.name}: {image_files.why_unread(file)}" if file else "no image file"
            continue
        found = (measured[file] for file in by_image[name])
        chosen[name] = sorted(found, key=lambda found: (bool(found.problem), -found.height * found.width))
        entries[name].dropped = chosen[name][0].problem
    return chosen


def usable(found: Iterable[RawImage]) -> tuple[pathlib.Path, ...]:
    """The files without a problem."""
    return tuple(one.file for one in found if not one.problem)


def alike(entries: merge.Entries, chosen: Chosen, distance: int) -> list[tuple[str, str]]:
    """Pairs of images whose looks differ in at most `distance` of 64 bits."""
    names = [name for name in chosen if not entries[name].dropped]
    looks = np.array([chosen[name][0].look for name in names], np.uint64)
    return [(names[i], names[j]) for i, j in image_encoding.alike(looks, distance)]


def drop_damaged(
    entries: merge.Entries, chosen: Chosen, names: Iterable[str], workers: Workers
) -> dict[pathlib.Path, str]:
    """Drops the entries among `names` of which no file can be decoded; returns the damaged files, each with its reason.

    Preparation finds damage by itself. This is for what must be known before, such as which of two copies to keep.
    """
    asked = [name for name in sorted(names) if name in chosen and not entries[name].dropped]
    files = [usable(chosen[name]) for name in asked]
    damage = {}
    for name, candidates, problems in zip(asked, files, workers.map(_problems, files)):
        damage |= dict(zip(candidates, problems))
        if len(problems) == len(candidates):
            entries[name].dropped = problems[0]
    return damage


def _problems(files: Sequence[pathlib.Path]) -> list[str]:
    # All of a file is read at a quarter of its size too, in less time.
    return first_sound(files, lambda content: image_io.decode(content, shrink=4) is not None)[1]


def unused(
    entries: merge.Entries,
    by_image: Mapping[str, list[pathlib.Path]],
    chosen: Chosen,
    damage: Mapping[pathlib.Path, str],
    compared: Mapping[pathlib.Path, str],
) -> list[dict]:
    """Rows of report.csv for image files that no label file names, or in whose place another file of the image is used.

    `damage`: what was found when the files were decoded; `compared`: which of SAME two files of an image are, or
    why one cannot be decoded.
    """
    reasons = {file: "no label file names it" for name in by_image.keys() - entries for file in by_image[name]}
    for found in chosen.values():
        used = next((file for file in usable(found) if file not in damage), found[0].file)
        for one in (one for one in found if one.file != used):
            how = compared.get(one.file) or compared.get(used, "")
            better = f"{how}: {used} shows the same image in as many pixels or more"
            reasons[one.file] = damage.get(one.file, one.problem) or (better if how in SAME else how)
    return [
        dict.fromkeys(merge.REPORT, "")
        | {"file": file.name, "image": name if name in entries else image_id(file.name)}
        | {"status": "dropped", "reason": reasons[file]}
        for name, files in by_image.items()
        for file in files
        if file in reasons
    ]
