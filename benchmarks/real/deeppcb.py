"""Builds a folder of printed circuit boards with and without defects from the data set DeepPCB.

    git clone --bare https://github.com/tangsanli5201/DeepPCB DEEPPCB
    python -m benchmarks.real.deeppcb DEEPPCB boards --grid=2 --keep=1

Data: Tang et al., "Online PCB Defect Detector On A New PCB Defect Dataset" (2019, arXiv 1902.06197): 1500 pairs of a
template without defects and the same place of a tested board, most with 3 to 12 defects, 640x640 binary pixels. Its
LICENSE is MIT; its README says "only for research purpose".

`--grid=N` joins N x N places of a board into one image, of 640 N pixels a side without the options below. A positive
image and its twin of class 0 have the same places, mirrored and turned alike, and differ in the boxes around the
defects alone. The rest of the tested board is left out, because it differs from the template in 2 % of its pixels, at
edges all over the board. `--defective=D` places of a positive image have their defects, by default one. `--keep=K`
leaves at most K of a place's defects, whose boxes measure some 30 to 50 pixels; 0 leaves all. `--piece=P` takes P x P
pixels of each place, a random square around a random defect. `--side=S` shrinks images to S x S pixels. A pair is left
out if its image of class 0 equals an earlier one: two templates are copies of others, and empty pieces are alike.

labels.csv: image, target, board, block (the places that make up an image and its relatives), defects. Keep a block on
one side of a split with --config.data.group_by=block, or a board with group_by=board.
"""

import argparse
import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Iterator

import cv2
import numpy as np

from benchmarks.real import image_folder
from benchmarks.real.archive import Archive, Clone

ARCHIVE = Archive("https://github.com/tangsanli5201/DeepPCB", "PCBData", "a4fd38d194f6abd89f903f00f287d7718a5d6fbf")
PLACE, LARGEST = 640, 176  # side of a place, and a side in pixels that no defect exceeds
MARGIN = 3  # pixels around a defect's box that are taken from the tested board with it


@dataclasses.dataclass(frozen=True)
class Place:
    """A place of a board, or a square of it.

    Attributes:
      template: picture without defects, uint8 `[H, W]` of 0 and 255.
      tested: picture with defects, of the same shape and type.
      boxes: of the defects, int `[N, 4]`: left, top, right and bottom in pixels.
    """

    template: np.ndarray
    tested: np.ndarray
    boxes: np.ndarray

    def piece(self, side: int, random: np.random.Generator) -> "Place":
        """Returns a random square of `side` pixels around a random defect. Its boxes are those that lie inside."""
        left, top, right, bottom = random.choice(self.boxes)
        height, width = self.template.shape
        x, y = (
            int(random.integers(max(0, last + 1 - side), min(first, length - side) + 1))
            for first, last, length in ((left, right, width), (top, bottom, height))
        )
        moved = self.boxes - (x, y, x, y)
        square = np.s_[y : y + side, x : x + side]
        return Place(self.template[square], self.tested[square], moved[((moved >= 0) & (moved < side)).all(1)])


def read_place(clone: Clone, board: str, place: str) -> Place:
    """Returns a place of 640x640 pixels."""
    template, tested = (
        cv2.imdecode(
            np.frombuffer(clone.read(f"group{board}/{board}/{place}_{kind}.jpg"), np.uint8), cv2.IMREAD_GRAYSCALE
        )
        for kind in ("temp", "test")
    )
    lines = clone.read(f"group{board}/{board}_not/{place}.txt").decode().split("\n")
    boxes = np.array([list(map(int, line.split()))[:4] for line in lines if line.strip()])
    return Place(*(np.where(grey > 127, np.uint8(255), np.uint8(0)) for grey in (template, tested)), boxes)


