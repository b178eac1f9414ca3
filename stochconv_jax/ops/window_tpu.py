"""window_conv and its kernel's gradient as Pallas TPU kernels, which fetch windows by DMA and use the matrix unit.

A window arrives in an aligned block of the image, a little larger than the window, and is rolled to the block's left
edge. For each kernel row i and channel c, the convolution along x is then the product of the window's rows with the
band matrix

    T[x', x] = sum_j kernel[i, j, c, f] * (x' == sw * x + j)

where the rows sh * y + i of the window are read with a stride. T depends on the filter but not on the window, so it is
built once for the whole batch. The kernel's gradient is the transposed product, summed over the batch; the diagonals of
the sum are the gradient.

The matrix unit multiplies bfloat16. A float32 is the exact sum of three bfloat16 terms, so float32 results take three
products for uint8 pixels and six for float32 pixels; bfloat16 results take one. Float pixels must be finite: an
infinity next to a window would be multiplied by a zero of T.

Names in the kernels' bodies: f and b are the numbers of the filter and of the image, `corners` and `offsets` are the
results of `_corners`, `fetched` and `arrived` are the buffers and semaphores of the DMA, and `rows` holds the pixels of
the window (see `_pixel_scratch`).
"""

from functools import partial
from typing import cast

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from stochconv_jax.ops.window_tpu_tiling import LANES, VMEM_BYTES, OutputTile, Tiles, significant_products
from stochconv_jax.ops.windows import Size


@partial(jax.jit, static_argnums=0)
def forward(tiles: Tiles, image: jax.Array, windows: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns the output [B, h, w, F] of kernel's dtype, see `window_platforms.forward`; the tiles divide it."""
    rows = [jnp.concatenate([_tile_forward(tile, image, windows, kernel) for tile in row], 2) for row in tiles]
    return jnp.concatenate(rows, 1)


@partial(jax.jit, static_argnums=0)
def kernel_gradient(tiles: Tiles, image: jax.Array, windows: jax.Array, g: jax.Array) -> jax.Array:
    """Returns the gradient of the kernel, float32 [kh, kw, C, F], from the cotangent g [B, h, w, F]."""
    return cast(jax.Array, sum(_tile_gradient(tile, image, windows, g) for row in tiles for tile in row))


def _tile_forward(tile: OutputTile, image, windows, kernel):
    """Returns one tile of the output, [B, rows, columns, F]."""
    (h, w), weights = tile.size, jnp.moveaxis(kernel, 3, 0).astype(jnp.float32).reshape(-1)
    bands = pltpu.VMEM((tile.kernel_size[0], tile.weight_terms, tile.depth, w), jnp.bfloat16)
    out = pl.pallas_call(
        partial(_forward_body, tile),
        out_shape=_result((tile.batch, tile.features, h, w), tile.dtype, image),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(tile.features, tile.batch),
            in_specs=[pl.BlockSpec(memory_space=pl.ANY)],
            out_specs=pl.BlockSpec((1, 1, h, w), lambda f, b, *_: (b, f, 0, 0)),
            scratch_shapes=[bands, *_pixel_scratch(tile)],
        ),
        name="window_conv",
        **_compiler_settings(tile),
    )(*_corners(tile, windows), weights, _planes(tile, image))
    return jnp.moveaxis(out, 1, 3)


def _tile_gradient(tile: OutputTile, image, windows, g):
    """Returns what one tile of the output adds to the kernel's gradient, float32 [kh, kw, C, F]."""
    (top, left), (h, w), (kh, kw) = tile.origin, tile.size, tile.kernel_size
    g = g[:, top : top + h, left : left + w].transpose(0, 3, 2, 1)
    out = pl.pallas_call(
        partial(_gradient_body, tile),
        out_shape=_result((tile.features, kh * kw, tile.depth), jnp.float32, image),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(tile.features, tile.batch),
            in_specs=[
                pl.BlockSpec((1, 1, w, h), lambda f, b, *_: (b, f, 0, 0)),
                pl.BlockSpec(memory_space=pl.ANY),
            ],
            out_specs=pl.BlockSpec((1, kh * kw, tile.depth), lambda f, b, *_: (f, 0, 0)),
            scratch_shapes=[pltpu.VMEM((kh, w, tile.depth), jnp.float32), *_pixel_scratch(tile)],
        ),
        name="window_conv_kernel_gradient",
        **_compiler_settings(tile),
    )(*_corners(tile, windows), g, _planes(tile, image))
    taps = out.reshape(tile.features, kh, kw, tile.channels, -1).sum(-1)
    return jnp.moveaxis(taps, 0, 3)


