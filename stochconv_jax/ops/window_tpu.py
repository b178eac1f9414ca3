"""window_conv and its kernel's gradient for TPUs: every window is fetched by DMA and multiplied by the matrix unit.

A window's pixels arrive in an aligned block a little larger than the window. Rolled to the block's left edge, its
every row times the band matrix

    T[x', x] = sum_j kernel[i, j, c, f] * (x' == sw * x + j)

is the convolution along x for one kernel row i and channel c; rows sh * y + i are read with a stride. T belongs to
the filter, not to the window, and is built once for the whole batch. The kernel's gradient is the same product
transposed, summed over the batch before T's diagonals are read off.

The matrix unit multiplies bfloat16. A float32 is the exact sum of three, so float32 results take three products where
the pixels are uint8 and six where they are float32; bfloat16 results take one. Float pixels must be finite: an
infinity beside a window would reach it as 0 * inf.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from stochconv_jax.ops.window_tpu_parts import LANES, VMEM_BYTES, Part, Size, pairs_that_count


def forward(parts: list[list[Part]], image: jax.Array, windows: jax.Array, kernel: jax.Array) -> jax.Array:
    """(image [B, H, W, C], windows [B, F, 2] inside it, kernel [kh, kw, C, F]) -> [B, h, w, F] of kernel's dtype."""
    rows = [jnp.concatenate([_part_forward(part, image, windows, kernel) for part in row], 2) for row in parts]
    return jnp.concatenate(rows, 1)


def kernel_gradient(parts: list[list[Part]], image: jax.Array, windows: jax.Array, g: jax.Array) -> jax.Array:
    """(image [B, H, W, C], windows [B, F, 2] inside it, g [B, h, w, F]) -> [kh, kw, C, F] of kernel's dtype."""
    gradients = [_part_gradient(part, image, windows, g) for row in parts for part in row]
    return sum(gradients).astype(parts[0][0].dtype)


def _part_forward(part: Part, image, windows, kernel):
    (h, w), weights = part.output, jnp.moveaxis(kernel, 3, 0).astype(jnp.float32).reshape(-1)
    bands = pltpu.VMEM((part.kernel_size[0], part.weight_terms, part.depth, w), jnp.bfloat16)
    out = pl.pallas_call(
        partial(_forward_body, part),
        out_shape=_result((part.batch, part.features, h, w), part.dtype, image),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(part.features, part.batch),
            in_specs=[pl.BlockSpec(memory_space=pl.ANY)],
            out_specs=pl.BlockSpec((1, 1, h, w), lambda f, b, *_: (b, f, 0, 0)),
            scratch_shapes=[bands, *_pixel_scratch(part)],
        ),
        name="window_conv",
        **_for_the_compiler(part),
    )(*_corners(part, windows), weights, _planes(part, image))
    return jnp.moveaxis(out, 1, 3)


def _part_gradient(part: Part, image, windows, g):
    (top, left), (h, w), (kh, kw) = part.first, part.output, part.kernel_size
    g = g[:, top : top + h, left : left + w].transpose(0, 3, 2, 1)
    out = pl.pallas_call(
        partial(_gradient_body, part),
        out_shape=_result((part.features, kh * kw, part.depth), jnp.float32, image),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(part.features, part.batch),
            in_specs=[
                pl.BlockSpec((1, 1, w, h), lambda f, b, *_: (b, f, 0, 0)),
                pl.BlockSpec(memory_space=pl.ANY),
            ],
            out_specs=pl.BlockSpec((1, kh * kw, part.depth), lambda f, b, *_: (f, 0, 0)),
            scratch_shapes=[pltpu.VMEM((kh, w, part.depth), jnp.float32), *_pixel_scratch(part)],
        ),
        name="window_conv_kernel_gradient",
        **_for_the_compiler(part),
    )(*_corners(part, windows), g, _planes(part, image))
    taps = out.reshape(part.features, kh, kw, part.channels, -1).sum(-1)
    return jnp.moveaxis(taps, 0, 3)