def keep_defects(template: np.ndarray, tested: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Returns the template with the tested image in `boxes` and `MARGIN` pixels around them."""
    picture = template.copy()
    for left, top, right, bottom in boxes:
        inside = np.s_[max(0, top - MARGIN) : bottom + MARGIN + 1, max(0, left - MARGIN) : right + MARGIN + 1]
        picture[inside] = tested[inside]
    return picture


def mosaic(pictures: list[np.ndarray], *, mirror: bool, quarter_turns: int) -> np.ndarray:
    """Returns N * N pictures of equal size as one, then mirrored and turned."""
    number = round(len(pictures) ** 0.5)
    rows = [np.hstack(pictures[first : first + number]) for first in range(0, len(pictures), number)]
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


@dataclasses.dataclass(frozen=True)
class Layout:
    """Describes the images.

    Attributes:
      grid: places along each side of an image.
      defective: places with defects in an image of class 1.
      keep: the most defects of such a place; 0 for all.
      piece: side in pixels of the square that is taken of each place; 0 for the whole place.
      side: side in pixels of the image after shrinking; 0 for no shrinking.

    Raises ValueError if a number is impossible.
    """

    grid: int = 2
    defective: int = 1
    keep: int = 0
    piece: int = 0
    side: int = 0

    def __post_init__(self):
        if self.grid < 1 or self.keep < 0:
            raise ValueError(f"grid={self.grid}, keep={self.keep}: at least 1 and 0")
        if not 1 <= self.defective <= self.grid**2:
            raise ValueError(f"defective={self.defective}: 1 to {self.grid**2} of {self.grid}x{self.grid} places")
        if self.piece and not LARGEST <= self.piece <= PLACE:
            raise ValueError(f"piece={self.piece}: {LARGEST} to {PLACE} pixels, so that it can contain any defect")
        largest = self.grid * (self.piece or PLACE)
        if not 0 <= self.side <= largest:
            raise ValueError(f"side={self.side}: at most {largest} pixels, the side of the image before shrinking")

    def pair(self, places: list[Place], index: int, random: np.random.Generator) -> tuple[list[np.ndarray], int]:
        """Returns the images of class 0 and 1, and the number of defects of the latter.

        The defective places are that of `index` and the `defective - 1` before it; before the first comes the last.
        """
        order = random.permutation(len(places)) if self.grid > 1 else [0]
        mirror, turns = (bool(random.integers(2)), int(random.integers(4))) if self.grid > 1 else (False, 0)
        if self.piece:
            places = [place.piece(self.piece, random) for place in places]
        templates, number = [place.template for place in places], 0
        twins = list(templates)
        for other in range(index - self.defective + 1, index + 1):  # a negative place is counted from the end
            place, boxes = places[other], places[other].boxes
            if 0 < self.keep < len(boxes):
                boxes = boxes[random.permutation(len(boxes))[: self.keep]]
            twins[other], number = keep_defects(place.template, place.tested, boxes), number + len(boxes)
        both = [
            mosaic([pictures[other] for other in order], mirror=mirror, quarter_turns=turns)
            for pictures in (templates, twins)
        ]
        size = (self.side, self.side)
        return [cv2.resize(one, size, interpolation=cv2.INTER_AREA) if self.side else one for one in both], number


def build(clone: Clone, folder: pathlib.Path, layout: Layout) -> None:
    """Writes all images and labels.csv, and prints how many defects there are, and of what size.

    Leaves out a pair if its image of class 0 equals an earlier one.
    """
    (folder / "labels.csv").unlink(missing_ok=True)  # it is written after all images and says that they are there
    rows, known, sides = [], set(), []
    for board, block, names in blocks(clone, layout.grid**2):
        places = [read_place(clone, board, name) for name in names]
        sides += [(place.boxes[:, 2:] - place.boxes[:, :2] + 1).ravel() for place in places]
        random = np.random.default_rng(int(names[0]))
        for index, name in enumerate(names):
            pair, defects = layout.pair(places, index, random)
            digest = hashlib.sha256(pair[0].tobytes()).digest()
            if digest in known:
                continue
            known.add(digest)
            for target, (kind, picture) in enumerate(zip(("good", "bad"), pair)):
                image = f"{name}_{kind}.png"
                image_folder.write_image(folder, image, picture)
                row = {"image": image, "target": target, "board": board, "block": block}
                rows.append(row | {"defects": defects * target})
    image_folder.write_labels(folder, rows, clone.git("cat-file", "blob", "HEAD:LICENSE"))
    low, median, high = np.percentile(np.concatenate(sides), (10, 50, 90))
    mean = np.mean([row["defects"] for row in rows if row["target"]])
    print(f"defects in an image of class 1: {mean:.1f} on average")
    print(f"side of a defect's box before shrinking: {median:.0f} pixels (median), 80 % have {low:.0f} to {high:.0f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clone", type=pathlib.Path, help=f"a clone of {ARCHIVE.url}")
    parser.add_argument("folder", type=pathlib.Path, help="where to write")
    parser.add_argument("--grid", type=int, default=2, help="places of a board along each side of an image")
    parser.add_argument("--defective", type=int, default=1, help="places of an image of class 1 that have defects")
    parser.add_argument("--keep", type=int, default=0, help="defects that stay at each such place; 0: all")
    parser.add_argument("--piece", type=int, default=0, help="side of the part of each place that is taken; 0: all")
    parser.add_argument("--side", type=int, default=0, help="side to shrink images to; 0: they are not shrunk")
    options = vars(parser.parse_args())
    clone, folder = options.pop("clone"), options.pop("folder")
    try:
        opened, layout = ARCHIVE.open(clone), Layout(**options)
    except ValueError as error:
        parser.error(str(error))
    build(opened, folder, layout)