def _pixel_scratch(tile: OutputTile) -> list:
    """Returns the scratch memory for pixels.

    The window as [channel and lane group, row, column], two blocks, of which one is read while the next one arrives,
    and the semaphores of the two.
    """
    return [
        pltpu.VMEM((tile.channels * tile.lane_groups, tile.block[0], LANES), jnp.float32),
        pltpu.VMEM((2, tile.channels, *tile.block), tile.image_dtype),
        pltpu.SemaphoreType.DMA((2,)),
    ]


def _compiler_settings(tile: OutputTile) -> dict:
    semantics = ("parallel", "arbitrary")  # filters may run on either core of a chip; images run one after the other
    return {
        "compiler_params": pltpu.CompilerParams(dimension_semantics=semantics, vmem_limit_bytes=VMEM_BYTES),
        "cost_estimate": pl.CostEstimate(
            flops=2 * tile.multiplications, transcendentals=0, bytes_accessed=tile.bytes_moved
        ),
    }


def _forward_body(tile: OutputTile, corners, offsets, weights, image, out, bands, rows, fetched, arrived):
    f, b = pl.program_id(0), pl.program_id(1)
    _fetch_ahead(tile, b, f, corners, image, fetched, arrived)

    @pl.when(b == 0)
    def build_bands():
        _build_bands(tile, f, weights, bands)

    _receive(tile, b, f, corners, offsets, image, fetched, arrived, rows)
    total = jnp.zeros(tile.size, jnp.float32)
    for i in range(tile.kernel_size[0]):
        pixels = _terms(_rows_read(tile, b, f, offsets, rows, i), tile.pixel_terms)
        total += _product(pixels, [bands[i, p] for p in range(tile.weight_terms)])
    out[0, 0] = total.astype(out.dtype)


def _gradient_body(tile: OutputTile, corners, offsets, g, image, out, sums, rows, fetched, arrived):
    f, b = pl.program_id(0), pl.program_id(1)
    _fetch_ahead(tile, b, f, corners, image, fetched, arrived)

    @pl.when(b == 0)
    def begin():
        sums[...] = jnp.zeros(sums.shape, jnp.float32)

    _receive(tile, b, f, corners, offsets, image, fetched, arrived, rows)
    cotangent = _terms(g[0, 0].astype(jnp.float32), tile.weight_terms)
    for i in range(tile.kernel_size[0]):
        pixels = _terms(_rows_read(tile, b, f, offsets, rows, i), tile.pixel_terms)
        sums[i] += _product(cotangent, pixels)

    @pl.when(b == tile.batch - 1)
    def read_diagonals():
        """Writes the sum of each weight's diagonal over x; the sum over columns is left to the caller."""
        kh, kw = tile.kernel_size
        band = _band_columns(tile, (tile.size[1], tile.depth), 1)
        for i in range(kh):
            for j in range(kw):
                out[0, pl.ds(i * kw + j, 1)] = jnp.where(band == j, sums[i], 0).sum(0, keepdims=True)


def _build_bands(tile: OutputTile, f, weights, bands):
    """Writes T of filter f, as bfloat16 terms, for each kernel row into `bands`."""
    (kh, kw), width = tile.kernel_size, tile.lane_groups * LANES
    band = _band_columns(tile, (width, tile.size[1]), 0)
    for i in range(kh):
        for c in range(tile.channels):
            total = jnp.zeros(band.shape, jnp.float32)
            for j in range(kw):
                weight = weights[((f * kh + i) * kw + j) * tile.channels + c]
                total = jnp.where(band == j, weight, total)
            for p, term in enumerate(_terms(total, tile.weight_terms)):
                bands[i, p, c * width : (c + 1) * width] = term


def _band_columns(tile: OutputTile, shape: Size, axis: int):
    """Returns x' - sw * x for every x' along `axis` and x along the other: the column of the kernel that joins them."""
    column = lax.broadcasted_iota(jnp.int32, shape, axis) % (tile.lane_groups * LANES)
    return column - tile.strides[1] * lax.broadcasted_iota(jnp.int32, shape, 1 - axis)