def _pixel_scratch(part: Part) -> list:
    """The window's pixels as [channel and tile of columns, row, column]; two blocks, one being read while the next
    arrives; their semaphores."""
    return [
        pltpu.VMEM((part.channels * part.lane_tiles, part.block[0], LANES), jnp.float32),
        pltpu.VMEM((2, part.channels, *part.block), part.image_dtype),
        pltpu.SemaphoreType.DMA((2,)),
    ]


def _for_the_compiler(part: Part) -> dict:
    semantics = ("parallel", "arbitrary")  # filters, on either core of a chip; images, one after the other
    return {
        "compiler_params": pltpu.CompilerParams(dimension_semantics=semantics, vmem_limit_bytes=VMEM_BYTES),
        "cost_estimate": pl.CostEstimate(
            flops=2 * part.multiplications, transcendentals=0, bytes_accessed=part.bytes_moved
        ),
    }


def _forward_body(part: Part, corners, offsets, weights, image, out, bands, rows, fetched, arrived):
    f, b = pl.program_id(0), pl.program_id(1)
    _fetch_ahead(part, b, f, corners, image, fetched, arrived)

    @pl.when(b == 0)
    def build_bands():
        _build_bands(part, f, weights, bands)

    _receive(part, b, f, corners, offsets, image, fetched, arrived, rows)
    total = jnp.zeros(part.output, jnp.float32)
    for i in range(part.kernel_size[0]):
        seen = _terms(_rows_seen(part, b, f, offsets, rows, i), part.pixel_terms)
        total += _product(seen, [bands[i, p] for p in range(part.weight_terms)])
    out[0, 0] = total.astype(out.dtype)


def _gradient_body(part: Part, corners, offsets, g, image, out, sums, rows, fetched, arrived):
    f, b = pl.program_id(0), pl.program_id(1)
    _fetch_ahead(part, b, f, corners, image, fetched, arrived)

    @pl.when(b == 0)
    def begin():
        sums[...] = jnp.zeros(sums.shape, jnp.float32)

    _receive(part, b, f, corners, offsets, image, fetched, arrived, rows)
    cotangent = _terms(g[0, 0].astype(jnp.float32), part.weight_terms)
    for i in range(part.kernel_size[0]):
        seen = _terms(_rows_seen(part, b, f, offsets, rows, i), part.pixel_terms)
        sums[i] += _product(cotangent, seen)

    @pl.when(b == part.batch - 1)
    def read_diagonals():
        """What each weight's band holds, summed over x; the sum over columns is left to the caller."""
        kh, kw = part.kernel_size
        band = _band_columns(part, (part.output[1], part.depth), 1)
        for i in range(kh):
            for j in range(kw):
                out[0, pl.ds(i * kw + j, 1)] = jnp.where(band == j, sums[i], 0).sum(0, keepdims=True)


def _build_bands(part: Part, f, weights, bands):
    """T of filter f for each kernel row, in bfloat16 terms."""
    (kh, kw), width = part.kernel_size, part.lane_tiles * LANES
    band = _band_columns(part, (width, part.output[1]), 0)
    for i in range(kh):
        for c in range(part.channels):
            total = jnp.zeros(band.shape, jnp.float32)
            for j in range(kw):
                weight = weights[((f * kh + i) * kw + j) * part.channels + c]
                total = jnp.where(band == j, weight, total)
            for p, term in enumerate(_terms(total, part.weight_terms)):
                bands[i, p, c * width : (c + 1) * width] = term


def _band_columns(part: Part, shape: Size, axis: int):
    """x' - sw * x for every pair (x' along `axis`, x along the other): which kernel column j, if any, meets."""
    column = lax.broadcasted_iota(jnp.int32, shape, axis) % (part.lane_tiles * LANES)
    return column - part.strides[1] * lax.broadcasted_iota(jnp.int32, shape, 1 - axis)


