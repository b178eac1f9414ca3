"""Builds a folder of printed circuit boards with and without defects from the data set DeepPCB.

    git clone --bare https://github.com/tangsanli5201/DeepPCB DEEPPCB
    python -m benchmarks.real.deeppcb DEEPPCB boards --grid=2 --keep=1

Data: Tang et al., "Online PCB Defect Detector On A New PCB Defect Dataset" (2019, arXiv 1902.06197): 1500 pairs of a
template without defects and the same place of a tested board with 3 to 12 defects, 640x640 binary pixels. Its LICENSE
is MIT; its README says "only for research purpose".

`--grid=N` joins N x N places of a board into one image of (640 N) x (640 N) pixels. A positive image and its twin of
class 0 have the same places, mirrored and turned alike, and differ in the boxes around the defects of one place alone.
The rest of the tested board is left out, because it differs from the template in 2 % of its pixels, at edges all over
the board. `--keep=K` leaves at most K of the defects, of some 10 to 60 pixels each; 0 leaves all.

labels.csv: image, target, board, block (the places that make up an image and its relatives), defects. Keep a block on
one side of a split with --config.data.group_by=block, or a board with group_by=board.
"""

import argparse
import pathlib
import re
from collections.abc import Iterator

import cv2
import numpy as np

from benchmarks.real import image_folder
from benchmarks.real.archive import Archive, Clone

ARCHIVE = Archive("https://github.com/tangsanli5201/DeepPCB", "PCBData", "a4fd38d194f6abd89f903f00f287d7718a5d6fbf")
MARGIN = 3  # pixels around a defect's box that are taken from the tested board with it


def read_place(clone: Clone, board: str, place: str, kind: str) -> np.ndarray:
    """Returns the template ('temp') or the tested image ('test') of a place, uint8 `[640, 640]` of 0 and 255."""
    encoded = np.frombuffer(clone.read(f"group{board}/{board}/{place}_{kind}.jpg"), np.uint8)
    grey = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
    return np.where(grey > 127, np.uint8(255), np.uint8(0))


def read_boxes(clone: Clone, board: str, place: str) -> np.ndarray:
    """Returns the boxes of a place's defects, int `[N, 4]`: left, top, right and bottom in pixels."""
    lines = clone.read(f"group{board}/{board}_not/{place}.txt").decode().split("\n")
    return np.array([list(map(int, line.split()))[:4] for line in lines if line.strip()])


def keep_defects(template: np.ndarray, tested: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns the template with the tested image in `boxes` and `MARGIN` pixels around them."""
    picture = template.copy()
    for left, top, right, bottom in boxes:
        inside = np.s_[max(0, top - MARGIN) : bottom + MARGIN + 1, max(0, left - MARGIN) : right + MARGIN + 1]
        picture[inside] = tested[inside]
    return picture


def mosaic(places: list[np.ndarray], *, mirror: bool, quarter_turns: int) -> np.ndarray:
    """Returns N * N places of `[640, 640]` as one picture, then mirrored and turned."""
    number = round(len(places) ** 0.5)
    rows = [np.hstack(places[first : first + number]) for first in range(0, len(places), number)]
    picture = np.vstack(rows)
    return np.ascontiguousarray(np.rot90(picture[:, ::-1] if mirror else picture, quarter_turns))


def blocks(clone: Clone, size: int) -> Iterator[tuple[str, str, list[str]]]:
    """Yields board, block and places of each block of `size` places; places left over at a board's end are unused."""
    found = [re.fullmatch(r"group(\d+)/\1/(\d+)_test\.jpg", name) for name in clone.names()]
    pairs = sorted(match.groups() for match in found if match)
    for board in sorted({board for board, _ in pairs}):
        places = [place for other, place in pairs if other == board]
        for first in range(0, len(places) - len(places) % size, size):
            yield board, f"{board}_{first // size}", places[first : first + size]


def build(clone: Clone, folder: pathlib.Path, *, grid: int, keep: int) -> None:
    """Writes all images and labels.csv."""
    rows = []
    for board, block, places in blocks(clone, grid**2):
        templates = [read_place(clone, board, place, "temp") for place in places]
        random = np.random.default_rng(int(places[0]))
        for index, place in enumerate(places):
            order = random.permutation(len(places)) if grid > 1 else [0]
            mirror, turns = (bool(random.integers(2)), int(random.integers(4))) if grid > 1 else (False, 0)
            boxes, tested = read_boxes(clone, board, place), read_place(clone, board, place, "test")
            if 0 < keep < len(boxes):
                boxes = boxes[random.permutation(len(boxes))[:keep]]
            tested = keep_defects(templates[index], tested, boxes)
            for target, kind in enumerate(("good", "bad")):
                chosen = [tested if target and other == index else templates[other] for other in order]
                name = f"{place}_{kind}.png"
                image_folder.write_image(folder, name, mosaic(chosen, mirror=mirror, quarter_turns=turns))
                row = {"image": name, "target": target, "board": board, "block": block}
                rows.append(row | {"defects": len(boxes) * target})
    image_folder.write_labels(folder, rows, clone.git("cat-file", "blob", "HEAD:LICENSE"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=pathlib.Path, help=f"a clone of {ARCHIVE.url}")
    parser.add_argument("folder", type=pathlib.Path, help="where to write")
    parser.add_argument("--grid", type=int, default=2, help="places of a board along each side of an image")
    parser.add_argument("--keep", type=int, default=0, help="defects that stay in an image of class 1; 0: all")
    options = parser.parse_args()
    build(ARCHIVE.open(options.clone), options.folder, grid=options.grid, keep=options.keep)
