"""The files that the pages name, such as IMAGES, LABELS.csv and moles, beside a copy of the checkout."""

import csv
import itertools
import shutil
import sys

import cv2

from stochconv_jax.data.synthetic import SyntheticSource
from tests.conftest import ROOT, SHARED_DATA
from tests.models import torch_files

COPIED = (
    *("main.py", "README.md", "pyproject.toml", "Makefile", "environment.sh", "quickstart.sh"),
    *("stochconv_jax", "configs", "benchmarks", "docs"),
)
CHALLENGE_2020 = (
    *("image_name", "patient_id", "sex", "age_approx", "anatom_site_general_challenge"),
    *("diagnosis", "benign_malignant", "target"),
)


def copy_checkout(folder):
    """Makes `folder`, a copy of the checkout with drawn images, their tables, and a `python` in bin/; returns it."""
    folder.mkdir()
    for part in COPIED:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    names = list(enumerate(draw(folder / "IMAGES", 40, 256)))
    shutil.copytree(folder / "IMAGES", folder / "IMAGES_1024")
    shutil.make_archive(str(folder / "IMAGES"), "zip", folder / "IMAGES")
    write_table(folder / "LABELS.csv", ("image", "target", "origin"), [(n, i % 2, i % 4 // 2) for i, n in names])
    about = [(30 + i, "fm"[i // 3 % 2], ("arm", "leg", "")[i // 4 % 3]) for i, _ in names]
    patients = [(n, i % 2, f"patient {i // 2}", *more) for (i, n), more in zip(names, about)]
    write_table(folder / "PATIENTS.csv", ("photo", "malignant", "patient_id", "age", "sex", "site"), patients)
    test_set = enumerate(draw(folder / "TEST_IMAGES", 8, 256, first=50))
    write_table(folder / "TEST.csv", ("image", "target"), [(n, i % 2) for i, n in test_set])
    for other, count in {"OTHER_IMAGES": 2, "FIVE_IMAGES": 5, "RAW_IMAGES": 3}.items():
        draw(folder / other, count, 256, first=60)
    write_archives(folder / "ARCHIVES")
    write_class_folders(folder / "moles")
    torch_files.write(folder / "WEIGHTS", "tiny")
    write_programs(folder / "bin")
    return folder


def draw(folder, count, side, first=0):
    """Draws images of `side` pixels into the new folder, and returns their names without endings."""
    source = SyntheticSource(size=first + count, image_size=(side, side), seed=1)
    folder.mkdir()
    names = [f"ISIC_{number:07d}" for number in range(first, first + count)]
    for number, name in enumerate(names, first):
        cv2.imwrite(str(folder / f"{name}.jpg"), source.read(number)[..., ::-1])
    return names


def write_table(file, head, rows):
    """Writes a CSV."""
    with file.open("w", newline="") as lines:
        csv.writer(lines).writerows([head, *rows])


def write_archives(folder):
    """Makes the new folder with images and labels as the challenge of 2020 has them."""
    classes = ("benign", "malignant")
    rows = [
        (name, f"IP_{number}", "male", 45, "torso", "unknown", classes[number % 2], number % 2)
        for number, name in enumerate(draw(folder, 24, 1024))
    ]
    write_table(folder / "ISIC_2020_Training_GroundTruth.csv", CHALLENGE_2020, rows)


def write_class_folders(folder, counts=(("train", 20), ("test", 6))):
    """Makes the new folder with a folder of `counts` images for each class, real ones if they are at hand, else drawn.

    The real images are those of the fixture `shared_data`.
    """
    if (SHARED_DATA / "labels.csv").exists():
        with (SHARED_DATA / "labels.csv").open(newline="") as lines:
            rows = [(SHARED_DATA / "images_1024" / row["image"], int(row["target"])) for row in csv.DictReader(lines)]
    else:
        drawn = folder.with_name("drawn")
        rows = [(drawn / f"{name}.jpg", number % 2) for number, name in enumerate(draw(drawn, 52, 256))]
    for target, name in enumerate(("benign", "malignant")):
        files = iter([file for file, of in rows if of == target])
        for side, count in counts:
            (folder / side / name).mkdir(parents=True)
            for file in itertools.islice(files, count):
                shutil.copy(file, folder / side / name)


def write_programs(folder):
    """Makes the new folder with the programs that the pages' commands call instead of those of the machine.

    `python` has small settings, see python_of_the_docs.py. `make` trains the quickstart with it, and checks of other
    targets that they exist.
    """
    small = ROOT / "tests" / "docs" / "python_of_the_docs.py"
    quickstart = f'[ "$1" = quickstart ] && exec bash quickstart.sh {folder / "python"}'
    folder.mkdir()
    for name, script in {
        "python": f'exec {sys.executable} {small} "$@"',
        "make": f'{quickstart}\nexec {shutil.which("make")} --dry-run "$@"',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
