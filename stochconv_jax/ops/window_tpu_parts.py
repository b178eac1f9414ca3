"""The parts of an output that window_conv's TPU kernels make, their sizes, and which convolutions they serve."""

import math
from typing import NamedTuple

import jax.numpy as jnp

Size = tuple[int, int]
LANES = 128
VMEM_BYTES = 16 << 20  # what a kernel may hold in vector memory: all that the smallest chip that runs them has
SMEM_BYTES = 512 << 10  # for the windows' places: half of the scalar memory that every chip has


class Part(NamedTuple):
    """The sizes of one part of a convolution's output."""

    batch: int
    channels: int
    features: int
    kernel_size: Size
    strides: Size
    first: Size  # the part's place in the output
    output: Size  # the part's size
    block: Size  # (rows, columns) fetched: the pixels read, wherever they begin within an aligned tile
    padded: Size  # (height, width) of the image, in whole tiles and no smaller than a block
    tile: Size  # what a fetch can be aligned to, in pixels
    lane_tiles: int  # tiles of 128 columns that the pixels read span
    image_dtype: jnp.dtype
    dtype: jnp.dtype  # of the result

    @property
    def depth(self) -> int:
        """Pixels of a row over all channels, each channel's padded to whole tiles: what one product sums over."""
        return self.channels * self.lane_tiles * LANES

    @property
    def pixel_terms(self) -> int:
        """How many bfloat16 numbers stand for one pixel."""
        return 3 if self.image_dtype == self.dtype == jnp.float32 else 1

    @property
    def weight_terms(self) -> int:
        """How many bfloat16 numbers stand for one weight or cotangent."""
        return 3 if self.dtype == jnp.float32 else 1

    @property
    def vmem_bytes(self) -> int:
        """Of either kernel's scratch and operands, with room for intermediate values."""
        h, w = (whole(n, LANES) for n in self.output)
        held = self.kernel_size[0] * self.depth * w * max(2 * self.weight_terms, 4)
        rows = self.depth * self.block[0] * 4
        fetched = 2 * self.channels * math.prod(self.block) * self.image_dtype.itemsize
        return held + 2 * rows + fetched + 3 * 4 * h * (self.depth + w)

    @property
    def bytes_moved(self) -> int:
        """Every window's block, and the output or cotangent once."""
        fetched = self.channels * math.prod(self.block) * self.image_dtype.itemsize
        return self.batch * self.features * (fetched + math.prod(self.output) * self.dtype.itemsize)

    @property
    def multiplications(self) -> int:
        """Made by either kernel's products, those with the zeros of a band matrix among them."""
        pairs = len(pairs_that_count(self.pixel_terms, self.weight_terms))
        return self.batch * self.features * math.prod(self.output) * self.depth * self.kernel_size[0] * pairs


def parts_of(image_shape, image_dtype, kernel_shape, kernel_dtype, strides: Size, window_size: Size):
    """The parts of the output as rows of `Part`s, for image [B, H, W, C] and kernel [kh, kw, C, F].

    Parts are at most 128x128, since a band matrix wider than that is mostly zeros, and smaller where vector memory
    demands it. None if the kernels do not serve: for other dtypes than uint8, bfloat16 and float32 images and
    bfloat16 and float32 kernels, for more than 32,768 windows, and for kernels, strides or channels too large even
    for parts of 32x32.
    """
    image_dtype, dtype = jnp.dtype(image_dtype), jnp.dtype(kernel_dtype)
    if image_dtype not in (jnp.uint8, jnp.bfloat16, jnp.float32) or dtype not in (jnp.bfloat16, jnp.float32):
        return None
    if image_shape[0] * kernel_shape[3] * 4 * 4 > SMEM_BYTES:  # block and place in it, two int32 each
        return None
    kernel_size, tile = tuple(kernel_shape[:2]), (32 // image_dtype.itemsize, LANES)

    def part(*cuts: range) -> Part:
        output = tuple(map(len, cuts))
        read = tuple((n - 1) * s + k for n, s, k in zip(output, strides, kernel_size))
        block = tuple(whole(n + t - 1, t) for n, t in zip(read, tile))
        padded = tuple(max(whole(n, t), b) for n, t, b in zip(image_shape[1:3], tile, block))
        first, lane_tiles = tuple(cut.start for cut in cuts), whole(read[1], LANES) // LANES
        sizes = (image_shape[0], *kernel_shape[2:], kernel_size, strides, first, output, block, padded, tile)
        return Part(*sizes, lane_tiles, image_dtype, dtype)

    output = [(n - k) // s + 1 for n, k, s in zip(window_size, kernel_size, strides)]
    for largest in (128, 64, 32):
        rows, columns = (_cuts(n, largest) for n in output)
        parts = [[part(y, x) for x in columns] for y in rows]
        if max(p.vmem_bytes for row in parts for p in row) <= VMEM_BYTES:
            return parts
    return None


def pairs_that_count(left: int, right: int) -> list[Size]:
    """Which products of terms a float32 sum can tell from zero, the smallest first."""
    return sorted(((p, q) for p in range(left) for q in range(right) if p + q < 3), key=sum, reverse=True)


def whole(n: int, tile: int) -> int:
    """n rounded up to whole tiles."""
    return -(-n // tile) * tile


def _cuts(n: int, largest: int) -> list[range]:
    """0 .. n - 1 in as few and as even ranges no longer than `largest` as can be."""
    number = -(-n // largest)
    return [range(n * k // number, n * (k + 1) // number) for k in range(number)]
