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
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

Size = tuple[int, int]
LANES = 128
VMEM_BYTES = 48 << 20  # what a kernel may take of a core's vector memory, 64 MB on the smallest chips since v5


class Plan(NamedTuple):
    """The sizes of one convolution."""

    batch: int
    features: int
    channels: int
    kernel_size: Size
    strides: Size
    window_size: Size  # (height, width) in pixels, of what the convolution reads
    output: Size
    block: Size  # (rows, columns) fetched: the window wherever it begins within an aligned tile
    padded: Size  # (height, width) of the image, in whole tiles and no smaller than a block
    tile: Size
    image_dtype: jnp.dtype
    dtype: jnp.dtype  # of the result

    @property
    def lane_tiles(self) -> int:
        """Tiles of 128 columns that a row of the window spans."""
        return _whole(self.window_size[1], LANES) // LANES

    @property
    def depth(self) -> int:
        """Pixels of a row over all channels, each channel's padded to whole tiles: what one product sums over."""
        return self.channels * self.lane_tiles * LANES

    @property
    def parts(self) -> tuple[int, int]:
        """How many bfloat16 numbers stand for one pixel, and for one weight or cotangent."""
        exact = self.dtype == jnp.float32
        return 3 if exact and self.image_dtype == jnp.float32 else 1, 3 if exact else 1

    @property
    def rows(self):
        """The window's pixels as the kernels hold them: [channel and tile of columns, row, column]."""
        return pltpu.VMEM((self.channels * self.lane_tiles, self.block[0], LANES), jnp.float32)

    @property
    def fetched(self) -> list:
        """Two blocks of pixels, one being read while the next arrives, and their semaphores."""
        blocks = pltpu.VMEM((2, self.channels, *self.block), self.image_dtype)
        return [blocks, pltpu.SemaphoreType.DMA((2,))]

    @property
    def vmem_bytes(self) -> int:
        """More than either kernel's scratch, operands and intermediate values, in bytes."""
        (h, w), width = (_whole(n, LANES) for n in self.output), self.depth
        held = self.kernel_size[0] * width * w * (2 * self.parts[1] + 4)
        block = self.channels * math.prod(self.block)
        values = h * width * 4 * 3 + h * w * 4 * 8
        return held + block * (2 * self.image_dtype.itemsize + 4 * 3) + values


def plan(image_shape, image_dtype, kernel_shape, kernel_dtype, strides: Size, window_size: Size) -> Plan | None:
    """The sizes for image [B, H, W, C] and kernel [kh, kw, C, F]; None if the kernels here do not serve these.

    They serve uint8, bfloat16 and float32 images, bfloat16 and float32 kernels, and windows of which the products'
    operands fit into vector memory (up to about 450x450 pixels of 3 channels for a 3x3 kernel).
    """
    image_dtype, dtype = jnp.dtype(image_dtype), jnp.dtype(kernel_dtype)
    if image_dtype not in (jnp.uint8, jnp.bfloat16, jnp.float32) or dtype not in (jnp.bfloat16, jnp.float32):
        return None
    kernel_size, tile = kernel_shape[:2], (32 // image_dtype.itemsize, LANES)
    output = tuple((n - k) // s + 1 for n, k, s in zip(window_size, kernel_size, strides))
    read = tuple((n - 1) * s + k for n, k, s in zip(output, kernel_size, strides))
    block = tuple(_whole(n + t - 1, t) for n, t in zip(read, tile))
    padded = tuple(max(_whole(n, t), b) for n, t, b in zip(image_shape[1:3], tile, block))
    batch, channels, features = image_shape[0], *kernel_shape[2:]
    sizes = Plan(
        batch, features, channels, kernel_size, strides, read, output, block, padded, tile, image_dtype, dtype
    )
    return sizes if sizes.vmem_bytes <= VMEM_BYTES else None


def forward(plan: Plan, image: jax.Array, windows: jax.Array, kernel: jax.Array) -> jax.Array:
    """(image [B, H, W, C], windows [B, F, 2] inside it, kernel [kh, kw, C, F]) -> [B, h, w, F] of kernel's dtype."""
    h, w = plan.output
    weights = jnp.moveaxis(kernel, 3, 0).astype(jnp.float32).reshape(-1)
    out = pl.pallas_call(
        lambda *refs: _forward_body(plan, *refs),
        out_shape=_result((plan.batch, plan.features, h, w), plan.dtype, image),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(plan.features, plan.batch),
            in_specs=[pl.BlockSpec(memory_space=pltpu.HBM)],
            out_specs=pl.BlockSpec((1, 1, h, w), lambda f, b, *_: (b, f, 0, 0)),
            scratch_shapes=[
                pltpu.VMEM((plan.kernel_size[0], plan.parts[1], plan.depth, w), jnp.bfloat16),
                plan.rows,
                *plan.fetched,
            ],
        ),
        compiler_params=_compiler_params(plan),
        cost_estimate=_cost(plan),
        name="window_conv",
    )(*_corners(plan, windows), weights, _planes(plan, image))
    return jnp.moveaxis(out, 1, 3)


def kernel_gradient(plan: Plan, image: jax.Array, windows: jax.Array, g: jax.Array) -> jax.Array:
    """(image [B, H, W, C], windows [B, F, 2] inside it, g [B, h, w, F]) -> [kh, kw, C, F] of g's dtype."""
    (h, w), (kh, kw) = plan.output, plan.kernel_size
    out = pl.pallas_call(
        lambda *refs: _gradient_body(plan, *refs),
        out_shape=_result((plan.features, kh * kw, plan.depth), jnp.float32, image),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(plan.features, plan.batch),
            in_specs=[
                pl.BlockSpec((1, 1, w, h), lambda f, b, *_: (b, f, 0, 0)),
                pl.BlockSpec(memory_space=pltpu.HBM),
            ],
            out_specs=pl.BlockSpec((1, kh * kw, plan.depth), lambda f, b, *_: (f, 0, 0)),
            scratch_shapes=[pltpu.VMEM((kh, w, plan.depth), jnp.float32), plan.rows, *plan.fetched],
        ),
        compiler_params=_compiler_params(plan),
        cost_estimate=_cost(plan),
        name="window_conv_kernel_gradient",
    )(*_corners(plan, windows), g.transpose(0, 3, 2, 1), _planes(plan, image))
    taps = out.reshape(plan.features, kh, kw, plan.channels, -1).sum(-1)
    return jnp.moveaxis(taps, 0, 3).astype(plan.dtype)


