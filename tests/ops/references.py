"""The operations computed by the library: slow, and simple enough to be right."""

import jax.numpy as jnp
from jax import lax

LAYOUT = ("NHWC", "HWIO", "NHWC")


def window_conv(image, windows, kernel, *, strides, window_size):
    """Convolves the crops of all windows with all filters, and keeps the result of each filter for its own crops."""
    batch, features, channels = image.shape[0], kernel.shape[3], image.shape[3]
    corners = jnp.pad(jnp.broadcast_to(windows, (batch, features, 2)), ((0, 0), (0, 0), (0, 1)))
    crops = [
        lax.dynamic_slice(image[b], tuple(corners[b, f]), (*window_size, channels))
        for b in range(batch)
        for f in range(features)
    ]
    out = lax.conv_general_dilated(
        jnp.stack(crops).astype(kernel.dtype), kernel, strides, "VALID", dimension_numbers=LAYOUT
    )
    return jnp.einsum("bfhwf->bhwf", out.reshape(batch, features, *out.shape[1:]))


def depthwise_conv(x, kernel, *, strides, padding="SAME"):
    """Convolves with one group per channel."""
    groups = {"dimension_numbers": LAYOUT, "feature_group_count": x.shape[3]}
    return lax.conv_general_dilated(x, kernel[:, :, None], strides, padding, **groups)


def pointwise_conv(x, kernel):
    """Multiplies by the kernel; the gradients are JAX's own."""
    return jnp.tensordot(x, kernel, 1)