def _copy(part: Part, b, f, corners, image, fetched, arrived):
    """The DMA of the block around the window of (b, f)."""
    top, left = (pl.multiple_of(corners[_at(part, b, f) + axis], part.tile[axis]) for axis in (0, 1))
    block = image.at[b, :, pl.ds(top, part.block[0]), pl.ds(left, part.block[1])]
    slot = lax.rem(b, 2)
    return pltpu.make_async_copy(block, fetched.at[slot], arrived.at[slot])


def _fetch_ahead(part: Part, b, f, *refs):
    """Starts the fetch of the next image's window, and of the first one when there is none on its way."""

    @pl.when(b == 0)
    def first():
        _copy(part, b, f, *refs).start()

    @pl.when(b + 1 < part.batch)
    def following():
        _copy(part, b + 1, f, *refs).start()


def _receive(part: Part, b, f, corners, offsets, image, fetched, arrived, rows):
    """Waits for the window's block and lays its columns out in `rows`, from the window's left edge on."""
    _copy(part, b, f, corners, image, fetched, arrived).wait()
    columns = part.block[1]
    shift = lax.rem(columns - offsets[_at(part, b, f) + 1], columns)
    for c in range(part.channels):
        pixels = fetched[lax.rem(b, 2), c]
        pixels = pixels.astype(jnp.int32) if part.image_dtype == jnp.uint8 else pixels
        pixels = pltpu.roll(pixels.astype(jnp.float32), shift, 1)
        for t in range(part.lane_tiles):
            rows[c * part.lane_tiles + t] = pixels[:, t * LANES : (t + 1) * LANES]


def _rows_seen(part: Part, b, f, offsets, rows, i):
    """[h, depth]: for each output row, the window's row that kernel row i meets, all channels side by side."""
    start = offsets[_at(part, b, f)] + i
    lines = pl.ds(start, part.output[0], stride=part.strides[0])
    return jnp.concatenate([rows[k, lines] for k in range(rows.shape[0])], axis=1)


def _at(part: Part, b, f):
    """Where window (b, f) lies among the scalars."""
    return 2 * (b * part.features + f)


def _terms(x, number):
    """x, float32, as the sum of `number` bfloat16 arrays: rounded if one, exactly if three."""
    if number == 1:
        return [x.astype(jnp.bfloat16)]
    terms = []
    for _ in range(number):
        # The upper half of a float32's bits is a bfloat16; cutting, unlike rounding, no compiler takes out.
        bits = lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFF0000)
        cut = lax.bitcast_convert_type(bits, jnp.float32)
        terms.append(cut.astype(jnp.bfloat16))
        x = x - cut
    return terms


def _product(left: list, right: list):
    """The matrix product of two sums of terms, float32, without the products too small for a float32 sum."""
    pairs = pairs_that_count(len(left), len(right))
    return sum(jnp.dot(left[p], right[q], preferred_element_type=jnp.float32) for p, q in pairs)


def _corners(part: Part, windows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The aligned block around this part of each window and its place there: int32 [B * F * 2], (top, left) both."""
    first = [n * s for n, s in zip(part.first, part.strides)]
    last = [n - b for n, b in zip(part.padded, part.block)]
    first, last, tile = (jnp.array(n, jnp.int32) for n in (first, last, part.tile))
    windows = windows.astype(jnp.int32) + first
    corners = jnp.minimum(windows // tile * tile, last)
    return corners.reshape(-1), (windows - corners).reshape(-1)


def _planes(part: Part, image: jax.Array) -> jax.Array:
    """The image as [B, C, height, width] in whole tiles."""
    widths = [(0, padded - size) for padded, size in zip(part.padded, image.shape[1:3])]
    return jnp.pad(jnp.moveaxis(image, 3, 1), ((0, 0), (0, 0), *widths))


def _result(shape: tuple, dtype, like: jax.Array) -> jax.ShapeDtypeStruct:
    """A kernel's result, varying over the same manual mesh axes as `like`."""
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=jax.typeof(like).manual_axis_type)