def _forward_body(plan: Plan, corners, offsets, weights, image, out, bands, rows, fetched, arrived):
    f, b = pl.program_id(0), pl.program_id(1)
    _fetch_ahead(plan, b, f, corners, image, fetched, arrived)

    @pl.when(b == 0)
    def build_bands():
        _build_bands(plan, f, weights, bands)

    _receive(plan, b, f, corners, offsets, image, fetched, arrived, rows)
    total = jnp.zeros(plan.output, jnp.float32)
    for i in range(plan.kernel_size[0]):
        seen = _parts(_rows_seen(plan, b, f, offsets, rows, i), plan.parts[0])
        total += _product(seen, [bands[i, p] for p in range(plan.parts[1])])
    out[0, 0] = total.astype(out.dtype)


def _gradient_body(plan: Plan, corners, offsets, g, image, out, sums, rows, fetched, arrived):
    f, b = pl.program_id(0), pl.program_id(1)
    _fetch_ahead(plan, b, f, corners, image, fetched, arrived)

    @pl.when(b == 0)
    def begin():
        sums[...] = jnp.zeros(sums.shape, jnp.float32)

    _receive(plan, b, f, corners, offsets, image, fetched, arrived, rows)
    cotangent = _parts(g[0, 0].astype(jnp.float32), plan.parts[1])
    for i in range(plan.kernel_size[0]):
        seen = _parts(_rows_seen(plan, b, f, offsets, rows, i), plan.parts[0])
        sums[i] += _product(cotangent, seen)

    @pl.when(b == plan.batch - 1)
    def read_diagonals():
        """What each weight's band holds, summed over x; the sum over columns is left to the caller."""
        kh, kw = plan.kernel_size
        band = _band_columns(plan, (plan.output[1], plan.depth), 1)
        for i in range(kh):
            for j in range(kw):
                out[0, pl.ds(i * kw + j, 1)] = jnp.where(band == j, sums[i], 0).sum(0, keepdims=True)


def _build_bands(plan: Plan, f, weights, bands):
    """T of filter f for each kernel row, in bfloat16 parts."""
    (kh, kw), width = plan.kernel_size, plan.lane_tiles * LANES
    band = _band_columns(plan, (width, plan.output[1]), 0)
    for i in range(kh):
        for c in range(plan.channels):
            total = jnp.zeros(band.shape, jnp.float32)
            for j in range(kw):
                weight = weights[((f * kh + i) * kw + j) * plan.channels + c]
                total = jnp.where(band == j, weight, total)
            for p, part in enumerate(_parts(total, plan.parts[1])):
                bands[i, p, c * width : (c + 1) * width] = part


def _band_columns(plan: Plan, shape: Size, axis: int):
    """x' - sw * x for every pair (x' along `axis`, x along the other): which kernel column j, if any, meets."""
    column = lax.broadcasted_iota(jnp.int32, shape, axis) % (plan.lane_tiles * LANES)
    return column - plan.strides[1] * lax.broadcasted_iota(jnp.int32, shape, 1 - axis)


