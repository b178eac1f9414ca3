"""Lists the data sets of the maps of docs/when-windows-help.md: how large the detail is that decides, and how frequent.

A map consists of cells. Each cell is a folder of images and a pair of sizes, those of the image and of the thumbnail.
"""

import abc
import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

from benchmarks.real import deeppcb, digits
from configs.ablations import real
from stochconv_jax.visualization.suitability import Detail, Windows

BASELINE = "thumbnail_equal_cost"
RIVALS = {"per_image": "a window for each filter", "shared_crop": "a random crop for all filters"}
DEFECT = 32  # typical side of a board's defect in pixels; its box measures 34 (median)
DEFECTS = {640: 6.7, 320: 2.9, 176: 1.4}  # mean number in a piece of a board, by its side
WINDOWS_OF_A_PASS = {"per_image": 8, "shared_crop": 1}  # with the 8 filters of the tiny network's stem


@dataclasses.dataclass(frozen=True)
class Cell(abc.ABC):
    """Images of `side` pixels, and thumbnails of `thumbnail` pixels.

    Attributes:
      settings: keys of the config that are the same for all cells of a map.
    """

    side: int
    thumbnail: int
    settings: ClassVar[Mapping[str, Any]]

    @property
    def name(self) -> str:
        """Returns the name of the cell's folder."""
        return "_".join(f"{key}_{value}" for key, value in dataclasses.asdict(self).items())

    @property
    @abc.abstractmethod
    def decides(self) -> Detail:
        """Returns the detail that decides the class, in pixels of the image, and how many of them an image has."""

    @abc.abstractmethod
    def build(self, folder: pathlib.Path, source: pathlib.Path | None) -> None:
        """Writes images and labels.csv. `source` is the clone of the data set, for maps that have one.

        Raises ValueError if the source is missing or not the data set.
        """

    def larger_thumbnail(self) -> int:
        """Returns the side of the thumbnail of equal cost in pixels."""
        return real.rivals(self.side, self.thumbnail)[BASELINE]["data.thumbnail_size"][0]

    def in_thumbnail(self) -> float:
        """Returns the side of a detail in pixels in the thumbnail of equal cost."""
        return self.decides.size * self.larger_thumbnail() / self.side

    def seen(self, rival: str) -> float:
        """Returns the mean number of details in the windows of one pass. Each counts once for each window around it."""
        image, thumbnail, window = ((side, side) for side in (self.side, self.thumbnail, self.thumbnail + 1))
        return Windows(image, thumbnail, window, WINDOWS_OF_A_PASS[rival]).seen(self.decides)


@dataclasses.dataclass(frozen=True)
class Digits(Cell):
    """Drawn images with `copies` digits of `detail` pixels."""

    detail: int
    copies: int
    number: ClassVar[int] = 1200
    settings: ClassVar[Mapping[str, Any]] = {"data.group_by": "pool", "num_epochs": 10, "sweep.seeds": (0, 1, 2, 3, 4)}

    @property
    def decides(self) -> Detail:
        """See `Cell`."""
        return Detail(self.detail, self.copies)

    def build(self, folder: pathlib.Path, source: pathlib.Path | None) -> None:
        """See `Cell`."""
        digits.build(folder, number=self.number, side=self.side, detail=self.detail, copies=self.copies)


@dataclasses.dataclass(frozen=True)
class Boards(Cell):
    """Circuit boards with small defects in class 1, see `deeppcb.Layout`."""

    grid: int
    piece: int
    defective: int
    settings: ClassVar[Mapping[str, Any]] = {"data.group_by": "block", "num_epochs": 8, "sweep.seeds": (0, 1, 2, 3, 4)}

    @property
    def layout(self) -> deeppcb.Layout:
        """Returns what an image consists of."""
        return deeppcb.Layout(grid=self.grid, defective=self.defective, piece=self.piece, side=self.side)

    @property
    def decides(self) -> Detail:
        """See `Cell`."""
        size = round(DEFECT * self.side / (self.piece * self.grid))
        return Detail(size, DEFECTS[self.piece] * self.defective)

    def build(self, folder: pathlib.Path, source: pathlib.Path | None) -> None:
        """See `Cell`. Raises ValueError if `source` is not the data set."""
        if source is None:
            raise ValueError(f"give a clone of the boards: git clone --bare {deeppcb.ARCHIVE.url}, then --source=CLONE")
        deeppcb.build(deeppcb.ARCHIVE.open(source), folder, self.layout)


MAPS: dict[str, tuple[Cell, ...]] = {
    # With four times the digits in twice the side, windows see as many. Digits of 8 pixels are as large as in the data.
    "digits": (
        *(Digits(640, 32, 8, copies) for copies in (256, 1024)),
        *(Digits(320, 32, 8, copies) for copies in (16, 64, 256)),
        *(Digits(160, 32, 8, copies) for copies in (4, 16, 64)),
        *(Digits(160, 32, 16, copies) for copies in (1, 4, 16)),
    ),
    # A defect has 32 pixels at full resolution, in the first cell, and 16 at half of it.
    "boards": (
        Boards(176, 64, grid=1, piece=176, defective=1),
        Boards(160, 64, grid=1, piece=320, defective=1),
        Boards(320, 64, grid=1, piece=640, defective=1),
        Boards(640, 64, grid=2, piece=640, defective=4),
    ),
}
