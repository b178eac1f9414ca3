"""The tiles into which the TPU kernels of window_conv divide an output, and the convolutions that they support."""

import math
from typing import NamedTuple

import jax.numpy as jnp

from stochconv_jax.ops.windows import Size

LANES = 128  # columns that a vector register holds
VMEM_BYTES = 16 << 20  # vector memory a kernel may use: all that the smallest supported chip has
SMEM_BYTES = 512 << 10  # scalar memory the positions of windows may use: half of what every chip has


class OutputTile(NamedTuple):
    """A tile of the output of a convolution, and the sizes that its kernels need, in pixels unless said otherwise."""

    batch: int
    channels: int
    features: int
    kernel_size: Size
    strides: Size
    origin: Size  # (row, column) of the tile in the output
    size: Size  # (rows, columns) of the tile
    block: Size  # of the aligned block of image that is fetched: it contains the pixels read, at any window position
    padded_image: Size  # of the image, padded to multiples of the alignment and to one block at least
    alignment: Size  # of fetches
    lane_groups: int  # groups of 128 columns that the pixels read take up
    image_dtype: jnp.dtype
    dtype: jnp.dtype  # of kernel and output

    @property
    def depth(self) -> int:
        """The length of the sums of a matrix product: one row's columns, in whole lane groups, of all channels."""
        return self.channels * self.lane_groups * LANES

    @property
    def pixel_terms(self) -> int:
        """The number of bfloat16 numbers that represent one pixel."""
        return 3 if self.image_dtype == self.dtype == jnp.float32 else 1

    @property
    def weight_terms(self) -> int:
        """The number of bfloat16 numbers that represent one weight, or one element of the cotangent."""
        return 3 if self.dtype == jnp.float32 else 1

    @property
    def vmem_bytes(self) -> int:
        """An upper bound for the vector memory of either kernel: scratch, operands and intermediate values."""
        h, w = (round_up(n, LANES) for n in self.size)
        bands_or_sums = self.kernel_size[0] * self.depth * w * max(2 * self.weight_terms, 4)
        rows = self.depth * self.block[0] * 4
        fetched = 2 * self.channels * math.prod(self.block) * self.image_dtype.itemsize
        return bands_or_sums + 2 * rows + fetched + 3 * 4 * h * (self.depth + w)

    @property
    def bytes_moved(self) -> int:
        """Bytes between HBM and vector memory: the block of every window, and the output or cotangent once."""
        fetched = self.channels * math.prod(self.block) * self.image_dtype.itemsize
        return self.batch * self.features * (fetched + math.prod(self.size) * self.dtype.itemsize)

    @property
    def multiplications(self) -> int:
        """Multiplications of either kernel, including those by the zeros of the band matrices."""
        products = len(significant_products(self.pixel_terms, self.weight_terms))
        return self.batch * self.features * math.prod(self.size) * self.depth * self.kernel_size[0] * products


type Tiles = tuple[tuple[OutputTile, ...], ...]  # rows of tiles


def output_tiles(
    image_shape: tuple, image_dtype, kernel_shape: tuple, kernel_dtype, strides: Size, window_size: Size
) -> Tiles | None:
    """Divides the output for an image [B, H, W, C] and a kernel [kh, kw, C, F] into rows of tiles.

    Tiles are at most 128x128, because wider band matrices would be mostly zeros, and smaller where vector memory
    requires it.

    Returns None if the kernels do not support the convolution: other dtypes than uint8, bfloat16 and float32 images
    with bfloat16 and float32 kernels, more than 32,768 windows or a symbolic number of them, or a kernel size, stride
    or number of channels too large even for tiles of 32x32.
    """
    image_dtype, dtype = jnp.dtype(image_dtype), jnp.dtype(kernel_dtype)
    if image_dtype not in (jnp.uint8, jnp.bfloat16, jnp.float32) or dtype not in (jnp.bfloat16, jnp.float32):
        return None
    if not isinstance(image_shape[0], int):  # a symbolic batch of jax.export
        return None
    if image_shape[0] * kernel_shape[3] * 4 * 4 > SMEM_BYTES:  # corner and offset of each window, two int32 each
        return None
    kernel_size, alignment = tuple(kernel_shape[:2]), (32 // image_dtype.itemsize, LANES)

    def tile(*spans: range) -> OutputTile:
        size = tuple(map(len, spans))
        read = tuple((n - 1) * s + k for n, s, k in zip(size, strides, kernel_size))
        block = tuple(round_up(n + a - 1, a) for n, a in zip(read, alignment))
        padded_image = tuple(max(round_up(n, a), b) for n, a, b in zip(image_shape[1:3], alignment, block))
        return OutputTile(
            batch=image_shape[0],
            channels=kernel_shape[2],
            features=kernel_shape[3],
            kernel_size=kernel_size,
            strides=strides,
            origin=tuple(span.start for span in spans),
            size=size,
            block=block,
            padded_image=padded_image,
            alignment=alignment,
            lane_groups=round_up(read[1], LANES) // LANES,
            image_dtype=image_dtype,
            dtype=dtype,
        )

    output_size = [(n - k) // s + 1 for n, k, s in zip(window_size, kernel_size, strides)]
    for largest in (128, 64, 32):
        rows, columns = (_split_evenly(n, largest) for n in output_size)
        tiles = tuple(tuple(tile(y, x) for x in columns) for y in rows)
        if max(tile.vmem_bytes for row in tiles for tile in row) <= VMEM_BYTES:
            return tiles
    return None


def significant_products(left_terms: int, right_terms: int) -> list[tuple[int, int]]:
    """Returns the pairs of terms whose product a float32 sum can tell from zero, the smallest products first."""
    pairs = ((p, q) for p in range(left_terms) for q in range(right_terms) if p + q < 3)
    return sorted(pairs, key=sum, reverse=True)


def round_up(n: int, multiple: int) -> int:
    """Returns the smallest multiple of `multiple` that is at least n."""
    return -(-n // multiple) * multiple


def _split_evenly(n: int, largest: int) -> list[range]:
    """Splits 0, ..., n - 1 into the fewest ranges of at most `largest` numbers, as equal in length as possible."""
    number = -(-n // largest)
    return [range(n * k // number, n * (k + 1) // number) for k in range(number)]