def _copy(plan: Plan, b, f, corners, image, fetched, arrived):
    """The DMA of the block around the window of (b, f)."""
    top, left = (pl.multiple_of(corners[_at(plan, b, f) + axis], plan.tile[axis]) for axis in (0, 1))
    block = image.at[b, :, pl.ds(top, plan.block[0]), pl.ds(left, plan.block[1])]
    slot = lax.rem(b, 2)
    return pltpu.make_async_copy(block, fetched.at[slot], arrived.at[slot])


def _fetch_ahead(plan: Plan, b, f, *refs):
    """Starts the fetch of the next image's window, and of the first one when there is none on its way."""

    @pl.when(b == 0)
    def first():
        _copy(plan, b, f, *refs).start()

    @pl.when(b + 1 < plan.batch)
    def following():
        _copy(plan, b + 1, f, *refs).start()


def _receive(plan: Plan, b, f, corners, offsets, image, fetched, arrived, rows):
    """Waits for the window's block and lays its columns out in `rows`, from the window's left edge on."""
    _copy(plan, b, f, corners, image, fetched, arrived).wait()
    columns = plan.block[1]
    shift = lax.rem(columns - offsets[_at(plan, b, f) + 1], columns)
    for c in range(plan.channels):
        pixels = fetched[lax.rem(b, 2), c]
        pixels = pixels.astype(jnp.int32) if plan.image_dtype == jnp.uint8 else pixels
        pixels = pltpu.roll(pixels.astype(jnp.float32), shift, 1)
        for t in range(plan.lane_tiles):
            rows[c * plan.lane_tiles + t] = pixels[:, t * LANES : (t + 1) * LANES]


def _rows_seen(plan: Plan, b, f, offsets, rows, i):
    """[h, depth]: for each output row, the window's row that kernel row i meets, all channels side by side."""
    start = offsets[_at(plan, b, f)] + i
    lines = pl.ds(start, plan.output[0], stride=plan.strides[0])
    return jnp.concatenate([rows[k, lines] for k in range(rows.shape[0])], axis=1)


def _at(plan: Plan, b, f):
    """Where window (b, f) lies among the scalars."""
    return 2 * (b * plan.features + f)


def _parts(x, number):
    """x, float32, as the sum of `number` bfloat16 arrays: rounded if one, exactly if three."""
    if number == 1:
        return [x.astype(jnp.bfloat16)]
    parts = []
    for _ in range(number):
        # The upper half of a float32's bits is a bfloat16; cutting, unlike rounding, no compiler takes out.
        bits = lax.bitcast_convert_type(x, jnp.uint32) & jnp.uint32(0xFFFF0000)
        part = lax.bitcast_convert_type(bits, jnp.float32)
        parts.append(part.astype(jnp.bfloat16))
        x = x - part
    return parts


def _product(left: list, right: list):
    """The matrix product of two sums of parts, float32, without the products too small for a float32 sum."""
    pairs = [(p, q) for p in range(len(left)) for q in range(len(right)) if p + q < 3]
    return sum(jnp.dot(left[p], right[q], preferred_element_type=jnp.float32) for p, q in reversed(pairs))


def _corners(plan: Plan, windows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Each window's aligned block and the window's place in it, int32 [B * F * 2] of (top, left) both."""
    tile, last = (jnp.array(n, jnp.int32) for n in (plan.tile, [p - b for p, b in zip(plan.padded, plan.block)]))
    corners = jnp.minimum(windows // tile * tile, last)
    return corners.reshape(-1), (windows - corners).reshape(-1)


def _planes(plan: Plan, image: jax.Array) -> jax.Array:
    """The image as [B, C, height, width] in whole tiles."""
    widths = [(0, padded - size) for padded, size in zip(plan.padded, image.shape[1:3])]
    return jnp.pad(jnp.moveaxis(image, 3, 1), ((0, 0), (0, 0), *widths))


def _result(shape: tuple, dtype, like: jax.Array) -> jax.ShapeDtypeStruct:
    """A kernel's result, varying over the same manual mesh axes as `like`."""
    return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=jax.typeof(like).manual_axis_type)


def _compiler_params(plan: Plan) -> pltpu.CompilerParams:
    return pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=plan.vmem_bytes)


def _cost(plan: Plan) -> pl.CostEstimate:
    """Of either kernel: the products made, the blocks fetched, and the output or cotangent once."""
    windows, products = plan.batch * plan.features, 3 if plan.parts[1] == 3 else 1
    products = 6 if plan.parts[0] == 3 else products
    multiplications = math.prod(plan.output) * plan.depth * plan.kernel_size[0] * products
    fetched = plan.channels * math.prod(plan.block) * plan.image_dtype.itemsize
    held = math.prod(plan.output) * plan.dtype.itemsize
    return pl.CostEstimate(
        flops=2 * windows * multiplications, transcendentals=0, bytes_accessed=windows * (fetched + held)
    )


def _whole(n: int, tile: int) -> int:
    return -(-n // tile) * tile