def _copy(tile: OutputTile, b, f, corners, image, fetched, arrived):
    """Returns the DMA of the block around the window of image b and filter f."""
    top, left = (pl.multiple_of(corners[_index(tile, b, f) + axis], tile.alignment[axis]) for axis in (0, 1))
    block = image.at[b, :, pl.ds(top, tile.block[0]), pl.ds(left, tile.block[1])]
    slot = lax.rem(b, 2)
    return pltpu.make_async_copy(block, fetched.at[slot], arrived.at[slot])


def _fetch_ahead(tile: OutputTile, b, f, *refs):
    """Starts to fetch the window of the next image, and before the first image also that of the first one."""

    @pl.when(b == 0)
    def first():
        _copy(tile, b, f, *refs).start()

    @pl.when(b + 1 < tile.batch)
    def following():
        _copy(tile, b + 1, f, *refs).start()


def _receive(tile: OutputTile, b, f, corners, offsets, image, fetched, arrived, rows):
    """Waits for the block of the window and writes it into `rows`, rolled so that the window begins at column 0."""
    _copy(tile, b, f, corners, image, fetched, arrived).wait()
    columns = tile.block[1]
    shift = lax.rem(columns - offsets[_index(tile, b, f) + 1], columns)
    for c in range(tile.channels):
        pixels = fetched[lax.rem(b, 2), c]
        pixels = pixels.astype(jnp.int32) if tile.image_dtype == jnp.uint8 else pixels
        pixels = pltpu.roll(pixels.astype(jnp.float32), shift, 1)
        for group in range(tile.lane_groups):
            rows[c * tile.lane_groups + group] = pixels[:, group * LANES : (group + 1) * LANES]


def _rows_read(tile: OutputTile, b, f, offsets, rows, i):
    """Returns, for each output row, the window's row that kernel row i reads, [rows, depth], channels side by side."""
    start = offsets[_index(tile, b, f)] + i
    strided = pl.ds(start, tile.size[0], stride=tile.strides[0])
    return jnp.concatenate([rows[k, strided] for k in range(rows.shape[0])], axis=1)


def _index(tile: OutputTile, b, f):
    """Returns the index of the window of image b and filter f in `corners` and `offsets`."""
    return 2 * (b * tile.features + f)


def _terms(x, number):
    """Returns float32 x as a sum of `number` bfloat16 arrays: rounded for one, exact for three."""
    if number == 1:
        return [x.astype(jnp.bfloat16)]
    terms = []
    for _ in range(number):
        # The upper half of a float32's bits is a bfloat16. Truncation, unlike rounding, is never optimised away.
        bits = lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFF0000)
        truncated = lax.bitcast_convert_type(bits, jnp.float32)
        terms.append(truncated.astype(jnp.bfloat16))
        x = x - truncated
    return terms


def _product(left: list, right: list):
    """Returns the float32 matrix product of two sums of terms, without the products too small for a float32 sum."""
    pairs = significant_products(len(left), len(right))
    return sum(jnp.dot(left[p], right[q], preferred_element_type=jnp.float32) for p, q in pairs)


def _corners(tile: OutputTile, windows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the position of each window's aligned block, and the window's offset in it.

    Both are int32 [B * F * 2], (top, left) of each window; of the window, only the pixels that the tile reads count.
    """
    first = [n * s for n, s in zip(tile.origin, tile.strides)]
    last = [n - b for n, b in zip(tile.padded_image, tile.block)]
    first, last, alignment = (jnp.array(n, jnp.int32) for n in (first, last, tile.alignment))
    windows = windows.astype(jnp.int32) + first
    corners = jnp.minimum(windows // alignment * alignment, last)
    return corners.reshape(-1), (windows - corners).reshape(-1)


def _planes(tile: OutputTile, image: jax.Array) -> jax.Array:
    """Returns the image as planes, [B, C, *padded_image]."""
    widths = [(0, padded - size) for padded, size in zip(tile.padded_image, image.shape[1:3])]
    return jnp.pad(jnp.moveaxis(image, 3, 1), ((0, 0), (0, 0), *widths))


def _result(shape: tuple, dtype, like: jax.Array) -> jax.ShapeDtypeStruct:
    """Returns the type of a kernel's result, varying over the same manual mesh axes as `like`."""
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=jax.typeof(like).manual_axis_type)
